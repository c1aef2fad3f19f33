"""What a job made, as files."""

from typing import Literal

from fastapi import APIRouter, Response
from fastapi.responses import FileResponse, StreamingResponse

from node.services import Services
from node.web.access import ServicesHere, Viewer
from node.web.api.common import JobId, Number, gives, refuses
from node.web.privacy import check_sees_patients
from node.web.result_files import MEDIA_TYPES, give_object, give_zip, take
from node.web.visitor import Visitor
from storage.records import JobRecord

router = APIRouter(prefix="/jobs/{job_id}", tags=["results"])

Picture = Literal["preview.png", "montage.png"]
Report = Literal["report.html", "report.pdf", "report.json"]


@router.get(
    "/results/{result_id}",
    response_class=FileResponse,
    responses=gives("application/dicom") | refuses(404),
)
def get_result(
    services: ServicesHere, visitor: Viewer, job_id: JobId, result_id: Number
) -> Response:
    """Give a result object, as a DICOM file."""
    return give_object(services, visitor, job_id, result_id)


@router.get(
    "/results.zip",
    response_class=StreamingResponse,
    responses=gives("application/zip") | refuses(404),
)
def get_all_results(services: ServicesHere, visitor: Viewer, job_id: JobId) -> Response:
    """Give all files of a job, as a ZIP archive."""
    return give_zip(services, visitor, job_id)


@router.get(
    "/pictures/{name}",
    response_class=FileResponse,
    responses=gives("image/png") | refuses(404),
)
def get_picture(services: ServicesHere, visitor: Viewer, job_id: JobId, name: Picture) -> Response:
    """Give a picture, without a word about the patient: three planes, or slices of the liver."""
    return _give(services, visitor, services.jobs.get(job_id), name)


@router.get(
    "/reports/{name}",
    response_class=FileResponse,
    responses=gives("text/html", "application/pdf", "application/json") | refuses(404),
)
def get_report(services: ServicesHere, visitor: Viewer, job_id: JobId, name: Report) -> Response:
    """Give the report of one page, or the measurements for programs."""
    check_sees_patients(visitor)
    return _give(services, visitor, services.jobs.get(job_id), name)


def _give(services: Services, visitor: Visitor, job: JobRecord, name: str) -> Response:
    [path] = take(services, visitor, job, [name])
    file_name = f"hepar-job-{job.id}-{name}"
    return FileResponse(path, media_type=MEDIA_TYPES[path.suffix], filename=file_name)

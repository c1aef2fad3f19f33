"""What a job made, as files."""

from pathlib import Path
from typing import Literal

from fastapi import APIRouter, Response
from fastapi.responses import FileResponse, StreamingResponse

from node.services import Services
from node.web.access import ServicesHere, Viewer
from node.web.api.common import JobId, Number, gives, refuses
from node.web.errors import NotHere
from node.web.journal import note_action
from node.web.privacy import check_sees_patients
from node.web.visitor import Visitor
from node.web.zipping import stream_zip
from storage.records import JobRecord
from storage.states import AuditEvent

router = APIRouter(prefix="/jobs/{job_id}", tags=["results"])

_MEDIA_TYPES = {
    ".html": "text/html",
    ".json": "application/json",
    ".pdf": "application/pdf",
    ".png": "image/png",
}
_NAMED = 20
"""The audit trail names so many files."""

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
    check_sees_patients(visitor)
    job = services.jobs.get(job_id)
    found = [one for one in services.jobs.results(job_id) if one.id == result_id]
    if not found:
        raise NotHere(f"Job {job_id} has no result {result_id}.")
    [path] = _find(services, visitor, job, [found[0].path])
    name = f"hepar-job-{job_id}-{found[0].path.replace('/', '-')}"
    return FileResponse(path, media_type="application/dicom", filename=name)


@router.get(
    "/results.zip",
    response_class=StreamingResponse,
    responses=gives("application/zip") | refuses(404),
)
def get_all_results(services: ServicesHere, visitor: Viewer, job_id: JobId) -> Response:
    """Give all files of a job, as a ZIP archive."""
    check_sees_patients(visitor)
    job = services.jobs.get(job_id)
    folder = services.files.result_folder(job_id)
    files = (path for path in folder.rglob("*") if path.is_file())
    names = sorted(path.relative_to(folder).as_posix() for path in files)
    if not names:
        raise NotHere(_explain_absence(job, "no results"))
    stem = f"hepar-job-{job_id}"
    paths = _find(services, visitor, job, names)
    content = stream_zip((f"{stem}/{n}", path) for n, path in zip(names, paths, strict=True))
    headers = {"Content-Disposition": f'attachment; filename="{stem}.zip"'}
    return StreamingResponse(content, media_type="application/zip", headers=headers)


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
    [path] = _find(services, visitor, job, [name])
    file_name = f"hepar-job-{job.id}-{name}"
    return FileResponse(path, media_type=_MEDIA_TYPES[path.suffix], filename=file_name)


def _find(services: Services, visitor: Visitor, job: JobRecord, names: list[str]) -> list[Path]:
    """Give the files of a job, and write down who takes them.

    Raises
    ------
    NotHere
    """
    folder = services.files.result_folder(job.id)
    missing = [name for name in names if not (folder / name).is_file()]
    if missing:
        raise NotHere(_explain_absence(job, f"no {missing[0]}"))
    series = services.catalog.get_series(job.series_uid)
    detail = {"job": job.id, "files": names if len(names) <= _NAMED else len(names)}
    event = AuditEvent.DATA_EXPORTED
    note_action(services, visitor, "download", series=series, event=event, detail=detail)
    return [folder / name for name in names]


def _explain_absence(job: JobRecord, what: str) -> str:
    if job.results_removed_at is not None:
        return (
            f"The results of job {job.id} were removed on {job.results_removed_at:%Y-%m-%d}, as "
            "the settings under [retention] say; a retry makes them again."
        )
    return f"Job {job.id} has {what}."

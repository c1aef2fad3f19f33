"""What a job made: objects and files to be taken along, report and pictures to be looked at."""

from collections.abc import Mapping
from types import MappingProxyType

from fastapi import APIRouter, Response
from fastapi.responses import FileResponse

from node.web.access import ServicesHere, Viewer
from node.web.errors import NotHere
from node.web.journal import note_view
from node.web.privacy import check_sees_patients
from node.web.result_files import MEDIA_TYPES, find_file, give_object, give_zip, take

router = APIRouter(prefix="/jobs/{job_id}")

PICTURES: Mapping[str, str] = MappingProxyType(
    {"preview.png": "Three planes", "montage.png": "Slices through the liver"}
)
"""Without a word about the patient."""
REPORTS: Mapping[str, str] = MappingProxyType(
    {
        "report.html": "Report",
        "report.pdf": "Report to print",
        "report.json": "Measurements for programs",
    }
)
_REPORT_POLICY = (
    "default-src 'none'; img-src data:; style-src 'unsafe-inline'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'; sandbox"
)
"""The report has its style and its pictures within; it has no script, and none would run."""


@router.get("/results/{result_id}")
def download_result(
    services: ServicesHere, visitor: Viewer, job_id: int, result_id: int
) -> Response:
    """Give a result object."""
    return give_object(services, visitor, job_id, result_id)


@router.get("/results.zip")
def download_all(
    services: ServicesHere, visitor: Viewer, job_id: int, series: str = ""
) -> Response:
    """Give all files of a job, or the objects of one series, as a ZIP archive."""
    return give_zip(services, visitor, job_id, series)


@router.get("/{name}")
def show_file(
    services: ServicesHere, visitor: Viewer, job_id: int, name: str, *, save: bool = False
) -> Response:
    """Show a report or a picture, or give it as a file."""
    if name not in PICTURES and name not in REPORTS:
        raise NotHere(f"Job {job_id} has no page {name}.")
    if name in REPORTS:
        check_sees_patients(visitor)
    job = services.jobs.get(job_id)
    path = find_file(services, job, name)
    headers = {"Content-Security-Policy": _REPORT_POLICY} if path.suffix == ".html" else {}
    if save:
        take(services, visitor, job, [name])
        headers["Content-Disposition"] = f'attachment; filename="hepar-job-{job_id}-{name}"'
    else:
        series = services.catalog.get_series(job.series_uid)
        note_view(services, visitor, series, page=name, job=job_id)
    return FileResponse(path, media_type=MEDIA_TYPES[path.suffix], headers=headers)

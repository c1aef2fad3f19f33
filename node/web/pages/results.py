"""What a job made: objects and files to be taken along, report and pictures to be looked at."""

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

from fastapi import APIRouter, Response
from fastapi.responses import FileResponse, StreamingResponse

from node.services import Services
from node.web.access import ServicesHere, Viewer
from node.web.errors import NotHere
from node.web.journal import note_action, note_view
from node.web.privacy import check_sees_patients
from node.web.visitor import Visitor
from node.web.zipping import stream_zip
from storage.records import JobRecord, SeriesRecord
from storage.states import AuditEvent

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
_MEDIA_TYPES = {
    ".html": "text/html; charset=utf-8",
    ".json": "application/json",
    ".pdf": "application/pdf",
    ".png": "image/png",
}
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
    job, series = _find(services, visitor, job_id)
    found = [one for one in services.jobs.results(job_id) if one.id == result_id]
    if not found:
        raise NotHere(f"Job {job_id} has no result {result_id}.")
    path = _existing(services, job, found[0].path)
    _note_export(services, visitor, series, job_id, [found[0].path])
    name = f"hepar-job-{job_id}-{found[0].path.replace('/', '-')}"
    return FileResponse(path, media_type="application/dicom", filename=name)


@router.get("/results.zip")
def download_all(
    services: ServicesHere, visitor: Viewer, job_id: int, series: str = ""
) -> Response:
    """Give all files of a job, or the objects of one series, as a ZIP archive."""
    job, source = _find(services, visitor, job_id)
    folder = services.files.result_folder(job_id)
    if series:
        results = services.jobs.results(job_id)
        names = [one.path for one in results if one.series_instance_uid == series]
    else:
        files = (path for path in folder.rglob("*") if path.is_file())
        names = sorted(path.relative_to(folder).as_posix() for path in files)
    if not names:
        raise NotHere(_explain_absence(job, "no results"))
    paths = [_existing(services, job, name) for name in names]
    _note_export(services, visitor, source, job_id, names)
    stem = f"hepar-job-{job_id}"
    content = stream_zip((f"{stem}/{n}", path) for n, path in zip(names, paths, strict=True))
    headers = {"Content-Disposition": f'attachment; filename="{stem}.zip"'}
    return StreamingResponse(content, media_type="application/zip", headers=headers)


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
    series = services.catalog.get_series(job.series_uid)
    path = _existing(services, job, name)
    headers = {"Content-Security-Policy": _REPORT_POLICY} if path.suffix == ".html" else {}
    if save:
        _note_export(services, visitor, series, job_id, [name])
        headers["Content-Disposition"] = f'attachment; filename="hepar-job-{job_id}-{name}"'
    else:
        note_view(services, visitor, series, page=name, job=job_id)
    return FileResponse(path, media_type=_MEDIA_TYPES[path.suffix], headers=headers)


def _find(services: Services, visitor: Visitor, job_id: int) -> tuple[JobRecord, SeriesRecord]:
    check_sees_patients(visitor)
    job = services.jobs.get(job_id)
    return job, services.catalog.get_series(job.series_uid)


def _existing(services: Services, job: JobRecord, name: str) -> Path:
    path = services.files.result_folder(job.id) / name
    if not path.is_file():
        raise NotHere(_explain_absence(job, f"no {name}"))
    return path


def _explain_absence(job: JobRecord, what: str) -> str:
    if job.results_removed_at is not None:
        return (
            f"The results of job {job.id} were removed on {job.results_removed_at:%Y-%m-%d}, as "
            "the settings under [retention] say; a retry makes them again."
        )
    return f"Job {job.id} has {what}."


def _note_export(
    services: Services, visitor: Visitor, series: SeriesRecord, job_id: int, files: list[str]
) -> None:
    detail = {"job": job_id, "files": files if len(files) <= 20 else len(files)}
    event = AuditEvent.DATA_EXPORTED
    note_action(services, visitor, "download", series=series, event=event, detail=detail)

"""Files that a job made, for pages and API: each that is taken along is in the audit trail."""

from pathlib import Path

from fastapi import Response
from fastapi.responses import FileResponse, StreamingResponse

from node.services import Services
from node.web.errors import NotHere
from node.web.journal import note_action
from node.web.privacy import check_sees_patients
from node.web.visitor import Visitor
from node.web.zipping import stream_zip
from storage.records import JobRecord
from storage.states import AuditEvent

MEDIA_TYPES = {
    ".html": "text/html; charset=utf-8",
    ".json": "application/json",
    ".pdf": "application/pdf",
    ".png": "image/png",
}
_NAMED = 20
"""The audit trail names so many files."""


def give_object(services: Services, visitor: Visitor, job_id: int, result_id: int) -> Response:
    """Give a result object, as a DICOM file.

    Raises
    ------
    NotHere, Forbidden, storage.errors.NotFound
    """
    check_sees_patients(visitor)
    job = services.jobs.get(job_id)
    found = [one for one in services.jobs.results(job_id) if one.id == result_id]
    if not found:
        raise NotHere(f"Job {job_id} has no result {result_id}.")
    [path] = take(services, visitor, job, [found[0].path])
    name = f"hepar-job-{job_id}-{found[0].path.replace('/', '-')}"
    return FileResponse(path, media_type="application/dicom", filename=name)


def give_zip(services: Services, visitor: Visitor, job_id: int, series_uid: str = "") -> Response:
    """Give all files of a job, or the objects of one series, as a ZIP archive.

    Raises
    ------
    NotHere, Forbidden, storage.errors.NotFound
    """
    check_sees_patients(visitor)
    job = services.jobs.get(job_id)
    folder = services.files.result_folder(job_id)
    if series_uid:
        results = services.jobs.results(job_id)
        names = [one.path for one in results if one.series_instance_uid == series_uid]
    else:
        files = (path for path in folder.rglob("*") if path.is_file())
        names = sorted(path.relative_to(folder).as_posix() for path in files)
    if not names:
        raise NotHere(_explain_absence(job, "no results"))
    paths = take(services, visitor, job, names)
    stem = f"hepar-job-{job_id}"
    content = stream_zip((f"{stem}/{n}", path) for n, path in zip(names, paths, strict=True))
    headers = {"Content-Disposition": f'attachment; filename="{stem}.zip"'}
    return StreamingResponse(content, media_type="application/zip", headers=headers)


def find_file(services: Services, job: JobRecord, name: str) -> Path:
    """Find a file that a job made.

    Raises
    ------
    NotHere
    """
    path = services.files.result_folder(job.id) / name
    if not path.is_file():
        raise NotHere(_explain_absence(job, f"no {name}"))
    return path


def take(services: Services, visitor: Visitor, job: JobRecord, names: list[str]) -> list[Path]:
    """Find files, and write down who takes them along.

    Raises
    ------
    NotHere
    """
    paths = [find_file(services, job, name) for name in names]
    series = services.catalog.get_series(job.series_uid)
    detail = {"job": job.id, "files": names if len(names) <= _NAMED else len(names)}
    event = AuditEvent.DATA_EXPORTED
    note_action(services, visitor, "download", series=series, event=event, detail=detail)
    return paths


def _explain_absence(job: JobRecord, what: str) -> str:
    if job.results_removed_at is not None:
        return (
            f"The results of job {job.id} were removed on {job.results_removed_at:%Y-%m-%d}, as "
            "the settings under [retention] say; a retry makes them again."
        )
    return f"Job {job.id} has {what}."

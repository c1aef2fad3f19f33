"""Jobs, and one job."""

from pathlib import Path

from fastapi import APIRouter, Request, Response
from fastapi.responses import FileResponse

from node.services import Services
from node.web.access import ServicesHere, Viewer
from node.web.errors import NotHere
from node.web.journal import note_view
from node.web.privacy import for_visitor
from node.web.rendering import render

router = APIRouter(prefix="/jobs")
_SHOWN = 100


@router.get("")
def list_jobs(request: Request, services: ServicesHere, visitor: Viewer) -> Response:
    """List the newest jobs."""
    del visitor
    return render(request, "jobs.html", {"jobs": services.jobs.list_jobs(limit=_SHOWN)})


@router.get("/{job_id}")
def show_job(request: Request, services: ServicesHere, visitor: Viewer, job_id: int) -> Response:
    """Show a job: its history, its pictures, its deliveries."""
    job = services.jobs.get(job_id)
    series = services.catalog.get_series(job.series_uid)
    note_view(services, visitor, series, page="job", job=job_id)
    context = {
        "job": job,
        "series": for_visitor(series, visitor),
        "events": services.jobs.events(job_id),
        "deliveries": services.deliveries.list_deliveries(job_id),
        "proofs": services.proofs.list_proofs(job_id),
        "has_preview": _preview(services, job_id).exists(),
    }
    return render(request, "job.html", context)


@router.get("/{job_id}/preview.png")
def show_preview(services: ServicesHere, visitor: Viewer, job_id: int) -> Response:
    """Give the picture of three planes."""
    del visitor
    path = _preview(services, job_id)
    if not path.exists():
        raise NotHere(f"Job {job_id} has no preview.")
    return FileResponse(path, media_type="image/png")


def _preview(services: Services, job_id: int) -> Path:
    return services.files.result_folder(job_id) / "preview.png"

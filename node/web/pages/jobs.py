"""The list of jobs."""

from fastapi import APIRouter, Request, Response

from node.web.access import ServicesHere, Viewer
from node.web.rendering import render

router = APIRouter(prefix="/jobs")
_SHOWN = 100


@router.get("")
def list_jobs(request: Request, services: ServicesHere, visitor: Viewer) -> Response:
    """List the newest jobs."""
    del visitor
    return render(request, "jobs.html", {"jobs": services.jobs.list_jobs(limit=_SHOWN)})

"""What is going on."""

from fastapi import APIRouter, Request, Response

from node.web.access import ServicesHere, Viewer
from node.web.privacy import for_visitor
from node.web.rendering import render

router = APIRouter()
_SHOWN = 20


@router.get("/")
def show_now(request: Request, services: ServicesHere, visitor: Viewer) -> Response:
    """Show what is received, waiting, running and delivered."""
    series = services.catalog.list_series(limit=_SHOWN)
    context = {
        "jobs": services.jobs.list_jobs(limit=_SHOWN),
        "series": [for_visitor(one, visitor) for one in series],
    }
    return render(request, "now.html", context)

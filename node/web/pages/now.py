"""What goes on; suspend and resume it.

The page is made to be left open where many see it, so it shows no patient data: jobs go by their
numbers, and who is to know more follows the link.
"""

from typing import Annotated, Any

from fastapi import APIRouter, Form, Request, Response

from node import control
from node.alerts import LOW_DISK_FACTOR
from node.health import free_space
from node.overview import describe_pause, describe_situation
from node.services import Services
from node.web.access import Operator, ServicesHere, Viewer
from node.web.errors import Unusable
from node.web.rendering import go_to, render
from storage.states import FINAL_STATES, Work

router = APIRouter()
_SHOWN = 12
"""Of each list."""
_REASON_MAX = 200

WorkField = Annotated[Work, Form()]
_ALL_INTERFACES = ("0.0.0.0", "::")  # noqa: S104 -- it is compared, not listened on


@router.get("/")
def show_now(request: Request, services: ServicesHere, visitor: Viewer) -> Response:
    """Show what is received, waits, runs and is delivered."""
    del visitor
    return render(request, "now.html", _describe(services))


@router.get("/now/live")
def show_live(request: Request, services: ServicesHere, visitor: Viewer) -> Response:
    """Give what the page renews itself by."""
    del visitor
    return render(request, "now/live.html", _describe(services))


@router.post("/now/suspend")
def suspend(
    request: Request,
    services: ServicesHere,
    visitor: Operator,
    work: WorkField,
    reason: Annotated[str, Form(max_length=_REASON_MAX)] = "",
) -> Response:
    """Let none of this work begin."""
    reason = reason.strip()
    if not reason:
        raise Unusable("Say why, for the others who see that the work stands still.")
    changed = control.suspend(
        services, work, actor=visitor.actor, reason=reason, address=visitor.address
    )
    name = work.value.capitalize()
    told = f"{name} is suspended." if changed else f"{name} was suspended before, by another."
    return go_to(request, "/", told)


@router.post("/now/resume")
def resume(
    request: Request, services: ServicesHere, visitor: Operator, work: WorkField
) -> Response:
    """Let this work begin again."""
    changed = control.resume(services, work, actor=visitor.actor, address=visitor.address)
    name = work.value.capitalize()
    return go_to(request, "/", f"{name} goes on." if changed else f"{name} was not suspended.")


def _describe(services: Services) -> dict[str, Any]:
    settings = services.settings
    situation = describe_situation(services, _SHOWN)
    space = free_space(settings)
    overview = situation.overview
    return {
        "situation": situation,
        "overview": overview,
        "ended_count": sum(overview.job_counts.get(state, 0) for state in FINAL_STATES),
        "suspended": {pause.work: pause for pause in overview.pauses},
        # The whole sentence is at the top.
        "short": {describe_pause(one): f"{one.work.value} is suspended" for one in overview.pauses},
        "works": list(Work),
        "reason_max": _REASON_MAX,
        "alerts": services.alerts.list_alerts(open_only=True),
        "space": space,
        "is_disk_low": space.free_bytes < LOW_DISK_FACTOR * space.least_bytes,
        "is_empty": not overview.job_counts and not overview.series_count,
        "sources": settings.sources,
        "node": settings.node,
        "hears_all": settings.node.host in _ALL_INTERFACES,
    }

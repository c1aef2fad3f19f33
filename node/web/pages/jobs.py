"""Jobs: search, sort, page through them, act on several at once, take the list along."""

from typing import Annotated, Any
from urllib.parse import parse_qsl, urlencode

from fastapi import APIRouter, Depends, Form, Query, Request, Response
from fastapi.responses import StreamingResponse

from node.clock import utc_now
from node.models import survey_models
from node.services import Services
from node.web.access import Operator, ServicesHere, Viewer
from node.web.errors import NotHere, Unusable
from node.web.job_actions import JobAction, act_on_each
from node.web.job_export import export_jobs
from node.web.job_filters import Asked, Order, PatientTerms, Search
from node.web.journal import note_action
from node.web.kept import Kept
from node.web.privacy import check_sees_patients, for_visitor
from node.web.rendering import go_to, render
from node.web.visitor import Visitor
from storage.job_query import JobPage, JobSort
from storage.states import AuditEvent, JobState, UserRole

router = APIRouter(prefix="/jobs")

_UNDER_WAY = [JobState.QUEUED, JobState.RUNNING, JobState.PRODUCED, JobState.DELIVERING]
_SHORTCUTS: dict[str, list[JobState]] = {
    "All": [],
    "Under way": _UNDER_WAY,
    "Failed": [JobState.FAILED],
    "Rejected": [JobState.REJECTED],
}
_FORGOTTEN = "What was searched for is no longer known; search again."


def get_kept(request: Request) -> Kept:
    """Give what pages hold for their visitors."""
    kept: Kept = request.app.state.kept
    return kept


KeptHere = Annotated[Kept, Depends(get_kept)]


@router.get("")
def list_jobs(
    request: Request,
    services: ServicesHere,
    kept: KeptHere,
    visitor: Viewer,
    asked: Annotated[Asked, Query()],
) -> Response:
    """Show a page of the jobs that are found."""
    terms = _find_terms(kept, visitor, asked)
    if terms is None:
        return go_to(request, asked.first(find=""), _FORGOTTEN)
    page = services.jobs.search(asked.query(terms, services.settings))
    _note_seen(services, visitor, page, terms)
    context = {
        "page": page,
        "hits": [(hit.job, for_visitor(hit.series, visitor), hit.rule) for hit in page.hits],
        "asked": asked,
        "terms": terms,
        "outcomes": kept.find(visitor.name, asked.told, list) if asked.told else None,
        "zone": utc_now().astimezone().tzname(),
        **_list_choices(services, visitor),
    }
    return render(request, "jobs.html", context)


@router.post("/search")
def search_jobs(
    request: Request, kept: KeptHere, visitor: Viewer, search: Annotated[Search, Form()]
) -> Response:
    """Go to the list of what is searched for."""
    terms = search.terms
    find = ""
    if terms.said:
        check_sees_patients(visitor)
        find = kept.keep(visitor.name, terms)
    return go_to(request, Asked.of(search, find).address())


@router.post("/act")
def act_on_jobs(
    request: Request,
    services: ServicesHere,
    kept: KeptHere,
    visitor: Operator,
    action: Annotated[JobAction, Form()],
    job: Annotated[list[int] | None, Form()] = None,
    model: Annotated[str, Form()] = "",
    back: Annotated[str, Form()] = "",
) -> Response:
    """Do the same with all jobs that are selected, and tell what became of each."""
    if not job:
        raise Unusable("Select at least one job.")
    outcomes = act_on_each(services, visitor, action, job, model)
    told = kept.keep(visitor.name, outcomes)
    query = [(key, value) for key, value in parse_qsl(back) if key != "told"]
    return go_to(request, f"/jobs?{urlencode([*query, ('told', told)])}")


@router.get("/export.csv")
def export(
    services: ServicesHere, kept: KeptHere, visitor: Operator, asked: Annotated[Asked, Query()]
) -> Response:
    """Give all jobs that are found as CSV."""
    terms = _find_terms(kept, visitor, asked)
    if terms is None:
        raise NotHere(_FORGOTTEN)
    query = asked.query(terms, services.settings)
    detail = {
        "page": "jobs",
        "searched": terms.said,
        "filters": asked.model_dump(
            mode="json",
            exclude_defaults=True,
            exclude={"find", "after", "before", "end", "told"},
        ),
    }
    note_action(services, visitor, "export", event=AuditEvent.DATA_EXPORTED, detail=detail)
    name = f"jobs-{utc_now():%Y%m%d-%H%M%S}.csv"
    return StreamingResponse(
        export_jobs(services.jobs, query),
        media_type="text/csv; charset=utf-8",
        headers={"Content-Disposition": f'attachment; filename="{name}"'},
    )


def _find_terms(kept: Kept, visitor: Visitor, asked: Asked) -> PatientTerms | None:
    """Give what is told of patients; None where it is no longer known.

    Raises
    ------
    Forbidden
        What is found, or its order, would reveal what is hidden from the visitor.
    """
    if asked.find or asked.sort is JobSort.PATIENT_ID:
        check_sees_patients(visitor)
    return kept.find(visitor.name, asked.find, PatientTerms) if asked.find else PatientTerms()


def _note_seen(services: Services, visitor: Visitor, page: JobPage, terms: PatientTerms) -> None:
    """Write into the audit trail whose data the visitor sees, by the numbers of the jobs."""
    if not visitor.sees_patients or not (page.hits or terms.said):
        return
    seen = [hit.job.id for hit in page.hits]
    detail = {"page": "jobs", "searched": terms.said, "jobs": seen}
    note_action(services, visitor, "view", event=AuditEvent.DATA_VIEWED, detail=detail)


def _list_choices(services: Services, visitor: Visitor) -> dict[str, Any]:
    """Say what can be chosen in the forms."""
    settings = services.settings
    may_act = visitor.may(UserRole.OPERATOR)
    models = survey_models(settings).usable if may_act else ()
    return {
        "states": list(JobState),
        "shortcuts": _SHORTCUTS,
        "sources": sorted({peer.ae_title for peer in settings.sources.values()}),
        "destinations": sorted(settings.destinations),
        "rules": [rule.name for rule in settings.rules],
        "may_act": may_act,
        "models": [one for one in models if not one.in_use],
        "JobSort": JobSort,
        "Order": Order,
    }

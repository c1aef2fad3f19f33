"""One job: where it stands, its slices, what was found, where it went; and what can be done."""

from collections.abc import Callable
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Form, Request, Response

from node.services import Services
from node.web import job_actions, job_facts
from node.web.access import Operator, ServicesHere, Viewer
from node.web.journal import note_view
from node.web.pages.results import PICTURES, REPORTS
from node.web.pages.slices import LooksHere
from node.web.privacy import for_visitor
from node.web.rendering import go_to, render
from node.web.visitor import Visitor
from storage.records import JobRecord
from storage.states import JobState, UserRole, Work

router = APIRouter(prefix="/jobs/{job_id}")
_OTHER_JOBS = 50
_LIVE_S = 2
"""How often parts of the page are shown anew while something goes on."""
_STILL_S = 15


@router.get("")
def show_job(request: Request, services: ServicesHere, visitor: Viewer, job_id: int) -> Response:
    """Show a job."""
    job = services.jobs.get(job_id)
    series = services.catalog.get_series(job.series_uid)
    note_view(services, visitor, series, page="job", job=job_id)
    context: dict[str, Any] = {"series": for_visitor(series, visitor)}
    for part in _PARTS.values():
        context |= part(services, job, visitor)
    deliveries = services.deliveries.list_deliveries(job_id)
    context["every_s"] = _LIVE_S if job_facts.is_live(job, deliveries) else _STILL_S
    return render(request, "job.html", context)


@router.get("/parts/{name}")
def show_part(
    request: Request,
    services: ServicesHere,
    looks: LooksHere,
    visitor: Viewer,
    job_id: int,
    name: Literal["head", "found", "rest"],
) -> Response:
    """Show a part of the page anew."""
    job = services.jobs.get(job_id)
    looks.note(services, visitor, services.catalog.get_series(job.series_uid), job_id)
    return render(request, f"job/{name}.html", _PARTS[name](services, job, visitor))


@router.post("/retry")
def retry_job(request: Request, services: ServicesHere, visitor: Operator, job_id: int) -> Response:
    """Try a job again."""
    job = job_actions.retry(services, visitor, job_id)
    told = f"Job {job_id} is tried again; it is {job.state.value}."
    return go_to(request, f"/jobs/{job_id}", told)


@router.post("/cancel")
def cancel_job(
    request: Request, services: ServicesHere, visitor: Operator, job_id: int
) -> Response:
    """Stop a job."""
    job_actions.cancel(services, visitor, job_id)
    return go_to(request, f"/jobs/{job_id}", f"Job {job_id} is canceled.")


@router.post("/resend")
def resend_job(
    request: Request,
    services: ServicesHere,
    visitor: Operator,
    job_id: int,
    to: Annotated[str, Form()] = "",
) -> Response:
    """Deliver the results once more, to one destination or to all."""
    names = ", ".join(job_actions.resend(services, visitor, job_id, to))
    told = f"The results of job {job_id} go to {names} once more."
    return go_to(request, f"/jobs/{job_id}", told)


@router.post("/reprocess")
def reprocess_series(
    request: Request,
    services: ServicesHere,
    visitor: Operator,
    job_id: int,
    model: Annotated[str, Form()],
) -> Response:
    """Have another model process the series."""
    job = job_actions.process_again(services, visitor, job_id, model)
    told = f"Job {job.id} processes the series with {job.model_name} {job.model_version}."
    return go_to(request, f"/jobs/{job.id}", told)


def _head(services: Services, job: JobRecord, visitor: Visitor) -> dict[str, Any]:
    """Say where the job stands, and what the visitor can do about it."""
    series = services.catalog.get_series(job.series_uid)
    results = services.jobs.results(job.id)
    can_act = visitor.may(UserRole.OPERATOR)
    is_suspended = services.pauses.is_suspended(Work.PROCESSING)
    return {
        "job": job,
        "standing": job_facts.explain_standing(job),
        "waits_for_resume": is_suspended and job.state is JobState.QUEUED,
        "actions": job_facts.list_actions(job, series, results, services.settings.deliveries)
        if can_act
        else None,
        "models": job_facts.list_other_models(job, services.settings) if can_act else [],
    }


def _found(services: Services, job: JobRecord, visitor: Visitor) -> dict[str, Any]:
    """Say what was found, and how."""
    del services, visitor
    return {"job": job, "steps": job_facts.list_steps(job.summary)}


def _rest(services: Services, job: JobRecord, visitor: Visitor) -> dict[str, Any]:
    """Say what was made, where it went, and what happened."""
    folder = services.files.result_folder(job.id)
    results = services.jobs.results(job.id)
    others = services.jobs.list_jobs(series_uid=job.series_uid, limit=_OTHER_JOBS)
    return {
        "job": job,
        "results": job_facts.list_results(results, folder),
        "pictures": {n: text for n, text in PICTURES.items() if (folder / n).exists()},
        "reports": {
            n: text
            for n, text in REPORTS.items()
            if visitor.sees_patients and (folder / n).exists()
        },
        "deliveries": job_facts.list_deliveries(
            services.deliveries.list_deliveries(job.id), services.proofs.list_proofs(job.id)
        ),
        "timeline": job_facts.list_timeline(services.jobs.events(job.id)),
        "others": sorted((one for one in others if one.id != job.id), key=lambda one: one.id),
    }


_PARTS: dict[str, Callable[[Services, JobRecord, Visitor], dict[str, Any]]] = {
    "head": _head,
    "found": _found,
    "rest": _rest,
}

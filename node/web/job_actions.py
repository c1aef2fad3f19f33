"""What operators do with jobs, with a line in the audit trail for each."""

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

from inference.errors import ModelPackageError
from node.clock import utc_now
from node.errors import NodeError
from node.models import reprocess
from node.services import Services
from node.web.journal import note_action
from node.web.visitor import Visitor
from storage.errors import StorageError
from storage.records import Destinations


class JobAction(StrEnum):
    """What can be done with a job."""

    RETRY = "retry"
    """Try it again, or its deliveries."""
    CANCEL = "cancel"
    """Stop it."""
    RESEND = "resend"
    """Send its results once more."""
    REPROCESS = "reprocess"
    """Have another model process its series."""


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What became of one job."""

    job_id: int
    is_done: bool
    told: str


def act_on_each(
    services: Services, visitor: Visitor, action: JobAction, job_ids: Iterable[int], model: str = ""
) -> list[Outcome]:
    """Do the same with several jobs; one that refuses does not keep the others from it."""
    outcomes = []
    for job_id in dict.fromkeys(job_ids):
        try:
            told = act(services, visitor, action, job_id, model)
        except (StorageError, NodeError, ModelPackageError) as error:
            outcomes.append(Outcome(job_id=job_id, is_done=False, told=str(error)))
        else:
            outcomes.append(Outcome(job_id=job_id, is_done=True, told=told))
    return outcomes


def act(
    services: Services, visitor: Visitor, action: JobAction, job_id: int, model: str = ""
) -> str:
    """Do something with a job.

    Parameters
    ----------
    services
        Those of the node.
    visitor
        Who wants it.
    action
        What.
    job_id
        With which job.
    model
        Of `reprocess`: NAME or NAME@VERSION; empty means the one in use.

    Returns
    -------
    str
        What became of it, in words.

    Raises
    ------
    storage.errors.StorageError, node.errors.ModelRefused, inference.errors.ModelPackageError
        It cannot be done; nothing has changed.
    """
    detail: dict[str, object] = {"job": job_id}
    match action:
        case JobAction.RETRY:
            state = services.jobs.retry(job_id, visitor.actor, utc_now()).state
            name, told = "retry job", f"is tried again; it is {state.value}"
        case JobAction.CANCEL:
            services.jobs.cancel(job_id, visitor.actor, utc_now())
            name, told = "cancel job", "is canceled"
        case JobAction.RESEND:
            chosen = _destinations_of(services, job_id)
            services.deliveries.resend(job_id, chosen, visitor.actor, utc_now())
            detail["to"] = ", ".join(chosen)
            name, told = "resend job", f"is sent again to {detail['to']}"
        case JobAction.REPROCESS:
            job = reprocess(services, job_id, model or None, visitor.actor)
            detail |= {"new_job": job.id, "model": f"{job.model_name} {job.model_version}"}
            name, told = "reprocess", f"gives its place to job {job.id}, for {detail['model']}"
    series = services.catalog.get_series(services.jobs.get(job_id).series_uid)
    note_action(services, visitor, name, series=series, detail=detail)
    return told


def _destinations_of(services: Services, job_id: int) -> Destinations:
    """Give the destinations that take what was made for the job; all, where that is none."""
    made = {profile for one in services.jobs.results(job_id) for profile in one.profiles}
    known = services.settings.deliveries
    return {name: profile for name, profile in known.items() if profile in made} or known

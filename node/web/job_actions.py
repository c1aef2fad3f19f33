"""What operators do with jobs, with a line in the audit trail for each."""

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

from inference.errors import ModelPackageError
from node.clock import utc_now
from node.errors import NodeError
from node.models import reprocess
from node.services import Services
from node.web.errors import Unusable
from node.web.journal import note_action
from node.web.visitor import Visitor
from storage.errors import StorageError
from storage.records import Destinations, JobRecord


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


def retry(services: Services, visitor: Visitor, job_id: int) -> JobRecord:
    """Try a job again, or its deliveries; see `Jobs.retry`."""
    job = services.jobs.retry(job_id, visitor.actor, utc_now())
    _note(services, visitor, job, "retry job")
    return job


def cancel(services: Services, visitor: Visitor, job_id: int) -> JobRecord:
    """Stop a job; see `Jobs.cancel`."""
    job = services.jobs.cancel(job_id, visitor.actor, utc_now())
    _note(services, visitor, job, "cancel job")
    return job


def resend(services: Services, visitor: Visitor, job_id: int, to: str = "") -> Destinations:
    """Send the results of a job once more, and give to whom; see `Deliveries.resend`.

    Parameters
    ----------
    services
        Those of the node.
    visitor
        Who wants it.
    job_id
        Which job.
    to
        Name of a destination; empty means all that take what was made.

    Raises
    ------
    Unusable
        There is no such destination.
    storage.errors.StorageError
    """
    known = services.settings.deliveries
    if to and to not in known:
        raise Unusable(f"There is no destination {to!r} in the settings.")
    made = {profile for one in services.jobs.results(job_id) for profile in one.profiles}
    takers = {name: profile for name, profile in known.items() if profile in made} or known
    chosen = {to: known[to]} if to else takers
    job = services.deliveries.resend(job_id, chosen, visitor.actor, utc_now())
    _note(services, visitor, job, "resend job", to=", ".join(chosen))
    return chosen


def process_again(
    services: Services, visitor: Visitor, job_id: int, model: str | None = None
) -> JobRecord:
    """Have another model process the series of a job; see `node.models.reprocess`."""
    job = reprocess(services, job_id, model, visitor.actor)
    name = f"{job.model_name} {job.model_version}"
    _note(services, visitor, job, "reprocess", of=job_id, model=name)
    return job


def act_on_each(
    services: Services, visitor: Visitor, action: JobAction, job_ids: Iterable[int], model: str = ""
) -> list[Outcome]:
    """Do the same with several jobs; one that refuses does not keep the others from it."""
    outcomes = []
    for job_id in dict.fromkeys(job_ids):
        try:
            told = _act(services, visitor, action, job_id, model)
        except (StorageError, NodeError, ModelPackageError) as error:
            outcomes.append(Outcome(job_id=job_id, is_done=False, told=str(error)))
        else:
            outcomes.append(Outcome(job_id=job_id, is_done=True, told=told))
    return outcomes


def _act(services: Services, visitor: Visitor, action: JobAction, job_id: int, model: str) -> str:
    """Do something with a job, and give in words what became of it."""
    match action:
        case JobAction.RETRY:
            return f"is tried again; it is {retry(services, visitor, job_id).state.value}"
        case JobAction.CANCEL:
            cancel(services, visitor, job_id)
            return "is canceled"
        case JobAction.RESEND:
            return f"is sent again to {', '.join(resend(services, visitor, job_id))}"
        case JobAction.REPROCESS:
            job = process_again(services, visitor, job_id, model or None)
            return f"gives its place to job {job.id}, for {job.model_name} {job.model_version}"


def _note(
    services: Services, visitor: Visitor, job: JobRecord, action: str, **detail: str | int
) -> None:
    series = services.catalog.get_series(job.series_uid)
    note_action(services, visitor, action, series=series, detail={"job": job.id, **detail})

"""Jobs: look for them, look at one, and act on it."""

from collections.abc import Sequence
from datetime import datetime
from typing import Annotated, Any, Self

from fastapi import APIRouter, Query
from pydantic import Field, model_validator

from config import Settings
from node.clock import utc_now
from node.models import reprocess
from node.services import Services
from node.web.access import Operator, ServicesHere, Viewer
from node.web.api.common import Answer, Asked, JobId, Moment, Text, refuses
from node.web.errors import Unusable
from node.web.journal import note_action, note_view
from node.web.privacy import check_sees_patients, for_visitor
from node.web.visitor import Visitor
from storage.job_query import JobHit, JobPage, JobQuery, JobSort
from storage.records import JobRecord
from storage.states import AuditEvent, DeliveryState, JobState, ProofState

router = APIRouter(prefix="/jobs", tags=["jobs"])


class Job(Answer):
    """One series content, processed by one model version."""

    id: int
    series_uid: str
    study_uid: str
    calling_ae_title: str
    """Of who sent the series."""
    model_name: str
    model_version: str
    model_digest: str
    """SHA-256 of all that decides what the model gives."""
    content_digest: str
    """SHA-256 of the instances that it was made for."""
    state: JobState
    attempts: int
    """Claims by workers since it was created or last retried."""
    created_at: datetime
    updated_at: datetime
    """Last change of state."""
    started_at: datetime | None
    """Begin of the last attempt."""
    finished_at: datetime | None
    """When it reached a state in which nothing goes on by itself."""
    reason_code: str | None
    reason: str
    """A sentence; empty unless REJECTED, FAILED, CANCELED or SUPERSEDED."""
    remark: str
    """What was known to be missing of the series when the job was made."""
    step: str
    """What a running job does; of others, what it did last."""
    step_share: float
    """How much of the whole was done when that began, from 0 to 1."""
    results_removed_at: datetime | None
    """When the files of its results were removed, if they were."""


class Described(Answer):
    """Whose a series is; all empty where patient data are hidden from the user."""

    patient_id: str
    """Patient ID (0010,0020)."""
    patient_name: str
    """Patient's Name (0010,0010)."""
    accession_number: str
    """Accession Number (0008,0050)."""
    study_date: str
    """Study Date (0008,0020), as YYYY-MM-DD."""
    study_description: str
    """Study Description (0008,1030)."""
    series_description: str
    """Series Description (0008,103E)."""


class FoundJob(Job, Described):
    """A job that was found, and whose it is."""

    rule: str
    """The one that decided on the series."""


class FoundJobs(Answer):
    """A page of the jobs that were found."""

    jobs: Sequence[FoundJob]
    total: int
    """How many there are on all pages, at most 10,000."""
    has_more_than_total: bool
    """Whether there are more than that."""
    next_after: int | None
    """The value of `after` that gives the next page; null on the last one."""
    previous_before: int | None
    """The value of `before` that gives the page before; null on the first one."""


class Event(Answer):
    """One step in the history of a job."""

    at: datetime
    actor: str
    """A user as "user:NAME" or "cli:NAME", else what part of the node."""
    from_state: JobState | None
    """Null when the job was created; equal to `to_state` for a note."""
    to_state: JobState
    detail: str


class Result(Answer):
    """A result object."""

    id: int
    role: str
    """What it is, as "seg" or "sr"."""
    path: str
    """Name of its file in `results.zip`."""
    sop_class_uid: str
    sop_instance_uid: str
    series_instance_uid: str
    profiles: Sequence[str]
    """The profiles that it belongs to."""


class Delivery(Answer):
    """The delivery of the results to one destination."""

    id: int
    destination: str
    """Name of the peer in the settings."""
    profile: str
    """Of the results that it gets."""
    state: DeliveryState
    attempts: int
    first_attempt_at: datetime | None
    next_attempt_at: datetime
    last_error: str
    created_at: datetime
    updated_at: datetime


class Proof(Answer):
    """What a destination has proven of a delivery."""

    delivery_id: int
    destination: str
    state: ProofState
    attempts: int
    next_attempt_at: datetime
    last_error: str
    """What is missing."""
    transaction_uid: str | None
    """Of the request for storage commitment that may still be answered, or was granted."""
    asked_at: datetime | None
    """When that request was sent."""
    committed_at: datetime | None
    """When the destination has committed itself to all results."""


class JobDetail(FoundJob):
    """All about one job."""

    summary: dict[str, Any]
    """Measurements (volumes in ml, diameters in mm, attenuation in HU), timings in s and the like,
    as in report.json; empty before PRODUCED."""
    events: Sequence[Event]
    """The oldest first."""
    results: Sequence[Result]
    deliveries: Sequence[Delivery]
    proofs: Sequence[Proof]


class JobSearch(Asked):
    """What jobs are looked for; they must meet all that is said."""

    text: Text = ""
    """What begins the patient ID or accession number, or is the UID of study or series."""
    patient_id: Text = ""
    """Or what it begins with."""
    patient_name: Text = ""
    """What it begins with: Doe, Doe^John, or Doe, John."""
    accession_number: Text = ""
    """Or what it begins with."""
    study_uid: Text = ""
    series_uid: Text = ""
    state: list[JobState] = Field(default_factory=list, max_length=len(JobState))
    """One of these; may be repeated."""
    source: Text = ""
    """Peer that sent the series, or its AE title."""
    destination: Text = ""
    """One that the results go to."""
    rule: Text = ""
    """The one that decided on the series."""
    since: Moment | None = None
    """Created then or later; ISO 8601 with a zone."""
    until: Moment | None = None
    """Created before."""
    sort: JobSort = JobSort.CREATED
    descending: bool = True
    limit: int = Field(default=100, ge=1, le=1000)
    """Jobs on a page."""
    after: int | None = Field(default=None, ge=1, le=2**31 - 1)
    """Number of a job: the page begins after it."""
    before: int | None = Field(default=None, ge=1, le=2**31 - 1)
    """Number of a job: the page ends before it."""

    @model_validator(mode="after")
    def _has_one_end(self) -> Self:
        if self.after is not None and self.before is not None:
            raise ValueError("give after or before, not both")
        return self

    def is_about_patients(self) -> bool:
        """Say whether the answer would tell something of patients, whatever is in it."""
        asked = self.text or self.patient_id or self.patient_name or self.accession_number
        return bool(asked) or self.sort is JobSort.PATIENT_ID

    def as_query(self, settings: Settings) -> JobQuery:
        """Give it as the database is asked."""
        peer = settings.peers.get(self.source)
        return JobQuery(
            **self.model_dump(exclude={"state", "source"}),
            states=self.state,
            calling_ae_title=self.source if peer is None else peer.ae_title,
        )


class Destination(Asked):
    """Where results are sent once more."""

    destination: Text | None = None
    """Name of a peer; null means all that are configured."""


class WantedModel(Asked):
    """What shall process a series."""

    model: Text | None = None
    """NAME or NAME@VERSION of a model that the node has; null means that in use."""


@router.get("", responses=refuses(404))
def search_jobs(
    services: ServicesHere, visitor: Viewer, asked: Annotated[JobSearch, Query()]
) -> FoundJobs:
    """Give a page of the jobs that meet all that is said, the newest first."""
    if asked.is_about_patients():
        check_sees_patients(visitor)
    page = services.jobs.search(asked.as_query(services.settings))
    if page.hits and visitor.sees_patients:
        numbers = [hit.job.id for hit in page.hits]
        _note_search(services, visitor, asked, numbers)
    return _answer_page(page, visitor)


@router.get("/{job_id}", responses=refuses(404))
def get_job(services: ServicesHere, visitor: Viewer, job_id: JobId) -> JobDetail:
    """Give a job with its history, results, deliveries, proofs and measurements."""
    job = services.jobs.get(job_id)
    series = services.catalog.get_series(job.series_uid)
    note_view(services, visitor, series, page="api job", job=job_id)
    shown = for_visitor(series, visitor)
    proofs = services.proofs.list_proofs(job_id)
    return JobDetail.model_validate(
        {
            **_flat(job, shown),
            "rule": series.rule,
            "summary": job.summary,
            "events": services.jobs.events(job_id),
            "results": services.jobs.results(job_id),
            "deliveries": services.deliveries.list_deliveries(job_id),
            "proofs": [
                vars(proof) | {"destination": delivery.destination} for delivery, proof in proofs
            ],
        }
    )


@router.post("/{job_id}/retry", responses=refuses(404, 409))
def retry_job(services: ServicesHere, visitor: Operator, job_id: JobId) -> Job:
    """Queue a failed, rejected or canceled job again; existing results are only delivered."""
    job = services.jobs.retry(job_id, visitor.actor, utc_now())
    return _done(services, visitor, job, "retry job")


@router.post("/{job_id}/cancel", responses=refuses(404, 409))
def cancel_job(services: ServicesHere, visitor: Operator, job_id: JobId) -> Job:
    """Stop a job that has not been delivered."""
    job = services.jobs.cancel(job_id, visitor.actor, utc_now())
    return _done(services, visitor, job, "cancel job")


@router.post("/{job_id}/resend", responses=refuses(400, 404, 409, 413))
def resend_job(services: ServicesHere, visitor: Operator, job_id: JobId, asked: Destination) -> Job:
    """Deliver the existing results once more."""
    configured, to = services.settings.deliveries, asked.destination
    if to is not None and to not in configured:
        raise Unusable(f"There is no destination {to!r} in the settings.")
    chosen = {name: profile for name, profile in configured.items() if to in (None, name)}
    job = services.deliveries.resend(job_id, chosen, visitor.actor, utc_now())
    return _done(services, visitor, job, "resend job", to=", ".join(chosen))


@router.post("/{job_id}/reprocess", status_code=201, responses=refuses(400, 404, 409, 413))
def reprocess_job(
    services: ServicesHere, visitor: Operator, job_id: JobId, asked: WantedModel
) -> Job:
    """Have another model process the series; gives the job that takes the place of this one."""
    services.jobs.get(job_id)
    job = reprocess(services, job_id, asked.model, visitor.actor)
    model = f"{job.model_name} {job.model_version}"
    return _done(services, visitor, job, "reprocess", of=job_id, model=model)


def _done(
    services: Services, visitor: Visitor, job: JobRecord, action: str, **detail: str | int
) -> Job:
    """Write down what was done, and give the job as it is now."""
    series = services.catalog.get_series(job.series_uid)
    note_action(services, visitor, action, series=series, detail={"job": job.id, **detail})
    return Job.model_validate(job)


def _note_search(
    services: Services, visitor: Visitor, asked: JobSearch, numbers: list[int]
) -> None:
    sought = asked.model_dump(mode="json", exclude_defaults=True)
    detail = {"page": "api jobs", "sought": sought, "jobs": numbers}
    note_action(services, visitor, "view", event=AuditEvent.DATA_VIEWED, detail=detail)


def _answer_page(page: JobPage, visitor: Visitor) -> FoundJobs:
    jobs = [_answer_hit(hit, visitor) for hit in page.hits]
    return FoundJobs(
        jobs=jobs,
        total=page.total,
        has_more_than_total=page.has_more_than_total,
        next_after=jobs[-1].id if jobs and page.has_next else None,
        previous_before=jobs[0].id if jobs and page.has_previous else None,
    )


def _answer_hit(hit: JobHit, visitor: Visitor) -> FoundJob:
    described = for_visitor(hit.series, visitor)
    return FoundJob.model_validate({**_flat(hit.job, described), "rule": hit.rule})


def _flat(job: JobRecord, described: object) -> dict[str, Any]:
    return {name: getattr(described, name) for name in Described.model_fields} | vars(job)

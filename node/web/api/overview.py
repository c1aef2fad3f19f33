"""What goes on in the node; suspend and resume."""

from collections.abc import Sequence
from datetime import datetime

from fastapi import APIRouter

from node import control
from node.overview import Situation, describe_situation
from node.roles import Role
from node.services import Services
from node.web.access import Operator, ServicesHere, Viewer
from node.web.api.common import Answer, Asked, Text, refuses
from node.web.api.jobs import Delivery, Job
from storage.states import JobState, ProofState, Work

router = APIRouter(tags=["overview"])


class OpenSeries(Answer):
    """A series on which nothing is decided yet."""

    series_uid: str
    study_uid: str
    modality: str
    calling_ae_title: str
    """Of who sent its first instance."""
    instance_count: int
    expected_instances: int | None
    """The largest number that an instance has announced, if any."""
    first_received_at: datetime
    last_received_at: datetime
    why: str
    """What it waits for."""


class QueuedJob(Job):
    """A job that waits for a worker."""

    why: str
    """What it waits for."""


class PendingDelivery(Delivery):
    """A delivery that is due, under way, or tried again."""

    job_id: int
    why: str
    """What it waits for."""


class PendingProof(Answer):
    """What a destination has still to prove."""

    job_id: int
    destination: str
    state: ProofState
    attempts: int
    next_attempt_at: datetime
    last_error: str


class Suspension(Answer):
    """Work that a person has suspended."""

    work: Work
    since: datetime
    actor: str
    """Who did it, as "user:NAME"."""
    reason: str


class Process(Answer):
    """A sign of life of one process of the node."""

    role: str
    host: str
    pid: int
    started_at: datetime
    beat_at: datetime
    """When it last gave one."""
    detail: str
    """What it said of itself; empty when all is well."""


class NodeOverview(Answer):
    """What goes on; the lists are as long as was asked for, the counts say how much there is."""

    at: datetime
    series: Sequence[OpenSeries]
    """The longest silent first."""
    series_count: int
    queued: Sequence[QueuedJob]
    """In the order in which they are taken."""
    running: Sequence[Job]
    deliveries: Sequence[PendingDelivery]
    """The next first."""
    delivery_count: int
    proofs: Sequence[PendingProof]
    """The next first."""
    proof_count: int
    ended: Sequence[Job]
    """Those that have come to an end, the last first."""
    job_counts: dict[JobState, int]
    """Jobs of each state that has any."""
    pauses: Sequence[Suspension]
    alive: dict[Role, int]
    """How many processes of each role have given a sign of life lately."""
    beats: Sequence[Process]


class Reason(Asked):
    """Why work is suspended."""

    reason: Text = ""
    """For others who see that it stands still."""


class WorkChange(Answer):
    """What came of the wish to suspend or resume work."""

    work: Work
    suspended: bool
    """Whether it is so now."""
    changed: bool
    """Whether it was otherwise before."""


@router.get("/overview")
def get_overview(services: ServicesHere, visitor: Viewer) -> NodeOverview:
    """Give what is received, waits and why, runs, is delivered, and has ended last."""
    del visitor
    return _answer(describe_situation(services))


@router.post("/work/{work}/suspend", responses=refuses(400, 413))
def suspend_work(
    services: ServicesHere, visitor: Operator, work: Work, asked: Reason
) -> WorkChange:
    """Let no job or no delivery begin until it is resumed; what has begun is finished."""
    changed = control.suspend(
        services, work, actor=visitor.actor, reason=asked.reason, address=visitor.address
    )
    return _change(services, work, changed=changed)


@router.post("/work/{work}/resume")
def resume_work(services: ServicesHere, visitor: Operator, work: Work) -> WorkChange:
    """Let work begin again that was suspended."""
    changed = control.resume(services, work, actor=visitor.actor, address=visitor.address)
    return _change(services, work, changed=changed)


def _change(services: Services, work: Work, *, changed: bool) -> WorkChange:
    return WorkChange(work=work, suspended=services.pauses.is_suspended(work), changed=changed)


def _answer(situation: Situation) -> NodeOverview:
    values = situation.as_json()
    proofs = [
        {**values["proof"], "job_id": values["job_id"], "destination": values["destination"]}
        for values in values["proofs"]
    ]
    return NodeOverview.model_validate({**values, "proofs": proofs})

"""States of jobs and deliveries, and the transitions between them."""

from collections.abc import Mapping
from enum import StrEnum
from types import MappingProxyType


class JobState(StrEnum):
    """Where a job stands."""

    QUEUED = "QUEUED"
    """It waits for a worker."""
    RUNNING = "RUNNING"
    """A worker holds it under a lease."""
    PRODUCED = "PRODUCED"
    """Its results are on disk; no destination has been tried yet."""
    DELIVERING = "DELIVERING"
    """Its results are on their way to the destinations."""
    DELIVERED = "DELIVERED"
    """Every destination has accepted every result."""
    CONFIRMED = "CONFIRMED"
    """The destinations have proven that they keep the results."""
    REJECTED = "REJECTED"
    """The series is unsuitable; reason code and sentence say why, and so does a report, whose
    deliveries go on beside."""
    FAILED = "FAILED"
    """We could not; the attempts or the time are used up."""
    CANCELED = "CANCELED"
    """A person stopped it."""
    SUPERSEDED = "SUPERSEDED"
    """The series has changed since, or another model was asked for; a newer job stands for it."""


class DeliveryState(StrEnum):
    """Where the delivery of one job's results to one destination stands."""

    PENDING = "PENDING"
    """It waits for its next attempt, or is under way."""
    DELIVERED = "DELIVERED"
    """The destination has accepted every result."""
    FAILED = "FAILED"
    """Given up."""
    CANCELED = "CANCELED"
    """Its job was canceled or superseded."""


class ProofState(StrEnum):
    """Where a destination stands that is to prove that it keeps the results of a job."""

    WAITING = "WAITING"
    """Its next attempt is due or under way, once the results are delivered."""
    PROVEN = "PROVEN"
    """It has proven all that its settings ask for."""
    GIVEN_UP = "GIVEN_UP"
    """It has not, for too long."""


class FailureCode(StrEnum):
    """Reason codes of FAILED jobs; those of REJECTED jobs are `dicom_io.errors.RejectionReason`."""

    ATTEMPTS_USED_UP = "ATTEMPTS_USED_UP"
    """Each attempt to process the series ended in an error or a lost worker."""
    CHECK_FAILED = "CHECK_FAILED"
    """Results were written that do not hold what they were made from; none of them was sent."""
    MODEL_MISSING = "MODEL_MISSING"
    """The node no longer has the model that the job was made for, or its package is damaged."""
    DELIVERY_GIVEN_UP = "DELIVERY_GIVEN_UP"
    """At least one destination did not take the results."""


class AddOutcome(StrEnum):
    """What became of a received instance."""

    ADDED = "ADDED"
    """It is new."""
    DUPLICATE = "DUPLICATE"
    """The same bytes were already there."""
    RESTORED = "RESTORED"
    """The same bytes had been there, and their file was removed since."""
    CONFLICT = "CONFLICT"
    """Its SOP instance UID is already taken by other bytes; it is kept apart and never used."""


class Work(StrEnum):
    """What a person can suspend: none of it begins then, and what has begun is finished."""

    PROCESSING = "processing"
    """Workers take jobs."""
    DELIVERY = "delivery"
    """Results are sent to destinations."""


class RetrievalKey(StrEnum):
    """What a person knows of a study that is to be fetched."""

    ACCESSION = "accession"
    """Accession Number (0008,0050)."""
    PATIENT = "patient"
    """Patient ID (0010,0020)."""
    STUDY = "study"
    """Study Instance UID (0020,000D)."""


class RetrievalState(StrEnum):
    """Where the retrieval of a study from a peer stands."""

    WAITING = "WAITING"
    """Its next attempt is due, or comes at a set time."""
    RUNNING = "RUNNING"
    """It is under way."""
    DONE = "DONE"
    """All that the peer lists is here."""
    NOT_FOUND = "NOT_FOUND"
    """The peer lists no CT series under this number."""
    FAILED = "FAILED"
    """Given up."""
    CANCELED = "CANCELED"
    """A person stopped it."""


UNDER_WAY_RETRIEVALS = (RetrievalState.WAITING, RetrievalState.RUNNING)
"""In the other states nothing goes on by itself."""


class UserRole(StrEnum):
    """What a user may do; each role may do all that those before it may."""

    VIEWER = "viewer"
    """Look."""
    OPERATOR = "operator"
    """Act on jobs, deliveries and retrievals; suspend and resume."""
    ADMINISTRATOR = "administrator"
    """Make users, read the audit trail and the settings."""

    def covers(self, wanted: "UserRole") -> bool:
        """Say whether this role may do what `wanted` may."""
        order = list(UserRole)
        return order.index(self) >= order.index(wanted)


class AccessKind(StrEnum):
    """How a user comes in."""

    SESSION = "session"
    """A browser, by its cookie."""
    TOKEN = "token"  # noqa: S105 -- the kind, not a secret
    """A program, by a bearer token."""


class AuditEvent(StrEnum):
    """What the audit trail tells of."""

    NODE_STARTED = "node-started"
    NODE_STOPPED = "node-stopped"
    ASSOCIATION_REJECTED = "association-rejected"
    INSTANCES_RECEIVED = "instances-received"
    QUERY_SENT = "query-sent"
    """Also what was retrieved by it."""
    MODEL_RUN = "model-run"
    RESULTS_SENDING = "results-sending"
    """It is about to be tried for the first time."""
    RESULTS_SENT = "results-sent"
    RESULTS_PROVEN = "results-proven"
    """A destination has proven that it keeps them."""
    FILES_REMOVED = "files-removed"
    LOGIN = "login"
    LOGOUT = "logout"
    DATA_VIEWED = "data-viewed"
    DATA_EXPORTED = "data-exported"
    ACTION = "action"
    """A person changed something: the detail says what."""
    USERS_CHANGED = "users-changed"
    AUDIT_READ = "audit-read"


class AuditOutcome(StrEnum):
    """How it came out (PS3.15 A.5.2, Event Outcome Indicator)."""

    SUCCESS = "success"
    MINOR_FAILURE = "minor-failure"
    """The action could not be done, as with a wrong password."""
    SERIOUS_FAILURE = "serious-failure"
    MAJOR_FAILURE = "major-failure"


_S = JobState
_REPLACED = "scheduler: the series has changed; administrator: asks for another model"

JOB_TRANSITIONS: Mapping[tuple[JobState, JobState], str] = MappingProxyType(
    {
        (_S.QUEUED, _S.RUNNING): "worker: claims the job",
        (_S.QUEUED, _S.CANCELED): "administrator: cancels it",
        (_S.QUEUED, _S.SUPERSEDED): _REPLACED,
        (_S.RUNNING, _S.QUEUED): "worker: an attempt failed; scheduler: the worker was lost",
        (_S.RUNNING, _S.PRODUCED): "worker: the results are on disk",
        (_S.RUNNING, _S.REJECTED): "worker: the series is unsuitable",
        (_S.RUNNING, _S.FAILED): (
            "worker or scheduler: the attempts are used up, or its model is not there"
        ),
        (_S.RUNNING, _S.CANCELED): "administrator: cancels it",
        (_S.RUNNING, _S.SUPERSEDED): _REPLACED,
        (_S.PRODUCED, _S.DELIVERING): "sender: claims the first delivery",
        (_S.PRODUCED, _S.DELIVERED): "worker: no destination is set",
        (_S.PRODUCED, _S.CANCELED): "administrator: cancels the deliveries",
        (_S.PRODUCED, _S.SUPERSEDED): _REPLACED,
        (_S.DELIVERING, _S.DELIVERED): "sender: the last destination has accepted",
        (_S.DELIVERING, _S.FAILED): "sender: a destination was given up, none is pending",
        (_S.DELIVERING, _S.CANCELED): "administrator: cancels the deliveries",
        (_S.DELIVERING, _S.SUPERSEDED): _REPLACED,
        (_S.DELIVERED, _S.CONFIRMED): "scheduler: the destinations have proven to keep the results",
        (_S.DELIVERED, _S.DELIVERING): "administrator: re-sends",
        (_S.DELIVERED, _S.SUPERSEDED): _REPLACED,
        (_S.DELIVERED, _S.QUEUED): "administrator: retries, because the results were removed",
        (_S.CONFIRMED, _S.DELIVERING): "administrator: re-sends",
        (_S.CONFIRMED, _S.QUEUED): "administrator: retries, because the results were removed",
        (_S.CONFIRMED, _S.SUPERSEDED): _REPLACED,
        (_S.REJECTED, _S.QUEUED): "administrator: retries",
        (_S.REJECTED, _S.SUPERSEDED): _REPLACED,
        (_S.FAILED, _S.QUEUED): "administrator: retries",
        (_S.FAILED, _S.DELIVERING): "administrator: retries or re-sends results that exist",
        (_S.CANCELED, _S.QUEUED): "administrator: retries",
        (_S.CANCELED, _S.DELIVERING): "administrator: retries or re-sends results that exist",
        (_S.SUPERSEDED, _S.QUEUED): "administrator: asks for its model again",
    }
)
"""Each permitted transition (from, to), and who does it; every other one is forbidden."""

FINAL_STATES = frozenset(
    {_S.DELIVERED, _S.CONFIRMED, _S.REJECTED, _S.FAILED, _S.CANCELED, _S.SUPERSEDED}
)
"""States in which nothing goes on by itself; such a job has a `finished_at`."""

RETRYABLE_STATES = frozenset({_S.REJECTED, _S.FAILED, _S.CANCELED})
"""States from which an administrator may retry."""


def can_supersede(state: JobState) -> bool:
    """Say whether a job in `state` becomes SUPERSEDED when a newer one stands for its series."""
    return (state, JobState.SUPERSEDED) in JOB_TRANSITIONS

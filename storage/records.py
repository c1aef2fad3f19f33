"""What callers get from storage, and what they hand in: frozen values, times aware and in UTC."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from config.network import Retrieval
from config.results import DEFAULT_PROFILE
from config.rules import RuleAction
from storage.states import (
    UNDER_WAY_RETRIEVALS,
    AccessKind,
    AuditEvent,
    AuditOutcome,
    DeliveryState,
    FailureCode,
    JobState,
    ProofState,
    RetrievalKey,
    RetrievalState,
    UserRole,
    Work,
)


@dataclass(frozen=True, kw_only=True)
class StoredFile:
    """A received instance on disk."""

    relative_path: str
    """Relative to the data folder, with forward slashes."""
    sha256: str
    """Of the data set; the file meta information before it is ours, not the sender's."""
    size_bytes: int
    """Of the file."""


@dataclass(frozen=True)
class Sender:
    """Whom an instance is from."""

    ae_title: str
    address: str = ""
    """Of the machine that called; empty where none did."""


@dataclass(frozen=True)
class Addressee:
    """Whom results are for, as the audit trail names it."""

    ae_title: str
    address: str
    """Host and port, or URL."""


@dataclass(frozen=True, kw_only=True)
class InstanceRecord:
    """A received instance."""

    id: int
    sop_instance_uid: str
    sop_class_uid: str
    study_uid: str
    series_uid: str
    transfer_syntax_uid: str
    path: str
    """Relative to the data folder, with forward slashes; empty once its file is removed."""
    sha256: str
    """Of the data set, see `StoredFile`."""
    size_bytes: int
    frame_count: int
    slice_position_mm: float | None
    """Along the slice normal."""
    is_conflict: bool
    """Its SOP instance UID belongs to other bytes; it is kept, but never used."""
    calling_ae_title: str
    received_at: datetime
    removed_at: datetime | None
    """When its file was given up, if it was; the file itself goes after that."""


@dataclass(frozen=True, kw_only=True)
class SeriesRecord:
    """A received series and what was decided about it.

    `decision`, `rule`, `reason`, `content_digest` and `settled_at` are set once it is settled.
    """

    series_uid: str
    study_uid: str
    modality: str
    calling_ae_title: str
    """Of the first instance."""
    instance_count: int
    """Without conflicts, and without those whose files are removed."""
    expected_instances: int | None
    """The largest number that an instance has announced."""
    has_conflicts: bool
    first_received_at: datetime
    last_received_at: datetime
    settled: bool
    settled_at: datetime | None
    decision: RuleAction | None
    rule: str
    reason: str
    content_digest: str | None
    """Of all instances that ever came, whether or not their files are removed."""
    size_bytes: int
    """Of its files, conflicts included."""
    removed_at: datetime | None
    """When files of it were removed that have not all come again since."""
    missing_files: int
    """Files that should be there and are not, as the last sweep saw it."""
    counted_instances: int | None
    """How many its sender lists, where it was asked and listed more than had come."""
    counted_at: datetime | None
    """When its sender was last asked."""
    waits_for: str
    """A sentence: what is known to be missing, or was when the decision was made."""
    calling_address: str
    """From which the first instance came; empty where that is not known."""
    patient_id: str
    """This and what follows is known once the series is settled, as one of its instances says."""
    patient_name: str
    accession_number: str
    study_date: str
    """As YYYY-MM-DD."""
    study_description: str
    series_description: str


@dataclass(frozen=True, kw_only=True)
class SeriesEvent:
    """What became of the files of a series."""

    series_uid: str
    at: datetime
    actor: str
    detail: str


@dataclass(frozen=True, kw_only=True)
class NewJob:
    """The model version that shall process a series."""

    model_name: str
    model_version: str
    model_digest: str


@dataclass(frozen=True, kw_only=True)
class JobRecord:
    """One series content, processed by one model version."""

    id: int
    series_uid: str
    study_uid: str
    content_digest: str
    calling_ae_title: str
    model_name: str
    model_version: str
    model_digest: str
    state: JobState
    attempts: int
    """Claims by workers since it was created or last retried."""
    worker: str | None
    """The one that holds it, or held it last."""
    lease_until: datetime | None
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
    summary: Mapping[str, Any] = field(hash=False)
    """Measurements, timings and the like, as JSON values; empty before PRODUCED."""
    results_removed_at: datetime | None
    """When the files of its results were given up, if they were."""
    remark: str
    """What was known to be missing of the series when the job was made, as a sentence."""
    step: str
    """What a running job does; for others, what it did last."""
    step_share: float
    """How much of the whole was done when that began, from 0 to 1."""


@dataclass(frozen=True, kw_only=True)
class JobEvent:
    """One step in the history of a job."""

    job_id: int
    at: datetime
    actor: str
    from_state: JobState | None
    """None when the job was created; equal to `to_state` for a note without a transition."""
    to_state: JobState
    detail: str


@dataclass(frozen=True, kw_only=True)
class NewResult:
    """A result object that a worker has written."""

    role: str
    """What it is, as "seg" or "sr"."""
    path: str
    """Relative to the folder of the job's results."""
    sop_class_uid: str
    sop_instance_uid: str
    series_instance_uid: str
    profiles: Sequence[str] = (DEFAULT_PROFILE,)
    """The profiles that it belongs to."""


Destinations = Mapping[str, str]
"""Name of each destination, and the profile of what it gets."""


@dataclass(frozen=True)
class Problem:
    """Why an attempt failed."""

    text: str
    code: FailureCode = FailureCode.ATTEMPTS_USED_UP
    """Of the job, if it was the last attempt."""
    lasts: bool = False
    """Whether a further attempt would end in the same way, so that there is none."""


@dataclass(frozen=True, kw_only=True)
class Rejection:
    """Why a series is unsuitable, and the report that says so."""

    reason_code: str
    sentence: str
    results: Sequence[NewResult] = ()
    destinations: Destinations = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class ResultRecord(NewResult):
    """A result object of a job."""

    id: int
    job_id: int


@dataclass(frozen=True, kw_only=True)
class DeliveryRecord:
    """The delivery of the results of one job to one destination."""

    id: int
    job_id: int
    destination: str
    """Name of the peer in the settings."""
    profile: str
    """Of the results that it gets."""
    state: DeliveryState
    attempts: int
    first_attempt_at: datetime | None
    next_attempt_at: datetime
    last_error: str
    owner: str | None
    """The sender that holds it, or held it last."""
    lease_until: datetime | None
    created_at: datetime
    updated_at: datetime


@dataclass(frozen=True, kw_only=True)
class ProofRecord:
    """What a destination has proven of one delivery."""

    delivery_id: int
    state: ProofState
    attempts: int
    first_attempt_at: datetime | None
    next_attempt_at: datetime
    last_error: str
    owner: str | None
    """The prover that holds it, or held it last."""
    lease_until: datetime | None
    transaction_uid: str | None
    """Of the request for storage commitment that may still be answered, or was granted."""
    asked_at: datetime | None
    """When that request was sent."""
    committed_at: datetime | None
    """When the destination has committed itself to all results."""
    created_at: datetime
    updated_at: datetime


@dataclass(frozen=True, kw_only=True)
class RetrievalOrder:
    """What a person wants to have from a peer."""

    peer: str
    """Its name in the settings."""
    wanted: Sequence[tuple[RetrievalKey, str]]
    """A row for each; what is named twice is fetched once."""
    retrieval: Retrieval
    actor: str
    at_night: bool = False
    """Rows begin only where `Retrievals.claim_due` is told that it is night."""
    not_before: datetime


@dataclass(frozen=True, kw_only=True)
class RetrievalProgress:
    """How far the retrieval of a row has come."""

    offered: int = 0
    """Instances that the peer lists, as far as it has been asked."""
    fetched: int = 0
    """How many of them are here, whenever they came."""
    series_uids: Sequence[str] = field(default=(), hash=False)
    """The series that they belong to."""


@dataclass(frozen=True, kw_only=True)
class RetrievalRecord(RetrievalProgress):
    """A row of a list of what is to be fetched from a peer."""

    id: int
    batch: str
    """The list that it belongs to: the number of the first row of it."""
    peer: str
    key: RetrievalKey
    value: str
    retrieval: Retrieval
    at_night: bool
    actor: str
    state: RetrievalState
    attempts: int
    first_attempt_at: datetime | None
    next_attempt_at: datetime
    """When it is due; one that is fetched at night begins in the first night after."""
    last_error: str
    owner: str | None
    """The scheduler that holds it, or held it last."""
    lease_until: datetime | None
    created_at: datetime
    updated_at: datetime


@dataclass(frozen=True, kw_only=True)
class RetrievalBatch:
    """A list of what is to be fetched from a peer, and how far it has come."""

    batch: str
    peer: str
    retrieval: Retrieval
    at_night: bool
    actor: str
    created_at: datetime
    counts: Mapping[RetrievalState, int] = field(hash=False)
    """Rows by state, of those states that any has."""
    offered: int
    """Instances, as in `RetrievalProgress`, over all rows."""
    fetched: int

    @property
    def row_count(self) -> int:
        """How many rows it has."""
        return sum(self.counts.values())

    @property
    def ended_count(self) -> int:
        """How many of them are no longer under way."""
        return self.row_count - sum(self.counts.get(state, 0) for state in UNDER_WAY_RETRIEVALS)


@dataclass(frozen=True, kw_only=True)
class RoleBeat:
    """A sign of life of one process of the node."""

    role: str
    host: str
    pid: int
    started_at: datetime
    beat_at: datetime
    detail: str


@dataclass(frozen=True, kw_only=True)
class Pause:
    """Work that a person has suspended."""

    work: Work
    since: datetime
    actor: str
    reason: str


@dataclass(frozen=True, kw_only=True)
class AlertFinding:
    """Something that is wrong; its text holds no patient data."""

    kind: str
    subject: str
    """What is concerned, as the name of a destination."""
    message: str


@dataclass(frozen=True, kw_only=True)
class AlertRecord(AlertFinding):
    """Something that is or was wrong, and what people were told of it."""

    raised_at: datetime
    seen_at: datetime
    """When it was last found to be wrong."""
    told_at: datetime | None
    """When people were last told; never before `raised_at`."""
    cleared_at: datetime | None
    """When it was found to be over; none while it is not."""


@dataclass(frozen=True, kw_only=True)
class UserRecord:
    """A person, or a program, that may use the pages and the API."""

    id: int
    name: str
    role: UserRole
    password_hash: str = field(repr=False)
    """In the form of the argon2 library, salt included."""
    created_at: datetime
    password_changed_at: datetime
    last_login_at: datetime | None
    disabled_at: datetime | None
    """When the user was shut out, if so."""


@dataclass(frozen=True, kw_only=True)
class AccessRecord:
    """A session of a browser, or a token of a program."""

    digest: str = field(repr=False)
    user_id: int
    kind: AccessKind
    label: str
    """What the user calls it; of a session, the address that it began from."""
    created_at: datetime
    used_at: datetime
    expires_at: datetime


@dataclass(frozen=True, kw_only=True)
class AuditEntry:
    """What happened, as it is told to the audit trail."""

    event: AuditEvent
    actor: str
    """A user as "user:NAME", an application entity as "ae:TITLE", else a role of the node."""
    outcome: AuditOutcome = AuditOutcome.SUCCESS
    address: str = ""
    """Of the machine that the actor spoke from, where it was another."""
    patient_id: str = ""
    study_uid: str = ""
    detail: Mapping[str, Any] = field(default_factory=dict, hash=False)
    """JSON values."""


@dataclass(frozen=True, kw_only=True)
class AuditRecord(AuditEntry):
    """A line of the audit trail."""

    id: int
    at: datetime
    host: str
    """The machine of this node that saw it."""
    digest: str
    """SHA-256 of this line and of the digest of the one before."""

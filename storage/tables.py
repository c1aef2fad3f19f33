"""Tables of the job database; `storage/migrations` makes them."""

import unicodedata
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any, ClassVar

from sqlalchemy import (
    JSON,
    BigInteger,
    CheckConstraint,
    DateTime,
    Dialect,
    Double,
    Enum,
    ForeignKey,
    Index,
    MetaData,
    String,
    Text,
    TypeDecorator,
    UniqueConstraint,
    text,
)
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column
from sqlalchemy.types import TypeEngine

from config.network import Retrieval
from config.results import DEFAULT_PROFILE
from config.rules import RuleAction
from storage.states import (
    AccessKind,
    AuditEvent,
    AuditOutcome,
    DeliveryState,
    JobState,
    ProofState,
    RetrievalKey,
    RetrievalState,
    UserRole,
    Work,
)


class UtcDateTime(TypeDecorator[datetime]):
    """An aware datetime in UTC; a naive one is refused."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Turn an aware datetime to UTC before it is stored."""
        del dialect
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError(f"{value!r} has no time zone")
        return value.astimezone(UTC)

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Give an aware datetime back, also where the database keeps no time zone (SQLite)."""
        del dialect
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


class PlainText(TypeDecorator[str]):
    """Text without zero characters, which PostgreSQL cannot hold.

    Peers send such text, in values of attributes and in error comments; the sign U+FFFD says where
    one stood.
    """

    impl = Text
    cache_ok = True

    def process_bind_param(self, value: str | None, dialect: Dialect) -> str | None:
        """Replace zero characters."""
        del dialect
        return None if value is None else value.replace("\0", "\ufffd")


class SearchText(PlainText):
    """What people type in to find text: without regard to case and marks above or below letters.

    What is stored and what is looked for are folded alike. In PostgreSQL it is sorted by code
    points, as SQLite does, so that an index finds all that begins alike.
    """

    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[str]:
        """Give the type of the column."""
        return Text(collation="C" if dialect.name == "postgresql" else None)

    def process_bind_param(self, value: str | None, dialect: Dialect) -> str | None:
        """Fold the text."""
        plain = super().process_bind_param(value, dialect)
        return None if plain is None else fold(plain)


def fold(text: str) -> str:
    """Give the text as it is searched for: small letters without marks, as "muller^zoe"."""
    letters = unicodedata.normalize("NFKD", text.strip().casefold())
    return "".join(letter for letter in letters if not unicodedata.combining(letter))


def _values(members: type[StrEnum]) -> list[str]:
    return [member.value for member in members]


def _closed_set(enum: type[StrEnum], name: str) -> Enum:
    """Make a text column type that admits the members of `enum` only, by a check constraint."""
    return Enum(
        enum,
        name=name,
        native_enum=False,
        create_constraint=True,
        length=16,
        values_callable=_values,
    )


class Base(DeclarativeBase):
    """Base of all tables; each constraint has a name, so that a migration can address it."""

    metadata = MetaData(
        naming_convention={
            "ix": "ix_%(table_name)s_%(column_0_N_name)s",
            "uq": "uq_%(table_name)s_%(column_0_N_name)s",
            "ck": "ck_%(table_name)s_%(constraint_name)s",
            "fk": "fk_%(table_name)s_%(column_0_name)s",
            "pk": "pk_%(table_name)s",
        }
    )
    type_annotation_map: ClassVar[dict[Any, Any]] = {
        str: PlainText,
        datetime: UtcDateTime,
        JobState: _closed_set(JobState, "job_state"),
        DeliveryState: _closed_set(DeliveryState, "delivery_state"),
        ProofState: _closed_set(ProofState, "proof_state"),
        RuleAction: _closed_set(RuleAction, "decision"),
        RetrievalState: _closed_set(RetrievalState, "retrieval_state"),
        RetrievalKey: _closed_set(RetrievalKey, "retrieval_key"),
        Retrieval: _closed_set(Retrieval, "retrieval"),
        UserRole: _closed_set(UserRole, "user_role"),
        AccessKind: _closed_set(AccessKind, "access_kind"),
        Work: _closed_set(Work, "work"),
        dict[str, Any]: JSON,
        list[str]: JSON,
    }


class LeasedRow(Base):
    """What is attempted under a lease, see `storage.leases`."""

    __abstract__ = True

    attempts: Mapped[int] = mapped_column(default=0)
    first_attempt_at: Mapped[datetime | None]
    next_attempt_at: Mapped[datetime]
    last_error: Mapped[str] = mapped_column(default="")
    owner: Mapped[str | None]
    lease_until: Mapped[datetime | None]
    created_at: Mapped[datetime]
    updated_at: Mapped[datetime]


UID = String(64)
"""PS3.5 6.2: a UID has at most 64 characters."""
AE_TITLE = String(16)


class SeriesRow(Base):
    """A received series."""

    __tablename__ = "series"
    __table_args__ = (
        CheckConstraint("settled = (settled_at IS NOT NULL)", name="settled_at"),
        Index("ix_series_first_received_at", "first_received_at"),
        # The scheduler looks at the few open series only, however many there are.
        Index(
            "ix_series_open",
            "last_received_at",
            sqlite_where=text("settled = 0"),
            postgresql_where=text("NOT settled"),
        ),
        # Retention looks at those that have files, however many had some.
        Index(
            "ix_series_held",
            "series_uid",
            sqlite_where=text("size_bytes > 0"),
            postgresql_where=text("size_bytes > 0"),
        ),
        # What people search by.
        Index("ix_series_patient_id_key", "patient_id_key", "first_received_at"),
        Index("ix_series_patient_name_key", "patient_name_key"),
        Index("ix_series_accession_number_key", "accession_number_key"),
        Index("ix_series_study_uid", "study_uid"),
        Index("ix_series_rule", "rule"),
    )

    series_uid: Mapped[str] = mapped_column(UID, primary_key=True)
    study_uid: Mapped[str] = mapped_column(UID)
    modality: Mapped[str]
    calling_ae_title: Mapped[str] = mapped_column(AE_TITLE)
    instance_count: Mapped[int] = mapped_column(default=0)
    expected_instances: Mapped[int | None]
    has_conflicts: Mapped[bool] = mapped_column(default=False)
    first_received_at: Mapped[datetime]
    last_received_at: Mapped[datetime]
    settled: Mapped[bool] = mapped_column(default=False)
    settled_at: Mapped[datetime | None]
    decision: Mapped[RuleAction | None]
    rule: Mapped[str] = mapped_column(default="")
    reason: Mapped[str] = mapped_column(default="")
    content_digest: Mapped[str | None]
    size_bytes: Mapped[int] = mapped_column(BigInteger, server_default=text("0"))
    removed_at: Mapped[datetime | None]
    missing_files: Mapped[int] = mapped_column(server_default=text("0"))
    counted_instances: Mapped[int | None]
    counted_at: Mapped[datetime | None]
    waits_for: Mapped[str] = mapped_column(server_default="")
    calling_address: Mapped[str] = mapped_column(server_default="")
    patient_id: Mapped[str] = mapped_column(server_default="")
    patient_name: Mapped[str] = mapped_column(server_default="")
    accession_number: Mapped[str] = mapped_column(server_default="")
    study_date: Mapped[str] = mapped_column(server_default="")
    study_description: Mapped[str] = mapped_column(server_default="")
    series_description: Mapped[str] = mapped_column(server_default="")
    patient_id_key: Mapped[str] = mapped_column(SearchText, server_default="")
    patient_name_key: Mapped[str] = mapped_column(SearchText, server_default="")
    accession_number_key: Mapped[str] = mapped_column(SearchText, server_default="")


class SeriesEventRow(Base):
    """What became of the files of a series."""

    __tablename__ = "series_event"
    __table_args__ = (Index("ix_series_event_series_uid", "series_uid"),)

    id: Mapped[int] = mapped_column(primary_key=True)
    series_uid: Mapped[str] = mapped_column(UID, ForeignKey("series.series_uid"))
    at: Mapped[datetime]
    actor: Mapped[str]
    detail: Mapped[str]


class InstanceRow(Base):
    """A received instance."""

    __tablename__ = "instance"
    __table_args__ = (
        UniqueConstraint("sop_instance_uid", "sha256"),
        # "Stored once" is this index, not a look before the insert.
        Index(
            "uq_instance_sop_instance_uid",
            "sop_instance_uid",
            unique=True,
            sqlite_where=text("is_conflict = 0"),
            postgresql_where=text("NOT is_conflict"),
        ),
        Index("ix_instance_series_uid", "series_uid"),
        # Files that are still to go are few, and at most times none.
        Index(
            "ix_instance_leaving",
            "series_uid",
            sqlite_where=text("removed_at IS NOT NULL AND path <> ''"),
            postgresql_where=text("removed_at IS NOT NULL AND path <> ''"),
        ),
    )

    id: Mapped[int] = mapped_column(primary_key=True)
    sop_instance_uid: Mapped[str] = mapped_column(UID)
    sop_class_uid: Mapped[str] = mapped_column(UID)
    study_uid: Mapped[str] = mapped_column(UID)
    series_uid: Mapped[str] = mapped_column(UID, ForeignKey("series.series_uid"))
    transfer_syntax_uid: Mapped[str] = mapped_column(UID)
    path: Mapped[str]
    sha256: Mapped[str]
    size_bytes: Mapped[int] = mapped_column(BigInteger)
    frame_count: Mapped[int]
    slice_position_mm: Mapped[float | None] = mapped_column(Double)
    is_conflict: Mapped[bool] = mapped_column(default=False)
    calling_ae_title: Mapped[str] = mapped_column(AE_TITLE)
    received_at: Mapped[datetime]
    removed_at: Mapped[datetime | None]


class JobRow(Base):
    """One series content, to be processed by one model version."""

    __tablename__ = "job"
    __table_args__ = (
        UniqueConstraint("series_uid", "content_digest", "model_digest"),
        CheckConstraint("attempts >= 0", name="attempts"),
        CheckConstraint("state <> 'RUNNING' OR lease_until IS NOT NULL", name="running_has_lease"),
        # Claim and lists: jobs of a state in the order of their creation.
        Index("ix_job_state_id", "state", "id"),
        Index("ix_job_calling_ae_title_id", "calling_ae_title", "id"),
        Index("ix_job_created_at_id", "created_at", "id"),
        Index("ix_job_updated_at_id", "updated_at", "id"),
        # An id names a folder of results, so none is ever given out twice.
        {"sqlite_autoincrement": True},
    )

    id: Mapped[int] = mapped_column(primary_key=True)
    series_uid: Mapped[str] = mapped_column(UID, ForeignKey("series.series_uid"))
    study_uid: Mapped[str] = mapped_column(UID)
    content_digest: Mapped[str]
    calling_ae_title: Mapped[str] = mapped_column(AE_TITLE)
    model_name: Mapped[str]
    model_version: Mapped[str]
    model_digest: Mapped[str]
    state: Mapped[JobState]
    attempts: Mapped[int] = mapped_column(default=0)
    worker: Mapped[str | None]
    lease_until: Mapped[datetime | None]
    created_at: Mapped[datetime]
    updated_at: Mapped[datetime]
    started_at: Mapped[datetime | None]
    finished_at: Mapped[datetime | None]
    reason_code: Mapped[str | None]
    reason: Mapped[str] = mapped_column(default="")
    summary: Mapped[dict[str, Any]] = mapped_column(default=dict)
    results_removed_at: Mapped[datetime | None]
    remark: Mapped[str] = mapped_column(server_default="")
    step: Mapped[str] = mapped_column(server_default="")
    step_share: Mapped[float] = mapped_column(Double, server_default=text("0"))


class JobEventRow(Base):
    """One step in the history of a job."""

    __tablename__ = "job_event"
    __table_args__ = (Index("ix_job_event_job_id", "job_id"),)

    id: Mapped[int] = mapped_column(primary_key=True)
    job_id: Mapped[int] = mapped_column(ForeignKey("job.id"))
    at: Mapped[datetime]
    actor: Mapped[str]
    from_state: Mapped[JobState | None] = mapped_column(_closed_set(JobState, "from_state"))
    to_state: Mapped[JobState] = mapped_column(_closed_set(JobState, "to_state"))
    detail: Mapped[str] = mapped_column(default="")


class ResultRow(Base):
    """A result object of a job; its profiles are the forms of delivery that it belongs to."""

    __tablename__ = "result"
    __table_args__ = (UniqueConstraint("job_id", "sop_instance_uid"),)

    id: Mapped[int] = mapped_column(primary_key=True)
    job_id: Mapped[int] = mapped_column(ForeignKey("job.id"))
    role: Mapped[str]
    path: Mapped[str]
    sop_class_uid: Mapped[str] = mapped_column(UID)
    sop_instance_uid: Mapped[str] = mapped_column(UID)
    series_instance_uid: Mapped[str] = mapped_column(UID)
    profiles: Mapped[list[str]] = mapped_column(server_default=text(f"""'["{DEFAULT_PROFILE}"]'"""))


class DeliveryRow(LeasedRow):
    """The delivery of one job's results to one destination."""

    __tablename__ = "delivery"
    __table_args__ = (
        UniqueConstraint("job_id", "destination"),
        CheckConstraint("attempts >= 0", name="attempts"),
        # Claim: what is due for a destination, the longest due first.
        Index("ix_delivery_due", "destination", "state", "next_attempt_at"),
        # What is not done, for all destinations; those that are done stay.
        Index(
            "ix_delivery_pending",
            "job_id",
            sqlite_where=text("state = 'PENDING'"),
            postgresql_where=text("state = 'PENDING'"),
        ),
    )

    id: Mapped[int] = mapped_column(primary_key=True)
    job_id: Mapped[int] = mapped_column(ForeignKey("job.id"))
    destination: Mapped[str]
    profile: Mapped[str] = mapped_column(server_default=DEFAULT_PROFILE)
    state: Mapped[DeliveryState]


class ProofRow(LeasedRow):
    """What a destination has proven of one delivery; a row exists where proof is asked for."""

    __tablename__ = "proof"
    __table_args__ = (
        CheckConstraint("attempts >= 0", name="attempts"),
        # Claim: what is due, the longest due first.
        Index("ix_proof_due", "state", "next_attempt_at"),
    )

    delivery_id: Mapped[int] = mapped_column(
        ForeignKey("delivery.id"), primary_key=True, autoincrement=False
    )
    state: Mapped[ProofState]
    transaction_uid: Mapped[str | None] = mapped_column(UID, unique=True)
    asked_at: Mapped[datetime | None]
    committed_at: Mapped[datetime | None]


class TickRow(LeasedRow):
    """Work that one process of the node does again and again, and no two at once."""

    __tablename__ = "tick"

    name: Mapped[str] = mapped_column(primary_key=True)


class RoleHeartbeatRow(Base):
    """The last sign of life of one process of the node."""

    __tablename__ = "role_heartbeat"

    role: Mapped[str] = mapped_column(primary_key=True)
    host: Mapped[str] = mapped_column(primary_key=True)
    pid: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    started_at: Mapped[datetime]
    beat_at: Mapped[datetime]
    detail: Mapped[str] = mapped_column(default="")


class PauseRow(Base):
    """Work that a person has suspended; none of it begins while its row is there."""

    __tablename__ = "pause"

    work: Mapped[Work] = mapped_column(primary_key=True)
    since: Mapped[datetime]
    actor: Mapped[str]
    reason: Mapped[str]


class UserRow(Base):
    """A person, or a program, that may use the pages and the API."""

    __tablename__ = "web_user"

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(unique=True)
    role: Mapped[UserRole]
    password_hash: Mapped[str]
    created_at: Mapped[datetime]
    password_changed_at: Mapped[datetime]
    last_login_at: Mapped[datetime | None]
    disabled_at: Mapped[datetime | None]


class AccessRow(Base):
    """A way in for a user, until it expires: a session of a browser, or a token for the API.

    The digest is that of the secret, which only its holder has.
    """

    __tablename__ = "web_access"
    __table_args__ = (Index("ix_web_access_user_id", "user_id"),)

    digest: Mapped[str] = mapped_column(primary_key=True)
    user_id: Mapped[int] = mapped_column(ForeignKey("web_user.id"))
    kind: Mapped[AccessKind]
    label: Mapped[str]
    created_at: Mapped[datetime]
    used_at: Mapped[datetime]
    expires_at: Mapped[datetime]


class AuditRow(Base):
    """What happened; a trigger of the database refuses to change or to delete it.

    The digest is that of the row and of the digest before it, so that a row that is missing or was
    changed in spite of the trigger is found.
    """

    __tablename__ = "audit"
    __table_args__ = (
        Index("ix_audit_at", "at"),
        Index("ix_audit_event_at", "event", "at"),
        Index("ix_audit_patient_id", "patient_id"),
        {"sqlite_autoincrement": True},
    )

    id: Mapped[int] = mapped_column(primary_key=True)
    at: Mapped[datetime]
    event: Mapped[AuditEvent] = mapped_column(
        Enum(
            AuditEvent,
            native_enum=False,
            length=32,
            values_callable=_values,
        )
    )
    outcome: Mapped[AuditOutcome] = mapped_column(
        Enum(AuditOutcome, native_enum=False, length=16, values_callable=_values)
    )
    actor: Mapped[str]
    address: Mapped[str]
    host: Mapped[str]
    patient_id: Mapped[str]
    study_uid: Mapped[str] = mapped_column(UID)
    detail: Mapped[dict[str, Any]]
    digest: Mapped[str]


class AuditCursorRow(Base):
    """How far the audit trail has been sent somewhere."""

    __tablename__ = "audit_cursor"

    name: Mapped[str] = mapped_column(primary_key=True)
    last_id: Mapped[int]


class AlertRow(Base):
    """Something that is wrong, or was: raised when it was first seen, told when people were."""

    __tablename__ = "alert"

    kind: Mapped[str] = mapped_column(primary_key=True)
    subject: Mapped[str] = mapped_column(primary_key=True)
    message: Mapped[str]
    raised_at: Mapped[datetime]
    seen_at: Mapped[datetime]
    told_at: Mapped[datetime | None]
    cleared_at: Mapped[datetime | None]


class RetrievalRow(LeasedRow):
    """What is to be fetched from a peer, by what a person knows of it: a row of a list."""

    __tablename__ = "retrieval"
    __table_args__ = (
        CheckConstraint("attempts >= 0", name="attempts"),
        # Claim: what is due from a peer, the longest due first.
        Index("ix_retrieval_due", "peer", "state", "next_attempt_at"),
        Index("ix_retrieval_batch", "batch"),
    )

    id: Mapped[int] = mapped_column(primary_key=True)
    batch: Mapped[str]
    peer: Mapped[str]
    key: Mapped[RetrievalKey]
    value: Mapped[str]
    retrieval: Mapped[Retrieval]
    at_night: Mapped[bool] = mapped_column(default=False)
    actor: Mapped[str]
    state: Mapped[RetrievalState]
    offered: Mapped[int] = mapped_column(default=0)
    fetched: Mapped[int] = mapped_column(default=0)
    series_uids: Mapped[list[str]] = mapped_column(default=list)

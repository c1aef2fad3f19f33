"""Tables of the job database; `storage/migrations` makes them."""

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

from config.settings import DEFAULT_PROFILE, RuleAction
from storage.states import DeliveryState, JobState, ProofState


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


def _closed_set(enum: type[StrEnum], name: str) -> Enum:
    """Make a text column type that admits the members of `enum` only, by a check constraint."""
    return Enum(
        enum,
        name=name,
        native_enum=False,
        create_constraint=True,
        length=16,
        values_callable=lambda members: [member.value for member in members],
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

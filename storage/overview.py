"""What goes on in the node at this moment; few rows are looked at, however many jobs have ended."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Select, func, literal_column, not_, select
from sqlalchemy.orm import Session

from storage.database import Database
from storage.records import (
    DeliveryRecord,
    JobRecord,
    Pause,
    ProofRecord,
    RoleBeat,
    SeriesRecord,
)
from storage.states import DeliveryState, JobState, ProofState
from storage.tables import (
    DeliveryRow,
    JobRow,
    PauseRow,
    ProofRow,
    RoleHeartbeatRow,
    SeriesRow,
)
from storage.transitions import record_of

_SENDING = (JobState.PRODUCED, JobState.DELIVERING, JobState.REJECTED)


@dataclass(frozen=True, kw_only=True)
class QueuedJob:
    """A job that waits for a worker."""

    job: JobRecord
    series_is_open: bool
    """Another slice has arrived, so that no worker takes it until the series is settled."""


@dataclass(frozen=True, kw_only=True)
class WaitingProof:
    """What a destination has still to prove."""

    job_id: int
    destination: str
    proof: ProofRecord


@dataclass(frozen=True, kw_only=True)
class Overview:
    """What goes on; each list has at most as many entries as was asked for, the counts say more."""

    at: datetime
    series: Sequence[SeriesRecord]
    """Those without a decision, the longest silent first."""
    series_count: int
    queued: Sequence[QueuedJob]
    """In the order in which they are taken."""
    running: Sequence[JobRecord]
    """Those that began first before the others."""
    deliveries: Sequence[DeliveryRecord]
    """Those that are due, under way or to be tried again, the next first."""
    delivery_count: int
    proofs: Sequence[WaitingProof]
    """The next first."""
    proof_count: int
    ended: Sequence[JobRecord]
    """Those that have come to an end, the last first."""
    job_counts: Mapping[JobState, int]
    pauses: Sequence[Pause]
    beats: Sequence[RoleBeat]


def look_over(database: Database, now: datetime, limit: int = 50) -> Overview:
    """Look at everything that goes on, in one state of the database.

    Parameters
    ----------
    database
        The job database.
    now
        The present (aware, UTC).
    limit
        Of each list.
    """
    open_series = select(SeriesRow).where(not_(SeriesRow.settled), SeriesRow.instance_count > 0)
    with database.read() as session:
        return Overview(
            at=now,
            series=[
                record_of(SeriesRecord, row)
                for row in session.scalars(
                    open_series.order_by(SeriesRow.last_received_at).limit(limit)
                )
            ],
            series_count=_count(session, open_series),
            queued=_list_queued(session, limit),
            running=_list_running(session, limit),
            deliveries=[
                record_of(DeliveryRecord, row)
                for row in session.scalars(
                    _pending().order_by(DeliveryRow.next_attempt_at).limit(limit)
                )
            ],
            delivery_count=_count(session, _pending()),
            proofs=_list_proofs(session, limit),
            proof_count=_count(session, _waiting()),
            ended=_list_ended(session, limit),
            job_counts={
                row[0]: row[1]
                for row in session.execute(
                    select(JobRow.state, func.count()).group_by(JobRow.state)
                )
            },
            pauses=[
                record_of(Pause, row)
                for row in session.scalars(select(PauseRow).order_by(PauseRow.work))
            ],
            beats=[
                record_of(RoleBeat, row)
                for row in session.scalars(
                    select(RoleHeartbeatRow).order_by(RoleHeartbeatRow.role, RoleHeartbeatRow.host)
                )
            ],
        )


def _count(session: Session, which: Select[*tuple[Any, ...]]) -> int:
    statement = which.with_only_columns(func.count(), maintain_column_froms=True)
    return session.scalar(statement) or 0


def _list_queued(session: Session, limit: int) -> list[QueuedJob]:
    statement = (
        select(JobRow, SeriesRow.settled)
        .join(SeriesRow, SeriesRow.series_uid == JobRow.series_uid)
        .where(JobRow.state == JobState.QUEUED)
        .order_by(JobRow.id)
        .limit(limit)
    )
    return [
        QueuedJob(job=record_of(JobRecord, job), series_is_open=not settled)
        for job, settled in session.execute(statement)
    ]


def _list_running(session: Session, limit: int) -> list[JobRecord]:
    statement = (
        select(JobRow)
        .where(JobRow.state == JobState.RUNNING)
        .order_by(JobRow.started_at, JobRow.id)
        .limit(limit)
    )
    return [record_of(JobRecord, row) for row in session.scalars(statement)]


def _pending() -> Select[DeliveryRow]:
    """Select deliveries that are not done, of jobs that have results."""
    return (
        select(DeliveryRow)
        .join(JobRow, JobRow.id == DeliveryRow.job_id)
        .where(_is_pending(), JobRow.state.in_(_SENDING))
    )


def _is_pending() -> ColumnElement[bool]:
    """Write the condition as that of the index, else SQLite does not use it."""
    return DeliveryRow.state == literal_column(f"'{DeliveryState.PENDING.value}'")


def _waiting() -> Select[DeliveryRow, ProofRow]:
    """Select deliveries that are done and still to be proven."""
    return (
        select(DeliveryRow, ProofRow)
        .join(ProofRow, ProofRow.delivery_id == DeliveryRow.id)
        .where(ProofRow.state == ProofState.WAITING, DeliveryRow.state == DeliveryState.DELIVERED)
    )


def _list_proofs(session: Session, limit: int) -> list[WaitingProof]:
    statement = _waiting().order_by(ProofRow.next_attempt_at).limit(limit)
    return [
        WaitingProof(
            job_id=delivery.job_id,
            destination=delivery.destination,
            proof=record_of(ProofRecord, proof),
        )
        for delivery, proof in session.execute(statement)
    ]


def _list_ended(session: Session, limit: int) -> list[JobRecord]:
    statement = (
        select(JobRow)
        # Not by the index of the states: those that have ended last are among those changed last.
        .where(JobRow.finished_at.is_not(None))
        .order_by(JobRow.updated_at.desc(), JobRow.id.desc())
        .limit(limit)
    )
    return [record_of(JobRecord, row) for row in session.scalars(statement)]

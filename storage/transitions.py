"""How rows are changed inside a transaction: inserted once, or moved along the state table."""

import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields
from datetime import datetime
from functools import lru_cache
from typing import Any, TypeVar, cast

from sqlalchemy import Select, Table, select, update
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.orm import Session
from sqlalchemy.sql.dml import ReturningInsert

from storage.database import Database
from storage.errors import (
    ForbiddenTransition,
    NewerRequest,
    NotFound,
    SeriesChanged,
    StaleJob,
)
from storage.records import JobRecord
from storage.states import (
    FINAL_STATES,
    JOB_TRANSITIONS,
    DeliveryState,
    JobState,
    can_supersede,
)
from storage.tables import Base, DeliveryRow, JobEventRow, JobRow, SeriesEventRow, SeriesRow

logger = logging.getLogger(__name__)

_EVENTS = "job_events"
_Record = TypeVar("_Record")


@dataclass(frozen=True, kw_only=True)
class Step:
    """Who moves a job where, when, and what the history shall say about it."""

    to: JobState
    actor: str
    now: datetime
    detail: str = ""


@contextmanager
def job_transaction(database: Database) -> Iterator[Session]:
    """Open a transaction that may move jobs; each move is logged once it is committed."""
    with database.write() as session:
        yield session
    for record, step, from_state in session.info.get(_EVENTS, ()):
        logger.info(
            "job %d: %s -> %s (%s)",
            record.id,
            from_state or "new",
            step.to,
            step.actor,
            extra={"action": "transition", "job_id": record.id, "series_uid": record.series_uid},
        )


def record_of(kind: type[_Record], row: Base) -> _Record:
    """Copy a row into its frozen record; their fields have the same names."""
    return kind(**{field.name: getattr(row, field.name) for field in fields(cast(Any, kind))})


def insert_new(session: Session, table: type[Base], values: Mapping[str, Any]) -> bool:
    """Insert a row unless a unique constraint stands against it; say whether it was inserted."""
    statement = _insert_statement(session.get_bind().dialect.name, table)
    return session.connection().execute(statement, values).first() is not None


@lru_cache
def _insert_statement(dialect: str, table: type[Base]) -> ReturningInsert[Any]:
    """Build the statement once: a receiver executes it for every slice."""
    make = postgresql.insert if dialect == "postgresql" else sqlite.insert
    target = cast(Table, table.__table__)
    # It returns the key, because drivers do not agree on the row count of such an insert.
    return make(target).on_conflict_do_nothing().returning(*target.primary_key.columns)


def lock_job(session: Session, job_id: int) -> JobRow:
    """Read a job and keep others from changing it until the transaction ends.

    Whoever also changes its deliveries locks the job first, so that two cannot wait for each other.

    Raises
    ------
    NotFound
    """
    job = session.get(JobRow, job_id, with_for_update=True)
    if job is None:
        raise NotFound("job", job_id)
    return job


def lock_series(session: Session, series_uid: str) -> None:
    """Keep others from changing a series and its instances until the transaction ends.

    Whoever also changes its jobs locks the series first, so that two cannot wait for each other.
    """
    key = select(SeriesRow.series_uid).filter_by(series_uid=series_uid)
    session.execute(key.with_for_update())


def note_series(session: Session, series_uid: str, actor: str, detail: str, now: datetime) -> None:
    """Write a line of the history of a series' files."""
    session.add(SeriesEventRow(series_uid=series_uid, at=now, actor=actor, detail=detail))


def check_current(session: Session, job: JobRow) -> None:
    """Check that no other job stands for the series, and that it has the content as before.

    Raises
    ------
    SeriesChanged, NewerRequest
    """
    series = session.get_one(SeriesRow, job.series_uid)
    if series.content_digest != job.content_digest:
        raise SeriesChanged(job.id, job.series_uid)
    if can_supersede(job.state):
        return
    for other in standing_jobs(session, job.series_uid):
        raise NewerRequest(job.id, other.id, f"{job.model_name} {job.model_version}")


def standing_jobs(session: Session, series_uid: str) -> Sequence[JobRow]:
    """Lock and give the jobs of a series whose results count, or will."""
    statement = (
        select(JobRow)
        .where(
            JobRow.series_uid == series_uid,
            JobRow.state.in_([state for state in JobState if can_supersede(state)]),
        )
        .order_by(JobRow.id)
        .with_for_update()
    )
    return session.scalars(statement).all()


def note(session: Session, job: JobRow, step: Step, from_state: JobState | None) -> None:
    """Write a line of a job's history."""
    session.add(
        JobEventRow(
            job_id=job.id,
            at=step.now,
            actor=step.actor,
            from_state=from_state,
            to_state=step.to,
            detail=step.detail,
        )
    )
    events = session.info.setdefault(_EVENTS, [])
    events.append((record_of(JobRecord, job), step, from_state))


def move(session: Session, job: JobRow, step: Step, **values: Any) -> None:
    """Move a job to another state, with further columns, and write its history.

    The lease ends; reason and reason code are emptied unless `values` has them, and so is what the
    job did last when it is queued again.

    Raises
    ------
    ForbiddenTransition
        The state table does not have it.
    StaleJob
        The job is no longer in the state that `job` says.
    """
    from_state = job.state
    if (from_state, step.to) not in JOB_TRANSITIONS:
        raise ForbiddenTransition(job.id, from_state, f"become {step.to}")
    columns = {
        "state": step.to,
        "updated_at": step.now,
        "finished_at": step.now if step.to in FINAL_STATES else None,
        "lease_until": None,
        "reason_code": None,
        "reason": "",
    }
    if step.to is JobState.QUEUED:
        columns |= {"step": "", "step_share": 0.0}
    statement = (
        update(JobRow)
        .where(JobRow.id == job.id, JobRow.state == from_state)
        .values(columns | values)
        .returning(JobRow)
        .execution_options(populate_existing=True, synchronize_session=False)
    )
    if session.scalars(statement).one_or_none() is None:
        raise StaleJob(job.id)
    note(session, job, step, from_state)


def stop(session: Session, job: JobRow, step: Step, reason: str) -> None:
    """Move a job to CANCELED or SUPERSEDED; its deliveries that are not done end with it."""
    move(session, job, step, reason=reason)
    session.execute(
        update(DeliveryRow)
        .where(DeliveryRow.job_id == job.id, DeliveryRow.state == DeliveryState.PENDING)
        .values(state=DeliveryState.CANCELED, lease_until=None, updated_at=step.now)
        .execution_options(synchronize_session=False)
    )


def with_prefix(
    statement: Select[Any], table: type[JobRow] | type[SeriesRow], prefix: str
) -> Select[Any]:
    """Keep only rows whose series UID begins so."""
    return (
        statement.where(table.series_uid.startswith(prefix, autoescape=True))
        if prefix
        else statement
    )

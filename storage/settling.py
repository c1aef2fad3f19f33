"""What settling a series consists of, and asking for another model, inside one transaction."""

import hashlib
from dataclasses import replace
from datetime import datetime

from sqlalchemy import func, select, update
from sqlalchemy.orm import Session

from dicom_io.rules import Decision
from storage.missing import describe_missing
from storage.records import NewJob, SeriesRecord
from storage.states import JobState
from storage.tables import InstanceRow, JobRow, SeriesRow
from storage.transitions import Step, insert_new, note, standing_jobs, stop


def content_digest(session: Session, series_uid: str) -> str:
    """Give the digest of what a series holds: the identity and bytes of each instance.

    An instance whose file was removed counts, so that a series that is sent once more is known.
    """
    statement = select(InstanceRow.sop_instance_uid, InstanceRow.sha256).where(
        InstanceRow.series_uid == series_uid, InstanceRow.is_conflict.is_(False)
    )
    # Sorted here, because the order of a database depends on its collation.
    lines = sorted(f"{uid} {sha256}\n" for uid, sha256 in session.execute(statement))
    return hashlib.sha256("".join(lines).encode("ascii")).hexdigest()


def count_removed(session: Session, series_uid: str) -> int:
    """Count the instances of a series whose files were removed and have not come again."""
    statement = select(func.count()).where(
        InstanceRow.series_uid == series_uid,
        InstanceRow.is_conflict.is_(False),
        InstanceRow.removed_at.is_not(None),
    )
    return session.scalars(statement).one()


def close_series(
    session: Session,
    series: SeriesRecord,
    decision: Decision,
    now: datetime,
) -> bool:
    """Mark the series as settled if it is still as the decision saw it."""
    statement = (
        update(SeriesRow)
        .where(
            SeriesRow.series_uid == series.series_uid,
            SeriesRow.settled.is_(False),
            SeriesRow.instance_count == series.instance_count,
            SeriesRow.last_received_at == series.last_received_at,
        )
        .values(
            settled=True,
            settled_at=now,
            decision=decision.action,
            rule=decision.rule,
            reason=decision.reason,
        )
        .returning(SeriesRow.series_uid)
        .execution_options(synchronize_session=False)
    )
    return session.scalars(statement).one_or_none() is not None


def supersede_jobs(
    session: Session, series: SeriesRow, successor: JobRow | None, actor: str, now: datetime
) -> None:
    """Supersede the jobs that were made for other content of the series, or another model.

    Where nothing takes their place, those that were made for what the series holds stay.
    """
    for job in standing_jobs(session, series.series_uid):
        is_same_content = job.content_digest == series.content_digest
        if job is successor or (is_same_content and successor is None):
            continue
        reason = (
            f"{successor.model_name} {successor.model_version} was asked for"
            if successor is not None and is_same_content
            else f"The series has {series.instance_count} instances now, more than this job was for"
        )
        reason += f"; job {successor.id} takes its place." if successor else "."
        step = Step(to=JobState.SUPERSEDED, actor=actor, now=now, detail=reason)
        stop(session, job, step, reason)
        if successor is not None:
            detail = f"takes the place of job {job.id}"
            state = successor.state
            note(session, successor, replace(step, to=state, detail=detail), state)


def enqueue_job(session: Session, series: SeriesRow, job: NewJob, step: Step) -> JobRow | None:
    """Make the job of a series content and a model version, unless there is one."""
    key = {
        "series_uid": series.series_uid,
        "content_digest": series.content_digest,
        "model_digest": job.model_digest,
    }
    values = {
        "study_uid": series.study_uid,
        "calling_ae_title": series.calling_ae_title,
        "model_name": job.model_name,
        "model_version": job.model_version,
        "state": JobState.QUEUED,
        "remark": describe_missing(session, series),
        "created_at": step.now,
        "updated_at": step.now,
    }
    if not insert_new(session, JobRow, key | values):
        return None
    row = session.scalars(select(JobRow).filter_by(**key)).one()
    detail = f"{series.instance_count} instances; {step.detail}. {row.remark}".rstrip(". ")
    note(session, row, replace(step, detail=detail), None)
    return row

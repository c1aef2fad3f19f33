"""The queue of jobs: claim one, say what became of it, and look at all of them.

A worker's name must be unique to its process, because the name is what holds the lease. Each
change of state follows `storage.states.JOB_TRANSITIONS` and writes a `JobEvent`.
"""

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import case, delete, exists, func, not_, select, update
from sqlalchemy.orm import Session
from sqlalchemy.sql.dml import ReturningUpdate

from storage.audit import tell
from storage.audit_lines import model_run
from storage.database import Database
from storage.deliveries import add_deliveries, redeliver_all, redeliver_unreached
from storage.errors import (
    ForbiddenTransition,
    InstancesRemoved,
    LeaseLost,
    ModelInUse,
    NotFound,
    SeriesChanged,
)
from storage.job_query import JobPage, JobQuery
from storage.job_search import search_jobs
from storage.pauses import is_suspended
from storage.records import (
    Destinations,
    JobEvent,
    JobRecord,
    NewJob,
    NewResult,
    Problem,
    Rejection,
    ResultRecord,
)
from storage.settling import count_removed, enqueue_job, supersede_jobs
from storage.states import (
    FINAL_STATES,
    RETRYABLE_STATES,
    AuditOutcome,
    JobState,
    Work,
    can_supersede,
)
from storage.tables import DeliveryRow, JobEventRow, JobRow, ResultRow, SeriesRow, UtcDateTime
from storage.transitions import (
    Step,
    check_current,
    job_transaction,
    lock_job,
    lock_series,
    move,
    note,
    record_of,
    stop,
    with_prefix,
)

_SCHEDULER = "scheduler"
_REPLACED_STATES = [state for state in FINAL_STATES if not can_supersede(state)]
"""Of jobs that do not stand for their series beside another one."""


class Jobs:
    """The jobs of a node.

    Every method that takes a `job_id` raises `NotFound` when there is no such job; every method
    that changes a job returns it as it is then.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    def claim(self, worker: str, lease_s: float, now: datetime) -> JobRecord | None:
        """Take the oldest job that waits, or None; no two workers ever get the same one.

        A job whose series has just got another instance is left until the series is settled, and
        all are while processing is suspended.
        """
        with job_transaction(self._database) as session:
            job = session.scalars(claim_statement(worker, lease_s, now)).one_or_none()
            if job is None:
                return None
            detail = f"attempt {job.attempts}"
            step = Step(to=JobState.RUNNING, actor=worker, now=now, detail=detail)
            note(session, job, step, JobState.QUEUED)
            return record_of(JobRecord, job)

    def heartbeat(self, job_id: int, worker: str, lease_s: float, now: datetime) -> None:
        """Extend the lease of a running job.

        Raises
        ------
        LeaseLost
            The job was canceled, superseded or given to another worker: drop the work.
        """
        with self._database.write() as session:
            job = _held_job(session, job_id, worker)
            job.lease_until, job.updated_at = now + timedelta(seconds=lease_s), now

    def note_step(self, job_id: int, worker: str, step: str, share: float) -> None:
        """Say what a running job does now; nothing is written where the worker has it no more.

        Parameters
        ----------
        job_id, worker
            The job, and who says so.
        step
            As people read it.
        share
            How much of the whole is done, from 0 to 1.
        """
        statement = (
            update(JobRow)
            .filter_by(id=job_id, state=JobState.RUNNING, worker=worker)
            .values(step=step, step_share=share)
            .execution_options(synchronize_session=False)
        )
        with self._database.write() as session:
            session.execute(statement)

    def produced(
        self,
        job_id: int,
        worker: str,
        *,
        results: Sequence[NewResult],
        destinations: Destinations,
        summary: Mapping[str, Any],
        now: datetime,
    ) -> JobRecord:
        """Say that the results are on disk, and put them on their way to the destinations.

        Without destinations the job is DELIVERED at once.

        Raises
        ------
        LeaseLost
        """
        with job_transaction(self._database) as session:
            job = _held_job(session, job_id, worker)
            step = Step(to=JobState.PRODUCED, actor=worker, now=now, detail=_roles(results))
            move(session, job, step, summary=dict(summary))
            _add_results(session, job_id, results)
            add_deliveries(session, job_id, destinations, now)
            if not destinations:
                detail = "no destination is set"
                move(
                    session, job, Step(to=JobState.DELIVERED, actor=worker, now=now, detail=detail)
                )
            tell(session, model_run(session, job, "produced", results=len(results)), now)
            return record_of(JobRecord, job)

    def reject(self, job_id: int, worker: str, rejection: Rejection, now: datetime) -> JobRecord:
        """Say that the series is unsuitable, and why; a report that says so goes its way.

        Raises
        ------
        LeaseLost
        """
        with job_transaction(self._database) as session:
            job = _held_job(session, job_id, worker)
            sentence = rejection.sentence
            step = Step(to=JobState.REJECTED, actor=worker, now=now, detail=sentence)
            move(session, job, step, reason_code=rejection.reason_code, reason=sentence)
            if rejection.results:
                _add_results(session, job_id, rejection.results)
                add_deliveries(session, job_id, rejection.destinations, now)
            why = {"reason": rejection.reason_code, "results": len(rejection.results)}
            entry = model_run(session, job, "rejected", AuditOutcome.MINOR_FAILURE, **why)
            tell(session, entry, now)
            return record_of(JobRecord, job)

    def fail_attempt(
        self, job_id: int, worker: str, problem: Problem, max_attempts: int, now: datetime
    ) -> JobRecord:
        """Say that an attempt ended in an error: QUEUED again, or FAILED after the last one.

        Raises
        ------
        LeaseLost
        """
        with job_transaction(self._database) as session:
            job = _held_job(session, job_id, worker)
            _end_attempt(session, job, worker, problem, max_attempts, now)
            return record_of(JobRecord, job)

    def release(self, job_id: int, worker: str, now: datetime) -> JobRecord:
        """Give a job back undone, as when the node shuts down; the attempt does not count.

        Raises
        ------
        LeaseLost
        """
        with job_transaction(self._database) as session:
            job = _held_job(session, job_id, worker)
            step = Step(to=JobState.QUEUED, actor=worker, now=now, detail="given back")
            move(session, job, step, worker=None, attempts=JobRow.attempts - 1)
            return record_of(JobRecord, job)

    def release_abandoned(self, max_attempts: int, now: datetime) -> list[JobRecord]:
        """Take the jobs of silent workers away: QUEUED again, or FAILED after the last attempt."""
        statement = (
            select(JobRow)
            .where(JobRow.state == JobState.RUNNING, JobRow.lease_until < now)
            .order_by(JobRow.id)
            .with_for_update(skip_locked=True)
        )
        with job_transaction(self._database) as session:
            jobs = session.scalars(statement).all()
            for job in jobs:
                error = (
                    f"the worker {job.worker} has fallen silent: it was killed, crashed, or took "
                    "longer than queue.max_job_s; the node's log says more"
                )
                _end_attempt(session, job, _SCHEDULER, Problem(error), max_attempts, now)
            return [record_of(JobRecord, job) for job in jobs]

    def retry(self, job_id: int, actor: str, now: datetime) -> JobRecord:
        """Try a job again that was rejected, canceled or has failed, with all attempts anew.

        A job whose results exist is only delivered again, to the destinations not yet reached.
        Where they were removed, whatever had become of them, they are made and delivered again.

        Raises
        ------
        ForbiddenTransition
            The job is in another state.
        SeriesChanged, NewerRequest
            There is, or will be, a newer job for the series.
        InstancesRemoved
            There is nothing to make results of.
        """
        with job_transaction(self._database) as session:
            job = lock_job(session, job_id)
            removed = job.results_removed_at is not None
            if job.state not in RETRYABLE_STATES and not removed:
                raise ForbiddenTransition(job_id, job.state, "be retried")
            check_current(session, job)
            has_results = session.scalar(select(exists().where(ResultRow.job_id == job_id)))
            if has_results and not removed and job.state is not JobState.REJECTED:
                step = Step(to=JobState.DELIVERING, actor=actor, now=now, detail="retry delivery")
                redeliver_unreached(session, job, step)
            else:
                step = Step(to=JobState.QUEUED, actor=actor, now=now, detail="retry")
                _start_over(session, job, step)
            return record_of(JobRecord, job)

    def reprocess(self, job_id: int, model: NewJob, actor: str, now: datetime) -> JobRecord:
        """Have another model process the series of a job; give the job of that model.

        It stands for the series from now on: the job that did so is SUPERSEDED. Where that model
        had its job before, it starts over.

        Raises
        ------
        SeriesChanged
            There is, or will be, a newer job for the series.
        InstancesRemoved
            There is nothing to make results of.
        ModelInUse
            The job of that model stands for the series already.
        """
        with job_transaction(self._database) as session:
            series_uid = session.scalar(select(JobRow.series_uid).filter_by(id=job_id))
            if series_uid is None:
                raise NotFound("job", job_id)
            lock_series(session, series_uid)
            asked = lock_job(session, job_id)
            series = session.get_one(SeriesRow, series_uid)
            if series.content_digest != asked.content_digest:
                raise SeriesChanged(job_id, series_uid)
            _check_files(session, asked)
            step = Step(to=JobState.QUEUED, actor=actor, now=now, detail=f"asked for by {actor}")
            job = enqueue_job(session, series, model, step) or _requeue(session, asked, model, step)
            supersede_jobs(session, series, job, actor, now)
            return record_of(JobRecord, job)

    def cancel(self, job_id: int, actor: str, now: datetime) -> JobRecord:
        """Stop a job that has not ended, and its deliveries that are not done.

        Raises
        ------
        ForbiddenTransition
        """
        with job_transaction(self._database) as session:
            job = lock_job(session, job_id)
            stop(
                session,
                job,
                Step(to=JobState.CANCELED, actor=actor, now=now),
                f"Canceled by {actor}.",
            )
            return record_of(JobRecord, job)

    def get(self, job_id: int) -> JobRecord:
        """Get a job."""
        with self._database.read() as session:
            row = session.get(JobRow, job_id)
            if row is None:
                raise NotFound("job", job_id)
            return record_of(JobRecord, row)

    def list_jobs(
        self,
        *,
        states: Collection[JobState] | None = None,
        series_uid: str | None = None,
        series_uid_prefix: str = "",
        limit: int = 100,
        offset: int = 0,
    ) -> list[JobRecord]:
        """List jobs, the newest first; None means all."""
        statement = select(JobRow).order_by(JobRow.id.desc()).limit(limit).offset(offset)
        if states is not None:
            statement = statement.where(JobRow.state.in_(states))
        if series_uid is not None:
            statement = statement.where(JobRow.series_uid == series_uid)
        with self._database.read() as session:
            rows = session.scalars(with_prefix(statement, JobRow, series_uid_prefix))
            return [record_of(JobRecord, row) for row in rows]

    def search(self, query: JobQuery) -> JobPage:
        """Give a page of the jobs that a person looks for."""
        with self._database.read() as session:
            return search_jobs(session, query)

    def count_by_state(self) -> dict[JobState, int]:
        """Count the jobs of each state that has any."""
        statement = select(JobRow.state, func.count()).group_by(JobRow.state)
        with self._database.read() as session:
            return {row[0]: row[1] for row in session.execute(statement)}

    def count_open_by_model(self) -> dict[str, int]:
        """Count, by digest of the model, the jobs that wait for a worker or have one."""
        statement = (
            select(JobRow.model_digest, func.count())
            .where(JobRow.state.in_((JobState.QUEUED, JobState.RUNNING)))
            .group_by(JobRow.model_digest)
        )
        with self._database.read() as session:
            return {row[0]: row[1] for row in session.execute(statement)}

    def oldest_by_state(self) -> dict[JobState, datetime]:
        """Give since when the job waits or runs that has done so for the longest time."""
        running = JobRow.state == JobState.RUNNING
        since = case((running, JobRow.started_at), else_=JobRow.updated_at)
        statement = (
            select(JobRow.state, func.min(since, type_=UtcDateTime))
            .where(JobRow.state.in_((JobState.QUEUED, JobState.RUNNING)))
            .group_by(JobRow.state)
        )
        with self._database.read() as session:
            return {row[0]: row[1] for row in session.execute(statement)}

    def count_failed(self, since: datetime) -> dict[str, int]:
        """Count the jobs that have FAILED since a time and still are, by reason code."""
        statement = (
            select(JobRow.reason_code, func.count())
            .where(JobRow.state == JobState.FAILED, JobRow.updated_at >= since)
            .group_by(JobRow.reason_code)
        )
        with self._database.read() as session:
            return {row[0] or "": row[1] for row in session.execute(statement)}

    def events(self, job_id: int) -> list[JobEvent]:
        """List the history of a job, the oldest first."""
        statement = select(JobEventRow).filter_by(job_id=job_id).order_by(JobEventRow.id)
        with self._database.read() as session:
            return [record_of(JobEvent, row) for row in session.scalars(statement)]

    def find_predecessor(self, job: JobRecord) -> JobRecord | None:
        """Find the job whose place this one takes, if its results may be out.

        They may be in an archive as soon as it was tried to send them.
        """
        was_sent = exists().where(DeliveryRow.job_id == JobRow.id, DeliveryRow.attempts > 0)
        statement = (
            select(JobRow)
            .where(
                JobRow.series_uid == job.series_uid,
                JobRow.id != job.id,
                JobRow.state.in_(_REPLACED_STATES),
                was_sent,
            )
            .order_by(JobRow.finished_at.desc(), JobRow.id.desc())
            .limit(1)
        )
        with self._database.read() as session:
            row = session.scalars(statement).one_or_none()
            return None if row is None else record_of(JobRecord, row)

    def results(self, job_id: int, profile: str | None = None) -> list[ResultRecord]:
        """List the result objects of a job, in the order in which they are to be sent.

        Parameters
        ----------
        job_id
            The job.
        profile
            Only those that belong to it; none means all.
        """
        statement = select(ResultRow).filter_by(job_id=job_id).order_by(ResultRow.id)
        with self._database.read() as session:
            found = [record_of(ResultRecord, row) for row in session.scalars(statement)]
        return [one for one in found if profile is None or profile in one.profiles]


def claim_statement(worker: str, lease_s: float, now: datetime) -> ReturningUpdate[JobRow]:
    """Build the one statement that takes the oldest waiting job."""
    settled = exists().where(SeriesRow.series_uid == JobRow.series_uid, SeriesRow.settled)
    oldest = (
        select(JobRow.id)
        .where(JobRow.state == JobState.QUEUED, settled, not_(is_suspended(Work.PROCESSING)))
        .order_by(JobRow.id)
        .limit(1)
        # PostgreSQL: workers do not wait for each other. SQLite has one writer at a time anyhow.
        .with_for_update(skip_locked=True)
        .scalar_subquery()
    )
    return (
        update(JobRow)
        .where(JobRow.id == oldest, JobRow.state == JobState.QUEUED)
        .values(
            state=JobState.RUNNING,
            attempts=JobRow.attempts + 1,
            worker=worker,
            lease_until=now + timedelta(seconds=lease_s),
            started_at=now,
            updated_at=now,
        )
        .returning(JobRow)
        .execution_options(synchronize_session=False)
    )


def _held_job(session: Session, job_id: int, worker: str) -> JobRow:
    job = lock_job(session, job_id)
    if job.state is not JobState.RUNNING or job.worker != worker:
        raise LeaseLost(job_id, worker, job.state)
    return job


def _add_results(session: Session, job_id: int, results: Sequence[NewResult]) -> None:
    session.add_all(
        ResultRow(job_id=job_id, **vars(result) | {"profiles": list(result.profiles)})
        for result in results
    )


def _start_over(session: Session, job: JobRow, step: Step) -> None:
    """Queue a job as if it were new; what it had delivered is delivered again, once it is made."""
    _check_files(session, job)
    move(session, job, step, attempts=0, worker=None, started_at=None, results_removed_at=None)
    session.execute(delete(ResultRow).where(ResultRow.job_id == job.id))
    redeliver_all(session, job.id, step.now)


def _requeue(session: Session, asked: JobRow, model: NewJob, step: Step) -> JobRow:
    """Start the job over that a model has for the content of another job."""
    statement = select(JobRow).filter_by(
        series_uid=asked.series_uid,
        content_digest=asked.content_digest,
        model_digest=model.model_digest,
    )
    job = session.scalars(statement.with_for_update()).one()
    if job.state not in RETRYABLE_STATES | {JobState.SUPERSEDED}:
        raise ModelInUse(job.id, f"{model.model_name} {model.model_version}", job.state)
    _start_over(session, job, step)
    return job


def _check_files(session: Session, job: JobRow) -> None:
    missing = count_removed(session, job.series_uid)
    if missing:
        raise InstancesRemoved(job.id, job.series_uid, missing)


def _end_attempt(
    session: Session, job: JobRow, actor: str, problem: Problem, max_attempts: int, now: datetime
) -> None:
    entry = model_run(session, job, "failed", AuditOutcome.SERIOUS_FAILURE, error=problem.text)
    if job.attempts < max_attempts and not problem.lasts:
        detail = f"attempt {job.attempts} of {max_attempts}: {problem.text}"
        move(
            session, job, Step(to=JobState.QUEUED, actor=actor, now=now, detail=detail), worker=None
        )
        tell(session, entry, now)
        return
    reason = (
        problem.text
        if problem.lasts
        else f"All {job.attempts} attempts failed; the last one: {problem.text}"
    )
    step = Step(to=JobState.FAILED, actor=actor, now=now, detail=reason)
    move(session, job, step, reason_code=problem.code.value, reason=reason)
    tell(session, entry, now)


def _roles(results: Sequence[NewResult]) -> str:
    """Say which objects there are, and how many of those that are many."""
    counts = Counter(result.role for result in results)
    return ", ".join(f"{count} {role}" if count > 1 else role for role, count in counts.items())

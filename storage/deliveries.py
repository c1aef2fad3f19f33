"""The deliveries of results: one row a job and destination, each with its own fate."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from types import MappingProxyType

from sqlalchemy import ColumnElement, func, not_, select, true, update
from sqlalchemy.orm import Session
from sqlalchemy.sql.dml import ReturningUpdate

from storage.audit import tell
from storage.audit_lines import results_line
from storage.database import Database
from storage.errors import ForbiddenTransition, LeaseLost, NotFound, ResultsRemoved
from storage.leases import due_anew, end_attempt, extend_lease, is_free, is_held, take_statement
from storage.pauses import is_suspended
from storage.proofs import ask_for_proof, confirm_if_proven
from storage.records import Addressee, DeliveryRecord, Destinations, JobRecord
from storage.states import AuditEvent, DeliveryState, FailureCode, JobState, Work
from storage.tables import DeliveryRow, JobRow, ResultRow, UtcDateTime
from storage.transitions import (
    Step,
    check_current,
    insert_new,
    job_transaction,
    lock_job,
    move,
    note,
    record_of,
)

_UNDER_WAY = (JobState.PRODUCED, JobState.DELIVERING)
_SENDING = (*_UNDER_WAY, JobState.REJECTED)
"""A rejected job has a report to deliver, and stays as it is meanwhile."""
_UNREACHED = (DeliveryState.FAILED, DeliveryState.CANCELED)


class Deliveries:
    """The deliveries of a node; a destination that is down never touches the others.

    Parameters
    ----------
    database
        The job database.
    addressees
        What the audit trail calls the destinations, by name.
    """

    def __init__(
        self, database: Database, addressees: Mapping[str, Addressee] = MappingProxyType({})
    ) -> None:
        self._database = database
        self._addressees = addressees

    def claim_due(
        self, owner: str, *, destination: str, lease_s: float, now: datetime
    ) -> DeliveryRecord | None:
        """Take the delivery to this destination that is due the longest, or None.

        No two senders get the same one, unless the lease of the first has run out, and nobody gets
        one while delivery is suspended.
        """
        with job_transaction(self._database) as session:
            statement = claim_statement(owner, destination, lease_s, now)
            delivery = session.scalars(statement).one_or_none()
            if delivery is None:
                return None
            job = lock_job(session, delivery.job_id)
            if job.state is JobState.PRODUCED:
                step = Step(to=JobState.DELIVERING, actor=owner, now=now, detail=destination)
                move(session, job, step)
            if delivery.attempts == 1:
                self._tell(session, AuditEvent.RESULTS_SENDING, delivery, now)
            return record_of(DeliveryRecord, delivery)

    def _tell(
        self, session: Session, event: AuditEvent, delivery: DeliveryRow, now: datetime, **more: str
    ) -> None:
        tell(session, results_line(session, event, delivery, self._addressees, **more), now)

    def heartbeat(self, delivery_id: int, owner: str, lease_s: float, now: datetime) -> None:
        """Extend the lease of a delivery under way.

        Raises
        ------
        NotFound, LeaseLost
        """
        with self._database.write() as session:
            _, delivery = _held_delivery(session, delivery_id, owner)
            extend_lease(delivery, lease_s, now)

    def delivered(
        self,
        delivery_id: int,
        owner: str,
        now: datetime,
        *,
        remark: str = "",
        asks_proof: bool = False,
    ) -> JobRecord:
        """Say that the destination has accepted every result; the last one ends the job.

        Where proof is asked for, `storage.proofs.Proofs` has it due from now on. A remark, as on
        what the destination has changed, goes into the history of the job.

        Raises
        ------
        NotFound, LeaseLost
        """
        with job_transaction(self._database) as session:
            job, delivery = _held_delivery(session, delivery_id, owner)
            delivery.state = DeliveryState.DELIVERED
            end_attempt(delivery, "", now)
            if remark:
                detail = f"{delivery.destination}: {remark}"
                step = Step(to=job.state, actor=owner, now=now, detail=detail)
                note(session, job, step, job.state)
            if asks_proof:
                ask_for_proof(session, delivery_id, now)
            _conclude(session, job, owner, now)
            more = {"remark": remark} if remark else {}
            self._tell(session, AuditEvent.RESULTS_SENT, delivery, now, **more)
            return record_of(JobRecord, job)

    def attempt_failed(
        self,
        delivery_id: int,
        owner: str,
        error: str,
        next_attempt_at: datetime | None,
        now: datetime,
    ) -> JobRecord:
        """Say that an attempt failed, and when the next one is due; None gives the delivery up.

        The job has FAILED once no other delivery is pending.

        Raises
        ------
        NotFound, LeaseLost
        """
        with job_transaction(self._database) as session:
            job, delivery = _held_delivery(session, delivery_id, owner)
            end_attempt(delivery, error, now)
            if next_attempt_at is not None:
                delivery.next_attempt_at = next_attempt_at
            else:
                delivery.state = DeliveryState.FAILED
                _conclude(session, job, owner, now)
                self._tell(session, AuditEvent.RESULTS_SENT, delivery, now, error=error)
            return record_of(JobRecord, job)

    def resend(
        self, job_id: int, destinations: Destinations, actor: str, now: datetime
    ) -> JobRecord:
        """Deliver the results of a job once more, also to destinations that are new to it.

        What is being sent at this moment is left alone.

        Raises
        ------
        NotFound
        ForbiddenTransition
            The job has no results, or none of a profile, or no destination is named.
        ResultsRemoved
        SeriesChanged, NewerRequest
            There is, or will be, a newer job for the series.
        """
        with job_transaction(self._database) as session:
            job = lock_job(session, job_id)
            _check_sendable(session, job, destinations)
            detail = f"re-send to {', '.join(destinations)}"
            step = Step(to=JobState.DELIVERING, actor=actor, now=now, detail=detail)
            _resume(session, job, step)
            add_deliveries(session, job_id, destinations, now)
            _make_due(session, job_id, now, DeliveryRow.destination.in_(destinations))
            return record_of(JobRecord, job)

    def get(self, delivery_id: int) -> DeliveryRecord:
        """Get a delivery.

        Raises
        ------
        NotFound
        """
        with self._database.read() as session:
            row = session.get(DeliveryRow, delivery_id)
            if row is None:
                raise NotFound("delivery", delivery_id)
            return record_of(DeliveryRecord, row)

    def list_deliveries(self, job_id: int) -> list[DeliveryRecord]:
        """List the deliveries of a job by destination."""
        statement = select(DeliveryRow).filter_by(job_id=job_id).order_by(DeliveryRow.destination)
        with self._database.read() as session:
            return [record_of(DeliveryRecord, row) for row in session.scalars(statement)]

    def count_by_state(self) -> dict[tuple[str, DeliveryState], int]:
        """Count the deliveries of each destination and state that has any."""
        key = (DeliveryRow.destination, DeliveryRow.state)
        statement = select(*key, func.count()).group_by(*key)
        with self._database.read() as session:
            return {(row[0], row[1]): row[2] for row in session.execute(statement)}

    def count_given_up(self, destinations: Collection[str], since: datetime) -> dict[str, int]:
        """Count the deliveries that were given up since a time and still are, by destination."""
        statement = (
            select(DeliveryRow.destination, func.count())
            .where(
                DeliveryRow.destination.in_(destinations),
                DeliveryRow.state == DeliveryState.FAILED,
                DeliveryRow.updated_at >= since,
            )
            .group_by(DeliveryRow.destination)
        )
        with self._database.read() as session:
            return {row[0]: row[1] for row in session.execute(statement)}

    def oldest_pending(self) -> dict[str, datetime]:
        """Give, by destination, when the oldest pending delivery was first tried, or was due."""
        since = func.coalesce(DeliveryRow.first_attempt_at, DeliveryRow.next_attempt_at)
        statement = (
            select(DeliveryRow.destination, func.min(since, type_=UtcDateTime))
            .where(DeliveryRow.state == DeliveryState.PENDING)
            .group_by(DeliveryRow.destination)
        )
        with self._database.read() as session:
            return {row[0]: row[1] for row in session.execute(statement)}


def add_deliveries(
    session: Session, job_id: int, destinations: Destinations, now: datetime
) -> None:
    """Make the deliveries of a job, due at once; those that exist only take the profile.

    What is being sent at this moment is left alone.
    """
    for destination, profile in destinations.items():
        session.execute(
            update(DeliveryRow)
            .where(
                DeliveryRow.job_id == job_id,
                DeliveryRow.destination == destination,
                is_free(DeliveryRow, now),
            )
            .values(profile=profile)
            .execution_options(synchronize_session=False)
        )
        values = {
            "job_id": job_id,
            "destination": destination,
            "profile": profile,
            "state": DeliveryState.PENDING,
            "next_attempt_at": now,
            "created_at": now,
            "updated_at": now,
        }
        insert_new(session, DeliveryRow, values)


def redeliver_unreached(session: Session, job: JobRow, step: Step) -> None:
    """Take up again the deliveries of a job that were given up or canceled.

    Raises
    ------
    SeriesChanged, NewerRequest
    """
    _resume(session, job, step)
    _make_due(session, job.id, step.now, DeliveryRow.state.in_(_UNREACHED))


def redeliver_all(session: Session, job_id: int, now: datetime) -> None:
    """Take up all deliveries of a job that has ended; none is claimed before it is PRODUCED."""
    _make_due(session, job_id, now, true())


def claim_statement(
    owner: str, destination: str, lease_s: float, now: datetime
) -> ReturningUpdate[DeliveryRow]:
    """Build the one statement that takes the delivery that is due the longest."""
    waiting = (
        select(DeliveryRow.id)
        .join(JobRow)
        .where(
            DeliveryRow.destination == destination,
            DeliveryRow.state == DeliveryState.PENDING,
            JobRow.state.in_(_SENDING),
            not_(is_suspended(Work.DELIVERY)),
        )
    )
    return take_statement(DeliveryRow, waiting, owner, lease_s, now)


def _held_delivery(session: Session, delivery_id: int, owner: str) -> tuple[JobRow, DeliveryRow]:
    """Lock a delivery that `owner` has under way, and its job."""
    job_id = session.scalar(select(DeliveryRow.job_id).filter_by(id=delivery_id))
    if job_id is None:
        raise NotFound("delivery", delivery_id)
    job = lock_job(session, job_id)
    delivery = session.get_one(DeliveryRow, delivery_id, with_for_update=True)
    if delivery.state is not DeliveryState.PENDING or not is_held(delivery, owner):
        raise LeaseLost(job_id, owner, delivery.state)
    return job, delivery


def _conclude(session: Session, job: JobRow, actor: str, now: datetime) -> None:
    """End a job none of whose deliveries is pending."""
    session.flush()
    deliveries = session.scalars(
        select(DeliveryRow).filter_by(job_id=job.id).order_by(DeliveryRow.destination)
    ).all()
    if any(one.state is DeliveryState.PENDING for one in deliveries):
        return
    given_up = [one for one in deliveries if one.state is DeliveryState.FAILED]
    if job.state is JobState.REJECTED:
        if given_up:
            step = Step(to=job.state, actor=actor, now=now, detail=_undelivered(given_up))
            note(session, job, step, job.state)
        return
    if not given_up:
        move(session, job, Step(to=JobState.DELIVERED, actor=actor, now=now))
        confirm_if_proven(session, job, actor, now)
        return
    reason = _undelivered(given_up)
    step = Step(to=JobState.FAILED, actor=actor, now=now, detail=reason)
    move(session, job, step, reason_code=FailureCode.DELIVERY_GIVEN_UP.value, reason=reason)


def _undelivered(given_up: Sequence[DeliveryRow]) -> str:
    problems = "; ".join(f"{one.destination}: {one.last_error}" for one in given_up)
    return f"The results could not be delivered to {problems}"


def _check_sendable(session: Session, job: JobRow, destinations: Destinations) -> None:
    if job.results_removed_at is not None:
        raise ResultsRemoved(job.id, job.results_removed_at)
    if not destinations:
        raise ForbiddenTransition(job.id, job.state, "be sent again: no destination is named")
    made = {
        profile
        for profiles in session.scalars(select(ResultRow.profiles).filter_by(job_id=job.id))
        for profile in profiles
    }
    if not made:
        raise ForbiddenTransition(job.id, job.state, "be sent again: it has no results")
    for destination, profile in destinations.items():
        if profile not in made:
            raise ForbiddenTransition(
                job.id,
                job.state,
                f"be sent to {destination}: its results were made for the profile "
                f"{', '.join(sorted(made))}, not for {profile}; `hepar segment --profile "
                f"{profile}` makes those",
            )


def _resume(session: Session, job: JobRow, step: Step) -> None:
    """Move a job with results to DELIVERING; if it is under way, note why more is to be sent."""
    if job.state in _SENDING:
        note(session, job, replace(step, to=job.state), job.state)
        return
    check_current(session, job)
    move(session, job, step)


def _make_due(session: Session, job_id: int, now: datetime, which: ColumnElement[bool]) -> None:
    """Make deliveries of a job due at once, as if never tried; those under way are left alone."""
    statement = (
        update(DeliveryRow)
        .where(DeliveryRow.job_id == job_id, which, is_free(DeliveryRow, now))
        .values(due_anew(now) | {"state": DeliveryState.PENDING})
        .execution_options(synchronize_session=False)
    )
    session.execute(statement)

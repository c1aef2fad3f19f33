"""What destinations have proven: one row for each delivery to one that is asked for proof."""

from collections.abc import Collection, Mapping
from datetime import datetime
from types import MappingProxyType

from sqlalchemy import case, func, select, update
from sqlalchemy.orm import Session
from sqlalchemy.sql.dml import ReturningUpdate

from storage.audit import tell
from storage.audit_lines import results_line
from storage.database import Database
from storage.errors import LeaseLost, NotFound
from storage.leases import due_anew, end_attempt, extend_lease, is_held, take_statement
from storage.records import Addressee, DeliveryRecord, JobRecord, ProofRecord
from storage.states import AuditEvent, DeliveryState, JobState, ProofState
from storage.tables import DeliveryRow, JobRow, ProofRow, ResultRow
from storage.transitions import (
    Step,
    insert_new,
    job_transaction,
    lock_job,
    move,
    note,
    record_of,
)


class Proofs:
    """The proofs of a node; what is proven of all that was asked for makes a job CONFIRMED.

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
    ) -> ProofRecord | None:
        """Take the proof of this destination that is due the longest, or None.

        No two provers get the same one, unless the lease of the first has run out.
        """
        with self._database.write() as session:
            statement = claim_statement(owner, destination, lease_s, now)
            proof = session.scalars(statement).one_or_none()
            return None if proof is None else record_of(ProofRecord, proof)

    def heartbeat(self, delivery_id: int, owner: str, lease_s: float, now: datetime) -> None:
        """Extend the lease of a proof under way.

        Raises
        ------
        NotFound, LeaseLost
        """
        with self._database.write() as session:
            _, proof = _held_proof(session, delivery_id, owner)
            extend_lease(proof, lease_s, now)

    def asked(self, delivery_id: int, owner: str, transaction_uid: str, now: datetime) -> None:
        """Say that storage commitment is about to be requested; an earlier request is forgotten.

        Raises
        ------
        NotFound, LeaseLost
        """
        with self._database.write() as session:
            _, proof = _held_proof(session, delivery_id, owner)
            proof.transaction_uid, proof.asked_at = transaction_uid, now
            proof.updated_at = now

    def answered(
        self, transaction_uid: str, *, kept: Collection[str], problem: str, now: datetime
    ) -> None:
        """Say what a destination answered to a request for storage commitment.

        Where it keeps all results, the next attempt is due at once.

        Parameters
        ----------
        transaction_uid
            Of the request.
        kept
            SOP instance UIDs of what it commits itself to keep; a result that is not among them
            is not kept, whether it was named or not.
        problem
            What it does not keep, and why; may be empty.
        now
            The present (aware, UTC).

        Raises
        ------
        NotFound
            No request that waits for an answer has this transaction UID.
        """
        with self._database.write() as session:
            proof = session.scalars(
                select(ProofRow)
                .filter_by(transaction_uid=transaction_uid, committed_at=None)
                .with_for_update()
            ).one_or_none()
            if proof is None:
                raise NotFound("storage commitment transaction", transaction_uid)
            problem = problem or _name_unmentioned(session, proof, kept)
            proof.updated_at = now
            proof.last_error = problem
            if problem:
                proof.transaction_uid = proof.asked_at = None
            else:
                proof.committed_at = proof.next_attempt_at = now

    def proven(self, delivery_id: int, owner: str, now: datetime) -> JobRecord:
        """Say that the destination has proven all; the last one makes the job CONFIRMED.

        Raises
        ------
        NotFound, LeaseLost
        """
        with job_transaction(self._database) as session:
            job, proof = _held_proof(session, delivery_id, owner)
            proof.state = ProofState.PROVEN
            end_attempt(proof, "", now)
            session.flush()
            if job.state is JobState.DELIVERED:
                confirm_if_proven(session, job, owner, now)
            self._tell(session, delivery_id, now)
            return record_of(JobRecord, job)

    def _tell(self, session: Session, delivery_id: int, now: datetime, **more: str) -> None:
        delivery = session.get_one(DeliveryRow, delivery_id)
        event = AuditEvent.RESULTS_PROVEN
        tell(session, results_line(session, event, delivery, self._addressees, **more), now)

    def attempt_failed(
        self,
        delivery_id: int,
        owner: str,
        error: str,
        next_attempt_at: datetime | None,
        now: datetime,
    ) -> JobRecord:
        """Say what is not proven yet, and when to look again; None gives the proof up.

        The job stays as it is; giving up is noted in its history.

        Raises
        ------
        NotFound, LeaseLost
        """
        with job_transaction(self._database) as session:
            job, proof = _held_proof(session, delivery_id, owner)
            end_attempt(proof, error, now)
            if next_attempt_at is not None:
                proof.next_attempt_at = next_attempt_at
            else:
                proof.state = ProofState.GIVEN_UP
                name = session.get_one(DeliveryRow, delivery_id).destination
                detail = f"not confirmed by {name}: {error}"
                note(
                    session, job, Step(to=job.state, actor=owner, now=now, detail=detail), job.state
                )
                self._tell(session, delivery_id, now, error=error)
            return record_of(JobRecord, job)

    def get(self, delivery_id: int) -> ProofRecord:
        """Get the proof of a delivery.

        Raises
        ------
        NotFound
        """
        with self._database.read() as session:
            row = session.get(ProofRow, delivery_id)
            if row is None:
                raise NotFound("proof of delivery", delivery_id)
            return record_of(ProofRecord, row)

    def count_by_state(self) -> dict[ProofState, int]:
        """Count the proofs of each state that has any."""
        statement = select(ProofRow.state, func.count()).group_by(ProofRow.state)
        with self._database.read() as session:
            return {row[0]: row[1] for row in session.execute(statement)}

    def list_proofs(self, job_id: int) -> list[tuple[DeliveryRecord, ProofRecord]]:
        """List what is to be proven of a job, by destination."""
        statement = (
            select(DeliveryRow, ProofRow)
            .join(ProofRow, ProofRow.delivery_id == DeliveryRow.id)
            .where(DeliveryRow.job_id == job_id)
            .order_by(DeliveryRow.destination)
        )
        with self._database.read() as session:
            return [
                (record_of(DeliveryRecord, delivery), record_of(ProofRecord, proof))
                for delivery, proof in session.execute(statement)
            ]


def _name_unmentioned(session: Session, proof: ProofRow, kept: Collection[str]) -> str:
    """Say which results a destination does not mention; empty where it keeps them all."""
    results = session.scalars(
        select(ResultRow)
        .join(DeliveryRow, DeliveryRow.job_id == ResultRow.job_id)
        .where(DeliveryRow.id == proof.delivery_id)
        .order_by(ResultRow.id)
    )
    unmentioned = [result.path for result in results if result.sop_instance_uid not in kept]
    return f"does not mention {', '.join(unmentioned)}" if unmentioned else ""


def ask_for_proof(session: Session, delivery_id: int, now: datetime) -> None:
    """Make the proof of a delivery due, as if never tried; what was proven counts no more."""
    values = {
        "delivery_id": delivery_id,
        "state": ProofState.WAITING,
        "next_attempt_at": now,
        "created_at": now,
        "updated_at": now,
    }
    if insert_new(session, ProofRow, values):
        return
    never_asked = {"transaction_uid": None, "asked_at": None, "committed_at": None}
    session.execute(
        update(ProofRow)
        .where(ProofRow.delivery_id == delivery_id)
        .values(due_anew(now) | never_asked | {"state": ProofState.WAITING})
        .execution_options(synchronize_session=False)
    )


def confirm_if_proven(session: Session, job: JobRow, actor: str, now: datetime) -> None:
    """Move a DELIVERED job to CONFIRMED if proof was asked for and all of it is there."""
    states = session.scalars(
        select(ProofRow.state)
        .join(DeliveryRow, DeliveryRow.id == ProofRow.delivery_id)
        .where(DeliveryRow.job_id == job.id)
    ).all()
    if states and all(state is ProofState.PROVEN for state in states):
        move(session, job, Step(to=JobState.CONFIRMED, actor=actor, now=now))


def claim_statement(
    owner: str, destination: str, lease_s: float, now: datetime
) -> ReturningUpdate[ProofRow]:
    """Build the one statement that takes the proof that is due the longest.

    A prover that died may have died between its note that it asks for commitment and the request,
    so where a lease was not given back, nothing counts as asked for.
    """
    waiting = (
        select(ProofRow.delivery_id)
        .join(DeliveryRow, DeliveryRow.id == ProofRow.delivery_id)
        .where(
            ProofRow.state == ProofState.WAITING,
            DeliveryRow.destination == destination,
            DeliveryRow.state == DeliveryState.DELIVERED,
        )
    )
    lease_ran_out = ProofRow.lease_until.is_not(None)
    return take_statement(ProofRow, waiting, owner, lease_s, now).values(
        asked_at=case((lease_ran_out, None), else_=ProofRow.asked_at)
    )


def _held_proof(session: Session, delivery_id: int, owner: str) -> tuple[JobRow, ProofRow]:
    """Lock a proof that `owner` has under way, and its job."""
    job_id = session.scalar(select(DeliveryRow.job_id).filter_by(id=delivery_id))
    if job_id is None:
        raise NotFound("delivery", delivery_id)
    job = lock_job(session, job_id)
    proof = session.get(ProofRow, delivery_id, with_for_update=True)
    if proof is None:
        raise NotFound("proof of delivery", delivery_id)
    if proof.state is not ProofState.WAITING or not is_held(proof, owner):
        raise LeaseLost(job_id, owner, proof.state)
    return job, proof

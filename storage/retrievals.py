"""What people want to have from a PACS: a row for each number of a list, each with its own fate."""

from collections.abc import Callable
from datetime import datetime
from typing import Any

from sqlalchemy import Select, UpdateBase, and_, exists, func, or_, select, text, update
from sqlalchemy.orm import Session, aliased

from storage.database import Database
from storage.errors import NotFound, RetrievalLost
from storage.leases import due_anew, end_attempt, extend_lease, is_held, take_statement
from storage.records import (
    RetrievalBatch,
    RetrievalOrder,
    RetrievalProgress,
    RetrievalRecord,
)
from storage.states import UNDER_WAY_RETRIEVALS, RetrievalState
from storage.tables import RetrievalRow
from storage.transitions import record_of

_LOCK = 0x50554C4C  # "PULL"; the number of a PostgreSQL advisory lock
_S = RetrievalState


class Retrievals:
    """The lists of a node; the rows of one peer are fetched one after the other."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def add(self, order: RetrievalOrder, now: datetime) -> str:
        """Make the rows of a list, and give the name of the list.

        Raises
        ------
        ValueError
            The list is empty.
        """
        rows = [
            RetrievalRow(
                peer=order.peer,
                key=key,
                value=value,
                retrieval=order.retrieval,
                at_night=order.at_night,
                actor=order.actor,
                state=RetrievalState.WAITING,
                next_attempt_at=order.not_before,
                created_at=now,
                updated_at=now,
            )
            for key, value in dict.fromkeys(order.wanted)
        ]
        if not rows:
            raise ValueError("a list has at least one row")
        first, *others = rows
        first.batch = ""
        with self._database.write() as session:
            session.add(first)
            session.flush()
            first.batch = str(first.id)
            for row in others:
                row.batch = first.batch
            session.add_all(others)
            return first.batch

    def claim_due(
        self, owner: str, *, peer: str, lease_s: float, is_night: bool, now: datetime
    ) -> RetrievalRecord | None:
        """Take the row of this peer that is due the longest, or None.

        There is none while another of its rows is being fetched, unless that lease has run out.

        Parameters
        ----------
        owner, lease_s, now
            Who holds it then, for how long, from when on.
        peer
            Its name in the settings.
        is_night
            Whether rows may begin that are fetched at night; one that has begun goes on.
        """
        with self._database.write() as session:
            if self._database.dialect == "postgresql":
                # Else two could both see that nobody fetches; SQLite has one writer at a time.
                session.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _LOCK})
            row = session.scalars(
                claim_statement(owner, peer, lease_s, now, is_night=is_night)
            ).one_or_none()
            if row is None:
                return None
            row.state = RetrievalState.RUNNING
            return record_of(RetrievalRecord, row)

    def heartbeat(self, retrieval_id: int, owner: str, lease_s: float, now: datetime) -> None:
        """Extend the lease of a row under way.

        Raises
        ------
        NotFound, RetrievalLost
        """
        with self._database.write() as session:
            extend_lease(_held_row(session, retrieval_id, owner), lease_s, now)

    def note_progress(
        self, retrieval_id: int, owner: str, progress: RetrievalProgress, now: datetime
    ) -> None:
        """Say how far a row has come.

        Raises
        ------
        NotFound, RetrievalLost
        """
        with self._database.write() as session:
            row = _held_row(session, retrieval_id, owner)
            row.offered, row.fetched = progress.offered, progress.fetched
            row.series_uids = list(progress.series_uids)
            row.updated_at = now

    def done(self, retrieval_id: int, owner: str, now: datetime) -> None:
        """Say that all that the peer lists is here.

        Raises
        ------
        NotFound, RetrievalLost
        """
        self._end(retrieval_id, owner, RetrievalState.DONE, "", now)

    def not_found(self, retrieval_id: int, owner: str, why: str, now: datetime) -> None:
        """Say that the peer has nothing of the kind.

        Raises
        ------
        NotFound, RetrievalLost
        """
        self._end(retrieval_id, owner, RetrievalState.NOT_FOUND, why, now)

    def attempt_failed(
        self,
        retrieval_id: int,
        owner: str,
        error: str,
        next_attempt_at: datetime | None,
        now: datetime,
    ) -> None:
        """Say that an attempt failed, and when the next one is due; None gives the row up.

        Raises
        ------
        NotFound, RetrievalLost
        """
        if next_attempt_at is None:
            self._end(retrieval_id, owner, RetrievalState.FAILED, error, now)
            return
        with self._database.write() as session:
            row = _held_row(session, retrieval_id, owner)
            end_attempt(row, error, now)
            row.state = RetrievalState.WAITING
            row.next_attempt_at = next_attempt_at

    def release(self, retrieval_id: int, owner: str, now: datetime) -> None:
        """Let a row go in the midst of an attempt, which does not count; it is due at once.

        Raises
        ------
        NotFound, RetrievalLost
        """
        with self._database.write() as session:
            row = _held_row(session, retrieval_id, owner)
            end_attempt(row, row.last_error, now)
            row.state = RetrievalState.WAITING
            row.attempts -= 1

    def cancel(
        self, batch: str, now: datetime, *, row_id: int | None = None
    ) -> list[RetrievalRecord]:
        """Cancel what has not ended of a list, or one row of it; give what was canceled.

        What has come stays. One that is under way breaks off soon.

        Raises
        ------
        NotFound
        """
        which = RetrievalRow.state.in_(UNDER_WAY_RETRIEVALS)
        values = {"state": RetrievalState.CANCELED, "lease_until": None, "updated_at": now}
        return self._change(batch, row_id, lambda: update(RetrievalRow).where(which).values(values))

    def retry(
        self, batch: str, now: datetime, *, row_id: int | None = None
    ) -> list[RetrievalRecord]:
        """Take up again what was not found, given up or canceled of a list, or one row of it.

        What waits for its next attempt is due at once. Rows that are fetched at night wait for it.

        Raises
        ------
        NotFound
        """
        ended = RetrievalRow.state.in_([_S.NOT_FOUND, _S.FAILED, _S.CANCELED])
        waits = and_(RetrievalRow.state == _S.WAITING, RetrievalRow.attempts > 0)
        values = due_anew(now) | {"state": RetrievalState.WAITING}
        return self._change(
            batch, row_id, lambda: update(RetrievalRow).where(or_(ended, waits)).values(values)
        )

    def get_batch(self, batch: str) -> RetrievalBatch:
        """Get a list.

        Raises
        ------
        NotFound
        """
        with self._database.read() as session:
            _check_there(session, batch, None)
            [found] = _read_batches(session, select(RetrievalRow.batch).filter_by(batch=batch))
            return found

    def list_batches(self, *, limit: int = 100, offset: int = 0) -> list[RetrievalBatch]:
        """List the lists, the newest first."""
        newest = (
            select(RetrievalRow.batch)
            .group_by(RetrievalRow.batch)
            .order_by(func.min(RetrievalRow.id).desc())
            .limit(limit)
            .offset(offset)
        )
        with self._database.read() as session:
            return _read_batches(session, newest)

    def list_rows(
        self,
        batch: str,
        *,
        state: RetrievalState | None = None,
        limit: int | None = None,
        offset: int = 0,
    ) -> list[RetrievalRecord]:
        """List the rows of a list in its order, or those in one state.

        Raises
        ------
        NotFound
        """
        statement = select(RetrievalRow).filter_by(batch=batch).order_by(RetrievalRow.id)
        if state is not None:
            statement = statement.filter_by(state=state)
        with self._database.read() as session:
            _check_there(session, batch, None)
            rows = session.scalars(statement.limit(limit).offset(offset))
            return [record_of(RetrievalRecord, row) for row in rows]

    def _end(
        self, retrieval_id: int, owner: str, state: RetrievalState, error: str, now: datetime
    ) -> None:
        with self._database.write() as session:
            row = _held_row(session, retrieval_id, owner)
            end_attempt(row, error, now)
            row.state = state

    def _change(
        self, batch: str, row_id: int | None, make: Callable[[], Any]
    ) -> list[RetrievalRecord]:
        wanted = {"batch": batch} | ({} if row_id is None else {"id": row_id})
        statement = (
            make()
            .filter_by(**wanted)
            .returning(RetrievalRow)
            .execution_options(synchronize_session=False)
        )
        with self._database.write() as session:
            _check_there(session, batch, row_id)
            changed = session.scalars(statement).all()
            return sorted(
                (record_of(RetrievalRecord, row) for row in changed), key=lambda row: row.id
            )


def claim_statement(
    owner: str, peer: str, lease_s: float, now: datetime, *, is_night: bool
) -> UpdateBase:
    """Build the one statement that takes the row that is due the longest."""
    other = aliased(RetrievalRow)
    is_busy = exists().where(
        other.peer == peer, other.state == RetrievalState.RUNNING, other.lease_until >= now
    )
    waiting = select(RetrievalRow.id).where(
        RetrievalRow.peer == peer, RetrievalRow.state.in_(UNDER_WAY_RETRIEVALS), ~is_busy
    )
    if not is_night:
        by_day = or_(~RetrievalRow.at_night, RetrievalRow.state == RetrievalState.RUNNING)
        waiting = waiting.where(by_day)
    return take_statement(RetrievalRow, waiting, owner, lease_s, now)


def _held_row(session: Session, retrieval_id: int, owner: str) -> RetrievalRow:
    row = session.get(RetrievalRow, retrieval_id, with_for_update=True)
    if row is None:
        raise NotFound("retrieval", retrieval_id)
    if row.state is not RetrievalState.RUNNING or not is_held(row, owner):
        raise RetrievalLost(retrieval_id, owner, row.state)
    return row


def _check_there(session: Session, batch: str, row_id: int | None) -> None:
    statement = select(RetrievalRow.id).filter_by(batch=batch).limit(1)
    if session.scalar(statement) is None:
        raise NotFound("pull", f"{batch}; `hepar pulls list` lists them")
    if row_id is not None and session.scalar(statement.filter_by(id=row_id)) is None:
        raise NotFound("row", f"{row_id} in the pull {batch}")


def _read_batches(session: Session, which: Select[Any]) -> list[RetrievalBatch]:
    """Read the lists of these names, the newest first."""
    row = RetrievalRow
    same = (row.batch, row.peer, row.retrieval, row.at_night, row.actor, row.created_at)
    counts = [func.count().filter(row.state == state).label(state.name) for state in _S]
    sums = [func.sum(column).label(column.key) for column in (row.offered, row.fetched)]
    statement = (
        select(*same, *counts, *sums)
        .where(row.batch.in_(which))
        .group_by(*same)
        .order_by(func.min(row.id).desc())
    )
    batches = []
    for found in session.execute(statement).mappings():
        plain = {str(name): value for name, value in found.items() if name not in _S.__members__}
        by_state = {state: found[state.name] for state in _S if found[state.name]}
        batches.append(RetrievalBatch(**plain, counts=by_state))
    return batches

"""Moments in rows, and a clock that people, NTP or a dead battery set.

A clock set forward makes what waits due early, which does no harm. One set back would make it wait
for as long as it was set back by: a lease of a dead owner, a pause between attempts, the silence of
a series. Such a row was written in the future, so it is brought back to the present.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import ColumnElement, case, not_, select, update
from sqlalchemy.orm import InstrumentedAttribute

from storage.database import Database
from storage.states import UNDER_WAY_RETRIEVALS, DeliveryState, JobState, ProofState
from storage.tables import (
    DeliveryRow,
    JobRow,
    LeasedRow,
    ProofRow,
    RetrievalRow,
    SeriesRow,
    TickRow,
)

CLOCK_SLACK = timedelta(minutes=1)
"""What the clocks of the machines of a node may differ by: no row is from the future before."""


@dataclass(frozen=True)
class _Kind:
    """Rows that wait for a moment."""

    waits: ColumnElement[bool]
    """Which rows of the table; each condition has an index, because rows that are done stay."""
    written: InstrumentedAttribute[Any]
    more: Sequence[InstrumentedAttribute[Any]] = ()
    """What else may have a moment from the future."""


def _leased(table: type[LeasedRow], waits: ColumnElement[bool]) -> _Kind:
    more = (table.next_attempt_at, table.first_attempt_at, table.lease_until)
    return _Kind(waits, table.updated_at, more)


_SENDING = select(JobRow.id).where(
    JobRow.state.in_([JobState.PRODUCED, JobState.DELIVERING, JobState.REJECTED])
)
_KINDS = (
    _Kind(not_(SeriesRow.settled), SeriesRow.last_received_at, [SeriesRow.counted_at]),
    _Kind(JobRow.state == JobState.RUNNING, JobRow.updated_at, [JobRow.lease_until]),
    _leased(
        DeliveryRow,
        DeliveryRow.job_id.in_(_SENDING) & (DeliveryRow.state == DeliveryState.PENDING),
    ),
    _leased(ProofRow, ProofRow.state == ProofState.WAITING),
    _Kind(ProofRow.state == ProofState.WAITING, ProofRow.asked_at),
    _leased(TickRow, TickRow.name != ""),
    _leased(RetrievalRow, RetrievalRow.state.in_(UNDER_WAY_RETRIEVALS)),
)


class Moments:
    """The moments that work waits for."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def mend(self, now: datetime) -> int:
        """Let no row wait for a time that the clock was set back from; give their number.

        Leases end and what waits for its next attempt is due; a series waits for its silence anew.
        """
        return sum(self._bring_back(kind, now) for kind in _KINDS)

    def _bring_back(self, kind: _Kind, now: datetime) -> int:
        """Let no moment of rows that were written in the future be later than now."""
        table = kind.written.class_
        [key] = table.__table__.primary_key
        moments = (kind.written, *kind.more)
        statement = (
            update(table)
            .where(kind.waits, kind.written > now + CLOCK_SLACK)
            .values({moment: case((moment > now, now), else_=moment) for moment in moments})
            .returning(key)
            .execution_options(synchronize_session=False)
        )
        # Each kind in a transaction of its own, so that it holds no locks that others want.
        with self._database.write() as session:
            return len(session.scalars(statement).all())

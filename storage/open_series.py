"""The series without a decision: which are ready for one, and what the others wait for.

A series is ready when it has been quiet, unless it is known that instances are missing: then it
is waited for longer. One that is provably whole is ready at once.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import ColumnElement, Select, and_, case, func, not_, or_, select, update

from storage.database import Database
from storage.missing import describe_missing, is_gapless
from storage.records import SeriesRecord
from storage.tables import SeriesRow
from storage.transitions import record_of

_UNANSWERED = "Its sender has not said yet how many instances it has."


@dataclass(frozen=True, kw_only=True)
class Patience:
    """How long series are waited for."""

    quiet_s: float
    """A series is taken as complete after this long without an instance."""
    max_wait_s: float = 0.0
    """One of which something is known to be missing, after this long, if that is longer."""
    counted_senders: frozenset[str] = frozenset()
    """AE titles of those that are asked how many instances a series has."""

    def quiet_since(self, now: datetime) -> datetime:
        """Give the moment since which nothing has come for a series that is quiet."""
        return now - timedelta(seconds=self.quiet_s)

    def over_since(self, now: datetime) -> datetime:
        """Give that of a series that is waited for no longer."""
        return now - timedelta(seconds=max(self.quiet_s, self.max_wait_s))


@dataclass(frozen=True, kw_only=True)
class Waiting:
    """Series that wait for the same."""

    count: int = 0
    oldest: datetime | None = None
    """The last instance of the one that waits the longest; none where there is none."""


class OpenSeries:
    """The series without a decision.

    Parameters
    ----------
    database
        The job database.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    def list_settleable(self, patience: Patience, now: datetime) -> list[SeriesRecord]:
        """List those that are ready for a decision, the longest quiet first.

        `SeriesRecord.waits_for` says what they have been waited for in vain. Those that have
        become quiet and are not complete are told apart here, and wait from now on.
        """
        self._note_waiting(patience, now)
        is_quiet = SeriesRow.last_received_at <= patience.quiet_since(now)
        statement = _open_series().where(
            or_(
                and_(SeriesRow.waits_for == "", or_(is_quiet, _all_are_here())),
                SeriesRow.last_received_at <= patience.over_since(now),
            )
        )
        with self._database.read() as session:
            return [
                record_of(SeriesRecord, row)
                for row in session.scalars(statement)
                if row.last_received_at <= patience.quiet_since(now)
                or is_gapless(session, row.series_uid)
            ]

    def _note_waiting(self, patience: Patience, now: datetime) -> None:
        """Write down what the series that have become quiet lack."""
        statement = _open_series().where(
            SeriesRow.waits_for == "", SeriesRow.last_received_at <= patience.quiet_since(now)
        )
        with self._database.read() as session:
            lacking = [
                (row.series_uid, row.last_received_at, missing)
                for row in session.scalars(statement)
                if (missing := describe_missing(session, row) or _unanswered(row, patience))
            ]
        if not lacking:
            return
        with self._database.write() as session:
            for series_uid, last_received_at, missing in lacking:
                session.execute(
                    update(SeriesRow)
                    .filter_by(series_uid=series_uid, last_received_at=last_received_at)
                    .values(waits_for=missing)
                    .execution_options(synchronize_session=False)
                )

    def list_uncounted(
        self, ae_title: str, patience: Patience, now: datetime
    ) -> list[SeriesRecord]:
        """List the series of a sender that it is to be asked about, the longest quiet first.

        It is asked once at the begin, and once more when nothing seems to be missing: then the
        answer tells whether there is more since.
        """
        seems_whole = or_(
            SeriesRow.counted_at.is_(None),
            SeriesRow.instance_count >= SeriesRow.counted_instances,
            SeriesRow.last_received_at <= patience.quiet_since(now),
        )
        statement = _open_series().where(
            SeriesRow.calling_ae_title == ae_title, ~_is_counted(), seems_whole
        )
        with self._database.read() as session:
            return [record_of(SeriesRecord, row) for row in session.scalars(statement)]

    def note_count(self, series_uid: str, count: int, asked_at: datetime) -> None:
        """Write down how many instances of a series its sender lists.

        Parameters
        ----------
        count
            It is a promise only when it is more than had come: a sender that still receives the
            series itself, and hands on what it has, lists no more than that.
        asked_at
            Before the sender was asked; what comes after this may be more than it has counted.
        """
        known = SeriesRow.counted_instances
        is_promise = or_(known.is_not(None), SeriesRow.instance_count < count)
        statement = (
            update(SeriesRow)
            .filter_by(series_uid=series_uid)
            .values(
                counted_instances=case((is_promise, count), else_=known),
                counted_at=asked_at,
                waits_for=case((SeriesRow.settled, SeriesRow.waits_for), else_=""),
            )
            .execution_options(synchronize_session=False)
        )
        with self._database.write() as session:
            session.execute(statement)

    def summarize(self) -> tuple[Waiting, Waiting]:
        """Count those that are waited for to be quiet, and those that lack something."""
        lacks = SeriesRow.waits_for != ""
        statement = (
            select(lacks, func.count(), func.min(SeriesRow.last_received_at))
            .where(not_(SeriesRow.settled), SeriesRow.instance_count > 0)
            .group_by(lacks)
        )
        with self._database.read() as session:
            found = {
                bool(row[0]): Waiting(count=row[1], oldest=row[2])
                for row in session.execute(statement)
            }
        return found.get(False, Waiting()), found.get(True, Waiting())


def _open_series() -> Select[SeriesRow]:
    return (
        select(SeriesRow)
        # As the condition of the index is written, else SQLite does not use it.
        .where(not_(SeriesRow.settled), SeriesRow.instance_count > 0)
        .order_by(SeriesRow.last_received_at)
    )


def _is_counted() -> ColumnElement[bool]:
    """Say whether the sender was asked after the last instance."""
    return and_(
        SeriesRow.counted_at.is_not(None), SeriesRow.counted_at >= SeriesRow.last_received_at
    )


def _all_are_here() -> ColumnElement[bool]:
    """Say whether as many are here as are announced, or as the sender still lists."""
    here = SeriesRow.instance_count
    return or_(
        here == SeriesRow.expected_instances,
        and_(here == SeriesRow.counted_instances, _is_counted()),
    )


def _unanswered(series: SeriesRow, patience: Patience) -> str:
    asked = series.counted_at is not None and series.counted_at >= series.last_received_at
    return _UNANSWERED if series.calling_ae_title in patience.counted_senders and not asked else ""

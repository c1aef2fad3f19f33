"""What is wrong with the node, since when, and when people were told; one row a thing.

It stays in one row from the moment at which it was first seen until it is over, however many
processes see it; each change is one statement that says which state it changes.
"""

from collections.abc import Iterable
from datetime import datetime

from sqlalchemy import case, null, select, update

from storage.database import Database
from storage.records import AlertFinding, AlertRecord
from storage.tables import AlertRow
from storage.transitions import insert_new, record_of


class Alerts:
    """The alerts of a node."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def see(self, found: Iterable[AlertFinding], now: datetime, *, told: bool = False) -> None:
        """Note what is wrong: raised if it is new or was over, else only seen again.

        Parameters
        ----------
        found
            What is wrong.
        now
            The present.
        told
            Whether people have just been told.
        """
        with self._database.write() as session:
            for one in found:
                key = {"kind": one.kind, "subject": one.subject}
                seen = {"message": one.message, "seen_at": now}
                new = seen | {"raised_at": now, "told_at": now if told else None}
                if insert_new(session, AlertRow, key | new):
                    continue
                was_over = AlertRow.cleared_at.is_not(None)
                again = {
                    "raised_at": case((was_over, now), else_=AlertRow.raised_at),
                    "told_at": now if told else case((was_over, null()), else_=AlertRow.told_at),
                    "cleared_at": None,
                }
                session.execute(update(AlertRow).filter_by(**key).values(seen | again))

    def clear(self, record: AlertRecord, now: datetime) -> None:
        """Say that something is over, unless it was seen again since it was read."""
        self._change(record, {"cleared_at": now}, seen_at=record.seen_at)

    def mark_told(self, records: Iterable[AlertRecord], now: datetime) -> None:
        """Say that people were told what stands in these records, where it is still so."""
        for record in records:
            self._change(record, {"told_at": now})

    def _change(
        self, record: AlertRecord, values: dict[str, datetime], **unchanged: datetime
    ) -> None:
        statement = (
            update(AlertRow)
            .filter_by(kind=record.kind, subject=record.subject, **unchanged)
            .where(
                AlertRow.raised_at == record.raised_at,
                AlertRow.cleared_at.is_not_distinct_from(record.cleared_at),
            )
            .values(values)
        )
        with self._database.write() as session:
            session.execute(statement)

    def list_alerts(self, *, open_only: bool = False) -> list[AlertRecord]:
        """List what is wrong, and unless only that is wanted what was, the oldest first."""
        statement = select(AlertRow).order_by(AlertRow.raised_at, AlertRow.kind, AlertRow.subject)
        if open_only:
            statement = statement.where(AlertRow.cleared_at.is_(None))
        with self._database.read() as session:
            return [record_of(AlertRecord, row) for row in session.scalars(statement)]

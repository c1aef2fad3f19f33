"""The audit trail: what happened, who did it, with whose data; lines are only ever added."""

import hashlib
import json
import socket
from collections.abc import Collection, Iterator
from dataclasses import asdict
from datetime import datetime
from typing import Any

from sqlalchemy import func, select, text, update

from storage.database import Database
from storage.records import AuditEntry, AuditRecord
from storage.states import AuditEvent, AuditOutcome
from storage.tables import AuditCursorRow, AuditRow
from storage.transitions import insert_new, record_of

_LOCK = 0x4155444954  # "AUDIT"; the number of a PostgreSQL advisory lock
_BATCH = 1000


class AuditTrail:
    """The audit trail of a node.

    Each line has a digest of itself and of the line before. The tables refuse to change a line or
    to delete one; `find_break` tells whether somebody did so in spite of them.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    def append(self, entry: AuditEntry, now: datetime) -> None:
        """Add a line; it is on the disk when this returns."""
        values = _plain(asdict(entry)) | {"at": now, "host": socket.gethostname()}
        newest = select(AuditRow.digest).order_by(AuditRow.id.desc()).limit(1)
        with self._database.write() as session:
            if self._database.dialect == "postgresql":
                # SQLite has one writer at a time anyhow.
                session.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _LOCK})
            before = session.scalars(newest).one_or_none() or ""
            session.add(AuditRow(**values, digest=_digest(before, values)))

    def list_entries(
        self,
        events: Collection[AuditEvent] | None = None,
        *,
        since: datetime | None = None,
        until: datetime | None = None,
        limit: int = 100,
        offset: int = 0,
        **wanted: str,
    ) -> list[AuditRecord]:
        """List lines, the newest first.

        Parameters
        ----------
        events
            Of these; None means all.
        since, until
            Not before the one, and before the other.
        limit, offset
            So many, after so many that are newer.
        **wanted
            Exact texts of `actor`, `address`, `patient_id`, `study_uid`.
        """
        statement = select(AuditRow).filter_by(**wanted).order_by(AuditRow.id.desc())
        if events is not None:
            statement = statement.where(AuditRow.event.in_(events))
        if since is not None:
            statement = statement.where(AuditRow.at >= since)
        if until is not None:
            statement = statement.where(AuditRow.at < until)
        statement = statement.limit(limit).offset(offset)
        with self._database.read() as session:
            return [record_of(AuditRecord, row) for row in session.scalars(statement)]

    def read(self, after_id: int = 0) -> Iterator[AuditRecord]:
        """Give all lines after one, the oldest first."""
        while True:
            batch = self._read_batch(after_id)
            if not batch:
                return
            yield from batch
            after_id = batch[-1].id

    def _read_batch(self, after_id: int) -> list[AuditRecord]:
        later = select(AuditRow).where(AuditRow.id > after_id)
        statement = later.order_by(AuditRow.id).limit(_BATCH)
        with self._database.read() as session:
            return [record_of(AuditRecord, row) for row in session.scalars(statement)]

    def find_break(self) -> AuditRecord | None:
        """Find the first line that does not fit to the one before, or was changed; None is good.

        Lines cut off at the end leave no trace here; a copy elsewhere shows them.
        """
        before = ""
        for record in self.read():
            values = {
                column.name: getattr(record, column.name)
                for column in AuditRow.__table__.columns
                if column.name not in ("id", "digest")
            }
            if record.digest != _digest(before, values):
                return record
            before = record.digest
        return None

    def count_failures(self, event: AuditEvent, *, since: datetime, **who: str) -> int:
        """Count what did not succeed since a time, of an `actor` or an `address`."""
        statement = (
            select(func.count())
            .select_from(AuditRow)
            .filter_by(event=event, **who)
            .where(AuditRow.at >= since, AuditRow.outcome != AuditOutcome.SUCCESS)
        )
        with self._database.read() as session:
            return session.scalars(statement).one()

    def sent_up_to(self, name: str) -> int:
        """Give the last line that was sent to a place; 0 before the first."""
        with self._database.read() as session:
            row = session.get(AuditCursorRow, name)
            return 0 if row is None else row.last_id

    def mark_sent(self, name: str, last_id: int) -> None:
        """Say up to which line all were sent to a place."""
        with self._database.write() as session:
            if not insert_new(session, AuditCursorRow, {"name": name, "last_id": last_id}):
                session.execute(update(AuditCursorRow).filter_by(name=name).values(last_id=last_id))


def _plain(values: dict[str, Any]) -> dict[str, Any]:
    """Give values as they come back from the database: lists for tuples, no zero characters."""
    kept = {name: values[name] for name in ("event", "outcome")}
    without_zeros = json.dumps(
        {name: value for name, value in values.items() if name not in kept}
    ).replace("\\u0000", "\\ufffd")
    plain: dict[str, Any] = json.loads(without_zeros)
    return kept | plain


def _digest(before: str, values: dict[str, Any]) -> str:
    told = values | {"at": values["at"].isoformat()}
    line = json.dumps(told, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(f"{before}\n{line}".encode()).hexdigest()

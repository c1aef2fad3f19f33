"""The audit trail: what happened, who did it, with whose data; lines are only ever added."""

import hashlib
import json
import logging
import socket
from collections.abc import Collection, Iterator
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Select, func, select, text, update
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session

from storage.database import Database
from storage.records import AuditEntry, AuditRecord
from storage.states import AuditEvent, AuditOutcome
from storage.tables import AuditCursorRow, AuditRow
from storage.transitions import insert_new, record_of

logger = logging.getLogger(__name__)

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
        with self._database.write() as session:
            _add_line(session, entry, now)

    def check_writable(self) -> None:
        """Try to add a line, and add none.

        Raises
        ------
        storage.errors.DatabaseError
            None can be added now.
        """
        probe = AuditEntry(event=AuditEvent.AUDIT_READ, actor="")
        with self._database.write() as session:
            _add_line(session, probe, datetime.now(UTC))
            session.flush()
            session.rollback()

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
        statement = _between(statement, since, until).limit(limit).offset(offset)
        with self._database.read() as session:
            return [record_of(AuditRecord, row) for row in session.scalars(statement)]

    def read(
        self, after_id: int = 0, *, since: datetime | None = None, until: datetime | None = None
    ) -> Iterator[AuditRecord]:
        """Give all lines after one, the oldest first; not before a time, and before another."""
        while True:
            batch = self._read_batch(after_id, since, until)
            if not batch:
                return
            yield from batch
            after_id = batch[-1].id

    def _read_batch(
        self, after_id: int, since: datetime | None, until: datetime | None
    ) -> list[AuditRecord]:
        later = _between(select(AuditRow).where(AuditRow.id > after_id), since, until)
        statement = later.order_by(AuditRow.id).limit(_BATCH)
        with self._database.read() as session:
            return [record_of(AuditRecord, row) for row in session.scalars(statement)]

    def last_id(self) -> int:
        """Give the number of the newest line; 0 before the first."""
        with self._database.read() as session:
            return session.scalar(select(func.max(AuditRow.id))) or 0

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


def tell(session: Session, entry: AuditEntry, now: datetime) -> None:
    """Add a line in the transaction of what it tells of, as the last thing that this does.

    Last, because all who write a line wait for each other from here on. Where it cannot be written,
    what it tells of is kept all the same, and the log has an error.
    """
    try:
        with session.begin_nested():
            _add_line(session, entry, now)
    except (SQLAlchemyError, TypeError, ValueError) as error:
        if _is_lost(session):
            raise
        logger.error(
            "no line in the audit trail about %s: %s",
            entry.event.value,
            getattr(error, "orig", error),
            extra={"action": "audit"},
        )


def _is_lost(session: Session) -> bool:
    """Say whether the whole transaction is lost: SQLite ends one when the disk is full."""
    if session.get_bind().dialect.name != "sqlite":
        return False
    driver: Any = session.connection().connection.driver_connection
    return not driver.in_transaction


def _add_line(session: Session, entry: AuditEntry, now: datetime) -> None:
    values = _plain(asdict(entry)) | {"at": now, "host": socket.gethostname()}
    # What else the transaction changes locks its rows before this lock is asked for.
    session.flush()
    if session.get_bind().dialect.name == "postgresql":
        # SQLite has one writer at a time anyhow.
        session.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _LOCK})
    newest = select(AuditRow.digest).order_by(AuditRow.id.desc()).limit(1)
    before = session.scalars(newest).one_or_none() or ""
    session.add(AuditRow(**values, digest=_digest(before, values)))


def _between(
    statement: Select[AuditRow], since: datetime | None, until: datetime | None
) -> Select[AuditRow]:
    if since is not None:
        statement = statement.where(AuditRow.at >= since)
    if until is not None:
        statement = statement.where(AuditRow.at < until)
    return statement


def _plain(values: dict[str, Any]) -> dict[str, Any]:
    """Give values as they come back from the database: lists for tuples, and text that it takes."""
    kept = {name: values[name] for name in ("event", "outcome")}
    rest = {name: value for name, value in values.items() if name not in kept}
    # Neither zero characters nor halves of surrogate pairs.
    line = json.dumps(rest, ensure_ascii=False).replace("\\u0000", "\ufffd")
    plain: dict[str, Any] = json.loads(line.encode(errors="replace"))
    return kept | plain


def _digest(before: str, values: dict[str, Any]) -> str:
    told = values | {"at": values["at"].isoformat()}
    line = json.dumps(told, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(f"{before}\n{line}".encode()).hexdigest()

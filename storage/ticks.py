"""Work that is done again and again, by one process of the node at a time."""

from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import select, update

from storage.database import Database
from storage.leases import due_anew, take_statement
from storage.tables import TickRow
from storage.transitions import insert_new


class Ticks:
    """When such work is due, and who does it."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def claim(self, name: str, owner: str, lease_s: float, now: datetime) -> datetime | None:
        """Take the work if nobody does it; give when it became due, None if it is not ours."""
        values = {"name": name, "next_attempt_at": now, "created_at": now, "updated_at": now}
        with self._database.write() as session:
            insert_new(session, TickRow, values)
            which = select(TickRow.name).filter_by(name=name)
            statement = take_statement(TickRow, which, owner, lease_s, now)
            tick = session.scalars(statement).one_or_none()
            return None if tick is None else tick.next_attempt_at

    def heartbeat(self, name: str, owner: str, lease_s: float, now: datetime) -> None:
        """Extend the lease; nothing happens if it is another's by now."""
        self._change(
            name, owner, {"lease_until": now + timedelta(seconds=lease_s), "updated_at": now}
        )

    def done(self, name: str, owner: str, next_at: datetime, now: datetime) -> None:
        """Say that the work is done, and when it is due again."""
        self._change(name, owner, due_anew(now) | {"next_attempt_at": next_at})

    def _change(self, name: str, owner: str, values: dict[str, Any]) -> None:
        with self._database.write() as session:
            session.execute(update(TickRow).filter_by(name=name, owner=owner).values(values))

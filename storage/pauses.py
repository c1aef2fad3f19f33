"""Work that a person has suspended, for all processes and machines of a node."""

from datetime import datetime

from sqlalchemy import Exists, delete, exists, select

from storage.database import Database
from storage.records import Pause
from storage.states import Work
from storage.tables import PauseRow
from storage.transitions import insert_new, record_of


class Pauses:
    """What is suspended; a restart changes nothing about it."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def suspend(self, work: Work, actor: str, reason: str, now: datetime) -> bool:
        """Let none of this work begin from now on; say whether it was not suspended before."""
        values = {"work": work, "since": now, "actor": actor, "reason": reason}
        with self._database.write() as session:
            return insert_new(session, PauseRow, values)

    def resume(self, work: Work) -> bool:
        """Let it begin again; say whether it was suspended."""
        statement = delete(PauseRow).filter_by(work=work).returning(PauseRow.work)
        with self._database.write() as session:
            return session.scalars(statement).one_or_none() is not None

    def is_suspended(self, work: Work) -> bool:
        """Say whether a kind of work is suspended."""
        with self._database.read() as session:
            return session.get(PauseRow, work) is not None

    def list_pauses(self) -> list[Pause]:
        """List what is suspended."""
        with self._database.read() as session:
            rows = session.scalars(select(PauseRow).order_by(PauseRow.work))
            return [record_of(Pause, row) for row in rows]


def is_suspended(work: Work) -> Exists:
    """Give the condition that a kind of work is suspended, for the statement that takes some."""
    return exists().where(PauseRow.work == work)

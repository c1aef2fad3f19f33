"""Signs of life of the processes of the node, for `hepar doctor` and health checks."""

from datetime import datetime, timedelta

from sqlalchemy import delete, select, update

from storage.database import Database
from storage.records import RoleBeat
from storage.tables import RoleHeartbeatRow
from storage.transitions import insert_new, record_of

_FORGOTTEN_AFTER = timedelta(days=1)


class Heartbeats:
    """The signs of life; one object a process, which takes its first beat as its start."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._started_at: dict[tuple[str, str, int], datetime] = {}

    def beat(self, role: str, *, host: str, pid: int, now: datetime, detail: str = "") -> None:
        """Say that a process lives; `detail` is for people, as the device of a worker."""
        started_at = self._started_at.setdefault((role, host, pid), now)
        key = {"role": role, "host": host, "pid": pid}
        # A process number comes again after a restart, so the start is written each time.
        values = {"started_at": started_at, "beat_at": now, "detail": detail}
        with self._database.write() as session:
            if not insert_new(session, RoleHeartbeatRow, key | values):
                session.execute(update(RoleHeartbeatRow).filter_by(**key).values(values))
            if started_at == now:
                # Processes that were killed cannot take their leave.
                session.execute(
                    delete(RoleHeartbeatRow).where(
                        RoleHeartbeatRow.beat_at < now - _FORGOTTEN_AFTER
                    )
                )

    def forget(self, *, host: str, pid: int) -> None:
        """Remove what a process has said, because it ends as it should."""
        with self._database.write() as session:
            session.execute(delete(RoleHeartbeatRow).filter_by(host=host, pid=pid))

    def list_beats(self) -> list[RoleBeat]:
        """List the last sign of life of each process, by role, host and process number."""
        statement = select(RoleHeartbeatRow).order_by(
            RoleHeartbeatRow.role, RoleHeartbeatRow.host, RoleHeartbeatRow.pid
        )
        with self._database.read() as session:
            return [record_of(RoleBeat, row) for row in session.scalars(statement)]

"""One process per role; a dead one is started again."""

import logging
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from config import Settings
from node.roles import Role
from node.service_manager import READY, STOPPING, tell
from node.watchman import Watchman
from storage.database import open_database, upgrade_database
from storage.errors import DatabaseDamaged, DatabaseError

logger = logging.getLogger(__name__)

FIRST_PAUSE_S = 0.5
MAX_PAUSE_S = 30.0
HEALTHY_AFTER_S = 60.0
STOP_GRACE_S = 15.0
WATCH_S = 0.2


@dataclass(kw_only=True)
class _Child:
    """A role's process and when it may be started again."""

    name: str
    command: Sequence[str]
    process: subprocess.Popen[bytes] | None = None
    started_at: float = 0.0
    pause_s: float = FIRST_PAUSE_S
    start_after: float = 0.0

    def start(self) -> None:
        # The pipe is never written to: its end tells the child that we are gone.
        self.process = subprocess.Popen(self.command, stdin=subprocess.PIPE)
        self.started_at = time.monotonic()

    def watch(self) -> int | None:
        """Start the process when it is due; give its exit code when it has died."""
        now = time.monotonic()
        if self.process is None:
            if now >= self.start_after:
                self.start()
            return None
        code = self.process.poll()
        if code is None:
            return None
        healthy = now - self.started_at > HEALTHY_AFTER_S
        self.pause_s = FIRST_PAUSE_S if healthy else min(self.pause_s * 2, MAX_PAUSE_S)
        self.start_after = now + self.pause_s
        self.process = None
        logger.error(
            "role died and is started again",
            extra={"action": "restart", "child": self.name, "code": code, "in_s": self.pause_s},
        )
        return code


@dataclass(kw_only=True)
class Supervisor:
    """Start, watch and stop the processes of the node."""

    settings: Settings
    roles: Iterable[Role]
    arguments: Sequence[str]
    """Options that give each child the same settings (`--config`, `--set`)."""
    stop: threading.Event = field(default_factory=threading.Event)

    def run(self) -> None:
        """Run until SIGTERM or SIGINT, then stop every role and wait for it.

        Raises
        ------
        storage.errors.StorageError
            When the job database has not the schema of this version.
        """
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: self.stop.set())
        self._prepare_database()
        children = [child for role in self.roles for child in self._children(role)]
        watchman = Watchman(self.settings)
        tell(READY)
        while not self.stop.is_set():
            for child in children:
                if (code := child.watch()) is not None:
                    watchman.role_died(child.name, code)
            self.stop.wait(WATCH_S)
        # Told meanwhile, because whoever stops us may not wait for long.
        watchman.node_stops("is being stopped")
        tell(STOPPING)
        _stop_all([child.process for child in children if child.process is not None])
        watchman.close()

    def _prepare_database(self) -> None:
        """Upgrade our own SQLite file; a database that was named must have our schema.

        Other nodes may be at work on that one, so when it is upgraded is for people to decide.

        Raises
        ------
        storage.errors.SchemaOutdated, storage.errors.SchemaTooNew
        """
        if self.settings.database.url is None:
            self.settings.data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
            upgrade_database(self.settings.database_url)
            return
        try:
            open_database(self.settings.database_url).close()
        except DatabaseDamaged:
            raise
        except DatabaseError as error:
            # It may start after us; until it answers, the roles are started again.
            logger.warning("%s", error)

    def _children(self, role: Role) -> list[_Child]:
        count = self.settings.queue.workers if role is Role.WORKER else 1
        command = [sys.executable, "-m", "node", "role", role.value, *self.arguments]
        return [_Child(name=role.value, command=command) for _ in range(count)]


def _stop_all(processes: list[subprocess.Popen[bytes]]) -> None:
    for process in processes:
        process.terminate()
    deadline = time.monotonic() + STOP_GRACE_S
    for process in processes:
        try:
            process.wait(max(0.0, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            # Killing is safe: the job's lease runs out and the job is taken up again.
            logger.warning("role killed: it did not stop in time", extra={"pid": process.pid})
            process.kill()
            process.wait()

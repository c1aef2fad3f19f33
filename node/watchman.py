"""What the supervisor tells people of, because the scheduler cannot."""

import logging
import signal
import socket
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from config import Settings
from node.alert_kinds import KINDS, AlertKind
from node.alert_teller import Teller
from node.clock import utc_now
from node.roles import Role
from storage.alerts import Alerts
from storage.database import open_database
from storage.errors import StorageError
from storage.records import AlertFinding

logger = logging.getLogger(__name__)

QUICK_TIMEOUT_S = 5.0
"""Longest wait for the database: there is a node to stop."""
_Work = Callable[[AlertFinding, Alerts], None]


class Watchman:
    """What the supervisor tells: that the node stops, and which roles die.

    Each call returns at once; `close` waits for what is under way, which has time limits.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._teller = Teller(settings)
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="alerts")
        self._deaths: dict[str, deque[float]] = {}

    def role_died(self, role: str, code: int) -> None:
        """Have the scheduler tell that a process died, or tell it if that was the scheduler."""
        times = self._deaths.setdefault(role, deque())
        times.append(time.monotonic())
        while times[0] < times[-1] - KINDS[AlertKind.ROLE_DIED].calm.total_seconds():
            times.popleft()
        often = f"; {len(times)} times in the last hour" if len(times) > 1 else ""
        host = socket.gethostname()
        how = signal.Signals(-code).name if code < 0 else f"exit code {code}"
        message = f"The role {role} on {host} died ({how}) and is started again{often}."
        found = AlertKind.ROLE_DIED.finding(f"{role} on {host}", message)
        self._submit(self._teller.tell_new if role == Role.SCHEDULER else _note, found)

    def node_stops(self, why: str) -> None:
        """Tell that the node stops."""
        host = socket.gethostname()
        found = AlertKind.NODE_STOPPED.finding(host, f"The node on {host} {why}.")
        self._submit(self._teller.tell_new, found)

    def close(self) -> None:
        """Wait for what is being told."""
        self._thread.shutdown(wait=True)

    def _submit(self, work: _Work, found: AlertFinding) -> None:
        if self._settings.alerts.are_sent:
            self._thread.submit(self._do, work, found)

    def _do(self, work: _Work, found: AlertFinding) -> None:
        try:
            with open_database(self._settings.database_url, timeout_s=QUICK_TIMEOUT_S) as database:
                alerts = Alerts(database)
                self._teller.note_what_was_told(alerts)
                work(found, alerts)
        except StorageError as error:
            logger.warning("%s", error, extra={"action": "alert"})
            self._teller.tell_without_database(found)
        except Exception:
            logger.exception("alert not told: %s", found.message)


def _note(found: AlertFinding, alerts: Alerts) -> None:
    alerts.see([found], utc_now())

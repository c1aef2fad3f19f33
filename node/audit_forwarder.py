"""Send new lines of the audit trail to the syslog server, and see that lines can be added."""

import logging
import time
from itertools import islice

from config import SyslogSettings
from node.audit_message import audit_source, write_syslog
from node.clock import utc_now
from node.errors import WrongCall
from node.lease import LeaseKeeper
from node.services import Services
from node.syslog import SyslogFailed, send_messages
from storage.errors import StorageError

logger = logging.getLogger(__name__)

CURSOR = "syslog"
"""Name of the place where it stands how far lines were sent."""
BATCH = 200
"""Lines on one connection."""
PAUSE_S = 10.0
"""After a server did not take them."""


class Forwarder:
    """Sends lines, in one process of the node at a time, and notices a trail that takes none.

    Parameters
    ----------
    services
        Stores and settings.
    owner
        Holds the lease.
    """

    def __init__(self, services: Services, owner: str) -> None:
        self._services = services
        self._owner = owner
        self._pause_until_s = 0.0
        self._not_sent = self._not_writable = ""

    @property
    def trouble(self) -> str:
        """What goes wrong now, in words; empty where nothing does."""
        return "; ".join(filter(None, (self._not_writable, self._not_sent)))

    def forward(self) -> None:
        """Send what is new; where that fails it is told, and tried again after a pause."""
        if time.monotonic() < self._pause_until_s:
            return
        try:
            self.send()
        except SyslogFailed as error:
            self._pause_until_s = time.monotonic() + PAUSE_S
            if not self._not_sent:
                logger.error("audit trail not sent: %s", error, extra={"action": "audit"})
            self._not_sent = f"audit trail: {error}; {count_unsent(self._services)} lines wait"
        else:
            self._not_sent = ""

    def send(self) -> int | None:
        """Send what is new; give how many lines that were, None where another process sends.

        Raises
        ------
        WrongCall
            When no server is set.
        SyslogFailed
            When the server does not take them; those of whole batches before are sent.
        """
        settings = self._services.settings.audit.syslog
        if settings is None:
            raise WrongCall(
                "There is no syslog server in the settings: set audit.syslog.host, or write a file "
                "with `hepar audit export`."
            )
        if not count_unsent(self._services):
            return 0
        ticks, lease_s = self._services.ticks, self._services.settings.queue.lease_s
        if ticks.claim(CURSOR, self._owner, lease_s, utc_now()) is None:
            return None
        try:
            with LeaseKeeper(
                lambda: ticks.heartbeat(CURSOR, self._owner, lease_s, utc_now()), lease_s
            ):
                return self._send(settings)
        finally:
            ticks.done(CURSOR, self._owner, next_at=utc_now(), now=utc_now())

    def _send(self, syslog: SyslogSettings) -> int:
        settings, audit = self._services.settings, self._services.audit
        source, sent = audit_source(settings), 0
        lines = audit.read(audit.sent_up_to(CURSOR))
        while batch := list(islice(lines, BATCH)):
            messages = [write_syslog(line, source) for line in batch]
            send_messages(syslog, messages, settings.node.tls)
            audit.mark_sent(CURSOR, batch[-1].id)
            sent += len(batch)
        return sent

    def check(self) -> None:
        """Notice when no line can be added, as work goes on without."""
        try:
            self._services.audit.check_writable()
        except StorageError as error:
            self._not_writable = f"audit trail: no line can be added: {error}"
            logger.error("%s", self._not_writable, extra={"action": "audit"})
        else:
            self._not_writable = ""


def count_unsent(services: Services) -> int:
    """Say how many lines wait for the syslog server."""
    return services.audit.last_id() - services.audit.sent_up_to(CURSOR)

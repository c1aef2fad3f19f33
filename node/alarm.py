"""The tick of the alerts: find what is wrong, and tell people of it."""

from datetime import timedelta

from node.alert_kinds import AlertKind
from node.alert_teller import Teller, clear_calm
from node.alerts import find_alerts
from node.clock import utc_now
from node.lease import LeaseKeeper
from node.services import Services
from storage.alerts import Alerts
from storage.errors import DatabaseError, DiskShort


class Alarm:
    """The tick that finds what is wrong and tells of it, in one scheduler at a time."""

    def __init__(self, services: Services, owner: str) -> None:
        self._services = services
        self._owner = owner
        self._teller = Teller(services.settings)
        self.period_s = services.settings.queue.lease_s / 3

    @property
    def trouble(self) -> str:
        """Say which way does not take messages; empty where none is known to."""
        return self._teller.trouble

    def tick(self) -> None:
        """Look and tell, unless another scheduler does.

        Raises
        ------
        storage.errors.DatabaseError, storage.errors.DiskShort
            People were told, if it has lasted.
        """
        ticks, lease_s = self._services.ticks, self._services.settings.queue.lease_s
        try:
            if ticks.claim("alerts", self._owner, lease_s, utc_now()) is None:
                return
            with LeaseKeeper(
                lambda: ticks.heartbeat("alerts", self._owner, lease_s, utc_now()), lease_s
            ):
                self._look_and_tell(self._services.alerts)
            now = utc_now()
            ticks.done("alerts", self._owner, now + timedelta(seconds=self.period_s), now)
        except (DatabaseError, DiskShort):
            message = "The job database does not answer, or has no room; instances are refused."
            found = AlertKind.DATABASE_DOWN.finding("job database", message)
            self._teller.tell_without_database(found)
            raise

    def _look_and_tell(self, alerts: Alerts) -> None:
        self._teller.note_what_was_told(alerts)
        now = utc_now()
        # First, so that what nobody saw for long, as while the node was off, begins anew.
        clear_calm(alerts, now)
        alerts.see(find_alerts(self._services, now), now)
        self._teller.tell_due(alerts)

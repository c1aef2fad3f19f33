"""What the scheduler does rarely: remove by rule, and compare files with rows."""

import logging
import threading
from collections.abc import Callable, Sequence
from datetime import timedelta
from functools import partial
from pathlib import Path

from node.clock import utc_now
from node.lease import LeaseKeeper
from node.services import Services
from storage.errors import StorageError
from storage.orphans import MIN_AGE
from storage.retention import BYTES_PER_GB

logger = logging.getLogger(__name__)

RETENTION_PERIOD = timedelta(minutes=5)
SWEEP_PERIOD = timedelta(days=1)
TOO_LATE = timedelta(days=1)
"""Retention this late waits as long once more: either the node was off, or the clock is wrong."""


class Janitor:
    """Two ticks that run in one process of the node at a time, however many schedulers there are.

    Parameters
    ----------
    services
        Stores and settings.
    owner
        Holds the leases.
    stop
        Ends a tick in its midst.
    """

    def __init__(self, services: Services, owner: str, stop: threading.Event) -> None:
        self._services = services
        self._owner = owner
        self._stop = stop

    def retain(self) -> None:
        """Remove what may go."""
        self._run("retention", RETENTION_PERIOD, self._retain, too_late=TOO_LATE)

    def sweep(self) -> None:
        """Compare all files with all rows."""
        self._run("sweep", SWEEP_PERIOD, self._sweep)

    def _run(
        self,
        name: str,
        period: timedelta,
        work: Callable[[], None],
        too_late: timedelta = timedelta.max,
    ) -> None:
        ticks, lease_s = self._services.ticks, self._services.settings.queue.lease_s
        due_at = ticks.claim(name, self._owner, lease_s, now := utc_now())
        if due_at is None:
            return
        if now - due_at > too_late:
            logger.warning("%s is late by %s and waits", name, now - due_at)
            ticks.done(name, self._owner, next_at=now + too_late, now=now)
            return
        with LeaseKeeper(lambda: ticks.heartbeat(name, self._owner, lease_s, utc_now()), lease_s):
            work()
        now = utc_now()
        ticks.done(name, self._owner, next_at=now if self._stop.is_set() else now + period, now=now)

    def _retain(self) -> None:
        retention = self._services.retention
        for problem in retention.finish():
            logger.error("not removed: %s", problem, extra={"action": "retain"})
        plan = retention.plan(utc_now())
        for removal in plan.removals:
            if self._stop.is_set():
                return
            _try(partial(retention.remove, removal, utc_now()))
        if plan.excess_bytes:
            logger.warning(
                "%.1f GB more than retention.max_gb are kept; `hepar retention preview` says why",
                plan.excess_bytes / BYTES_PER_GB,
                extra={"action": "retain"},
            )

    def _sweep(self) -> None:
        for series_uid, folders in self._services.orphans.list_series().items():
            if self._stop.is_set():
                return
            _try(partial(self._check_series, series_uid, folders))
        for job_id in self._services.files.result_ids():
            if self._stop.is_set():
                return
            _try(partial(self._check_results, job_id))
        self._services.files.remove_empty_folders(MIN_AGE)

    def _check_series(self, series_uid: str, folders: Sequence[Path]) -> None:
        found = self._services.orphans.check_series(series_uid, folders, utc_now())
        extra = {"action": "sweep", "series_uid": series_uid}
        if found.taken_up:
            logger.warning("%d files without a row taken up", found.taken_up, extra=extra)
        for problem in found.set_aside:
            logger.error("file set aside: %s", problem, extra=extra)
        if found.missing:
            logger.error("%d files are missing", found.missing, extra=extra)

    def _check_results(self, job_id: int) -> None:
        if self._services.orphans.check_results(job_id):
            logger.warning("results that no job speaks of cleared away", extra={"job_id": job_id})


def _try(step: Callable[[], object]) -> None:
    """Take a step; one that fails is told, and keeps no other from being taken."""
    try:
        step()
    except (StorageError, OSError):
        logger.exception("tidying failed", extra={"action": "tidy"})

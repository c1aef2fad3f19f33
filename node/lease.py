"""Keep a lease alive while the work that it covers goes on."""

import logging
import threading
from collections.abc import Callable

from storage.errors import LeaseLost, StaleJob, StorageError

logger = logging.getLogger(__name__)

LostLease = LeaseLost | StaleJob


class LeaseKeeper:
    """Renew a lease from a thread of its own; use it as a context manager.

    Parameters
    ----------
    renew
        Extends the lease; raises `storage.errors.LeaseLost` or `StaleJob` when it is another's.
    lease_s
        Length of the lease; it is renewed three times as often.
    """

    def __init__(self, renew: Callable[[], None], lease_s: float) -> None:
        self._renew = renew
        self._pause_s = lease_s / 3
        self._done = threading.Event()
        self._lost: LostLease | None = None
        self._thread = threading.Thread(target=self._run, name="lease", daemon=True)

    def __enter__(self) -> "LeaseKeeper":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._thread.join()

    def check(self) -> None:
        """Raise what the renewal met, in the thread that does the work."""
        if self._lost is not None:
            raise self._lost

    def _run(self) -> None:
        while not self._done.wait(self._pause_s):
            try:
                self._renew()
            except (LeaseLost, StaleJob) as error:
                self._lost = error
                return
            except StorageError as error:
                # The lease is three pauses long, so there is time to try again.
                logger.warning("lease not renewed: %s", error)

"""Write down what a running job does, for people who watch, beside the work and not in its way."""

import logging
import threading
from collections.abc import Callable

from storage.errors import StorageError

logger = logging.getLogger(__name__)

PAUSE_S = 1.0
"""A step that only gets further is not written more often than this."""


class StepWriter:
    """Write steps from a thread of its own; use it as a context manager.

    The work never waits for the database. What could not be written is left out, and of what was
    told meanwhile the newest counts.

    Parameters
    ----------
    write
        Takes a step and the share of the whole that is done.
    """

    def __init__(self, write: Callable[[str, float], None]) -> None:
        self._write = write
        self._told = self._written = ("", 0.0)
        self._done = False
        self._news = threading.Condition()
        self._thread = threading.Thread(target=self._run, name="steps", daemon=True)

    def __enter__(self) -> "StepWriter":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        with self._news:
            self._done = True
            self._news.notify()
        self._thread.join()

    def tell(self, step: str, share: float) -> None:
        """Say what is done now; a new step is written at once."""
        with self._news:
            self._told = (step, share)
            self._news.notify()

    def _run(self) -> None:
        while True:
            with self._news:
                self._news.wait_for(self._is_new_step, PAUSE_S)
                self._news.wait_for(self._is_news)
                if self._done:
                    return
                self._written = self._told
            try:
                self._write(*self._written)
            except StorageError as error:
                logger.debug("step not written: %s", error)

    def _is_new_step(self) -> bool:
        return self._done or self._told[0] != self._written[0]

    def _is_news(self) -> bool:
        return self._done or self._told != self._written

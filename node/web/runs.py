"""What a visitor has started and a page shows when it is done, as an echo, or the doctor's checks.

Each runs in a thread of its own, so that no request waits for it; the last outcome is kept.
"""

import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Annotated, Any

from fastapi import Depends, Request

from node.clock import utc_now
from node.errors import NodeError
from storage.errors import StorageError


@dataclass(frozen=True, kw_only=True)
class Run:
    """Something under way, or done."""

    begun_at: datetime
    by: str
    """Name of the user."""
    found: tuple[Any, ...] = ()
    """What is known so far."""
    problem: str = ""
    """Why it could not be brought to its end; empty where it could."""
    took_s: float | None = None
    """None while it is under way."""

    @property
    def is_done(self) -> bool:
        """Whether it has ended."""
        return self.took_s is not None


class Runs:
    """The last run of each name; none of them twice at once."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._runs: dict[str, Run] = {}
        self._threads: dict[str, threading.Thread] = {}

    def start(self, name: str, by: str, work: Callable[[], Iterable[Any]]) -> bool:
        """Start a run; say whether none of its name was under way."""
        with self._lock:
            known = self._runs.get(name)
            if known is not None and not known.is_done:
                return False
            self._runs[name] = Run(begun_at=utc_now(), by=by)
            # Nobody has to wait for it when the node stops.
            thread = threading.Thread(target=self._do, args=(name, work), name=name, daemon=True)
            self._threads[name] = thread
        thread.start()
        return True

    def get(self, name: str) -> Run | None:
        """Give the run under way or the last one; None before the first."""
        return self._runs.get(name)

    def wait(self, name: str, seconds: float) -> None:
        """Wait until a run is done, but no longer than this."""
        self._threads[name].join(seconds)

    def _do(self, name: str, work: Callable[[], Iterable[Any]]) -> None:
        begin = time.perf_counter()
        try:
            for one in work():
                self._change(name, found=(*self._runs[name].found, one))
        except (NodeError, StorageError, OSError) as error:
            self._change(name, problem=str(error))
        finally:
            self._change(name, took_s=time.perf_counter() - begin)

    def _change(self, name: str, **changes: Any) -> None:
        self._runs[name] = replace(self._runs[name], **changes)


def get_runs(request: Request) -> Runs:
    """Give the runs of this process."""
    runs: Runs = request.app.state.runs
    return runs


RunsHere = Annotated[Runs, Depends(get_runs)]

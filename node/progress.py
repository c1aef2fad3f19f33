"""Progress and time of the steps of long work."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

Progress = Callable[[str, float], None]
"""Called with the name of the step and the fraction of the whole that is done."""


def no_progress(step: str, fraction: float) -> None:
    """Show nothing."""
    del step, fraction


@dataclass(kw_only=True)
class StepTimer:
    """Seconds of each step, and the progress that people see."""

    progress: Progress
    seconds: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def step(self, name: str, fraction_before: float) -> Iterator[None]:
        """Time a step and announce it."""
        self.progress(name, fraction_before)
        start = time.perf_counter()
        yield
        self.seconds[name] = round(time.perf_counter() - start, 3)

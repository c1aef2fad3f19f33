"""What goes wrong meanwhile: roles killed, the node killed, the archive stopped; and its upkeep."""

import os
import random
import signal
import time
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.peers import NodeProcess, Orthanc

PAUSE_S = (5.0, 45.0)
"""Between two blows, if a series has come to its end meanwhile."""
LONGEST_PAUSE_S = 90.0
"""If none has; a slow machine would else be at nothing but starting again."""
OUTAGE_S = (5.0, 60.0)
WEIGHTS = {
    "worker": 4,
    "scheduler": 2,
    "receiver": 2,
    "web": 1,
    "supervisor": 1,
    "whole node": 1,
    "archive, SIGTERM": 2,
    "archive, SIGKILL": 2,
}


@dataclass(kw_only=True)
class Harm:
    """Does harm by chance, and does for node and archive what a service manager does."""

    node: NodeProcess
    orthanc: Orthanc
    rng: random.Random
    done: Counter[str] = field(default_factory=Counter)
    down_s: float = 0.0
    """How long the archive was down, altogether."""
    _next_at: float = 0.0
    _at_latest: float = 0.0
    _left: int = 0
    _down_since: float | None = None
    _up_at: float = 0.0

    def tick(self, left: int) -> None:
        """Do what is due; `left` series have not come to their end."""
        now = time.monotonic()
        self.keep_up(now)
        if now < self._next_at or (left >= self._left and now < self._at_latest):
            return
        self._next_at = now + self.rng.uniform(*PAUSE_S)
        self._at_latest = now + LONGEST_PAUSE_S
        self._left = left
        [victim] = self.rng.choices(list(WEIGHTS), list(WEIGHTS.values()))
        if victim.startswith("archive"):
            self._stop_archive(victim, now)
        else:
            self._kill(victim)

    def keep_up(self, now: float) -> None:
        """Start the node when it is dead, and the archive when its outage is over."""
        if self.node.process is None or self.node.process.poll() is not None:
            self.node.launch()
        if self._down_since is not None and now >= self._up_at:
            self.orthanc.start()
            # It forgets those that were told to it while it ran.
            self.orthanc.know(self.node.port)
            self.down_s += time.monotonic() - self._down_since
            self._down_since = None

    def end(self) -> None:
        """Leave node and archive running."""
        self._up_at = 0.0
        self.keep_up(time.monotonic())

    def _stop_archive(self, victim: str, now: float) -> None:
        if self._down_since is not None:
            return
        if victim.endswith("SIGKILL"):
            self.orthanc.kill()
        else:
            self.orthanc.stop()
        self.done[victim] += 1
        self._down_since = now
        self._up_at = now + self.rng.uniform(*OUTAGE_S)

    def _kill(self, victim: str) -> None:
        process = self.node.process
        assert process is not None
        if victim == "whole node":
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        elif victim == "supervisor":
            process.kill()
            process.wait()
        else:
            pids = [pid for pid, role in find_roles(process.pid).items() if role == victim]
            if not pids:
                return
            with suppress(ProcessLookupError):
                os.kill(pids[0], signal.SIGKILL)
        self.done[victim] += 1


def find_roles(group: int) -> dict[int, str]:
    """Give the processes of a node, which are one process group, and their roles (Linux)."""
    found = {}
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError, ValueError):
            pid = int(folder.name)
            if os.getpgid(pid) != group:
                continue
            words = (folder / "cmdline").read_bytes().decode().split("\0")
            found[pid] = words[words.index("role") + 1] if "role" in words else "supervisor"
    return found


@dataclass(kw_only=True)
class Gauge:
    """Takes the memory and the open descriptors of the node, by role."""

    peak_mb: Counter[str] = field(default_factory=Counter)
    descriptors: dict[str, int] = field(default_factory=dict)
    """As they were last taken."""

    def take(self, node: NodeProcess) -> None:
        """Look at each process."""
        if node.process is None:
            return
        for pid, role in find_roles(node.process.pid).items():
            folder = Path(f"/proc/{pid}")
            with suppress(OSError):
                status = (folder / "status").read_text(encoding="utf-8").splitlines()
                [peak] = [line.split()[1] for line in status if line.startswith("VmHWM:")] or ["0"]
                self.peak_mb[role] = max(self.peak_mb[role], int(peak) // 1000)
                self.descriptors[role] = len(list((folder / "fd").iterdir()))

"""Four senders with bad habits, each with an AE title of its own; all repeat until acknowledged."""

import itertools
import os
import random
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field

from pydicom import Dataset
from pydicom.uid import ExplicitVRLittleEndian

from benchmarks.instances import make_ae, send_until_acknowledged
from benchmarks.soaking.material import Case

SENDERS = ("CT1", "CT2", "PACS", "ROUTER")
SENDER_TOML = """\
[peers.{name}]
ae_title = "{ae_title}"
host = "127.0.0.1"
roles = ["source"]
"""
MOST_TOGETHER = 3
LONGEST_PAUSE_S = 8.0
LONGEST_REST_S = 15.0
"""Between two series of a sender."""
LONGEST_LATENESS_S = 90.0
"""Slices that were held back come after this time anyhow."""
MOST_LATE = 5
REPEATED_SHARE = 0.1
RETRY_S = 1.0


@dataclass(kw_only=True)
class Sender:
    """Sends series, each in a way drawn by chance, until all of them were acknowledged."""

    ae_title: str
    port: int
    storescu: str
    """The program."""
    moments: Sequence[Callable[[str], bool]]
    """Each says of a series whether the node has come so far that a late slice is a nuisance."""
    rng: random.Random
    stop: threading.Event
    used: Counter[str] = field(default_factory=Counter)
    """How many series were sent in which way."""
    done: int = 0

    def run(self, cases: Sequence[Case]) -> None:
        """Send them, in an order of its own."""
        waiting = self.rng.sample(cases, len(cases))
        while waiting and not self.stop.is_set():
            name, habit, together = self.rng.choice(self._habits())
            taken = [waiting.pop() for _ in range(min(together, len(waiting)))]
            if habit == self._by_dcmtk and not _is_native(taken[0]):
                name, habit = "in order", self._in_order
            habit(taken)
            self.used[name] += len(taken)
            self.done += len(taken)
            self.stop.wait(self.rng.uniform(0, LONGEST_REST_S))

    def _habits(self) -> list[tuple[str, Callable[[Sequence[Case]], None], int]]:
        """Give name, way, and how many series it takes."""
        return [
            ("in order", self._in_order, 1),
            ("dcmtk's storescu", self._by_dcmtk, 1),
            ("dcmtk's storescu", self._by_dcmtk, 1),
            ("out of order, slices repeated", self._out_of_order, 1),
            ("over several associations", self._split, 1),
            ("interleaved on one association", self._interleaved, MOST_TOGETHER),
            ("with a pause", self._paused, 1),
            ("association broken off", self._broken, 1),
            ("last slices late", self._late, 1),
        ]

    def _in_order(self, cases: Sequence[Case]) -> None:
        self._send(cases[0].read())

    def _out_of_order(self, cases: Sequence[Case]) -> None:
        instances = cases[0].read()
        repeated = self.rng.sample(instances, int(len(instances) * REPEATED_SHARE))
        self._send(self._shuffled([*instances, *repeated]))

    def _split(self, cases: Sequence[Case]) -> None:
        instances = self._shuffled(cases[0].read())
        for first in range(3):
            self._send(instances[first::3])

    def _interleaved(self, cases: Sequence[Case]) -> None:
        rounds = itertools.zip_longest(*(case.read() for case in cases))
        self._send([one for among in rounds for one in among if one is not None])

    def _paused(self, cases: Sequence[Case]) -> None:
        instances = cases[0].read()
        half = len(instances) // 2
        self._send(instances[:half])
        self.stop.wait(self.rng.uniform(0, LONGEST_PAUSE_S))
        self._send(instances[half:])

    def _broken(self, cases: Sequence[Case]) -> None:
        """Break the association off in the middle, then send the whole series again."""
        instances = cases[0].read()
        assoc = make_ae(instances, self.ae_title).associate(
            "127.0.0.1", self.port, ae_title="HEPAR"
        )
        with suppress(RuntimeError):
            for instance in instances[: len(instances) // 2]:
                assoc.send_c_store(instance)
        if assoc.is_established:
            assoc.abort()
        self._send(instances)

    def _late(self, cases: Sequence[Case]) -> None:
        """Hold the last slices back until a moment that is drawn by chance."""
        instances = cases[0].read()
        held = min(MOST_LATE, len(instances) // 4)
        self._send(instances[: len(instances) - held])
        is_come, deadline = self.rng.choice(self.moments), time.monotonic() + LONGEST_LATENESS_S
        while time.monotonic() < deadline and not is_come(cases[0].series_uid):
            self.stop.wait(0.5)
        self.stop.wait(self.rng.uniform(0, LONGEST_PAUSE_S))
        self._send(instances[len(instances) - held :])

    def _by_dcmtk(self, cases: Sequence[Case]) -> None:
        """Call storescu, again with the whole series until it ends well."""
        options = ["-R", "-to", "10", "-ta", "10", "-td", "30", "-aet", self.ae_title]
        command = [self.storescu, *options, "-aec", "HEPAR", "127.0.0.1", str(self.port)]
        paths = [str(path) for path in self.rng.sample(cases[0].paths, len(cases[0].paths))]
        environ = {**os.environ, "TCP_NODELAY": "1"}
        while not self.stop.is_set():
            ended = subprocess.run(
                [*command, *paths], env=environ, capture_output=True, check=False
            )
            if ended.returncode == 0:
                return
            self.stop.wait(RETRY_S)

    def _send(self, instances: Sequence[Dataset]) -> None:
        send_until_acknowledged(
            self.port, instances, calling_ae_title=self.ae_title, stop=self.stop
        )

    def _shuffled(self, instances: Sequence[Dataset]) -> list[Dataset]:
        return self.rng.sample(instances, len(instances))


def _is_native(case: Case) -> bool:
    syntax = case.template.slices[0].file_meta.TransferSyntaxUID
    return bool(syntax == ExplicitVRLittleEndian)

"""Series for as long as it takes, with everything going wrong: ``python -m benchmarks.soak``.

Usage: ``python -m benchmarks.soak [--series N] [--seed N] [--data FOLDER] [--page PAGE]``. Needs
Orthanc and dcmtk.

A node that is served as always, with Orthanc as its archive, which has to prove what it keeps. Four
senders at once send phantoms, series of real patients (of ``--data``) and unsuitable ones, in all
the ways that senders have. Meanwhile roles and the whole node are killed, and the archive is down
at times. In the end each series must have the state that it deserves, each instance must lie on the
disk as it was sent, and the archive must hold exactly what the jobs have made. What is wrong is
listed, the exit code is 1, and the folder stays for looking at it.

Where PAGE is given, the table takes the place of what stands there between the two comments that
name this command; else it is printed.
"""

import argparse
import json
import os
import random
import shutil
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path

from pydicom import Dataset, dcmread

from benchmarks.crash_matrix import PROOFS
from benchmarks.crashing.fuse import environ
from benchmarks.page import put_table
from benchmarks.peers import NODE_TOML, NodeProcess, Orthanc, find_free_port
from benchmarks.soaking.harm import Gauge, Harm
from benchmarks.soaking.judge import SENT, Judge, Verdict
from benchmarks.soaking.material import EXTRA_SOP_CLASSES, Case, make_cases
from benchmarks.soaking.senders import SENDER_TOML, SENDERS, Sender
from storage.errors import StorageError
from storage.states import FINAL_STATES, JobState

COMMAND = "python -m benchmarks.soak"
AGAIN_SHARE = 0.05
"""Share of the series that another sender sends once more."""
SPARED_SHARE = 0.05
"""When so few series are left, no more harm is done."""
LOOK_S = 0.5
REPORT_S = 15.0
LONGEST_SILENCE_S = 900.0
"""Without any progress it is over."""
UNDER_WAY = tuple(JobState(state) for state in JobState if state not in FINAL_STATES)
"""States of jobs that something is still to become of, beside DELIVERED, which waits for proof."""


@dataclass(kw_only=True)
class Soak:
    """The node, its archive, those who send to it and what goes wrong."""

    node: NodeProcess
    orthanc: Orthanc
    senders: Sequence[Sender]
    harm: Harm
    gauge: Gauge = field(default_factory=Gauge)

    def run(self, cases: Sequence[Case], rng: random.Random) -> tuple[Verdict, float]:
        """Send everything, wait until all is quiet, and judge; also give the seconds it took."""
        began = time.monotonic()
        shares = [list(cases[number :: len(SENDERS)]) for number in range(len(SENDERS))]
        for case in rng.sample(cases, round(len(cases) * AGAIN_SHARE)):
            shares[rng.randrange(len(shares))].append(case)
        with ThreadPoolExecutor(len(self.senders)) as threads:
            sending = [
                threads.submit(sender.run, share)
                for sender, share in zip(self.senders, shares, strict=True)
            ]
            try:
                self._watch(cases, sending)
            finally:
                self.senders[0].stop.set()
        took_s = time.monotonic() - began
        self.gauge.take(self.node)
        print("all is quiet; compares disk, rows and archive with what was sent", flush=True)
        return Judge(self.node.services, self.held()).judge(cases), took_s

    def held(self) -> list[Dataset]:
        """Give all that the archive holds."""
        identifiers = json.loads(self.orthanc.get("/instances"))
        return [dcmread(BytesIO(self.orthanc.get(f"/instances/{i}/file"))) for i in identifiers]

    def is_decided(self, series_uid: str) -> bool:
        """Say whether the node has decided on a series."""
        try:
            return self.node.services.catalog.get_series(series_uid).settled
        except StorageError:
            return False

    def is_delivered(self, series_uid: str) -> bool:
        """Say whether a series has a job whose results are in the archive."""
        try:
            jobs = self.node.services.jobs.list_jobs(states=SENT, series_uid=series_uid)
        except StorageError:
            return False
        return bool(jobs)

    def _watch(self, cases: Sequence[Case], sending: Sequence["Future[None]"]) -> None:
        """Do harm until little is left, then only look, until all is quiet."""
        progress = _Progress(total=len(cases))
        harmful = True
        while True:
            for one in sending:
                if one.done():
                    one.result()
            left = self._count_left(cases)
            sent = all(one.done() for one in sending)
            if sent and left <= len(cases) * SPARED_SHARE and harmful:
                harmful = False
                self.harm.end()
            if harmful:
                self.harm.tick(left)
            else:
                self.harm.keep_up(time.monotonic())
            self.gauge.take(self.node)
            progress.say(sum(sender.done for sender in self.senders), left, self.harm.done)
            if (sent and not left) or progress.is_silent:
                return
            time.sleep(LOOK_S)

    def _count_left(self, cases: Sequence[Case]) -> int:
        """Count the series that are not decided, or that something is still to become of."""
        services = self.node.services
        try:
            settled = {
                one.series_uid for one in services.catalog.list_series(settled=True, limit=10**6)
            }
            waiting = services.jobs.list_jobs(states=[*UNDER_WAY, JobState.DELIVERED], limit=10**6)
        except StorageError:
            return len(cases)
        return len({case.series_uid for case in cases} - settled) + len(
            {job.series_uid for job in waiting} & settled
        )


@dataclass(kw_only=True)
class _Progress:
    """Says how far it is, and notices when nothing goes on any more."""

    total: int
    _last: tuple[int, int] = (0, 0)
    _changed_at: float = field(default_factory=time.monotonic)
    _said_at: float = 0.0
    _began: float = field(default_factory=time.monotonic)

    @property
    def is_silent(self) -> bool:
        """Whether nothing has changed for too long."""
        return time.monotonic() - self._changed_at > LONGEST_SILENCE_S

    def say(self, sent: int, left: int, harm: Counter[str]) -> None:
        """Print a line, if it is time."""
        now = time.monotonic()
        if (sent, left) != self._last:
            self._last, self._changed_at = (sent, left), now
        if now - self._said_at > REPORT_S or left == 0:
            self._said_at = now
            print(
                f"{now - self._began:5.0f} s: {sent} series sent, "
                f"{self.total - left} of {self.total} at their end, {harm.total()} blows",
                flush=True,
            )


@contextmanager
def open_soak(folder: Path, programs: tuple[str, str], rng: random.Random) -> Iterator[Soak]:
    """Start the archive and the node, and stop them.

    Parameters
    ----------
    programs
        Orthanc and storescu.
    """
    orthanc_program, storescu = programs
    fuses = folder / "fuses"
    fuses.mkdir()
    orthanc = Orthanc(
        program=orthanc_program,
        folder=folder / "orthanc",
        port=find_free_port(),
        http_port=find_free_port(),
    )
    port = find_free_port()
    node = NodeProcess(
        folder=folder,
        port=port,
        toml=_toml(port) + orthanc.toml + PROOFS,
        # No fuse is ever armed; the shorter pauses are what is wanted.
        environ=environ(fuses),
    )
    soak = Soak(
        node=node,
        orthanc=orthanc,
        senders=(),
        harm=Harm(node=node, orthanc=orthanc, rng=rng),
    )
    stop = threading.Event()
    soak.senders = [
        Sender(
            ae_title=title,
            port=port,
            storescu=storescu,
            moments=(soak.is_decided, soak.is_delivered),
            rng=random.Random(rng.random()),
            stop=stop,
        )
        for title in SENDERS
    ]
    orthanc.start()
    try:
        orthanc.know(port)
        node.start()
        yield soak
    finally:
        stop.set()
        node.close()
        orthanc.stop()


def _toml(port: int) -> str:
    """Give the settings of the node, without its archive."""
    toml = NODE_TOML.format(port=port, web_port=find_free_port())
    toml = toml.replace(
        "quiet_s = 1.0", f"quiet_s = 4.0\nextra_sop_classes = {list(map(str, EXTRA_SOP_CLASSES))}"
    )
    # Workers are killed more often than a job is worth; the machine may be slow.
    toml = toml.replace("lease_s = 2.0", "lease_s = 5.0\nmax_attempts = 20")
    return toml + "".join(
        SENDER_TOML.format(name=title.lower(), ae_title=title) for title in SENDERS
    )


def make_table(soak: Soak, cases: Sequence[Case], verdict: Verdict, took_s: float) -> str:
    """Give what was done and what came out, a row for each thing."""
    kinds = Counter(case.template.kind for case in cases)
    used = sum((sender.used for sender in soak.senders), Counter[str]())
    harm = soak.harm
    rows = (
        ("Series", _list(kinds)),
        ("Sent", _list(used)),
        ("Instances", f"{verdict.instances}, each acknowledged"),
        ("Killed, or stopped", _list(harm.done)),
        ("Archive down", f"{harm.down_s:.0f} s altogether"),
        ("Final states", _list(verdict.outcomes)),
        ("Jobs", f"{verdict.jobs}, of which {verdict.superseded} were SUPERSEDED by late slices"),
        (
            "In the archive",
            f"{verdict.results} results of the newest jobs, "
            f"{verdict.older_results} of jobs that were superseded on their way or later",
        ),
        ("**Wrong**", f"**{len(verdict.problems)}**"),
        ("Time", f"{took_s / 60:.0f} min, {verdict.jobs / took_s * 60:.1f} jobs a minute"),
        ("Peak memory, MB", _list(soak.gauge.peak_mb)),
        ("Open descriptors at the end", _list(soak.gauge.descriptors)),
    )
    return "\n".join(
        f"| {what} | {said} |" for what, said in (("What", "This run"), ("---", "---"), *rows)
    )


def _list(counted: dict[str, int]) -> str:
    return "; ".join(f"{what} {number}" for what, number in sorted(counted.items())) or "none"


def main() -> None:
    """Run it, and print or write."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--series", type=int, default=200)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument(
        "--data",
        type=Path,
        default=os.environ.get("HEPAR_TEST_DATA"),
        help="folder with real series, as HEPAR_TEST_DATA, which is the default",
    )
    parser.add_argument("--page", type=Path, help="Markdown file that gets the table")
    arguments = parser.parse_args()
    orthanc, storescu = shutil.which("Orthanc"), shutil.which("storescu")
    if orthanc is None or storescu is None:
        parser.error("Orthanc or dcmtk is not installed (docker/install-test-peers installs them)")
    rng = random.Random(arguments.seed)
    folder = Path(tempfile.mkdtemp(prefix="hepar-soak-"))
    outbox = folder / "outbox"
    outbox.mkdir()
    print(f"makes the series in {outbox}", flush=True)
    cases = make_cases(outbox, arguments.series, rng, arguments.data)
    with open_soak(folder, (orthanc, storescu), rng) as soak:
        verdict, took_s = soak.run(cases, rng)
        table = make_table(soak, cases, verdict, took_s)
    if verdict.problems:
        print(table)
        print("\n".join(verdict.problems))
        sys.exit(f"{len(verdict.problems)} things are wrong; see {folder}")
    shutil.rmtree(folder)
    if arguments.page is None:
        print(table)
    else:
        put_table(arguments.page, COMMAND, table)


if __name__ == "__main__":
    main()

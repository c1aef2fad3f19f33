"""Kill the node everywhere, and count what is lost: ``python -m benchmarks.crash_matrix``.

Usage: ``python -m benchmarks.crash_matrix [--kills N] [--seed N] [--page PAGE]``. Needs Orthanc.

A node that is served as always, Orthanc as its archive with storage commitment and read-back, and a
sender that repeats what was not acknowledged. Each series meets a SIGKILL in each stage of its way,
at a point drawn by chance, of the one process that is there or of all of them at once (then the
node is started anew, as a service manager does), and at times one of the supervisor or of
everything at any moment. Nothing else is done to help. When the job is CONFIRMED, each acknowledged
instance must lie on the disk as it was sent, with its row, and the archive must hold the results
of one job under one identity.

Where PAGE is given, the table takes the place of what stands there between the two comments that
name this command; else it is printed.
"""

import argparse
import os
import random
import shutil
import signal
import statistics
import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from pydicom import Dataset, dcmread

from benchmarks.crashing.fuse import Fuse, disarm, environ, spent
from benchmarks.crashing.points import DELIVER, POINTS, PROVE, RECEIVE, SETTLE, STAGES, WORK, Point
from benchmarks.instances import is_kept, renew_uids, send_until_acknowledged
from benchmarks.page import put_table
from benchmarks.peers import NODE_TOML, NodeProcess, Orthanc, find_free_port
from dicom_io.ct import write_ct_series
from inference.phantom import PhantomSettings, make_phantom
from storage.records import JobRecord
from storage.states import FINAL_STATES, JobState

COMMAND = "python -m benchmarks.crash_matrix"
HEADER = (
    *("Stage", "Where", "Killed", "Kills", "Acknowledged", "Lost", "Duplicated"),
    *("Median s", "Longest s"),
)
PROOFS = 'proofs = ["commitment", "find", "get"]\n'
PHANTOM = PhantomSettings(seed=5, shape=(50, 160, 160), spacing_mm=(5.0, 2.2, 2.2))
LONGEST_ROUND_S = 240.0
LOOK_S = 0.02
AT_ANY_MOMENT = 0.3
"""Share of the rounds that meet such a kill beside the others."""
ANY_MOMENT_S = 8.0
"""Such a kill comes within this time."""
SUPERVISOR, EVERYTHING = (
    Point(stage=PROVE, what="any moment", module="", function=name, moment="before")
    for name in ("supervisor", "everything")
)
REACHED = {
    SETTLE: frozenset(JobState),
    WORK: frozenset(JobState) - {JobState.QUEUED, JobState.RUNNING},
    DELIVER: frozenset({JobState.DELIVERED, JobState.CONFIRMED}),
    PROVE: frozenset({JobState.CONFIRMED}),
}
"""States of the job that say that a stage is over."""


@dataclass(frozen=True, kw_only=True)
class Plan:
    """The kills that one series is to meet."""

    fuses: dict[Point, Fuse]
    delays_s: dict[Point, float]
    """Of the kills that come from outside."""


@dataclass(frozen=True, kw_only=True)
class Kill:
    """One SIGKILL."""

    point: Point
    victims: str
    recovery_s: float
    """Until the stage that was hit was over."""


@dataclass(frozen=True, kw_only=True)
class Round:
    """What became of one series."""

    kills: Sequence[Kill]
    acknowledged: int
    lost: int
    """Instances that were acknowledged, and results of the job, that are not where they belong."""
    duplicated: int
    """Objects in the archive that are no results of the job, and jobs beyond the one."""


@dataclass(frozen=True, kw_only=True)
class Bench:
    """The node, its archive and the fuses."""

    node: NodeProcess
    orthanc: Orthanc
    fuses: Path
    slices: Sequence[Dataset]

    def run_round(self, plan: Plan) -> Round:
        """Send one series, let it meet its kills, and look what became of it.

        Raises
        ------
        AssertionError
            The job ended otherwise than CONFIRMED, or not in time.
        """
        series = renew_uids(self.slices)
        for point, fuse in plan.fuses.items():
            fuse.arm(self.fuses, point)
        watch = _Watch(self, str(series[0].SeriesInstanceUID), plan)
        with ThreadPoolExecutor(1) as threads:
            sending = threads.submit(send_until_acknowledged, self.node.port, series)
            job = watch.until_confirmed(sending)
        disarm(self.fuses)
        return self.judge(job, series, watch.kills())

    def keep_alive(self) -> None:
        """Start the node when it is dead, as a service manager does."""
        if self.node.process is None or self.node.process.poll() is not None:
            self.node.launch()

    def find_jobs(self, series_uid: str) -> list[JobRecord]:
        """Give the jobs of a series."""
        jobs = self.node.services.jobs.list_jobs(limit=5)
        return [job for job in jobs if job.series_uid == series_uid]

    def judge(self, job: JobRecord, series: Sequence[Dataset], kills: Sequence[Kill] = ()) -> Round:
        """Compare what was sent and produced with disk, rows and archive; empties the archive."""
        data_dir = self.node.services.files.data_dir
        kept = sum(is_kept(data_dir, instance) for instance in series)
        record = self.node.services.catalog.get_series(job.series_uid)
        expected = {one.sop_instance_uid for one in self.node.services.jobs.results(job.id)}
        found = self.orthanc.take_all()
        unregistered = max(0, len(series) - record.instance_count)
        return Round(
            kills=kills,
            acknowledged=len(series),
            lost=len(series) - kept + unregistered + len(expected - set(found)),
            duplicated=len(found) - len(expected & set(found)) + len(self._others(job)),
        )

    def _others(self, job: JobRecord) -> list[JobRecord]:
        return [one for one in self.find_jobs(job.series_uid) if one.id != job.id]


class _Watch:
    """Follows one series, keeps the node alive, and takes the times."""

    def __init__(self, bench: Bench, series_uid: str, plan: Plan) -> None:
        self._bench = bench
        self._series_uid = series_uid
        self._plan = plan
        self._began = time.monotonic()
        self._killed_at: dict[Point, float] = {}
        self._over_at: dict[str, float] = {}

    def until_confirmed(self, sending: "Future[None]") -> JobRecord:
        """Wait for the end of the job."""
        while time.monotonic() - self._began < LONGEST_ROUND_S:
            self._kill_from_outside()
            self._bench.keep_alive()
            self._note_kills()
            if sending.done():
                sending.result()
                self._over_at.setdefault(RECEIVE, time.monotonic())
            jobs = self._bench.find_jobs(self._series_uid)
            if jobs:
                self._note_progress(jobs[0])
            if PROVE in self._over_at and RECEIVE in self._over_at:
                return jobs[0]
            time.sleep(LOOK_S)
        raise AssertionError(f"not CONFIRMED in {LONGEST_ROUND_S} s: {self._killed_at}")

    def kills(self) -> list[Kill]:
        """Give the kills that came about."""
        return [
            Kill(
                point=point,
                victims=self._plan.fuses[point].victims
                if point in self._plan.fuses
                else point.function,
                recovery_s=max(0.0, self._over_at[point.stage] - killed_at),
            )
            for point, killed_at in self._killed_at.items()
        ]

    def _note_kills(self) -> None:
        keys = spent(self._bench.fuses)
        for point in self._plan.fuses:
            if point.key in keys:
                self._killed_at.setdefault(point, time.monotonic())

    def _kill_from_outside(self) -> None:
        process = self._bench.node.process
        for point, delay_s in self._plan.delays_s.items():
            if process is None or point in self._killed_at:
                continue
            if time.monotonic() - self._began > delay_s:
                self._killed_at[point] = time.monotonic()
                with suppress(ProcessLookupError):
                    if point is EVERYTHING:
                        os.killpg(process.pid, signal.SIGKILL)
                    process.kill()
                process.wait()

    def _note_progress(self, job: JobRecord) -> None:
        for stage, states in REACHED.items():
            if job.state in states:
                self._over_at.setdefault(stage, time.monotonic())
        ended_otherwise = job.state in FINAL_STATES - REACHED[DELIVER]
        assert not ended_otherwise, f"{job.state}: {job.reason}\n{self._bench.node.log[-4000:]}"


@contextmanager
def open_bench(folder: Path, orthanc_program: str, *, max_attempts: int = 20) -> Iterator[Bench]:
    """Start the archive and the node, and stop them."""
    fuses = folder / "fuses"
    fuses.mkdir()
    orthanc = Orthanc(
        program=orthanc_program,
        folder=folder / "orthanc",
        port=find_free_port(),
        http_port=find_free_port(),
    )
    port = find_free_port()
    toml = NODE_TOML.format(port=port, web_port=find_free_port())
    toml = toml.replace("[queue]", f"[queue]\nmax_attempts = {max_attempts}")
    # The sender says how many slices there are; a pause between two is none of the series' end.
    toml = toml.replace("quiet_s = 1.0", "quiet_s = 60.0")
    node = NodeProcess(
        folder=folder,
        port=port,
        toml=toml + orthanc.toml + PROOFS,
        environ=environ(fuses),
    )
    slices = [dcmread(one) for one in write_ct_series(make_phantom(PHANTOM).volume, folder / "ct")]
    orthanc.start()
    try:
        orthanc.know(port)
        node.start()
        yield Bench(node=node, orthanc=orthanc, fuses=fuses, slices=slices)
    finally:
        if node.process is not None:
            node.stop()
        orthanc.stop()


def draw_plans(rng: random.Random) -> Iterator[Plan]:
    """Give plans without end; each point comes once with each victim before it comes again."""
    decks: dict[str, list[tuple[Point, Fuse]]] = {stage: [] for stage in STAGES}
    while True:
        fuses = {}
        for stage, deck in decks.items():
            if not deck:
                deck.extend(_deck(rng, stage))
            point, fuse = deck.pop()
            fuses[point] = fuse
        delays_s = {}
        if rng.random() < AT_ANY_MOMENT:
            delays_s = {rng.choice([SUPERVISOR, EVERYTHING]): rng.uniform(0, ANY_MOMENT_S)}
        yield Plan(fuses=fuses, delays_s=delays_s)


def _deck(rng: random.Random, stage: str) -> list[tuple[Point, Fuse]]:
    deck = [
        (point, Fuse(victims=victims, hit=rng.randint(1, point.most_hits)))
        for point in POINTS
        if point.stage == stage
        for victims in ("process", "all")
    ]
    rng.shuffle(deck)
    return deck


def make_table(rounds: Sequence[Round]) -> str:
    """Give a row for each point and who was killed there, and one for all of them."""
    rows = [_row(point.stage, point.what, victims, rounds, point) for point, victims in _lines()]
    rows = [row for row in rows if row[3] != "0"]
    rows.append(_row("all", "", "", rounds))
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (HEADER, ["---"] * len(HEADER), *rows))


def _lines() -> Iterator[tuple[Point, str]]:
    for point in POINTS:
        yield from ((point, "process"), (point, "all"))
    yield from ((point, point.function) for point in (SUPERVISOR, EVERYTHING))


def _row(
    stage: str, what: str, victims: str, rounds: Sequence[Round], point: Point | None = None
) -> tuple[str, ...]:
    """Count the rounds that were hit there."""
    hits = [
        (one, kill)
        for one in rounds
        for kill in one.kills
        if point is None or (kill.point == point and kill.victims == victims)
    ]
    hit = {id(one): one for one, _ in hits}.values()
    times_s = [kill.recovery_s for _, kill in hits] or [0.0]
    return (
        *(stage, what, victims, str(len(hits))),
        str(sum(one.acknowledged for one in hit)),
        str(sum(one.lost for one in hit)),
        str(sum(one.duplicated for one in hit)),
        f"{statistics.median(times_s):.1f}",
        f"{max(times_s):.1f}",
    )


def main() -> None:
    """Kill, and print or write."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--kills", type=int, default=500, help="how many, at least")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--page", type=Path, help="Markdown file that gets the table")
    arguments = parser.parse_args()
    orthanc = shutil.which("Orthanc")
    if orthanc is None:
        parser.error("Orthanc is not installed (docker/install-test-peers installs it)")
    plans = draw_plans(random.Random(arguments.seed))
    rounds: list[Round] = []
    kills = 0
    with (
        tempfile.TemporaryDirectory() as folder,
        open_bench(Path(folder), orthanc) as bench,
    ):
        while kills < arguments.kills:
            rounds.append(bench.run_round(next(plans)))
            kills += len(rounds[-1].kills)
            lost, duplicated = (
                sum(getattr(one, name) for one in rounds) for name in ("lost", "duplicated")
            )
            print(
                f"series {len(rounds)}: {kills} kills, {lost} lost, {duplicated} duplicated",
                flush=True,
            )
    table = make_table(rounds)
    if arguments.page is None:
        print(table)
    else:
        put_table(arguments.page, COMMAND, table)


if __name__ == "__main__":
    main()

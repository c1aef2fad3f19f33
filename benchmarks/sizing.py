"""What a server needs: ``python -m benchmarks.sizing [--slices N ...] [--page PAGE]``.

Needs dcmtk. A whole node with its default settings, and dcmtk's storescp as its archive, gets
phantoms of 512 x 512 by C-STORE. For each number of slices, in a fresh data folder, the second scan
is measured: seconds of processor time and peak memory of each role, growth of the database. The
third one goes to a destination for each ready-made profile, whose objects are weighed. Processor
time and memory do not depend on what else the machine does; the clock does.

Where PAGE is given, the tables take the place of what stands there between the two comments that
name this command; else they are printed.
"""

import argparse
import os
import shutil
import sqlite3
import subprocess
import tempfile
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.page import put_table
from benchmarks.peers import DESTINATION_TOML, NODE_TOML, NodeProcess, StoreScp, find_free_port
from benchmarks.soaking.harm import Gauge, find_roles
from config.results import ready_made_profiles
from dicom_io.ct import CtIdentity, write_ct_series
from inference.phantom import PhantomSettings, make_phantom
from node.roles import Role
from storage.records import JobRecord
from storage.states import JobState

COMMAND = "python -m benchmarks.sizing"
SLICES = (100, 300, 1000)
SPACING_MM = {100: 4.0, 300: 1.5, 1000: 0.6}
IN_PLANE_MM = 0.75
REST_S = 10.0
CLONES = 100
"""The rows of the two scans are repeated so often, to weigh them."""
GROWING = ("series", "series_event", "instance", "job", "job_event", "result", "delivery")
PROCESSES = (*Role, "supervisor")
TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, kw_only=True)
class Figures:
    """What one size of scan needs."""

    slices: int
    received_mb: float
    cpu_s: Counter[str]
    """Of each process, beyond what it takes at rest."""
    job_s: float
    """By the clock, from the claim of the job to its results."""
    rest_mb: Counter[str]
    """Proportional set size."""
    rest_cpu: float
    """Share of one core that all processes take at rest."""
    peak_mb: Counter[str]
    """Resident, with what processes share."""
    database_kb: float
    """Per job with one destination."""
    profile_mb: dict[str, float]
    other_mb: float
    """Pictures and reports in the folder of results, beside the objects."""


def measure(slices: int, folder: Path, storescu: str, archive: StoreScp) -> Figures:
    """Run a node in a folder, and send it three scans."""
    scans = _write_scans(slices, folder)
    port = find_free_port()
    toml = NODE_TOML.format(port=port, web_port=find_free_port())
    toml = toml.replace("lease_s = 2.0", "lease_s = 60.0")
    node = NodeProcess(folder=folder, port=port, toml=toml + archive.toml)
    gauge = Gauge()
    node.start()
    try:
        time.sleep(REST_S)
        rest_mb, before = _proportional_mb(node), _cpu_s(node)
        time.sleep(REST_S)
        rest = _per_second(_cpu_s(node) - before, REST_S)
        _send(storescu, scans[0], node)
        _wait_for_delivery(node)
        before, began = _cpu_s(node), time.monotonic()
        _send(storescu, scans[1], node)
        job = _wait_for_delivery(node)
        took = _cpu_s(node) - before
        idle = {role: share * (time.monotonic() - began) for role, share in rest.items()}
        gauge.take(node)
        database_kb = _database_kb(node, folder)
        node.stop()
        node.toml = toml + "".join(_destinations(archive.port))
        node.start()
        _send(storescu, scans[2], node)
        profile_mb, other_mb = _weigh(node, _wait_for_delivery(node))
        job_s = _work_s(node, job)
    finally:
        node.close()
    return Figures(
        slices=slices,
        received_mb=sum(path.stat().st_size for path in scans[1].iterdir()) / 1e6,
        cpu_s=Counter({role: took[role] - idle.get(role, 0.0) for role in PROCESSES}),
        job_s=job_s,
        rest_mb=rest_mb,
        rest_cpu=sum(rest.values()),
        peak_mb=gauge.peak_mb,
        database_kb=database_kb,
        profile_mb=profile_mb,
        other_mb=other_mb,
    )


def _write_scans(slices: int, folder: Path) -> list[Path]:
    spacing_mm = (SPACING_MM.get(slices, 300 / slices), IN_PLANE_MM, IN_PLANE_MM)
    phantom = make_phantom(PhantomSettings(shape=(slices, 512, 512), spacing_mm=spacing_mm))
    folders = []
    for seed in range(1, 4):
        folders.append(folder / f"scan{seed}")
        write_ct_series(phantom.volume, folders[-1], identity=CtIdentity.from_seed(seed))
    return folders


def _destinations(port: int) -> Iterable[str]:
    """Give a destination for each profile; all of them are the same archive."""
    for name in ready_made_profiles():
        toml = DESTINATION_TOML.format(ae_title="ARCHIVE", port=port)
        yield toml.replace("peers.archive", f"peers.for-{name}") + f'profile = "{name}"\n'


def _send(storescu: str, scan: Path, node: NodeProcess) -> None:
    node.begin_anew()
    command = [storescu, "-aet", "SCANNER", "-aec", "HEPAR", "+sd"]
    subprocess.run([*command, "127.0.0.1", str(node.port), str(scan)], check=True)


def _wait_for_delivery(node: NodeProcess) -> JobRecord:
    return node.wait_for_state(JobState.DELIVERED, timeout_s=1800)


def _work_s(node: NodeProcess, job: JobRecord) -> float:
    """Give the time from the claim to the results."""
    at = {event.to_state: event.at for event in node.services.jobs.events(job.id)}
    return (at[JobState.PRODUCED] - at[JobState.RUNNING]).total_seconds()


def _processes(node: NodeProcess) -> dict[int, str]:
    assert node.process is not None
    return find_roles(node.process.pid)


def _cpu_s(node: NodeProcess) -> Counter[str]:
    """Give the processor time of each role and of the children that it has waited for."""
    found: Counter[str] = Counter()
    for pid, role in _processes(node).items():
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rsplit(")", 1)[1].split()
        found[role] += sum(map(int, fields[11:15])) / TICKS
    return found


def _per_second(cpu_s: Counter[str], seconds: float) -> dict[str, float]:
    return {role: spent / seconds for role, spent in cpu_s.items()}


def _proportional_mb(node: NodeProcess) -> Counter[str]:
    found: Counter[str] = Counter()
    for pid, role in _processes(node).items():
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="ascii").splitlines()
        [pss] = [line.split()[1] for line in lines if line.startswith("Pss:")]
        found[role] += int(pss) // 1000
    return found


def _database_kb(node: NodeProcess, folder: Path) -> float:
    """Give what a job adds, by repeating the rows of the two that there are in a copy."""
    copy = folder / "copy.db"
    with sqlite3.connect(node.settings.data_dir / "hepar.db") as source:
        source.execute("VACUUM INTO ?", (str(copy),))
    before = copy.stat().st_size
    target = sqlite3.connect(copy)
    for table in GROWING:
        columns = [row[1] for row in target.execute(f"PRAGMA table_info({table})")]
        chosen = ", ".join(map(_renewed, columns))
        there = list(target.execute(f"SELECT rowid FROM {table}"))  # noqa: S608
        repeat = f"INSERT INTO {table} SELECT {chosen} FROM {table} WHERE rowid = ?2"  # noqa: S608
        for clone in range(1, CLONES + 1):
            target.executemany(repeat, [(clone, row) for (row,) in there])
    target.commit()
    target.close()
    return (copy.stat().st_size - before) / 1e3 / (2 * CLONES)


def _renewed(column: str) -> str:
    """Give the SQL of a column in a repeated row: unique where the schema wants it, as long."""
    if column in {"id", "job_id"}:
        return f"{column} + 1000000 * ?1"
    if column in {"series_uid", "sop_instance_uid"}:
        number = "printf('%05d', ?1)"
        return f"substr({column}, 1, length({column}) - 12) || {number} || substr({column}, -7)"
    return column


def _weigh(node: NodeProcess, job: JobRecord) -> tuple[dict[str, float], float]:
    """Give the MB of the objects of each profile, and of what else lies in the folder."""
    results = node.services.jobs.results(job.id)
    folder = node.settings.data_dir / "results" / str(job.id)
    sizes = {one.path: (folder / one.path).stat().st_size / 1e6 for one in results}
    by_profile: Counter[str] = Counter()
    for one in results:
        for profile in one.profiles:
            by_profile[profile] += sizes[one.path]
    everything = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) / 1e6
    return dict(by_profile), everything - sum(sizes.values())


def make_tables(all_figures: Sequence[Figures]) -> str:
    """Give a column for each size of scan."""
    head = [f"{one.slices} slices" for one in all_figures]
    profiles = ready_made_profiles()
    per_scan = [
        ("received, MB", [f"{one.received_mb:.0f}" for one in all_figures]),
        *(
            (f"results, profile `{name}`, MB", [f"{f.profile_mb[name]:.1f}" for f in all_figures])
            for name in profiles
        ),
        ("pictures and reports beside them, MB", [f"{f.other_mb:.1f}" for f in all_figures]),
        *(
            (f"processor time, {role}, s", [f"{max(0.0, f.cpu_s[role]):.1f}" for f in all_figures])
            for role in Role
        ),
        ("processor time, all, s", [f"{max(0.0, f.cpu_s.total()):.1f}" for f in all_figures]),
        ("a worker at it, by the clock, s", [f"{f.job_s:.1f}" for f in all_figures]),
    ]
    memory = [
        (
            str(role),
            [
                f"{all_figures[0].rest_mb[role]:.0f}",
                *(f"{figures.peak_mb[role]:.0f}" for figures in all_figures),
            ],
        )
        for role in PROCESSES
    ]
    database = [
        (
            f"{jobs:,} jobs",
            [_size(figures.database_kb * jobs * 1e3) for figures in all_figures],
        )
        for jobs in (1_000, 100_000)
    ]
    return "\n\n".join(
        [
            _table(["a scan", *head], per_scan),
            _table(["MB of memory", "at rest", *(f"peak, {one}" for one in head)], memory),
            _table(["the database", *head], database),
            f"At rest all processes take {100 * all_figures[0].rest_cpu:.0f} % of one core. "
            f"Load of the machine at the end: {os.getloadavg()[1]:.1f}.",
        ]
    )


def _size(size_bytes: float) -> str:
    return f"{size_bytes / 1e9:.1f} GB" if size_bytes >= 1e9 else f"{size_bytes / 1e6:.0f} MB"


def _table(head: Sequence[str], rows: Iterable[tuple[str, Sequence[str]]]) -> str:
    lines = [head, ["---"] * len(head), *([name, *cells] for name, cells in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def main() -> None:
    """Measure, and print or write."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--slices", type=int, nargs="+", default=SLICES, metavar="N")
    parser.add_argument("--page", type=Path, help="Markdown file that gets the tables")
    arguments = parser.parse_args()
    storescu, storescp = shutil.which("storescu"), shutil.which("storescp")
    if storescu is None or storescp is None:
        parser.error("dcmtk is not installed (docker/install-test-peers installs it)")
    figures = []
    for slices in arguments.slices:
        with tempfile.TemporaryDirectory(prefix="hepar-sizing-") as name:
            folder = Path(name)
            archive = StoreScp(
                program=storescp,
                folder=folder / "archive",
                port=find_free_port(),
                options=("--ignore",),
            )
            archive.start()
            try:
                figures.append(measure(slices, folder, storescu, archive))
            finally:
                archive.stop()
        print(f"{slices} slices: {figures[-1]}", flush=True)
    tables = make_tables(figures)
    if arguments.page is None:
        print(tables)
    else:
        put_table(arguments.page, COMMAND, tables)


if __name__ == "__main__":
    main()

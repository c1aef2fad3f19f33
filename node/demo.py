"""``hepar demo``: the whole loop on this machine, with nothing but this program.

A synthetic CT is sent by C-STORE over loopback to a node of its own, and SEG and SR are waited for
in a small archive; what arrives there is read back and compared with the known truth.
"""

import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx

from config import PeerSettings, Settings, load_settings
from dicom_io.ct import write_ct_series
from dicom_io.ct_attributes import CtIdentity
from dicom_io.headers import read_header
from dicom_io.seg_reader import read_labels
from dicom_io.series import SourceSeries, read_series
from inference.labels import Label
from inference.measure import dice
from inference.phantom import Phantom, PhantomSettings, make_phantom
from node.archive_scp import EmbeddedArchive
from node.console import out, print_measurements, print_table, progress_bar
from node.errors import NodeError
from node.health import Verdict, check_running
from node.progress import Progress
from node.scu import send_files
from node.services import open_services
from node.web.setup_token import make_setup_token
from storage.records import JobRecord
from storage.states import FINAL_STATES, JobState

START_TIMEOUT_S = 60.0
LOOP_TIMEOUT_S = 300.0
_SENDER = "SCANNER"

_MARK = "# Written by `hepar demo`."
_SETTINGS = """\
data_dir = "data"

[node]
ae_title = "HEPAR"
port = {node_port}

[peers.scanner]
ae_title = "{sender}"
host = "127.0.0.1"
port = 104
roles = ["source"]

[peers.archive]
ae_title = "ARCHIVE"
host = "127.0.0.1"
port = {archive_port}
roles = ["destination"]

[receive]
quiet_s = 1.0
min_free_bytes = 100_000_000

[web]
port = {web_port}

[log]
level = "INFO"
"""


class DemoFailed(NodeError):
    """The loop did not come to its end."""


@dataclass(frozen=True, kw_only=True)
class _Outcome:
    job: JobRecord
    seconds: dict[str, float]


def run_demo(folder: Path, *, seed: int, keep: bool) -> None:
    """Run the loop and print what came out.

    Parameters
    ----------
    folder
        Gets the CT, the node's data, the archive, the log and the picture; an earlier run's
        content is replaced.
    seed
        Which synthetic patient.
    keep
        Leave everything running until Ctrl-C.

    Raises
    ------
    DemoFailed
        When the node does not start, rejects the series, or delivers nothing in time.
    """
    _clear(folder)
    seconds: dict[str, float] = {}
    with progress_bar("hepar demo") as progress:
        progress("make a synthetic CT", 0.0)
        with _timed(seconds, "synthetic CT"):
            phantom = make_phantom(PhantomSettings(seed=seed))
            identity = CtIdentity.from_seed(seed)
            paths = write_ct_series(phantom.volume, folder / "ct", identity=identity)
        with EmbeddedArchive(folder / "archive") as archive:
            settings = _write_settings(folder, archive.port)
            with _running_node(folder, settings, seconds, progress):
                outcome = _run_loop(settings, archive, paths, seconds, progress)
                progress("compare with the truth", 0.95)
                source = read_series(paths)
                agreement = _agreement(source, archive, phantom)
                shutil.copy(
                    settings.data_dir / "results" / str(outcome.job.id) / "preview.png",
                    folder / "preview.png",
                )
                progress("done", 1.0)
                _print_outcome(outcome, agreement, folder, archive)
                if keep:
                    _keep(settings)


def _clear(folder: Path) -> None:
    """Remove what an earlier demo left, and nothing else.

    Raises
    ------
    DemoFailed
        When the folder holds something that no demo has written.
    """
    if folder.exists() and any(folder.iterdir()):
        settings = folder / "hepar.toml"
        if not settings.exists() or not settings.read_text("utf-8").startswith(_MARK):
            raise DemoFailed(f"{folder} holds other things; name an empty folder with --out.")
    for name in ("ct", "archive", "data"):
        shutil.rmtree(folder / name, ignore_errors=True)
    folder.mkdir(parents=True, exist_ok=True)
    # At once, so that an interrupted demo is known as one.
    (folder / "hepar.toml").write_text(f"{_MARK}\n", encoding="utf-8")


@contextmanager
def _timed(seconds: dict[str, float], name: str) -> Iterator[None]:
    start = time.perf_counter()
    yield
    seconds[name] = time.perf_counter() - start


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _write_settings(folder: Path, archive_port: int) -> Settings:
    path = folder / "hepar.toml"
    path.write_text(
        f"{_MARK}\n"
        + _SETTINGS.format(
            node_port=_free_port(),
            web_port=_free_port(),
            archive_port=archive_port,
            sender=_SENDER,
        ),
        encoding="utf-8",
    )
    return load_settings(path, environ={}).settings


@contextmanager
def _running_node(
    folder: Path, settings: Settings, seconds: dict[str, float], progress: Progress
) -> Iterator[None]:
    """Run ``hepar serve`` as its own process, ready to work, and stop it by SIGTERM."""
    progress("start the node", 0.15)
    log = folder / "node.log"
    command = [sys.executable, "-m", "node", "serve", "--config", str(folder / "hepar.toml")]
    with log.open("wb") as sink, _timed(seconds, "start of the node"):
        process = subprocess.Popen(command, stderr=sink, stdin=subprocess.DEVNULL)
        try:
            _wait_until_ready(settings, process, log)
        except BaseException:
            process.terminate()
            process.wait()
            raise
    try:
        yield
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait()


def _wait_until_ready(settings: Settings, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + START_TIMEOUT_S
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise DemoFailed(f"The node ended while starting; its log is {log}.")
        if all(check.verdict is Verdict.GOOD for check in check_running(settings)):
            return
        time.sleep(0.1)
    raise DemoFailed(f"The node was not ready after {START_TIMEOUT_S:.0f} s; its log is {log}.")


def _run_loop(
    settings: Settings,
    archive: EmbeddedArchive,
    paths: list[Path],
    seconds: dict[str, float],
    progress: Progress,
) -> _Outcome:
    node = PeerSettings(
        ae_title=settings.node.ae_title, host=settings.node.host, port=settings.node.port
    )
    sender = settings.node.model_copy(update={"ae_title": _SENDER})
    progress(f"send {len(paths)} slices by C-STORE", 0.3)
    with _timed(seconds, "send"):
        refused = [sent for sent in send_files(sender, node, paths) if not sent.stored]
    if refused:
        raise DemoFailed(f"The node refused {len(refused)} slices: {refused[0].answer}")
    with _timed(seconds, "settle, segment, encode, deliver"):
        job = _wait_for_delivery(settings, progress)
    if not archive.wait_for(3, timeout_s=5.0):
        raise DemoFailed("The job is delivered, but the archive does not have all its results.")
    return _Outcome(job=job, seconds=seconds)


def _wait_for_delivery(settings: Settings, progress: Progress) -> JobRecord:
    jobs = open_services(settings).jobs
    fractions = {JobState.QUEUED: 0.4, JobState.RUNNING: 0.5, JobState.PRODUCED: 0.85}
    deadline = time.monotonic() + LOOP_TIMEOUT_S
    progress("wait until the series is quiet", 0.35)
    while time.monotonic() < deadline:
        for job in jobs.list_jobs(limit=1):
            if job.state is JobState.DELIVERED:
                return job
            if job.state in FINAL_STATES:
                raise DemoFailed(f"Job {job.id} is {job.state.value}: {job.reason}")
            progress(f"job {job.id} is {job.state.value}", fractions.get(job.state, 0.9))
        time.sleep(0.05)
    raise DemoFailed(f"No result after {LOOP_TIMEOUT_S:.0f} s.")


def _agreement(
    source: SourceSeries, archive: EmbeddedArchive, phantom: Phantom
) -> list[list[object]]:
    """Compare the SEG in the archive with the truth, both in patient space."""
    [seg] = [path for path in archive.files() if _modality(path) == "SEG"]
    found = read_labels(seg, source)
    truth = phantom.labels.match_geometry(source.volume).array
    liver = dice(found.array > 0, truth > 0)
    tumor = dice(found.array == Label.TUMOR, truth == Label.TUMOR)
    return [["liver with lesions", f"{liver:.3f}"], ["tumor", f"{tumor:.3f}"]]


def _modality(path: Path) -> str:
    return read_header(path).modality


def _print_outcome(
    outcome: _Outcome,
    agreement: list[list[object]],
    folder: Path,
    archive: EmbeddedArchive,
) -> None:
    report = dict(outcome.job.summary)
    print_measurements(report)
    print_table(
        "Agreement with the known truth (SEG from the archive)", ["what", "Dice"], agreement
    )
    rows: list[list[object]] = [[k, f"{v:.2f}"] for k, v in outcome.seconds.items()]
    rows += [[f"  in the worker: {k}", f"{v:.2f}"] for k, v in report["steps_s"].items()]
    rows.append(["whole loop", f"{sum(outcome.seconds.values()):.2f}"])
    print_table("Time", ["step", "seconds"], rows)
    out.print(f"In the archive: {', '.join(_modality(path) for path in archive.files())}")
    out.print(f"Picture: {folder / 'preview.png'}   Log: {folder / 'node.log'}")


def _keep(settings: Settings) -> None:
    address = settings.web.address
    httpx.get(f"{address}/login").raise_for_status()
    token = make_setup_token(settings.data_dir)
    out.print("The node keeps running; Ctrl-C ends it. Make yourself a user of its pages at\n")
    out.print(f"  {address}/setup?token={token}\n", soft_wrap=True)
    try:
        signal.pause()
    except KeyboardInterrupt:
        out.print("Stopping.")

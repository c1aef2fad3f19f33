"""Each metric moves when the thing happens, as who scrapes the node sees it."""

import subprocess
import sys
import threading
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from types import SimpleNamespace

import pytest
from doubles import BoxSegmenter
from listening import CT, Listening, bare, data_set_bytes, store
from prometheus_client import generate_latest
from prometheus_client.parser import text_string_to_metric_families
from pydicom import dcmread

from inference.device_memory import list_device_memory
from inference.errors import LiverNotFound
from node.clock import utc_now
from node.metrics import Metric, Metrics
from node.metrics_files import FOLDER, publishing, read_places
from node.metrics_page import render_metrics
from node.roles import Role
from node.scheduler import Scheduler
from node.worker import Worker
from storage.errors import DatabaseError

Values = Callable[..., float | None]


def values(text: bytes) -> Values:
    """Give a function that finds a sample by its name and labels."""
    found = {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text.decode())
        for sample in family.samples
    }
    return lambda name, **labels: found.get((name, frozenset(labels.items())))


@pytest.fixture
def scrape(hold):
    """Open a node whose archive is away, with one job; give it and what Prometheus reads of it."""
    archive = {"ae_title": "ARCHIVE", "host": "127.0.0.1", "port": 1, "roles": ["destination"]}
    held = hold(peers={"archive": archive})

    def read() -> Values:
        with publishing(held.services.metrics, held.services.files.data_dir / FOLDER, "test"):
            return values(render_metrics(held.services))

    return held, read


def of_process(listening: Listening) -> Values:
    return values(generate_latest(listening.metrics.registry))


def test_associations_by_outcome(listen):
    node = listen()
    node.associate(CT).release()
    assert not node.associate(CT, calling="STRANGER").is_established
    assert not node.associate(CT, called="OTHER").is_established
    seen = of_process(node)
    for outcome in (
        "accepted",
        "calling AE title not recognized",
        "called AE title not recognized",
    ):
        assert seen("hepar_associations_total", outcome=outcome) == 1, outcome
    assert seen("hepar_associations_total", outcome="TLS failed") == 0


def test_more_associations_than_the_limit(listen):
    node = listen(node={"max_associations": 1})
    first = node.associate(CT)
    assert not node.associate(CT).is_established
    first.release()
    assert of_process(node)("hepar_associations_total", outcome="local limit exceeded") == 1


def test_received_and_refused_instances(listen, small_ct: list[Path]):
    node = listen()
    assoc = node.associate(CT)
    ds = dcmread(small_ct[0])
    for _ in range(2):
        assert assoc.send_c_store(ds).Status == 0x0000
    assert store(assoc, data_set_bytes(bare(small_ct[0])), "1.2.3").Status == 0xA900
    assoc.release()
    seen = of_process(node)
    name = "hepar_received_instances_total"
    assert seen(name, source="SCANNER", outcome="ADDED") == 1
    assert seen(name, source="SCANNER", outcome="DUPLICATE") == 1
    size = small_ct[0].stat().st_size
    assert seen("hepar_received_bytes_total", source="SCANNER") == pytest.approx(2 * size, rel=0.1)
    assert seen("hepar_refused_instances_total", status="DATA_SET_MISMATCH") == 1


def test_a_job_and_a_delivery_that_fails(scrape):
    held, read = scrape
    seen = read()
    assert seen("hepar_series_open", waits_for="quiet") == 1
    assert seen("hepar_series_open_oldest_age_seconds", waits_for="quiet") > 0
    assert seen("hepar_jobs", state="QUEUED") == 0
    held.queue()
    assert read()("hepar_jobs", state="QUEUED") == 1
    assert read()("hepar_job_oldest_age_seconds", state="QUEUED") > 0

    Worker(held.services, BoxSegmenter(), threading.Event()).work_once()
    seen = read()
    assert seen("hepar_series_open", waits_for="quiet") == 0
    assert seen("hepar_job_attempt_duration_seconds_count", outcome="produced") == 1
    for step in ("read", "segment", "measure", "draw", "encode and check"):
        assert seen("hepar_step_duration_seconds_count", step=step) == 1
    assert seen("hepar_results_total", role="seg") == 1
    assert seen("hepar_deliveries", destination="archive", state="PENDING") == 1

    Scheduler(held.services).deliver("archive")
    seen = read()
    attempts = "hepar_delivery_attempts_total"
    assert seen(attempts, destination="archive", outcome="unreachable") == 1
    assert seen("hepar_delivery_attempt_duration_seconds_count", destination="archive") == 1
    assert seen("hepar_delivery_oldest_age_seconds", destination="archive") > 0
    assert seen("hepar_jobs", state="DELIVERING") == 1


class Blind(BoxSegmenter):
    def segment(self, volume, progress):
        raise LiverNotFound


class Broken(BoxSegmenter):
    def segment(self, volume, progress):
        raise RuntimeError("broken")


@pytest.mark.parametrize(("segmenter", "outcome"), [(Blind, "rejected"), (Broken, "failed")])
def test_attempts_without_results(scrape, segmenter, outcome: str):
    held, read = scrape
    held.queue()
    Worker(held.services, segmenter(), threading.Event()).work_once()
    seen = read()
    assert seen("hepar_job_attempt_duration_seconds_count", outcome=outcome) == 1
    assert seen("hepar_rejections_total", reason="LIVER_NOT_FOUND") == (outcome == "rejected")


def test_roles_disk_and_version(scrape):
    held, read = scrape
    now = utc_now()
    beats = held.services.heartbeats
    beats.beat("worker", host="a", pid=1, now=now)
    beats.beat("scheduler", host="a", pid=2, now=now, detail="a peer cannot be polled")
    seen = read()
    assert [seen("hepar_role_processes", role=role) for role in Role] == [0, 1, 1, 0]
    assert [seen("hepar_role_troubled", role=role) for role in Role] == [0, 1, 0, 0]
    assert 0 < seen("hepar_disk_free_bytes") < seen("hepar_disk_size_bytes")
    assert seen("hepar_disk_reserve_bytes") == held.services.settings.receive.min_free_bytes
    assert seen("hepar_database_up") == 1


def test_a_database_that_is_away_leaves_the_rest(scrape, monkeypatch):
    held, read = scrape

    def fail():
        raise DatabaseError("away")

    monkeypatch.setattr(held.services.heartbeats, "list_beats", fail)
    seen = read()
    assert seen("hepar_database_up") == 0
    assert seen("hepar_jobs", state="QUEUED") is None
    assert seen("hepar_process_starts_total", role="worker") == 0


def read(folder: Path) -> Values:
    class Page:
        def collect(self):
            return read_places(folder)

    return values(generate_latest(Page()))


def live(folder: Path, role: str = "receiver") -> None:
    """Live the life of a process that receives one instance."""
    metrics = Metrics()
    with publishing(metrics, folder, role):
        metrics.count(Metric.RECEIVED_BYTES, 5.0, source="S")
        metrics.watch(Metric.ASSOCIATIONS_OPEN, lambda: 3.0, host="h")


def test_counters_survive_restarts_and_leave_one_file(tmp_path: Path):
    for _ in range(3):
        live(tmp_path)
    assert read(tmp_path)("hepar_received_bytes_total", source="S") == 15
    assert read(tmp_path)("hepar_process_starts_total", role="receiver") == 3
    assert [path.name for path in tmp_path.glob("*.prom")] == ["receiver-0.prom"]


def test_two_processes_of_a_role_are_added_up(tmp_path: Path):
    with publishing(Metrics(), tmp_path, "receiver"):
        live(tmp_path)
        live(tmp_path)
    assert len(list(tmp_path.glob("*.prom"))) == 2
    assert read(tmp_path)("hepar_received_bytes_total", source="S") == 10
    assert read(tmp_path)("hepar_process_starts_total", role="receiver") == 3


KILLED = """
import os, signal, sys
from pathlib import Path
from node.metrics import Metrics
from node.metrics_files import publishing
with publishing(Metrics(), Path(sys.argv[1]), "receiver"):
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_killed_process_leaves_its_place_and_no_gauge(tmp_path: Path, monkeypatch):
    subprocess.run([sys.executable, "-c", KILLED, str(tmp_path)], check=False)
    live(tmp_path)
    assert read(tmp_path)("hepar_process_starts_total", role="receiver") == 2
    assert read(tmp_path)("hepar_associations_open", host="h") == 3
    later = datetime.fromtimestamp((tmp_path / "receiver-0.prom").stat().st_mtime + 60).astimezone()
    monkeypatch.setattr("node.metrics_files.utc_now", lambda: later)
    assert read(tmp_path)("hepar_associations_open", host="h") is None
    assert read(tmp_path)("hepar_received_bytes_total", source="S") == 5


@pytest.mark.parametrize(
    "damage",
    [
        b"",
        b"\xff\xfe",
        b"hepar_received_bytes_total{source",
        b'# TYPE hepar_received_bytes counter\nhepar_received_bytes_total{old="S"} 7.0\n',
        b'# TYPE hepar_step_duration_seconds histogram\nhepar_step_duration_seconds_bucket{le="7",'
        b'step="read"} 7\nhepar_step_duration_seconds_count{step="read"} 7\n',
    ],
)
def test_what_is_damaged_or_of_another_version_is_counted_anew(tmp_path: Path, damage: bytes):
    (tmp_path / "receiver-0.prom").write_bytes(damage)
    live(tmp_path)
    assert read(tmp_path)("hepar_received_bytes_total", source="S") == 5
    assert read(tmp_path)("hepar_step_duration_seconds_count", step="read") == 0


def test_a_folder_that_cannot_be_written_stops_nobody(tmp_path: Path, caplog):
    (tmp_path / "file").touch()
    live(tmp_path / "file")
    assert "not shown" in caplog.text


def test_device_memory(monkeypatch):
    class NVMLError(Exception):
        pass

    def info(handle):
        if handle == "gone":
            raise NVMLError
        return SimpleNamespace(used=3, total=8)

    nvml = SimpleNamespace(
        NVMLError=NVMLError,
        nvmlInit=lambda: None,
        nvmlDeviceGetCount=lambda: 2,
        nvmlDeviceGetHandleByIndex=str,
        nvmlDeviceGetMemoryInfo=info,
    )
    monkeypatch.setitem(sys.modules, "pynvml", nvml)
    assert [(d.index, d.used_bytes(), d.total_bytes) for d in list_device_memory()] == [
        (0, 3, 8),
        (1, 3, 8),
    ]
    monkeypatch.setattr(nvml, "nvmlDeviceGetHandleByIndex", lambda index: "gone")
    assert list_device_memory() == []
    monkeypatch.setitem(sys.modules, "pynvml", None)
    assert list_device_memory() == []

"""Two schedulers on one data folder, started by mistake: each thing still happens once."""

import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from doubles import BoxSegmenter, Held
from pydicom import dcmread

from benchmarks.peers import StoreScp, wait_until
from config import load_settings
from dicom_io.ct import write_ct_series
from dicom_io.ct_attributes import CtIdentity
from inference.identity import identify
from inference.phantom import PhantomSettings, make_phantom
from node.services import Services, open_services
from node.worker import Worker
from storage.database import upgrade_database
from storage.states import JobState

pytestmark = pytest.mark.peer

SERIES = 6
TOML = """\
data_dir = "data"
[database]
url = "{url}"
[receive]
quiet_s = 0.1
[log]
format = "json"
"""


@pytest.fixture
def config(tmp_path: Path, new_url: Callable[[], str], storescp: StoreScp) -> Path:
    """Write the settings of a node whose archive keeps each copy that it gets."""
    storescp.stop()
    storescp.options = ("+uf",)
    storescp.start()
    path = tmp_path / "hepar.toml"
    path.write_text(TOML.format(url=new_url()) + storescp.toml)
    return path


@contextmanager
def scheduler(config: Path, log: Path) -> Iterator[None]:
    command = [sys.executable, "-m", "node", "role", "scheduler", "--config", str(config)]
    with log.open("wb") as file:
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stderr=file)
    try:
        yield
    finally:
        process.terminate()
        code = process.wait(30)
        process.stdin.close()
    assert code == 0, log.read_text()


def receive(held: Held, folder: Path, seed: int) -> None:
    """Take in a small series of a patient of its own."""
    phantom = make_phantom(
        PhantomSettings(seed=1, shape=(12, 32, 32), spacing_mm=(10.0, 12.0, 12.0), lesions=())
    )
    for path in write_ct_series(phantom.volume, folder, identity=CtIdentity.from_seed(seed)):
        held.receive(path)


@pytest.fixture
def services(config: Path) -> Iterator[Services]:
    settings = load_settings(config, environ={}).settings
    upgrade_database(settings.database_url)
    with open_services(settings) as opened:
        yield opened


def test_each_series_has_one_job_and_each_result_arrives_once(
    config: Path, services: Services, storescp: StoreScp, tmp_path: Path
):
    held = Held(services=services, series_uid="", paths=[])
    segmenter = BoxSegmenter()
    segmenter.identity = identify(services.settings.inference)
    worker = Worker(services, segmenter, threading.Event())
    logs = [tmp_path / f"scheduler{number}.log" for number in range(2)]

    def delivered() -> bool:
        worker.work_once()
        return services.jobs.count_by_state() == {JobState.DELIVERED: SERIES}

    with scheduler(config, logs[0]), scheduler(config, logs[1]):
        wait_until(lambda: len(services.heartbeats.list_beats()) == 2, "both schedulers run")
        for seed in range(SERIES):
            receive(held, tmp_path / "ct" / str(seed), seed)
        wait_until(delivered, "all jobs are delivered")

    jobs = services.jobs.list_jobs()
    assert len({job.series_uid for job in jobs}) == len(jobs) == SERIES
    for job in jobs:
        assert [event.to_state for event in services.jobs.events(job.id)] == [
            JobState.QUEUED,
            JobState.RUNNING,
            JobState.PRODUCED,
            JobState.DELIVERING,
            JobState.DELIVERED,
        ]
        assert [one.attempts for one in services.deliveries.list_deliveries(job.id)] == [1]
    results = {result.sop_instance_uid for job in jobs for result in services.jobs.results(job.id)}
    arrived = [str(dcmread(path).SOPInstanceUID) for path in storescp.files()]
    assert len(arrived) == len(set(arrived)) == 3 * SERIES
    assert set(arrived) == results
    for log in logs:
        text = log.read_text()
        assert '"level": "WARNING"' not in text
        assert '"level": "ERROR"' not in text
    both = "".join(log.read_text() for log in logs)
    assert both.count('"message": "series decided') >= SERIES

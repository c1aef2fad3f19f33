"""The clock of the machine is set while the real node works: nothing is lost, and nothing waits."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from benchmarks.peers import NodeProcess, StoreScp, wait_until
from storage.states import JobState

pytestmark = [pytest.mark.peer, pytest.mark.timeout(600)]

HOUR_S = 3600
SLEEP = """\
import select, time
time.sleep = lambda seconds: select.select([], [], [], seconds)
"""
"""libfaketime 0.9.10 breaks `clock_nanosleep`, which is how Python sleeps."""
PATIENT = {
    "HEPAR_DELIVERY__FIRST_RETRY_S": "900",
    "HEPAR_DELIVERY__MAX_RETRY_S": "900",
    # So long that a busy machine does not let a lease or a pause of the sender run out by itself.
    "HEPAR_QUEUE__LEASE_S": "10",
    "HEPAR_RECEIVE__QUIET_S": "3",
    # With libfaketime a process with OpenVINO in it does not end by itself.
    "HEPAR_INFERENCE__BACKEND": "onnxruntime",
}


class Wall:
    """The clock that the processes of a node see; that of waiting goes on as it is."""

    def __init__(self, library: Path, folder: Path) -> None:
        folder.mkdir()
        (folder / "sitecustomize.py").write_text(SLEEP)
        self._file = folder / "clock"
        self.environ = {
            "LD_PRELOAD": str(library),
            "FAKETIME_TIMESTAMP_FILE": str(self._file),
            "FAKETIME_NO_CACHE": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
            "PYTHONPATH": os.pathsep.join([str(folder), os.environ.get("PYTHONPATH", "")]),
        }
        self.set(0)

    def set(self, hours: float) -> None:
        """Set it to so many hours from the truth."""
        beside = self._file.with_suffix(".new")
        beside.write_text(f"{hours * HOUR_S:+.0f}\n")
        beside.replace(self._file)


@pytest.fixture
def wall(tmp_path: Path, program: Callable[[str], str]) -> Wall:
    program("faketime")
    library = next(Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1"))
    return Wall(library, tmp_path / "wall")


def test_back_forward_and_back_again(
    make_node, wall: Wall, storescp: StoreScp, storescu, synthetic_ct
):
    storescp.stop()
    node: NodeProcess = make_node(storescp.toml, environ=wall.environ | PATIENT)

    def has_failed() -> bool:
        [delivery] = node.services.deliveries.list_deliveries(node.job().id)
        return bool(delivery.last_error)

    assert storescu(synthetic_ct.folder, node.port).returncode == 0
    wall.set(-5)
    node.wait_for_state(JobState.RUNNING, timeout_s=60)
    wall.set(+9)
    node.wait_for_state(JobState.DELIVERING, timeout_s=60)
    wait_until(has_failed, "the archive does not answer", 30)
    wall.set(-2)
    storescp.start()
    job = node.wait_for_state(JobState.DELIVERED, timeout_s=60)
    assert job.attempts == 1, "a worker that was alive has lost the job"
    assert len(storescp.files()) == 3
    assert node.log.count("the clock was set by") >= 3

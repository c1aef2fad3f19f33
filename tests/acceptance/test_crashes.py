"""A power cut and the ends of the supervisor; single roles are killed in `test_crash_matrix`."""

import os
import signal
from pathlib import Path

import pytest
from pydicom import dcmread

from benchmarks.peers import wait_until
from storage.states import JobState

pytestmark = [pytest.mark.peer, pytest.mark.timeout(600)]


def assert_delivered_once(node, files: list[Path]) -> None:
    [job] = node.services.jobs.list_jobs()
    results = {result.sop_instance_uid for result in node.services.jobs.results(job.id)}
    assert {str(dcmread(path).SOPInstanceUID) for path in files} == results
    assert len(files) == len(results) == 3
    spool = node.services.files.data_dir / "spool"
    assert not [entry for entry in spool.iterdir() if entry.name.startswith("job-")]


def test_everything_killed_at_once(make_node, storescp, storescu, synthetic_ct):
    """The power cut: no process is left, and the next start finishes the work."""
    node = make_node(storescp.toml)
    storescu(synthetic_ct.folder, node.port)
    node.wait_for_state(JobState.RUNNING)
    pids = [beat.pid for beat in node.services.heartbeats.list_beats()]
    for pid in [node.process.pid, *pids]:
        os.kill(pid, signal.SIGKILL)
    node.process.wait()
    node.start()
    node.wait_for_state(JobState.DELIVERED)
    assert_delivered_once(node, storescp.files())


def test_roles_end_when_the_supervisor_is_killed(make_node):
    node = make_node()
    pids = [beat.pid for beat in node.services.heartbeats.list_beats()]
    assert len(pids) == 4
    node.process.kill()
    node.process.wait()
    node.process = None
    wait_until(lambda: not any(_alive(pid) for pid in pids), "no role outlives the supervisor", 30)


def test_sigterm_stops_everything_and_puts_the_job_back(
    make_node, storescp, storescu, synthetic_ct
):
    node = make_node(storescp.toml)
    storescu(synthetic_ct.folder, node.port)
    node.wait_for_state(JobState.RUNNING)
    pids = [beat.pid for beat in node.services.heartbeats.list_beats()]
    assert node.stop() == 0
    assert not any(_alive(pid) for pid in pids)
    assert node.job().state in (JobState.QUEUED, JobState.PRODUCED)
    node.start()
    node.wait_for_state(JobState.DELIVERED)
    assert_delivered_once(node, storescp.files())


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"

"""Kill -9 in the middle of the work: the series still ends DELIVERED, once."""

import os
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from pydicom import dcmread
from pydicom.uid import AllTransferSyntaxes
from pynetdicom import AE, AllStoragePresentationContexts, evt

from benchmarks.peers import wait_until
from storage.states import JobState

pytestmark = [pytest.mark.peer, pytest.mark.timeout(600)]


def assert_delivered_once(node, files: list[Path]) -> None:
    [job] = node.services.jobs.list_jobs()
    results = {result.sop_instance_uid for result in node.services.jobs.results(job.id)}
    assert {str(dcmread(path).SOPInstanceUID) for path in files} == results
    assert len(files) == len(results) == 2
    spool = node.services.files.data_dir / "spool"
    assert not [entry for entry in spool.iterdir() if entry.name.startswith("job-")]


def test_worker_killed_while_it_works(make_node, storescp, storescu, synthetic_ct):
    node = make_node(storescp.toml)
    storescu(synthetic_ct.folder, node.port)
    node.wait_for_state(JobState.RUNNING)
    killed = node.kill("worker")
    job = node.wait_for_state(JobState.DELIVERED)
    assert job.attempts == 2
    assert node.pid("worker") != killed
    assert_delivered_once(node, storescp.files())


def test_scheduler_killed_while_it_delivers(
    make_node, storescu, synthetic_ct, free_port: Callable[[], int], tmp_path: Path
):
    """The archive answers slowly, so that the kill falls between two answers."""
    arrived: list[str] = []

    def handle_store(event: evt.Event) -> int:
        arrived.append(str(event.request.AffectedSOPInstanceUID))
        time.sleep(1.0)
        (tmp_path / f"{arrived[-1]}.dcm").write_bytes(event.encoded_dataset())
        return 0x0000

    ae = AE(ae_title="ARCHIVE")
    for context in AllStoragePresentationContexts:
        ae.add_supported_context(context.abstract_syntax, list(AllTransferSyntaxes))
    port = free_port()
    handlers = [(evt.EVT_C_STORE, handle_store)]
    server = ae.start_server(("127.0.0.1", port), block=False, evt_handlers=handlers)
    try:
        destination = '[peers.archive]\nae_title = "ARCHIVE"\nhost = "127.0.0.1"\n'
        node = make_node(destination + f'port = {port}\nroles = ["destination"]\n')
        storescu(synthetic_ct.folder, node.port)
        wait_until(lambda: arrived, "the delivery has begun")
        node.kill("scheduler")
        job = node.wait_for_state(JobState.DELIVERED)
    finally:
        server.shutdown()
    assert job.attempts == 1
    assert len(arrived) > len(set(arrived)) == 2, "the interrupted delivery is repeated"
    assert_delivered_once(node, sorted(tmp_path.glob("*.dcm")))


def test_receiver_killed_while_it_receives(make_node, storescp, storescu, synthetic_ct, program):
    node = make_node(storescp.toml)
    command = [program("storescu"), "-aet", "SCANNER", "-aec", "HEPAR", "+sd"]
    command += ["127.0.0.1", str(node.port), str(synthetic_ct.folder)]
    sender = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    instances = node.services.files.data_dir / "instances"
    wait_until(lambda: len(list(instances.rglob("*.dcm"))) >= 5, "some slices are there")
    killed = node.kill("receiver")
    assert sender.wait(60) != 0
    # As a PACS does: what got no Success is sent again, with everything else.
    wait_until(lambda: node.pid("receiver") != killed and node.is_ready(), "it is back")
    assert storescu(synthetic_ct.folder, node.port).returncode == 0
    wait_until(
        lambda: [j for j in node.services.jobs.list_jobs() if j.state is JobState.DELIVERED],
        f"delivered\n{node.log}",
    )
    [series] = node.services.catalog.list_series()
    assert series.instance_count == len(synthetic_ct.paths)
    assert not series.has_conflicts
    assert len(storescp.files()) == 2


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

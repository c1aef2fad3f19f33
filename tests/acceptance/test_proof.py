"""An archive proves that it keeps the results: real process, real Orthanc."""

from pathlib import Path

import pytest

from benchmarks.peers import NodeProcess, wait_until
from storage.records import ProofRecord
from storage.states import JobState, ProofState

pytestmark = [pytest.mark.peer, pytest.mark.timeout(600)]

PROOFS = 'proofs = ["commitment", "find", "get"]\n'


def send(storescu, folder: Path, node: NodeProcess) -> None:
    done = storescu(folder, node.port)
    assert done.returncode == 0, done.stdout + done.stderr


def proof_of(node: NodeProcess) -> ProofRecord | None:
    job = node.job()
    proofs = node.services.proofs.list_proofs(job.id) if job else []
    return proofs[0][1] if proofs else None


def test_orthanc_commits_lists_and_gives_back(make_node, orthanc, storescu, synthetic_ct):
    node = make_node(orthanc.toml + PROOFS)
    orthanc.know(node.port)
    send(storescu, synthetic_ct.folder, node)
    job = wait_until(lambda: (j := node.job()) and j.state is JobState.CONFIRMED and j, node.log)
    proof = proof_of(node)
    assert proof.state is ProofState.PROVEN
    assert proof.committed_at is not None
    assert set(orthanc.instances()) == {"SEG", "SR", "OT"}
    shown = node.hepar("jobs", "show", str(job.id)).stdout
    assert "PROVEN" in shown
    events = [event.to_state for event in node.services.jobs.events(job.id)]
    assert events[-2:] == [JobState.DELIVERED, JobState.CONFIRMED]


def test_what_the_archive_lost_is_told_and_proven_once_sent_again(
    make_node, orthanc, storescu, synthetic_ct
):
    node = make_node(orthanc.toml + PROOFS)
    # Orthanc does not know us yet, so nothing can be proven before it does.
    send(storescu, synthetic_ct.folder, node)
    node.wait_for_state(JobState.DELIVERED)
    wait_until(lambda: (p := proof_of(node)) and p.last_error, "a refused request")
    orthanc.delete("SR")
    orthanc.know(node.port)
    wait_until(lambda: "no such object" in proof_of(node).last_error, "the loss is told", 60)
    assert node.job().state is JobState.DELIVERED
    assert node.hepar("jobs", "resend", str(node.job().id)).returncode == 0
    wait_until(lambda: node.job().state is JobState.CONFIRMED, node.log)
    assert set(orthanc.instances()) == {"SEG", "SR", "OT"}

"""A backup is made while the node runs; a restore tells what came after it, and nothing is lost."""

import json
from pathlib import Path

import pytest
from pydicom import dcmread

from storage.states import JobState

pytestmark = [pytest.mark.peer, pytest.mark.timeout(600)]


def words(text: str) -> str:
    return " ".join(text.split())


def test_what_came_after_the_backup_is_told_and_done_again(
    make_node, storescp, storescu, synthetic_ct, tmp_path: Path
):
    node = make_node(storescp.toml)
    saved = tmp_path / "saved.db"
    done = node.hepar("db", "backup", str(saved))
    assert done.returncode == 0, done.stderr
    assert "has been checked" in words(done.stdout)
    assert saved.stat().st_mode & 0o077 == 0, "it names patients"
    storescu(synthetic_ct.folder, node.port)
    node.wait_for_state(JobState.DELIVERED)
    before = {str(dcmread(path).SOPInstanceUID) for path in storescp.files()}

    refused = node.hepar("db", "restore", str(saved), "--replace")
    assert refused.returncode == 1
    assert "the node runs" in words(refused.stderr)
    assert node.job().state is JobState.DELIVERED

    node.close()
    refused = node.hepar("db", "restore", str(saved))
    assert refused.returncode == 1
    assert "holds 1 series and 1 jobs; with --replace" in words(refused.stderr)
    restored = node.hepar("db", "restore", str(saved), "--replace")
    assert restored.returncode == 0, restored.stderr
    count = len(synthetic_ct.paths)
    assert f"{count} instances of 1 series" in words(restored.stdout)
    assert "takes them up by itself" in words(restored.stdout)
    [kept] = (node.folder / "data").glob("hepar.db.replaced-*")

    node.start()
    assert node.job() is None
    assert storescu(synthetic_ct.folder, node.port).returncode == 0
    node.wait_for_state(JobState.DELIVERED)
    assert node.job().id == 2, "the folder of the first job's results is not used again"
    after = {str(dcmread(path).SOPInstanceUID) for path in storescp.files()}
    assert after == before, "nothing arrives under a new identity"
    [series] = node.services.catalog.list_series()
    assert (series.instance_count, series.has_conflicts) == (count, False)

    node.close()
    assert node.hepar("db", "restore", str(kept), "--replace").returncode == 0
    [job] = json.loads(node.hepar("jobs", "list", "--json").stdout)
    assert (job["id"], job["state"]) == (1, "DELIVERED"), "the database of before is back"

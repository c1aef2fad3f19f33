"""The node fetches a study from Orthanc, by C-GET and by C-MOVE, and works on it."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from pydicom import dcmread

from benchmarks.peers import NodeProcess, Orthanc, SyntheticCt
from storage.states import JobState

pytestmark = [pytest.mark.peer, pytest.mark.timeout(600)]

SOURCE = '[peers.pacs]\nae_title = "ORTHANC"\nhost = "127.0.0.1"\nroles = ["source"]\n'


@pytest.fixture
def node(make_node: Callable[[str], NodeProcess], orthanc: Orthanc, storescu, synthetic_ct):
    """Give a node beside an archive that has a study."""
    started = make_node(orthanc.toml + SOURCE)
    orthanc.know(started.port)
    done = storescu(synthetic_ct.folder, orthanc.port, called="ORTHANC", calling="HEPAR")
    assert done.returncode == 0, done.stdout + done.stderr
    return started


def study_of(ct: SyntheticCt) -> str:
    return str(dcmread(ct.paths[0]).StudyInstanceUID)


@pytest.mark.parametrize("by", ["get", "move"])
def test_a_pulled_study_is_worked_on(node: NodeProcess, synthetic_ct: SyntheticCt, by: str):
    arguments = ("pull", "--from", "archive", "--study", study_of(synthetic_ct), "--by", by)
    done = node.hepar(*arguments, "--json")
    assert done.returncode == 0, done.stderr
    [series] = json.loads(done.stdout)
    count = len(synthetic_ct.paths)
    assert (series["offered"], series["fetched"], series["missing"]) == (count, count, [])
    node.wait_for_state(JobState.DELIVERED)
    for path in synthetic_ct.paths:
        sent = dcmread(path)
        record = node.services.catalog.find_instance(sent.SOPInstanceUID)
        assert dcmread(node.services.files.absolute(record.path)) == sent
    [series] = json.loads(node.hepar(*arguments, "--json").stdout)
    assert (series["offered"], series["fetched"]) == (count, 0), "nothing is fetched twice"


def test_only_what_is_not_there_is_fetched(
    node: NodeProcess, storescu, synthetic_ct: SyntheticCt, tmp_path: Path
):
    part = tmp_path / "part"
    part.mkdir()
    for path in synthetic_ct.paths[:20]:
        (part / path.name).write_bytes(path.read_bytes())
    assert storescu(part, node.port).returncode == 0
    done = node.hepar("pull", "--from", "archive", "--study", study_of(synthetic_ct))
    assert done.returncode == 0, done.stderr
    assert f"{len(synthetic_ct.paths) - 20}" in done.stdout
    [series] = node.services.catalog.list_series()
    assert series.instance_count == len(synthetic_ct.paths)


def test_wrong_calls_say_what_is_wrong(node: NodeProcess, synthetic_ct: SyntheticCt):
    nowhere = node.hepar("pull", "--from", "archive", "--study", "1.2.3.4")
    assert nowhere.returncode == 1
    assert "lists no CT series in the study 1.2.3.4" in " ".join(nowhere.stderr.split())
    for study in ("", "*", "1.2\\1.3", "../etc"):
        refused = node.hepar("pull", "--from", "archive", "--study", study)
        assert refused.returncode == 2, study
    unknown = node.hepar("pull", "--from", "archve", "--study", "1.2.3")
    assert unknown.returncode == 2
    assert "Did you mean 'archive'?" in " ".join(unknown.stderr.split())
    done = node.hepar("pull", "--from", "archive", "--study", study_of(synthetic_ct), "--by", "fax")
    assert done.returncode == 2

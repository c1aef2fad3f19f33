"""The node fetches a study from Orthanc, by C-GET and by C-MOVE, and works on it."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from pydicom import dcmread

from benchmarks.peers import NodeProcess, Orthanc, SyntheticCt, wait_until
from storage.states import JobState, RetrievalState

pytestmark = [pytest.mark.peer, pytest.mark.timeout(600)]

SOURCE = '[peers.pacs]\nae_title = "ORTHANC"\nhost = "127.0.0.1"\nroles = ["source"]\n'


@pytest.fixture(scope="module")
def archive(make_shared_orthanc: Callable[[], Orthanc]) -> Orthanc:
    return make_shared_orthanc()


@pytest.fixture(scope="module")
def common_node(make_shared_node: Callable[[str], NodeProcess], archive: Orthanc) -> NodeProcess:
    """Start a node that the archive knows."""
    started = make_shared_node(archive.toml + SOURCE)
    archive.know(started.port)
    return started


@pytest.fixture
def node(common_node: NodeProcess) -> NodeProcess:
    common_node.begin_anew()
    return common_node


@pytest.fixture
def archived(make_ct: Callable[[int], SyntheticCt], archive: Orthanc, storescu):
    """Store the study of another patient in the archive."""

    def store(seed: int) -> SyntheticCt:
        ct = make_ct(seed)
        done = storescu(ct.folder, archive.port, called="ORTHANC", calling="HEPAR")
        assert done.returncode == 0, done.stdout + done.stderr
        return ct

    return store


def study_of(ct: SyntheticCt) -> str:
    return str(dcmread(ct.paths[0]).StudyInstanceUID)


@pytest.mark.parametrize(("seed", "by"), [(1, "get"), (2, "move")])
def test_a_pulled_study_is_worked_on(node: NodeProcess, archived, seed: int, by: str):
    ct = archived(seed)
    arguments = ("pull", "--from", "archive", "--study", study_of(ct), "--by", by)
    done = node.hepar(*arguments, "--json")
    assert done.returncode == 0, done.stderr
    [series] = json.loads(done.stdout)
    count = len(ct.paths)
    assert (series["offered"], series["fetched"], series["missing"]) == (count, count, [])
    node.wait_for_state(JobState.DELIVERED)
    for path in ct.paths:
        sent = dcmread(path)
        record = node.services.catalog.find_instance(sent.SOPInstanceUID)
        assert dcmread(node.services.files.absolute(record.path)) == sent
    [series] = json.loads(node.hepar(*arguments, "--json").stdout)
    assert (series["offered"], series["fetched"]) == (count, 0), "nothing is fetched twice"


def test_only_what_is_not_there_is_fetched(node: NodeProcess, storescu, archived, tmp_path: Path):
    ct = archived(3)
    part = tmp_path / "part"
    part.mkdir()
    for path in ct.paths[:20]:
        (part / path.name).write_bytes(path.read_bytes())
    assert storescu(part, node.port).returncode == 0
    done = node.hepar("pull", "--from", "archive", "--study", study_of(ct))
    assert done.returncode == 0, done.stderr
    assert f"{len(ct.paths) - 20}" in done.stdout
    series = node.services.catalog.get_series(str(dcmread(ct.paths[0]).SeriesInstanceUID))
    assert series.instance_count == len(ct.paths)


def test_wrong_calls_say_what_is_wrong(node: NodeProcess, archived):
    ct = archived(4)
    nowhere = node.hepar("pull", "--from", "archive", "--study", "1.2.3.4")
    assert nowhere.returncode == 1
    assert "lists no CT series in the study 1.2.3.4" in " ".join(nowhere.stderr.split())
    for study in ("", "*", "1.2\\1.3", "../etc"):
        refused = node.hepar("pull", "--from", "archive", "--study", study)
        assert refused.returncode == 2, study
    unknown = node.hepar("pull", "--from", "archve", "--study", "1.2.3")
    assert unknown.returncode == 2
    assert "Did you mean 'archive'?" in " ".join(unknown.stderr.split())
    done = node.hepar("pull", "--from", "archive", "--study", study_of(ct), "--by", "fax")
    assert done.returncode == 2


def accession_of(ct: SyntheticCt) -> str:
    return str(dcmread(ct.paths[0]).AccessionNumber)


def test_a_list_is_worked_off_while_the_scheduler_is_killed(
    node: NodeProcess, archived, tmp_path: Path
):
    first, second = archived(5), archived(6)
    path = tmp_path / "list.csv"
    path.write_text(f"Accession Number\n{accession_of(first)}\nNOWHERE\n{accession_of(second)}\n")
    [answer] = json.loads(
        node.hepar("query", "--from", "archive", "--accession", "HP0005", "--json").stdout
    )
    [study] = answer["studies"]
    assert study["listed"]["instance_count"] == len(first.paths)
    assert study["here"]["instance_count"] == 0
    done = node.hepar("pull", "--from", "archive", "--list", str(path), "--json")
    assert done.returncode == 0, done.stderr
    batch = json.loads(done.stdout)["batch"]

    def rows() -> list[dict]:
        return json.loads(node.hepar("pulls", "show", batch, "--json").stdout)["rows"]

    retrievals = node.services.retrievals
    wait_until(lambda: retrievals.list_rows(batch)[0].state is not RetrievalState.WAITING, "begun")
    node.kill("scheduler")
    ended = {"DONE", "NOT_FOUND"}
    wait_until(lambda: {row["state"] for row in rows()} <= ended, "the list is worked off")
    shown = rows()
    assert [row["state"] for row in shown] == ["DONE", "NOT_FOUND", "DONE"]
    for row, ct in ((shown[0], first), (shown[2], second)):
        assert (row["offered"], row["fetched"]) == (len(ct.paths), len(ct.paths))
        assert row["series_uids"] == [str(dcmread(ct.paths[0]).SeriesInstanceUID)]
        series = node.services.catalog.get_series(row["series_uids"][0])
        assert series.instance_count == len(ct.paths)
    wait_until(
        lambda: all(
            node.services.jobs.list_jobs(series_uid=row["series_uids"][0])
            for row in (shown[0], shown[2])
        ),
        "the rules have queued both",
    )


def test_a_list_for_the_night_waits_and_can_be_canceled(node: NodeProcess, archived):
    ct = archived(7)
    done = node.hepar(
        *("pull", "--from", "archive", "--accession", accession_of(ct), "--at-night"),
        *("--set", "pull.night_from=00:00:00", "--set", "pull.night_until=00:00:01", "--json"),
    )
    assert done.returncode == 0, done.stderr
    batch = json.loads(done.stdout)["batch"]
    assert "1 WAITING" in node.hepar("pulls", "list").stdout
    assert "1 row canceled." in node.hepar("pulls", "cancel", batch).stdout
    assert node.services.retrievals.list_rows(batch)[0].state is RetrievalState.CANCELED

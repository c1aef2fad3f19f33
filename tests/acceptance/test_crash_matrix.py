"""A few rounds of `benchmarks.crash_matrix`: SIGKILL at chosen lines, and what it counts."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from pydicom import dcmread
from pydicom.uid import generate_uid

from benchmarks.crash_matrix import Bench, Plan, open_bench
from benchmarks.crashing.fuse import Fuse, disarm, spent
from benchmarks.crashing.points import POINTS, Point
from benchmarks.instances import renew_uids, send_until_acknowledged
from benchmarks.peers import wait_until
from node.scu import send_files
from storage.states import JobState

pytestmark = [pytest.mark.peer, pytest.mark.timeout(600)]

MAX_ATTEMPTS = 3
PLACES = {
    "FileStore.commit_instance-link-after": 7,
    "Catalog.settle-after": 1,
    "FileStore.commit_results-rename-after": 1,
    "send_files-c-store-after": 1,
    "Proofs.asked-after": 1,
}
"""Of each stage one, and at which call of it."""


@pytest.fixture(scope="module")
def bench(
    tmp_path_factory: pytest.TempPathFactory, program: Callable[[str], str]
) -> Iterator[Bench]:
    folder = tmp_path_factory.mktemp("crashes")
    with open_bench(folder, program("Orthanc"), max_attempts=MAX_ATTEMPTS) as bench:
        yield bench


def find(key: str) -> Point:
    [point] = [point for point in POINTS if point.key == key]
    return point


def test_one_process_killed_in_each_stage(bench: Bench):
    fuses = {find(key): Fuse(victims="process", hit=hit) for key, hit in PLACES.items()}
    one = bench.run_round(Plan(fuses=fuses, delays_s={}))
    assert [kill.point.key for kill in one.kills] == list(PLACES)
    assert (one.acknowledged, one.lost, one.duplicated) == (50, 0, 0)


def test_losses_and_copies_are_noticed(bench: Bench):
    one = bench.run_round(Plan(fuses={}, delays_s={}))
    assert not one.kills
    [job] = bench.find_jobs(bench.slices[0].SeriesInstanceUID)
    folder = bench.node.services.files.data_dir / "instances" / job.study_uid / job.series_uid
    changed, missing = sorted(folder.iterdir())[:2]
    changed.write_bytes(changed.read_bytes()[:-1] + b"!")
    missing.unlink()
    [seg] = bench.node.services.files.result_folder(job.id).glob("seg.dcm")
    store_copy(bench, seg)
    judged = bench.judge(job, bench.slices)
    assert judged.lost == 2 + 3, "two instances, and the results, which the round took away"
    assert judged.duplicated == 1


def test_a_series_that_kills_each_worker_fails_and_others_go_on(bench: Bench):
    poison = renew_uids(bench.slices)
    series_uid = poison[0].SeriesInstanceUID
    deadly, where = Fuse(victims="process"), find("read_series-after")
    deadly.arm(bench.fuses, where)
    send_until_acknowledged(bench.node.port, poison)

    def failed() -> bool:
        if where.key in spent(bench.fuses):
            disarm(bench.fuses)
            deadly.arm(bench.fuses, where)
        return any(job.state is JobState.FAILED for job in bench.find_jobs(series_uid))

    wait_until(failed, "it has failed")
    disarm(bench.fuses)
    [job] = bench.find_jobs(series_uid)
    assert job.attempts == MAX_ATTEMPTS
    assert "has fallen silent" in job.reason
    one = bench.run_round(Plan(fuses={}, delays_s={}))
    assert (one.lost, one.duplicated) == (0, 0)


def store_copy(bench: Bench, path: Path) -> None:
    """Put an object into the archive under another identity."""
    dataset = dcmread(path)
    dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = generate_uid()
    copy = bench.node.folder / "copy.dcm"
    dataset.save_as(copy)
    settings = bench.node.settings
    [answer] = send_files(settings.node, settings.destinations["archive"], [copy])
    assert answer.stored

import os
import shutil
import time
from pathlib import Path
from typing import Any

import pytest

from config.settings import RetentionSettings
from dicom_io.ct import write_ct_series
from dicom_io.headers import read_header
from inference.phantom import PhantomSettings, make_phantom
from storage.orphans import MIN_AGE, Orphans
from storage.records import Sender
from storage.retention import Retention


@pytest.fixture(scope="module")
def slices(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    phantom = make_phantom(
        PhantomSettings(seed=1, shape=(4, 16, 16), spacing_mm=(10.0, 20.0, 20.0), lesions=())
    )
    return write_ct_series(phantom.volume, tmp_path_factory.mktemp("slices"))


@pytest.fixture
def store(node: Any, files: Any, moment: Any) -> Any:
    """Take in a file as the receiver does, or only half of that."""

    def take(path: Path, *, row: bool = True) -> Path:
        header = read_header(path)
        spooled = files.spool_path()
        shutil.copy(path, spooled)
        stored = files.commit_instance(spooled, header)
        if row:
            node.catalog.add_instance(header, stored, Sender("SCANNER"), moment(0))
        return files.absolute(stored.relative_path)

    return take


@pytest.fixture
def sweep(node: Any, files: Any, moment: Any) -> Any:
    """Check all series; give the findings that are any."""
    orphans = Orphans(node.database, files)

    def check() -> list[tuple[int, int, int]]:
        found = [
            orphans.check_series(uid, folders, moment(100))
            for uid, folders in orphans.list_series().items()
        ]
        counts = [(one.taken_up, len(one.set_aside), one.missing) for one in found]
        return [one for one in counts if any(one)]

    return check


def age(path: Path) -> None:
    then = time.time() - MIN_AGE.total_seconds() - 1
    os.utime(path, (then, then))


def details(node: Any, series_uid: str) -> list[str]:
    return [event.detail for event in node.catalog.series_events(series_uid)]


def test_an_acknowledged_file_without_a_row_gets_one(
    node: Any, slices: list[Path], store: Any, sweep: Any
) -> None:
    """As where the database was restored from last night's copy."""
    header = read_header(slices[0])
    store(slices[0])
    paths = [store(path, row=False) for path in slices[1:]]
    assert sweep() == [], "they may be about to get their rows"
    for path in paths:
        age(path)
    assert sweep() == [(3, 0, 0)]
    assert sweep() == []
    series = node.catalog.get_series(header.series_instance_uid)
    assert (series.instance_count, series.settled) == (4, False)
    assert series.calling_ae_title == "SCANNER"
    assert series.size_bytes == sum(path.stat().st_size for path in slices)
    assert details(node, series.series_uid) == ["3 files without a row were found and taken up"]


def test_a_whole_series_without_rows_is_taken_up(
    node: Any, files: Any, slices: list[Path], store: Any, sweep: Any
) -> None:
    for path in slices:
        age(store(path, row=False))
    assert sweep() == [(4, 0, 0)]
    [series] = node.catalog.list_series()
    assert (series.instance_count, series.calling_ae_title) == (4, "")


def test_what_nobody_can_read_is_set_aside(
    files: Any, slices: list[Path], store: Any, sweep: Any
) -> None:
    torn = store(slices[0]).with_name("torn.dcm")
    torn.write_bytes(b"not DICOM")
    alien = torn.parent.with_name("1.9.9") / "alien.dcm"
    alien.parent.mkdir()
    shutil.copy(slices[1], alien)
    age(torn)
    age(alien)
    assert sorted(sweep()) == [(0, 1, 0), (0, 1, 0)]
    kept = sorted(path.name for path in files.lost_and_found.rglob("*.dcm"))
    assert kept == ["alien.dcm", "torn.dcm"]
    assert sweep() == []


def test_a_second_copy_is_set_aside(files: Any, slices: list[Path], store: Any, sweep: Any) -> None:
    path = store(slices[0])
    copy = path.with_name(f"{path.stem}.conflict-01234567.dcm")
    shutil.copy(path, copy)
    age(copy)
    assert sweep() == [(0, 1, 0)]
    assert path.exists()


def test_rows_without_a_file_are_told_until_it_comes_again(
    node: Any, files: Any, slices: list[Path], store: Any, sweep: Any
) -> None:
    paths = [store(path) for path in slices]
    uid = read_header(slices[0]).series_instance_uid
    shutil.rmtree(paths[0].parent)
    assert sweep() == [(0, 0, 4)]
    assert sweep() == [], "it is told once"
    [series] = node.catalog.incomplete_series()
    assert (series.series_uid, series.missing_files) == (uid, 4)
    for path in slices:
        store(path)
    assert sweep() == []
    assert node.catalog.incomplete_series() == []
    assert details(node, uid) == ["4 files are missing; send the series again", "whole again"]


def test_what_retention_removed_is_not_missed(
    node: Any, files: Any, slices: list[Path], store: Any, sweep: Any, moment: Any
) -> None:
    paths = [store(path) for path in slices]
    [series] = node.catalog.list_series()
    node.skip(series.series_uid, second=1)
    retention = Retention(node.database, files, RetentionSettings(unused_days=1), ())
    [removal] = retention.plan(moment(9e5)).removals
    assert retention.remove(removal, moment(9e5))
    assert sweep() == []
    folder = paths[0].parent
    files.remove_empty_folders(MIN_AGE)
    assert folder.exists(), "a slice may be on its way"
    age(folder)
    age(folder.parent)
    files.remove_empty_folders(MIN_AGE)
    assert not folder.exists()


def test_results_that_no_job_speaks_of_are_cleared_away(node: Any, files: Any) -> None:
    node.produced()
    node.queued("1.7")
    orphans = Orphans(node.database, files)
    for job_id in (1, 2, 3):
        files.commit_results(job_id, files.new_result_folder(job_id))
    assert [orphans.check_results(job_id) for job_id in (1, 2, 3)] == [False, False, False]
    for job_id in (1, 2, 3):
        age(files.result_folder(job_id))
    assert [orphans.check_results(job_id) for job_id in (1, 2, 3)] == [False, False, True]
    assert (files.lost_and_found / "results" / "3").is_dir(), "there is no job 3 in this database"
    node.jobs.cancel(2, "admin", node.jobs.get(1).created_at)
    assert orphans.check_results(2), "its worker was killed before it could say that it is done"
    assert files.result_ids() == [1]

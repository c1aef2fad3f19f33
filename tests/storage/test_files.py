import errno
import os
import threading
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from dicom_io.errors import InvalidUid
from storage.errors import DiskShort, FileStoreError
from storage.files import FileStore
from storage.records import Sender

PLACE = "instances/1.2.3/1.2.3.4/1.2.3.4.1.dcm"
HOUR = timedelta(hours=1)


def part10(data_set: bytes, meta: bytes = b"version 1") -> bytes:
    """Put a preamble and file meta information before a data set (PS3.10 7.1)."""
    group_length = b"\x02\x00\x00\x00UL\x04\x00" + len(meta).to_bytes(4, "little")
    return bytes(128) + b"DICM" + group_length + meta + data_set


def tree(files: FileStore) -> set[str]:
    return {files.relative(path) for path in files.data_dir.rglob("*") if path.is_file()}


def age(path: Path, hours: float) -> None:
    then = path.stat().st_mtime - 3600 * hours
    os.utime(path, (then, then))


def test_an_instance_goes_to_its_place_bit_for_bit(files: FileStore, header: Any) -> None:
    content = part10(b"pixels")
    stored = files.commit_instance(files.spool(content), header())
    assert stored.relative_path == PLACE
    assert stored.size_bytes == len(content)
    assert files.absolute(PLACE).read_bytes() == content
    assert tree(files) == {PLACE}


@pytest.mark.parametrize("again", [part10(b"pixels"), part10(b"pixels", b"version 2")])
def test_the_same_data_set_is_stored_once(files: FileStore, header: Any, again: bytes) -> None:
    first = files.commit_instance(files.spool(part10(b"pixels")), header())
    second = files.commit_instance(files.spool(again), header())
    assert (second.relative_path, second.sha256) == (first.relative_path, first.sha256)
    assert tree(files) == {PLACE}


def test_another_data_set_under_the_same_uid_is_kept_apart(files: FileStore, header: Any) -> None:
    files.commit_instance(files.spool(part10(b"pixels")), header())
    for _ in range(2):
        other = files.commit_instance(files.spool(part10(b"others")), header())
        assert other.relative_path == f"{PLACE[:-4]}.conflict-{other.sha256[:8]}.dcm"
    assert files.absolute(PLACE).read_bytes() == part10(b"pixels")
    assert tree(files) == {PLACE, other.relative_path}


def test_files_without_meta_information_are_compared_as_a_whole(
    files: FileStore, header: Any
) -> None:
    contents = [b"", b"short", bytes(200)]
    stored = [files.commit_instance(files.spool(one), header()) for one in contents]
    assert len({one.relative_path for one in stored}) == 3


@pytest.mark.parametrize("level", ["study_instance_uid", "series_instance_uid", "sop_instance_uid"])
@pytest.mark.parametrize("uid", ["", "..", "1.2/../../etc", "/etc", "1.2\x00", "1." * 40])
def test_no_uid_leads_out_of_the_folder(
    files: FileStore, header: Any, level: str, uid: str
) -> None:
    with pytest.raises(InvalidUid):
        files.commit_instance(files.spool(b"x"), header(**{level: uid}))
    assert not any((files.data_dir / "instances").iterdir())


def test_crash_before_the_move_leaves_only_spool_files(files: FileStore) -> None:
    old, new = files.spool(b"old"), files.spool(b"new")
    age(old, 2)
    assert files.sweep_spool(HOUR) == 1
    assert tree(files) == {files.relative(new)}


def test_crash_between_file_and_row_is_healed_by_a_re_send(
    files: FileStore, header: Any, node: Any, moment: Callable[[float], Any]
) -> None:
    files.commit_instance(files.spool(part10(b"pixels")), header())
    stored = files.commit_instance(files.spool(part10(b"pixels")), header())
    outcome = node.catalog.add_instance(header(), stored, Sender("SCANNER"), moment(0))
    assert outcome == "ADDED"
    assert node.catalog.instance_paths("1.2.3.4") == [PLACE]


def test_crash_between_name_and_removal_leaves_a_spool_file_that_is_swept(
    files: FileStore, header: Any
) -> None:
    spooled = files.spool(part10(b"pixels"))
    os.link(spooled, files.spool_path())
    files.commit_instance(spooled, header())
    for leftover in (files.data_dir / "spool").iterdir():
        age(leftover, 2)
    files.sweep_spool(HOUR)
    assert tree(files) == {PLACE}
    assert files.absolute(PLACE).read_bytes() == part10(b"pixels")


def test_two_receivers_of_one_uid_lose_nothing(files: FileStore, header: Any) -> None:
    barrier = threading.Barrier(8)
    stored = []

    def receive(number: int) -> None:
        spooled = files.spool(part10(bytes([number % 2]) * 1000))
        barrier.wait()
        stored.append(files.commit_instance(spooled, header()))

    threads = [threading.Thread(target=receive, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    by_digest = {one.sha256: one.relative_path for one in stored}
    assert len(by_digest) == 2
    assert tree(files) == set(by_digest.values())
    assert {(one.sha256, one.relative_path) for one in stored} == set(by_digest.items())


def test_file_and_names_are_on_the_disk_before_it_returns(
    files: FileStore, header: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[str] = []
    sync = os.fsync
    places = {}

    def record(descriptor: int) -> None:
        path = Path(f"/proc/self/fd/{descriptor}").readlink()
        synced.append(path.name)
        places[path.name] = files.absolute(PLACE).exists()
        sync(descriptor)

    monkeypatch.setattr(os, "fsync", record)
    spooled = files.spool(part10(b"pixels"))
    files.commit_instance(spooled, header())
    assert places[spooled.name] is False
    assert set(synced) == {spooled.name, "1.2.3.4", "1.2.3", "instances", "data"}
    assert places["1.2.3.4"] is True
    synced.clear()
    second = files.spool(part10(b"pixels"))
    files.commit_instance(second, header(2))
    assert synced == [second.name, "1.2.3.4"]


def test_results_appear_as_a_whole(files: FileStore) -> None:
    folder = files.new_result_folder(7)
    (folder / "seg.dcm").write_bytes(b"seg")
    assert not files.result_folder(7).exists()
    assert files.commit_results(7, folder) == files.result_folder(7)
    assert tree(files) == {"results/7/seg.dcm"}


def test_results_of_an_attempt_that_died_before_it_said_so_are_replaced(files: FileStore) -> None:
    for content in (b"first", b"second"):
        folder = files.new_result_folder(7)
        (folder / f"{content.decode()}.dcm").write_bytes(content)
        files.commit_results(7, folder)
    assert tree(files) == {"results/7/second.dcm"}


def test_a_folder_left_by_a_killed_worker_is_replaced(files: FileStore) -> None:
    dead = files.new_result_folder(7)
    (dead / "seg.dcm").write_bytes(b"half")
    other_job = files.new_result_folder(71)
    folder = files.new_result_folder(7)
    assert list(folder.iterdir()) == []
    assert other_job.exists()
    # Should it live after all, it cannot touch what the other makes.
    with pytest.raises(FileNotFoundError):
        (dead / "sr.dcm").write_bytes(b"late")
    with pytest.raises(FileStoreError):
        files.commit_results(7, dead)


def test_sweeping_leaves_folders_of_running_jobs(files: FileStore) -> None:
    running, dead = files.new_result_folder(1), files.new_result_folder(2)
    (dead / "seg.dcm").write_bytes(b"half")
    age(running, 5)
    age(dead, 25)
    assert files.sweep_spool(HOUR) == 1
    assert running.exists()
    assert not dead.exists()


def test_free_space(files: FileStore) -> None:
    files.check_free(1)
    with pytest.raises(DiskShort, match="bytes free"):
        files.check_free(files.free_bytes() * 10)


@pytest.mark.parametrize(
    ("code", "error"), [(errno.ENOSPC, DiskShort), (errno.EDQUOT, DiskShort), (5, FileStoreError)]
)
def test_errors_of_the_disk_become_ours(
    files: FileStore,
    monkeypatch: pytest.MonkeyPatch,
    header: Any,
    code: int,
    error: type[Exception],
) -> None:
    spooled = files.spool(b"x")

    def fail(descriptor: int) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(error):
        files.commit_instance(spooled, header())
    assert not files.absolute(PLACE).exists()


def test_a_data_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(FileStoreError, match="file/data"):
        FileStore(tmp_path / "file" / "data")


def test_a_folder_is_copied_once_and_removed_as_a_whole(files: FileStore, tmp_path: Path) -> None:
    source = tmp_path / "a.txt"
    source.write_text("first")
    target = files.data_dir / "models" / "a@1"
    assert files.copy_folder([source], target)
    source.write_text("second")
    assert not files.copy_folder([source], target)
    assert (target / "a.txt").read_text() == "first"
    files.remove_folder(target)
    assert not target.exists()
    assert not list((files.data_dir / "spool").iterdir())
    with pytest.raises(FileStoreError, match="a@1"):
        files.remove_folder(target)

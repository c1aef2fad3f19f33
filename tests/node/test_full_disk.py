"""A file system of a few megabytes that is really full, for the receiver and for the worker."""

import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from doubles import BoxSegmenter, Held
from listening import CT, Listening
from pydicom import dcmread

from benchmarks.peers import wait_until
from node.worker import Worker
from storage.states import JobState

FILLED_BYTES = 64 * 1024


@pytest.fixture
def tmp_path(tmp_path: Path) -> Iterator[Path]:
    """A file system of its own; the fixtures that make a data folder make it there."""
    folder = tmp_path / "small"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=16m", "tmpfs", str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"no file system can be mounted here: {done.stderr.strip()}")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


@pytest.fixture
def fill(tmp_path: Path) -> Callable[[], Path]:
    """Fill the disk, and give the file that does."""

    def fill() -> Path:
        path = tmp_path / "filler"
        with path.open("wb", buffering=0) as file:
            for size in (FILLED_BYTES, 1024, 1):
                try:
                    while file.write(bytes(size)) == size:
                        pass
                except OSError:
                    continue
        return path

    return fill


def test_the_receiver_refuses_and_takes_instances_again(listen, small_ct, fill, tmp_path):
    node: Listening = listen()
    assoc = node.associate(CT)
    assert assoc.send_c_store(small_ct[0]).Status == 0x0000
    filler = fill()
    for path in small_ct:
        answer = assoc.send_c_store(path)
        assert (answer.Status, answer.ErrorComment) == (0xA700, "Disk short")
    assert not list((node.files.data_dir / "spool").iterdir())
    [series] = node.catalog.list_series()
    assert series.instance_count == 1

    filler.unlink()
    assert [assoc.send_c_store(path).Status for path in small_ct] == [0x0000] * len(small_ct)
    assoc.release()
    [series] = node.catalog.list_series()
    assert series.instance_count == len(small_ct)
    paths = node.catalog.instance_paths(series.series_uid)
    stored = {dcmread(node.files.absolute(path)).SOPInstanceUID for path in paths}
    assert stored == {dcmread(path).SOPInstanceUID for path in small_ct}


class Filling(BoxSegmenter):
    """A network that finds no room for its results."""

    def __init__(self, fill: Callable[[], Path]) -> None:
        self._fill = fill
        self.is_filling = True

    def segment(self, volume, progress):
        if self.is_filling:
            self._fill()
        return super().segment(volume, progress)


def test_the_worker_gives_the_job_back_and_ends_it_later(hold, fill, tmp_path, caplog):
    held: Held = hold(queue={"max_attempts": 1})
    job = held.queue()
    jobs, stop, filler = held.services.jobs, threading.Event(), tmp_path / "filler"
    spool = held.services.files.data_dir / "spool"
    filling = Filling(fill)
    worker = Worker(held.services, filling, stop)
    thread = threading.Thread(target=worker.run)
    thread.start()
    try:
        wait_until(filler.exists, "the disk is full")
        wait_until(lambda: not list(spool.iterdir()), "nothing half-written stays")
        assert not list(held.services.files.result_ids())
        filling.is_filling = False
        filler.unlink()
        wait_until(lambda: jobs.get(job.id).state is JobState.DELIVERED, "the job is done")
    finally:
        stop.set()
        thread.join()
    assert jobs.get(job.id).attempts == 1
    assert "the disk of the data folder has 0 bytes free" in caplog.text
    assert not list(spool.iterdir())

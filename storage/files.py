"""The data folder: instances as received, results, and the spool of files being written.

    instances/<study>/<series>/<sop_instance_uid>.dcm                     as received, bit for bit
    instances/<study>/<series>/<sop_instance_uid>.conflict-<sha8>.dcm     other bytes, same UID
    results/<job_id>/                                                     complete, or not there
    spool/                                                                may vanish at any time
    lost+found/                                          what nobody knows and no one can read

A name outside the spool appears only once its bytes are on the disk, so what a killed process or
a power cut leaves behind is in the spool, and `FileStore.sweep_spool` removes it.
"""

import errno
import hashlib
import os
import shutil
import time
import uuid
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from pathlib import Path

from dicom_io.headers import InstanceHeader, check_uid
from storage.errors import DiskShort, FileStoreError
from storage.records import StoredFile

_PREAMBLE_BYTES = 128
_META_LENGTH_START = b"DICM" + b"\x02\x00\x00\x00" + b"UL" + b"\x04\x00"
_META_LENGTH_END = _PREAMBLE_BYTES + len(_META_LENGTH_START) + 4
_MIN_JOB_FOLDER_AGE = timedelta(days=1)
_IS_THERE = frozenset({errno.EEXIST, errno.ENOTEMPTY})
_NO_SPACE = frozenset({errno.ENOSPC, errno.EDQUOT})
_MAX_REMEMBERED_FOLDERS = 1024


class FileStore:
    """The files of one node; several processes and threads may use the same data folder.

    Parameters
    ----------
    data_dir
        Made if missing. All of it is one file system, because files are moved by renaming.
    """

    def __init__(self, data_dir: Path) -> None:
        self.data_dir = data_dir.absolute()
        self._spool = self.data_dir / "spool"
        self._results = self.data_dir / "results"
        self._durable: set[Path] = set()
        with _translated(self.data_dir):
            for folder in (self._spool, self._results, self.data_dir / "instances"):
                folder.mkdir(parents=True, exist_ok=True)

    def absolute(self, relative: str) -> Path:
        """Give the path of a file from the relative one that the database holds."""
        return self.data_dir / relative

    def relative(self, path: Path) -> str:
        """Give the path of a file as the database holds it."""
        return path.relative_to(self.data_dir).as_posix()

    def free_bytes(self) -> int:
        """Free space of the disk in bytes."""
        with _translated(self.data_dir):
            return shutil.disk_usage(self.data_dir).free

    def check_free(self, needed_bytes: int) -> None:
        """Check that so much space is free.

        Raises
        ------
        DiskShort
        """
        free = self.free_bytes()
        if free < needed_bytes:
            raise DiskShort(free, needed_bytes)

    def spool_path(self) -> Path:
        """Give a new name in the spool, for an instance about to be written."""
        return self._spool / f"{uuid.uuid4().hex}.part"

    def spool(self, content: bytes) -> Path:
        """Write an instance to a new file in the spool; it is not yet safe there.

        Raises
        ------
        DiskShort, FileStoreError
        """
        path = self.spool_path()
        with _translated(path):
            try:
                path.write_bytes(content)
            except OSError:
                # What a full disk has taken of it would only keep the disk full.
                path.unlink(missing_ok=True)
                raise
        return path

    def instance_path(self, header: InstanceHeader) -> Path:
        """Give the path of an instance.

        Raises
        ------
        dicom_io.errors.InvalidUid
            A UID is not one by PS3.5 9.1, so it may not become part of a path.
        """
        return (
            self.data_dir
            / "instances"
            / check_uid(header.study_instance_uid)
            / check_uid(header.series_instance_uid)
            / f"{check_uid(header.sop_instance_uid)}.dcm"
        )

    def commit_instance(self, spool_file: Path, header: InstanceHeader) -> StoredFile:
        """Move a written instance from the spool to its place; the spool file is gone then.

        A data set that is there already stays the only copy: the same instance may be committed
        again, after a crash or by another association at the same moment. Another data set under
        the same UID goes to a name of its own. When it returns, the file survives a power cut.

        Raises
        ------
        dicom_io.errors.InvalidUid, DiskShort, FileStoreError
        """
        path = self.instance_path(header)
        with _translated(path):
            sha256 = data_set_sha256(spool_file)
            size_bytes = spool_file.stat().st_size
            _sync(spool_file)
            self._make_series_folder(path.parent)
            conflict = path.with_name(f"{path.stem}.conflict-{sha256[:8]}.dcm")
            for candidate in (path, conflict):
                if _link_or_compare(spool_file, candidate, sha256):
                    _sync(path.parent)
                    spool_file.unlink()
                    return StoredFile(
                        relative_path=self.relative(candidate),
                        sha256=sha256,
                        size_bytes=size_bytes,
                    )
        raise FileStoreError(conflict, "the name is taken by other bytes")

    def result_folder(self, job_id: int) -> Path:
        """Give the folder of a job's results; it exists once they are committed."""
        return self._results / str(job_id)

    def new_result_folder(self, job_id: int) -> Path:
        """Make an empty folder in the spool for the results of a job.

        Folders that earlier attempts have left are removed, so a worker that was thought dead and
        still writes fails at its next file instead of mixing its files with ours.
        """
        with _translated(self._spool):
            for leftover in self._spool.glob(f"job-{job_id}-*"):
                shutil.rmtree(leftover, ignore_errors=True)
            folder = self._spool / f"job-{job_id}-{uuid.uuid4().hex}"
            folder.mkdir()
        return folder

    def commit_results(self, job_id: int, folder: Path) -> Path:
        """Move a folder of `new_result_folder` to its place, as a whole.

        Results that an earlier attempt has committed (and died before it said so) are replaced.

        Returns
        -------
        Path
            The folder of the results; when it returns, they survive a power cut.

        Raises
        ------
        DiskShort, FileStoreError
        """
        target = self.result_folder(job_id)
        outdated = self._spool / f"job-{job_id}-{uuid.uuid4().hex}-outdated"
        with _translated(target):
            for path in (*folder.rglob("*"), folder):
                _sync(path)
            if target.exists():
                target.rename(outdated)
            folder.rename(target)
            _sync(self._results)
            shutil.rmtree(outdated, ignore_errors=True)
        return target

    def result_ids(self) -> list[int]:
        """List the jobs that have a folder of results."""
        return [int(entry.name) for entry in self._results.iterdir() if entry.name.isdecimal()]

    def results_size_bytes(self, job_id: int) -> int:
        """Give the size of all files in the folder of a job's results; 0 if there is none."""
        size_bytes = 0
        # A worker may be replacing the folder.
        with suppress(FileNotFoundError):
            for path in self.result_folder(job_id).rglob("*"):
                size_bytes += path.stat().st_size
        return size_bytes

    def discard_results(self, job_id: int) -> None:
        """Remove the folder of a job's results, if there is one; it vanishes as a whole.

        Raises
        ------
        FileStoreError
        """
        folder = self.result_folder(job_id)
        outdated = self._spool / f"job-{job_id}-{uuid.uuid4().hex}-outdated"
        with _translated(folder):
            if folder.exists():
                folder.rename(outdated)
                _sync(self._results)
        shutil.rmtree(outdated, ignore_errors=True)

    def copy_folder(self, sources: Collection[Path], target: Path) -> bool:
        """Copy files into a new folder of the data folder, as a whole; when it returns, they last.

        Returns
        -------
        bool
            False where the folder is there already; then it stays as it is.

        Raises
        ------
        DiskShort, FileStoreError
        """
        folder = self._spool / f"copy-{uuid.uuid4().hex}"
        with _translated(target):
            folder.mkdir()
            try:
                for source in sources:
                    _sync(Path(shutil.copyfile(source, folder / source.name)))
                _sync(folder)
                target.parent.mkdir(parents=True, exist_ok=True)
                # It never replaces a folder that holds something.
                folder.rename(target)
            except OSError as error:
                shutil.rmtree(folder, ignore_errors=True)
                if error.errno in _IS_THERE:
                    return False
                raise
            _sync(target.parent)
            _sync(target.parent.parent)
        return True

    def remove_folder(self, folder: Path) -> None:
        """Remove a folder of the data folder, as a whole.

        Raises
        ------
        FileStoreError
        """
        outdated = self._spool / f"removed-{uuid.uuid4().hex}"
        with _translated(folder):
            folder.rename(outdated)
            _sync(folder.parent)
            shutil.rmtree(outdated)

    def remove_instances(self, relative: Collection[str]) -> None:
        """Remove files of instances; when it returns, they do not come back after a power cut.

        Raises
        ------
        FileStoreError
        """
        for path in map(self.absolute, relative):
            with _translated(path):
                path.unlink(missing_ok=True)
        for folder in {self.absolute(name).parent for name in relative}:
            with _translated(folder):
                if folder.is_dir():
                    _sync(folder)

    def instance_folders(self) -> dict[str, list[Path]]:
        """Give the folders of instances by their series; a UID should be in one study only."""
        folders: dict[str, list[Path]] = {}
        for folder in (self.data_dir / "instances").glob("*/*"):
            folders.setdefault(folder.name, []).append(folder)
        return folders

    def remove_empty_folders(self, min_age: timedelta) -> None:
        """Remove the folders of series and studies that nothing has lain in for so long."""
        instances = self.data_dir / "instances"
        for folder in (*instances.glob("*/*"), *instances.glob("*")):
            with suppress(OSError):
                if age_of(folder) > min_age:
                    folder.rmdir()

    def set_aside(self, path: Path) -> Path:
        """Move a file to the same place under `lost+found`, and give its path there.

        Raises
        ------
        FileStoreError
        """
        target = self.lost_and_found / path.relative_to(self.data_dir)
        with _translated(path):
            target.parent.mkdir(parents=True, exist_ok=True)
            path.rename(target)
            _sync(target.parent)
        return target

    @property
    def lost_and_found(self) -> Path:
        """Folder of what nobody knows and no one can read; it may be missing."""
        return self.data_dir / "lost+found"

    def sweep_spool(self, max_age: timedelta) -> int:
        """Remove what killed processes have left in the spool.

        Parameters
        ----------
        max_age
            Longer than any association takes; younger files may be in use. Folders of results are
            kept for a day at least, because a job writes into its folder only at its end.

        Returns
        -------
        int
            The number of removed entries.
        """
        removed = 0
        for entry in self._spool.iterdir():
            try:
                age = age_of(entry)
                if entry.is_dir() and age > max(max_age, _MIN_JOB_FOLDER_AGE):
                    shutil.rmtree(entry)
                elif entry.is_file() and age > max_age:
                    entry.unlink()
                else:
                    continue
            except FileNotFoundError:
                # Its owner was alive after all, or another process sweeps too.
                continue
            removed += 1
        return removed

    def _make_series_folder(self, folder: Path) -> None:
        """Make the folder of a series; its name is on the disk when it returns.

        That another process has made it does not prove that its name is on the disk, so the
        parents are synchronized when this one meets the folder first, and not for every slice.
        """
        if folder in self._durable and folder.is_dir():
            return
        folder.mkdir(parents=True, exist_ok=True)
        for parent in list(folder.parents)[:3]:
            _sync(parent)
        if len(self._durable) >= _MAX_REMEMBERED_FOLDERS:
            self._durable.clear()
        self._durable.add(folder)


def age_of(path: Path) -> timedelta:
    """Give the time since a file was written, or a name in a folder changed."""
    # Both times are the operating system's; one from the future is older than the clock.
    return timedelta(seconds=abs(time.time() - path.stat().st_mtime))


def data_set_sha256(path: Path) -> str:
    """Give the digest of what follows the file meta information (PS3.10 7.1).

    The meta information is written by the receiver and names its version, so it may differ between
    two copies of one instance. A file without it is digested as a whole.
    """
    with path.open("rb") as file:
        file.seek(_meta_end(file.read(_META_LENGTH_END)))
        return hashlib.file_digest(file, "sha256").hexdigest()


def _link_or_compare(spool_file: Path, path: Path, sha256: str) -> bool:
    """Give the spool file this name, or find the same bytes there; False if it has other bytes.

    A hard link, unlike a rename, never replaces a file, so of two writers exactly one wins.
    """
    while True:
        try:
            path.hardlink_to(spool_file)
        except FileExistsError:
            # It may be removed at this very moment; then its name is free.
            with suppress(FileNotFoundError):
                return data_set_sha256(path) == sha256
        else:
            return True


def _meta_end(head: bytes) -> int:
    """Give the offset of the data set from (0002,0000) File Meta Information Group Length."""
    if head[_PREAMBLE_BYTES:-4] != _META_LENGTH_START or len(head) < _META_LENGTH_END:
        return 0
    return _META_LENGTH_END + int.from_bytes(head[-4:], "little")


def _sync(path: Path) -> None:
    """Wait until a file, or the names in a folder, are on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def is_disk_full(error: Exception) -> bool:
    """Say whether something could not be written because there is no room."""
    full = isinstance(error, OSError) and error.errno in _NO_SPACE
    return full or isinstance(error, DiskShort)


@contextmanager
def _translated(path: Path) -> Iterator[None]:
    """Turn errors of the operating system into ours."""
    try:
        yield
    except OSError as error:
        if is_disk_full(error):
            raise DiskShort(0, 1) from error
        raise FileStoreError(path, error.strerror or str(error)) from error

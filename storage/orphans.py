"""Files without a row, and rows without a file: what a kill or a restored database leaves behind.

A sender may have got Success for an instance that has no row, so such a file is never removed: it
gets its row, or is set aside where nobody can read it.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path

from sqlalchemy import exists, select

from dicom_io.errors import DicomIOError, MismatchingInstance
from dicom_io.headers import InstanceHeader, read_header
from storage.catalog import Catalog
from storage.database import Database
from storage.files import FileStore, age_of, data_set_sha256
from storage.records import Sender, StoredFile
from storage.states import FINAL_STATES
from storage.tables import InstanceRow, JobRow, ResultRow, SeriesRow
from storage.transitions import lock_series, note_series

ACTOR = "sweep"
MIN_AGE = timedelta(hours=6)
"""A file that has had no row for this long will not get one by itself."""


@dataclass(kw_only=True)
class Findings:
    """What was found of one series."""

    taken_up: int = 0
    """Files that have got their row."""
    set_aside: list[str] = field(default_factory=list)
    """Where files lie now that cannot be used, and why."""
    missing: int = 0
    """Rows without a file, if their number has changed."""


class Orphans:
    """Looks for such files and rows.

    Parameters
    ----------
    database, files
        The stores.
    """

    def __init__(self, database: Database, files: FileStore) -> None:
        self._database = database
        self._files = files
        self._catalog = Catalog(database)

    def list_series(self) -> dict[str, Sequence[Path]]:
        """List the series that have files by their rows or on the disk, with their folders."""
        with self._database.read() as session:
            held = select(SeriesRow.series_uid).where(SeriesRow.size_bytes > 0)
            listed: dict[str, Sequence[Path]] = dict.fromkeys(session.scalars(held), ())
        return listed | self._files.instance_folders()

    def check_series(self, series_uid: str, folders: Sequence[Path], now: datetime) -> Findings:
        """Compare the files of a series with its rows, and mend what can be mended.

        Raises
        ------
        storage.errors.StorageError
        OSError
            A file cannot be read; it stays where it is.
        """
        found = Findings()
        on_disk = {path for folder in folders for path in folder.iterdir()}
        known = self._paths(series_uid, with_leaving=True)
        for path in sorted(on_disk - known):
            if age_of(path) > MIN_AGE:
                self._take_up(path, found, now)
        if found.taken_up:
            detail = f"{found.taken_up} files without a row were found and taken up"
            with self._database.write() as session:
                note_series(session, series_uid, ACTOR, detail, now)
        if not self._paths(series_uid) <= on_disk or self._is_flagged(series_uid):
            found.missing = self._count_missing(series_uid, now)
        return found

    def check_results(self, job_id: int) -> bool:
        """Clear away results that no job speaks of; say whether there were any.

        What a job that has ended left behind is removed. Where there is no such job at all, this
        may be another database than that of the folder, so they are set aside.

        Raises
        ------
        storage.errors.StorageError
        """
        if age_of(self._files.result_folder(job_id)) <= MIN_AGE:
            return False
        with self._database.write() as session:
            job = session.get(JobRow, job_id, with_for_update=True)
            if job is not None and job.state not in FINAL_STATES:
                return False
            if session.scalar(select(exists().where(ResultRow.job_id == job_id))):
                return False
            if job is None:
                self._files.set_aside(self._files.result_folder(job_id))
            else:
                self._files.discard_results(job_id)
        return True

    def _paths(self, series_uid: str, *, with_leaving: bool = False) -> set[Path]:
        """Give the paths that the rows of a series have, as absolute ones."""
        statement = select(InstanceRow.path).where(
            InstanceRow.series_uid == series_uid, InstanceRow.path != ""
        )
        if not with_leaving:
            statement = statement.where(InstanceRow.removed_at.is_(None))
        with self._database.read() as session:
            return {self._files.absolute(path) for path in session.scalars(statement)}

    def _take_up(self, path: Path, found: Findings, now: datetime) -> None:
        try:
            header = read_header(path)
            if self._files.instance_path(header).parent != path.parent:
                raise MismatchingInstance("it belongs to another series")
        except DicomIOError as error:
            self._set_aside(path, str(error), found)
            return
        self._catalog.add_instance(
            header,
            StoredFile(
                relative_path=self._files.relative(path),
                sha256=data_set_sha256(path),
                size_bytes=path.stat().st_size,
            ),
            self._sender(header),
            now,
        )
        if path in self._paths(header.series_instance_uid):
            found.taken_up += 1
        else:
            self._set_aside(path, "it is a second copy of an instance", found)

    def _set_aside(self, path: Path, why: str, found: Findings) -> None:
        found.set_aside.append(f"{self._files.set_aside(path)}: {why}")

    def _sender(self, header: InstanceHeader) -> Sender:
        """Give who has sent the rest of the series; nobody knows if there is none."""
        with self._database.read() as session:
            series = session.get(SeriesRow, header.series_instance_uid)
            return Sender("" if series is None else series.calling_ae_title)

    def _is_flagged(self, series_uid: str) -> bool:
        with self._database.read() as session:
            series = session.get(SeriesRow, series_uid)
            return series is not None and series.missing_files > 0

    def _count_missing(self, series_uid: str, now: datetime) -> int:
        """Count the rows without a file and flag the series; give 0 if it was known before."""
        with self._database.write() as session:
            lock_series(session, series_uid)
            paths = session.scalars(
                select(InstanceRow.path).where(
                    InstanceRow.series_uid == series_uid, InstanceRow.removed_at.is_(None)
                )
            )
            missing = sum(not self._files.absolute(path).exists() for path in paths)
            series = session.get_one(SeriesRow, series_uid)
            if missing == series.missing_files:
                return 0
            series.missing_files = missing
            detail = (
                f"{missing} files are missing; send the series again" if missing else "whole again"
            )
            note_series(session, series_uid, ACTOR, detail, now)
        return missing

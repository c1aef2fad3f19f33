"""Backups of the job database: made while the node works, put back while it does not.

A backup has the rows, not the files: instances and results lie in the data folder and are to be
backed up as files. A backup of SQLite is an SQLite file, one of PostgreSQL is what ``pg_dump -Fc``
writes; neither can be restored into the other.
"""

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Protocol

from sqlalchemy import URL, delete, func, inspect, select, text

from storage.backup_postgresql import PostgreSqlBackups
from storage.backup_sqlite import SqliteBackups
from storage.database import (
    list_revisions,
    make_engine,
    open_database,
    read_url,
    translated,
    upgrade_database,
)
from storage.errors import BackupFailed, DatabaseError, RestoreRefused, UnusableBackup
from storage.tables import JobRow, RoleHeartbeatRow, SeriesRow

_RAISE_JOB_IDS = {
    "sqlite": (
        "INSERT INTO sqlite_sequence (name, seq) "
        "SELECT 'job', 0 WHERE NOT EXISTS (SELECT * FROM sqlite_sequence WHERE name = 'job')",
        "UPDATE sqlite_sequence SET seq = max(seq, :last) WHERE name = 'job'",
    ),
    "postgresql": ("SELECT setval('job_id_seq', :last) FROM job_id_seq WHERE last_value <= :last",),
}
"""An id names a folder of results, so none may be given out twice."""


class Backups(Protocol):
    """How one kind of database is saved and put back."""

    def exists(self) -> bool:
        """Say whether there is a database at all."""

    def save(self, target: Path) -> None:
        """Write what the database holds at one moment to a new file, and check that file.

        Raises
        ------
        BackupFailed, ProgramMissing
        """

    def stage(self, source: Path) -> AbstractContextManager[str]:
        """Check a backup and make it ready; give its revision.

        Raises
        ------
        UnusableBackup, ProgramMissing
        """

    def install(self, finish: Callable[[str], None], kept: Path | None) -> None:
        """Put what is staged in the place of the database, as a whole or not at all.

        Parameters
        ----------
        finish
            Brings the database of a URL to the schema of this version.
        kept
            Where the present content shall be kept.

        Raises
        ------
        RestoreRefused, StorageError
        """


@dataclass(frozen=True, kw_only=True)
class _Present:
    """What a database holds."""

    series: int
    jobs: int
    beats: Mapping[str, datetime]
    """The last sign of life of each process of the node."""


def back_up(url: str, target: Path) -> None:
    """Write a checked backup of the database, also while the node works with it.

    Parameters
    ----------
    url
        As `storage.database.read_url` takes it.
    target
        A new file; it appears when it is complete.

    Raises
    ------
    BackupFailed, ProgramMissing, UnusableUrl
    """
    read = read_url(url)
    if target.exists():
        raise BackupFailed(target, "the file exists already; name a new one")
    if not target.parent.is_dir():
        raise BackupFailed(target, f"there is no folder {target.parent}")
    part = target.with_name(f"{target.name}.part")
    try:
        if _look(read) is None:
            raise BackupFailed(target, "the database has no tables yet")
        # It names patients: only its owner may read it.
        part.touch(mode=0o600)
        _backups_of(read).save(part)
        part.replace(target)
    except (OSError, DatabaseError) as error:
        raise BackupFailed(target, str(error)) from error
    finally:
        part.unlink(missing_ok=True)


def restore(
    url: str,
    source: Path,
    *,
    kept: Path,
    replace: bool,
    alive_since: datetime,
    last_job_id: int,
) -> bool:
    """Make a database what a backup of it was, and bring it to the schema of this version.

    Parameters
    ----------
    url
        As `storage.database.read_url` takes it.
    source
        A file of `back_up`.
    kept
        Where the content that is replaced is kept, as another backup; for SQLite on the file system
        of the database.
    replace
        Replace series and jobs, or a database that cannot be read.
    alive_since
        A process whose last sign of life is younger is at work.
    last_job_id
        The largest id that is known of a job; new jobs get larger ones.

    Returns
    -------
    bool
        Whether there was anything to keep.

    Raises
    ------
    UnusableBackup, RestoreRefused, ProgramMissing, UnusableUrl, DatabaseError
    """
    read = read_url(url)
    backups = _backups_of(read)
    with backups.stage(source) as revision:
        known = list_revisions()
        if revision not in known:
            raise UnusableBackup(
                source,
                f"it has schema {revision}, which this version (schema {known[-1]}) does not know; "
                "a newer version of hepar made it, use that one",
            )
        keeps = _check_replaceable(read, replace=replace, alive_since=alive_since)
        backups.install(lambda made: _finish(made, last_job_id), kept if keeps else None)
    return keeps


def _backups_of(url: URL) -> Backups:
    return SqliteBackups(url) if url.drivername == "sqlite" else PostgreSqlBackups(url)


def _check_replaceable(url: URL, *, replace: bool, alive_since: datetime) -> bool:
    """Check that nobody works with the database; say whether it holds anything."""
    try:
        present = _look(url)
    except DatabaseError as error:
        if url.drivername != "sqlite":
            raise
        if not replace:
            cause = f"{error}; --replace puts what cannot be read aside"
            raise RestoreRefused(cause) from error
        return True
    if present is None:
        return False
    alive = sorted(who for who, beat_at in present.beats.items() if beat_at > alive_since)
    if alive:
        raise RestoreRefused(f"the node runs ({'; '.join(alive)}); stop it first")
    holds = present.series > 0 or present.jobs > 0
    if holds and not replace:
        raise RestoreRefused(
            f"the database holds {present.series} series and {present.jobs} jobs; with --replace "
            "they are put aside"
        )
    return holds


def _look(url: URL) -> _Present | None:
    """Look at a database of any revision; none where it has no tables of ours."""
    if not _backups_of(url).exists():
        return None
    engine = make_engine(url)
    beats = select(
        RoleHeartbeatRow.role, RoleHeartbeatRow.host, RoleHeartbeatRow.pid, RoleHeartbeatRow.beat_at
    )
    try:
        with translated(), engine.connect() as connection:
            if not inspect(connection).has_table(JobRow.__tablename__):
                return None
            return _Present(
                series=connection.scalar(select(func.count(SeriesRow.series_uid))) or 0,
                jobs=connection.scalar(select(func.count(JobRow.id))) or 0,
                beats={
                    f"{role} on {host}, process {pid}": beat_at
                    for role, host, pid, beat_at in connection.execute(beats)
                },
            )
    finally:
        engine.dispose()


def _finish(url: str, last_job_id: int) -> None:
    """Bring a restored database to this version; the processes of then are gone."""
    upgrade_database(url)
    with open_database(url) as database, database.write() as session:
        session.execute(delete(RoleHeartbeatRow))
        for statement in _RAISE_JOB_IDS[database.dialect]:
            session.execute(text(statement), {"last": last_job_id} if ":last" in statement else {})

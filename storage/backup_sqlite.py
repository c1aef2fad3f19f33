"""Backups of an SQLite file: SQLite's own online backup, and a file put in the place of another."""

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from urllib.parse import quote

from sqlalchemy import URL

from storage.errors import BackupFailed, RestoreRefused, UnusableBackup

_MAGIC = b"SQLite format 3\0"
_LOGS = ("-wal", "-shm")
"""What SQLite may keep beside a file in its write-ahead mode."""


class SqliteBackups:
    """Backups of one SQLite file.

    Parameters
    ----------
    url
        Of the file.
    """

    def __init__(self, url: URL) -> None:
        self._live = Path(url.database or "")
        self._staged = self._live.with_name(f"{self._live.name}.restoring")

    def exists(self) -> bool:
        """Say whether there is a file."""
        return self._live.exists()

    def save(self, target: Path) -> None:
        """Copy the file as it is at one moment, while others write; check the copy.

        Raises
        ------
        BackupFailed
        """
        try:
            _copy(self._live, target)
        except sqlite3.Error as error:
            raise BackupFailed(target, str(error)) from error

    @contextmanager
    def stage(self, source: Path) -> Iterator[str]:
        """Copy a backup beside the file and check it; give its revision.

        Raises
        ------
        UnusableBackup
        """
        self._live.parent.mkdir(parents=True, exist_ok=True)
        _remove(self._staged)
        try:
            try:
                with source.open("rb") as file:
                    if file.read(len(_MAGIC)) != _MAGIC:
                        raise UnusableBackup(source, "it is no backup of an SQLite database")
                _check_length(source)
                _copy(source, self._staged)
                revision = _revision(self._staged)
            except (sqlite3.Error, OSError) as error:
                raise UnusableBackup(source, str(error)) from error
            yield revision
        finally:
            _remove(self._staged)

    def install(self, finish: Callable[[str], None], kept: Path | None) -> None:
        """Finish the copy, then rename it over the file, which stays under the name `kept`.

        Raises
        ------
        RestoreRefused
            Another process has the file open.
        """
        finish(f"sqlite:///{self._staged}")
        if self._live.exists():
            _let_go(self._live)
            if kept is not None:
                kept.hardlink_to(self._live)
        for log in _LOGS:
            # Of a file that cannot be read or is gone: it must not be taken for one of the new.
            left = self._live.with_name(self._live.name + log)
            if kept is not None and left.exists():
                left.rename(kept.with_name(kept.name + log))
            left.unlink(missing_ok=True)
        self._staged.replace(self._live)


def _remove(path: Path) -> None:
    for suffix in ("", *_LOGS):
        path.with_name(path.name + suffix).unlink(missing_ok=True)


def _copy(source: Path, target: Path) -> None:
    """Copy a database as one file that is complete by itself, and check the copy."""
    address = f"file:{quote(str(source.absolute()))}?mode=rw"
    with (
        closing(sqlite3.connect(address, uri=True)) as original,
        closing(sqlite3.connect(target)) as copy,
    ):
        # In one step: with pauses in between, a writer would make it begin anew each time.
        original.backup(copy)
        copy.execute("PRAGMA journal_mode = DELETE")
        problems = [row[0] for row in copy.execute("PRAGMA integrity_check(3)") if row[0] != "ok"]
        problems += [
            f"a row of {row[0]} names one of {row[2]} that there is not"
            for row in copy.execute("PRAGMA foreign_key_check")
        ][:3]
    if problems:
        raise sqlite3.DatabaseError("; ".join(problems))


def _check_length(path: Path) -> None:
    """Check that a file ends with a page, because SQLite would take zeros for what is cut off."""
    with closing(sqlite3.connect(path)) as connection:
        page_bytes = connection.execute("PRAGMA page_size").fetchone()[0]
    if path.stat().st_size % page_bytes:
        raise sqlite3.DatabaseError("it is cut short")


def _revision(path: Path) -> str:
    with closing(sqlite3.connect(path)) as connection:
        row = connection.execute("SELECT version_num FROM alembic_version").fetchone()
    if row is None:
        raise sqlite3.DatabaseError("it does not say which schema it has")
    return str(row[0])


def _let_go(path: Path) -> None:
    """Leave the write-ahead mode, which SQLite does only for the one that has the file open."""
    with closing(sqlite3.connect(path, timeout=1)) as connection:
        try:
            connection.execute("PRAGMA journal_mode = DELETE")
        except sqlite3.OperationalError as error:
            cause = f"another process has {path} open ({error}); stop it first"
            raise RestoreRefused(cause) from error
        except sqlite3.DatabaseError:
            # It cannot be read, and so has no such mode to leave.
            return

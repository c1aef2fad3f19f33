"""Backups of a PostgreSQL database by its own programs: pg_dump, pg_restore, psql."""

import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from sqlalchemy import URL, create_engine

from storage.audit_guard import FUNCTION
from storage.errors import BackupFailed, ProgramMissing, RestoreRefused, UnusableBackup
from storage.tables import Base

_MAGIC = b"PGDMP"
_TABLES = (*Base.metadata.tables, "alembic_version")
_PORTABLE = ("--no-owner", "--no-privileges")
_REVISION = re.compile(r"^COPY \S*alembic_version .*\n(\S+)\n\\\.$", re.MULTILINE)


class PostgreSqlBackups:
    """Backups of our tables in one PostgreSQL database.

    Parameters
    ----------
    url
        Of the database.
    """

    def __init__(self, url: URL) -> None:
        self._url = url
        self._scripts: tuple[Path, ...] = ()

    def exists(self) -> bool:
        """Say yes: to make a database is not our business."""
        return True

    def save(self, target: Path) -> None:
        """Dump our tables as they are at one moment, while others write; read the dump again.

        Raises
        ------
        BackupFailed, ProgramMissing
        """
        tables = [f"--table={name}" for name in _TABLES]
        try:
            self._run("pg_dump", "--format=custom", *_PORTABLE, *tables, f"--file={target}")
            self._run("pg_restore", f"--file={os.devnull}", str(target))
        except subprocess.CalledProcessError as error:
            raise BackupFailed(target, error.stderr.strip()) from error

    @contextmanager
    def stage(self, source: Path) -> Iterator[str]:
        """Turn a dump into a script, which reads all of it; give its revision.

        Raises
        ------
        UnusableBackup, ProgramMissing
        """
        with tempfile.TemporaryDirectory() as folder:
            drop, fill = Path(folder) / "drop.sql", Path(folder) / "fill.sql"
            try:
                with source.open("rb") as file:
                    if file.read(len(_MAGIC)) != _MAGIC:
                        raise UnusableBackup(source, "it is no backup of a PostgreSQL database")
                self._run("pg_restore", *_PORTABLE, f"--file={fill}", str(source))
                only = ("--data-only", "--table=alembic_version", "--file=-")
                found = _REVISION.search(self._run("pg_restore", *only, str(source)))
            except OSError as error:
                raise UnusableBackup(source, str(error)) from error
            except subprocess.CalledProcessError as error:
                raise UnusableBackup(source, error.stderr.strip()) from error
            if found is None:
                raise UnusableBackup(source, "it does not say which schema it has")
            # Who holds a table is at work with it, or has forgotten a transaction.
            tables = ", ".join(_TABLES)
            drop.write_text(
                f"SET lock_timeout = '5s';\nDROP TABLE IF EXISTS {tables};\n{FUNCTION};\n"
            )
            self._scripts = (drop, fill)
            yield found[1]

    def install(self, finish: Callable[[str], None], kept: Path | None) -> None:
        """Replace our tables in one transaction, then finish what is there.

        Raises
        ------
        RestoreRefused, BackupFailed, ProgramMissing
        """
        if kept is not None:
            self.save(kept)
        scripts = [f"--file={script}" for script in self._scripts]
        once = ("--no-psqlrc", "--quiet", "--set=ON_ERROR_STOP=1", "--single-transaction")
        try:
            self._run("psql", *once, *scripts)
        except subprocess.CalledProcessError as error:
            raise RestoreRefused(error.stderr.strip()) from error
        finish(self._url.render_as_string(hide_password=False))

    def _run(self, program: str, *arguments: str) -> str:
        path = shutil.which(program)
        if path is None:
            raise ProgramMissing(program)
        return subprocess.run(  # noqa: S603 - our own arguments, and files that the caller names
            [path, *arguments],
            env=os.environ | _connection(self._url),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=True,
        ).stdout


def _connection(url: URL) -> dict[str, str]:
    """Give a connection as the environment of PostgreSQL's programs: all can read arguments."""
    from psycopg.pq import Conninfo

    _, options = create_engine(url).dialect.create_connect_args(url)
    variables = {one.keyword.decode(): one.envvar for one in Conninfo.get_defaults()}
    return {
        variable.decode(): str(value)
        for name, value in options.items()
        if (variable := variables.get(name)) is not None
    }

"""The job database: engine, transactions, schema version."""

import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from sqlalchemy import URL, Connection, Engine, create_engine, event, inspect, make_url, text
from sqlalchemy.engine.interfaces import DBAPIConnection, DBAPICursor
from sqlalchemy.exc import ArgumentError, DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.orm import Session
from sqlalchemy.pool import ConnectionPoolEntry

from storage.errors import (
    DatabaseDamaged,
    DatabaseError,
    DiskShort,
    SchemaOutdated,
    SchemaTooNew,
    UnusableUrl,
)

_MIGRATIONS = Path(__file__).parent / "migrations"
TIMEOUT_S = 30.0
_BUSY_PAUSE_S = 0.02
_DISK_FULL = "53100"
"""SQLSTATE of PostgreSQL."""
_DAMAGED = frozenset({sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB})
_UPGRADE_LOCK = 0x4845504152  # "HEPAR"; the number of a PostgreSQL advisory lock


class Database:
    """One process's access to the job database; made by `open_database`, after any fork.

    Methods may be called from several threads; each transaction has its own connection.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        sqlite = engine.dialect.name == "sqlite"
        # PostgreSQL would show each statement of a reader another state; SQLite does not.
        reading = {} if sqlite else {"isolation_level": "REPEATABLE READ"}
        self._reader = engine.execution_options(**reading)
        # SQLite: a transaction that begins with a read and then writes fails at once, without
        # waiting, when another process has written in between. So writers take the lock first.
        self._writer = engine.execution_options(sqlite_begin="BEGIN IMMEDIATE")

    @property
    def dialect(self) -> str:
        """Name of the database: "sqlite" or "postgresql"."""
        return self._engine.dialect.name

    @contextmanager
    def read(self) -> Iterator[Session]:
        """Open a session that sees one state of the database and changes nothing."""
        with translated(), Session(self._reader) as session, session.begin():
            yield session

    @contextmanager
    def write(self) -> Iterator[Session]:
        """Open a session whose changes are committed together, or not at all."""
        with (
            translated(),
            Session(self._writer, expire_on_commit=False) as session,
            session.begin(),
        ):
            yield session

    def describe(self) -> str:
        """Say which database it is, and how it keeps its journal or which version it has."""
        if self.dialect == "sqlite":
            query, what = "PRAGMA journal_mode", "journal mode"
        else:
            query, what = "SHOW server_version", "version"
        with self.read() as session:
            return f"{self.dialect}, {what} {session.scalar(text(query))}"

    def size_bytes(self) -> int:
        """Give the size of the database: of the file, or as the server counts."""
        query = "SELECT pg_database_size(current_database())"
        if self.dialect == "sqlite":
            query = "SELECT page_count * page_size FROM pragma_page_count, pragma_page_size"
        with self.read() as session:
            return int(session.execute(text(query)).scalar_one())

    def revision(self) -> str:
        """Give the revision of the tables, which is that of this version."""
        with self.read() as session:
            return str(
                session.execute(text("SELECT version_num FROM alembic_version")).scalar_one()
            )

    def check_writable(self) -> None:
        """Begin to write, and change nothing.

        Raises
        ------
        DatabaseError
            It can only be read, or is locked.
        """
        with self.write() as session:
            session.execute(text("UPDATE tick SET attempts = attempts WHERE name IS NULL"))

    def read_clock(self) -> datetime | None:
        """Give the time of the database's machine; none where that is this one."""
        if self.dialect == "sqlite":
            return None
        with self.read() as session:
            told: datetime = session.execute(text("SELECT clock_timestamp()")).scalar_one()
            return told

    def check_schema(self) -> None:
        """Check that the tables are those that this version needs.

        Raises
        ------
        SchemaOutdated, SchemaTooNew
        """
        with translated(), self._reader.connect() as connection:
            found = _find_revision(connection)
        known = list_revisions()
        if found == known[-1]:
            return
        if found is None or found in known:
            raise SchemaOutdated(found, known[-1])
        raise SchemaTooNew(found, known[-1])

    def close(self) -> None:
        """Close all connections."""
        self._engine.dispose()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def read_url(text: str) -> URL:
    """Read the URL of a job database: ``sqlite:///FILE`` or ``postgresql://USER:PASSWORD@HOST/NAME``.

    Raises
    ------
    UnusableUrl
        It is none of these, or the driver for it is not installed; no message quotes it, because
        it may hold a password.
    """
    try:
        url = make_url(text)
    except ArgumentError:
        raise UnusableUrl("it is no URL") from None
    if url.drivername == "sqlite":
        return url
    if url.drivername not in ("postgresql", "postgresql+psycopg"):
        raise UnusableUrl(f"it begins with {url.drivername}:")
    if find_spec("psycopg") is None:
        raise UnusableUrl("PostgreSQL needs the driver psycopg: pip install 'hepar[postgresql]'")
    return url.set(drivername="postgresql+psycopg")


def open_database(url: str, *, upgrade: bool = False, timeout_s: float = TIMEOUT_S) -> Database:
    """Open the job database.

    Parameters
    ----------
    url
        As `read_url` takes it.
    upgrade
        Make or upgrade the tables first.
    timeout_s
        Longest wait for a lock, and for a server that does not answer.

    Raises
    ------
    UnusableUrl
    SchemaOutdated
        The tables are missing or old; the message says what to do.
    SchemaTooNew
    DatabaseError, DatabaseDamaged
    """
    if upgrade:
        upgrade_database(url)
    database = Database(make_engine(read_url(url), timeout_s))
    try:
        database.check_schema()
    except BaseException:
        database.close()
        raise
    return database


def upgrade_database(url: str, revision: str = "head") -> None:
    """Make the tables, or bring them to the schema of this version; safe to repeat.

    Two processes may call it at once: one waits for the other and finds the work done.

    Parameters
    ----------
    url
        As `read_url` takes it.
    revision
        Schema to stop at; that of this version by default.

    Raises
    ------
    UnusableUrl, DatabaseError, DatabaseDamaged
    """
    from alembic import command
    from alembic.config import Config

    config = Config()
    # A percent sign would be read as the start of a reference to another option.
    config.set_main_option("script_location", str(_MIGRATIONS).replace("%", "%%"))
    engine = make_engine(read_url(url)).execution_options(sqlite_begin="BEGIN IMMEDIATE")
    try:
        with translated(), engine.begin() as connection:
            if engine.dialect.name == "postgresql":
                connection.execute(
                    text("SELECT pg_advisory_xact_lock(:key)"), {"key": _UPGRADE_LOCK}
                )
            config.attributes["connection"] = connection
            command.upgrade(config, revision)
    finally:
        engine.dispose()


def list_revisions() -> list[str]:
    """List the revisions of the schema that this version knows, its own last.

    Their files bear their names, so that who only opens a database needs no alembic.
    """
    return sorted(path.name[1:5] for path in _MIGRATIONS.glob("versions/r????_*.py"))


def _find_revision(connection: Connection) -> str | None:
    """Give the revision of the tables; none where there are none."""
    if not inspect(connection).has_table("alembic_version"):
        return None
    found: str | None = connection.scalar(text("SELECT version_num FROM alembic_version"))
    return found


def make_engine(url: URL, timeout_s: float = TIMEOUT_S) -> Engine:
    """Make the engine for a URL of `read_url`; its errors are those of the driver."""
    if url.get_backend_name() != "sqlite":
        options = _postgresql_options(timeout_s)
        unset = {name: value for name, value in options.items() if name not in url.query}
        return create_engine(url, pool_pre_ping=True, connect_args=unset)
    if url.database:
        Path(url.database).parent.mkdir(parents=True, exist_ok=True)
    engine = create_engine(url, connect_args={"timeout": timeout_s})
    event.listen(engine, "connect", partial(_set_up_sqlite, timeout_s=timeout_s))
    event.listen(engine, "begin", _begin_sqlite)
    return engine


def _postgresql_options(timeout_s: float) -> dict[str, Any]:
    """Notice within the time a server that is gone without a word, or a lock that nobody frees."""
    return {
        "connect_timeout": round(timeout_s),
        "tcp_user_timeout": round(timeout_s * 1000),
        "keepalives_idle": round(timeout_s),
        "options": f"-c lock_timeout={round(timeout_s * 1000)}",
    }


def _set_up_sqlite(
    connection: DBAPIConnection, entry: ConnectionPoolEntry, timeout_s: float
) -> None:
    """Choose durability before speed: a commit is on the disk when it returns."""
    del entry
    # The driver shall not begin transactions by itself; `_begin_sqlite` does.
    connection.isolation_level = None
    cursor = connection.cursor()
    _switch_to_wal(cursor, timeout_s)
    for pragma in ("synchronous = FULL", "foreign_keys = ON"):
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()


def _begin_sqlite(connection: Connection) -> None:
    connection.exec_driver_sql(connection.get_execution_options().get("sqlite_begin", "BEGIN"))


def _switch_to_wal(cursor: DBAPICursor, timeout_s: float) -> None:
    """Choose the write-ahead log, which a new file does not have yet.

    For this one lock SQLite asks no busy handler: when two processes open a new file at once, one
    of them is told at once that the database is locked.
    """
    give_up_at = time.monotonic() + timeout_s
    while True:
        try:
            cursor.execute("PRAGMA journal_mode = WAL")
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode != sqlite3.SQLITE_BUSY or time.monotonic() > give_up_at:
                raise
            time.sleep(_BUSY_PAUSE_S)
        else:
            return


@contextmanager
def translated() -> Iterator[None]:
    """Turn errors of the driver into ours, so that callers need not know SQLAlchemy."""
    try:
        yield
    except DBAPIError as error:
        # The lowest byte; those above it say more (https://sqlite.org/rescode.html#pve).
        code = getattr(error.orig, "sqlite_errorcode", 0) & 0xFF
        if code == sqlite3.SQLITE_FULL or getattr(error.orig, "sqlstate", "") == _DISK_FULL:
            raise DiskShort(0, 1) from error
        kind = DatabaseDamaged if code in _DAMAGED else DatabaseError
        raise kind(str(error.orig)) from error
    except PoolTimeoutError as error:
        raise DatabaseError(str(error)) from error

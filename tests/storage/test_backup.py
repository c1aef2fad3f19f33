"""Backups are made while others write, and put back as a whole or not at all."""

import shutil
import sqlite3
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text

from storage.backup import back_up, restore
from storage.catalog import Catalog
from storage.database import open_database, read_url, upgrade_database
from storage.errors import (
    BackupFailed,
    ProgramMissing,
    RestoreRefused,
    StorageError,
    UnusableBackup,
)
from storage.heartbeats import Heartbeats
from storage.jobs import Jobs


@pytest.fixture
def saved(node: Any, tmp_path: Path) -> Path:
    """Give a backup of a delivered job."""
    node.produced()
    node.deliver()
    path = tmp_path / "saved"
    back_up(node.url, path)
    return path


@pytest.fixture
def put_back(tmp_path: Path, dialect: str, moment: Any) -> Callable[..., Path | None]:
    """Restore a backup; give the file that keeps what was replaced."""

    def call(url: str, source: Path, **changes: Any) -> Path | None:
        beside = Path(read_url(url).database).parent if dialect == "sqlite" else tmp_path
        kept = beside / "kept"
        values = {"replace": False, "alive_since": moment(1000), "last_job_id": 0}
        return kept if restore(url, source, kept=kept, **(values | changes)) else None

    return call


def history_of(url: str) -> list[list[tuple[str, str]]]:
    with open_database(url) as database:
        jobs = Jobs(database)
        return [
            [(event.actor, event.to_state.value) for event in jobs.events(job.id)]
            for job in jobs.list_jobs()
        ]


def series_of(url: str) -> list[str]:
    with open_database(url) as database:
        return sorted(series.series_uid for series in Catalog(database).list_series())


def test_what_was_saved_comes_back(node: Any, saved: Path, new_url: Any, put_back: Any) -> None:
    url = new_url()
    assert put_back(url, saved) is None
    assert history_of(url) == [node.history(1)]
    with open_database(url) as database:
        assert Jobs(database).get(1) == node.jobs.get(1)
        assert Jobs(database).results(1) == node.jobs.results(1)


def test_what_is_replaced_is_kept_as_a_backup(
    node: Any, saved: Path, url: str, new_url: Any, put_back: Any
) -> None:
    with open_database(url) as database, database.write() as session:
        session.execute(text(OTHER_SERIES))
    with pytest.raises(RestoreRefused, match="holds 1 series and 0 jobs; with --replace"):
        put_back(url, saved)
    assert series_of(url) == ["9.9"]
    kept = put_back(url, saved, replace=True)
    assert series_of(url) == ["1.2.3.4"]
    again = new_url()
    put_back(again, kept)
    assert series_of(again) == ["9.9"]


OTHER_SERIES = (
    "INSERT INTO series (series_uid, study_uid, modality, calling_ae_title, instance_count, "
    "has_conflicts, first_received_at, last_received_at, settled, rule, reason) VALUES ('9.9', "
    "'9', 'CT', 'A', 0, false, '2026-03-01 12:00:00', '2026-03-01 12:00:00', false, '', '')"
)


def test_a_backup_among_writes_is_of_one_moment(
    node: Any, other_node: Any, tmp_path: Path, new_url: Any, put_back: Any
) -> None:
    done = threading.Event()

    def write() -> None:
        number = 0
        while not done.is_set():
            number += 1
            other_node.queued(f"1.2.{number}")

    writer = threading.Thread(target=write)
    writer.start()
    try:
        for number in range(3):
            back_up(node.url, tmp_path / f"saved{number}")
    finally:
        done.set()
        writer.join()
    for number in range(3):
        url = new_url()
        put_back(url, tmp_path / f"saved{number}")
        histories = history_of(url)
        assert all(one == [("scheduler", "QUEUED")] for one in histories)
        assert len(series_of(url)) - len(histories) in (0, 1)


def test_a_backup_of_an_earlier_revision_is_upgraded(
    new_url: Any, tmp_path: Path, put_back: Any
) -> None:
    old, url = new_url(), new_url()
    upgrade_database(old, "0001")
    back_up(old, tmp_path / "old")
    put_back(url, tmp_path / "old")
    assert history_of(url) == []
    # Also where the tables of this version are there already.
    put_back(url, tmp_path / "old")
    assert history_of(url) == []


def test_a_backup_of_a_newer_revision_is_refused(
    saved: Path, url: str, new_url: Any, tmp_path: Path, put_back: Any
) -> None:
    with open_database(url) as database, database.write() as session:
        session.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    back_up(url, tmp_path / "newer")
    other = new_url()
    put_back(other, saved)
    with pytest.raises(UnusableBackup, match=r"schema 9999.* a newer version of hepar"):
        put_back(other, tmp_path / "newer", replace=True)
    assert series_of(other) == ["1.2.3.4"]


def test_a_database_in_use_is_not_replaced(
    node: Any, saved: Path, moment: Any, put_back: Any
) -> None:
    Heartbeats(node.database).beat("scheduler", host="ct1", pid=7, now=moment(60))
    with pytest.raises(RestoreRefused, match="scheduler on ct1, process 7"):
        put_back(node.url, saved, replace=True, alive_since=moment(50))
    assert len(node.jobs.list_jobs()) == 1


def test_ids_of_jobs_since_the_backup_are_not_given_out_again(
    node: Any, saved: Path, new_url: Any, tmp_path: Path, put_back: Any
) -> None:
    for last, following in ((7, 8), (1, 2), (0, 2)):
        url = new_url()
        put_back(url, saved, last_job_id=last)
        assert next_job_id(url) == following
    upgrade_database(empty := new_url())
    back_up(empty, tmp_path / "empty")
    for last, following in ((0, 1), (1, 2)):
        url = new_url()
        put_back(url, tmp_path / "empty", last_job_id=last)
        assert next_job_id(url) == following


def next_job_id(url: str) -> int:
    with open_database(url) as database, database.write() as session:
        if not session.execute(text("SELECT 1 FROM series WHERE series_uid = '9.9'")).first():
            session.execute(text(OTHER_SERIES))
        return session.execute(
            text(
                "INSERT INTO job (series_uid, study_uid, content_digest, calling_ae_title, "
                "model_name, model_version, model_digest, state, attempts, created_at, "
                "updated_at, reason, summary) VALUES ('9.9', '9', 'c', 'A', 'm', '1', 'd', "
                "'QUEUED', 0, '2026-03-01 12:00:00', '2026-03-01 12:00:00', '', '{}') RETURNING id"
            )
        ).scalar_one()


def test_a_backup_never_replaces_a_file(node: Any, saved: Path, tmp_path: Path) -> None:
    before = saved.read_bytes()
    with pytest.raises(BackupFailed, match="exists already"):
        back_up(node.url, saved)
    assert saved.read_bytes() == before
    with pytest.raises(BackupFailed, match="there is no folder"):
        back_up(node.url, tmp_path / "absent" / "saved")
    assert list(tmp_path.iterdir()) == [saved]


def test_there_is_nothing_to_save_without_tables(new_url: Any, tmp_path: Path) -> None:
    with pytest.raises(BackupFailed, match="no tables yet"):
        back_up(new_url(), tmp_path / "saved")
    assert list(tmp_path.iterdir()) == []


def damage(path: Path) -> None:
    content = bytearray(path.read_bytes())
    page = len(content) // 8192 * 4096
    content[page : page + 4096] = b"\xff" * 4096
    path.write_bytes(content)


@pytest.mark.parametrize(
    "spoil",
    [
        Path.unlink,
        lambda path: path.write_text("A text, and no backup."),
        lambda path: path.write_bytes(path.read_bytes()[:-3000]),
        lambda path: path.write_bytes(path.read_bytes()[:40]),
        damage,
    ],
    ids=["missing", "text", "cut short", "nearly empty", "damaged"],
)
def test_a_file_that_is_no_whole_backup_changes_nothing(
    node: Any, saved: Path, put_back: Any, spoil: Any
) -> None:
    spoil(saved)
    with pytest.raises(UnusableBackup, match="saved cannot be restored"):
        put_back(node.url, saved, replace=True)
    assert len(node.jobs.list_jobs()) == 1
    if node.database.dialect == "sqlite":
        folder = Path(read_url(node.url).database).parent
        assert {path.name for path in folder.iterdir()} <= {
            "hepar.db",
            "hepar.db-wal",
            "hepar.db-shm",
        }


def sqlite_at(folder: Path) -> str:
    url = f"sqlite:///{folder / 'hepar.db'}"
    upgrade_database(url)
    return url


def restore_here(url: str, source: Path, moment: Any, *, replace: bool = False) -> None:
    kept = source.with_name("kept")
    restore(url, source, kept=kept, replace=replace, alive_since=moment(0), last_job_id=0)


def test_an_sqlite_file_that_cannot_be_read_is_put_aside(tmp_path: Path, moment: Any) -> None:
    saved = tmp_path / "saved"
    back_up(url := sqlite_at(tmp_path), saved)
    wreck = "This is no database any more, whatever it was before. " * 99
    (tmp_path / "hepar.db").write_text(wreck)
    with pytest.raises(RestoreRefused, match=r"not a database.*--replace"):
        restore_here(url, saved, moment)
    restore_here(url, saved, moment, replace=True)
    assert series_of(url) == []
    assert (tmp_path / "kept").read_text() == wreck


def test_an_sqlite_file_that_a_process_has_open_is_not_replaced(
    tmp_path: Path, moment: Any
) -> None:
    back_up(url := sqlite_at(tmp_path), tmp_path / "saved")
    other = sqlite3.connect(tmp_path / "hepar.db")
    other.execute("SELECT count(*) FROM job").fetchone()
    try:
        with pytest.raises(RestoreRefused, match=r"another process has .*hepar\.db open"):
            restore_here(url, tmp_path / "saved", moment)
    finally:
        other.close()
    restore_here(url, tmp_path / "saved", moment)


@pytest.fixture
def postgresql_url(postgresql: Any) -> str:
    return postgresql.new_database()


@pytest.mark.peer
def test_a_backup_of_the_other_database_is_refused(
    postgresql_url: str, tmp_path: Path, moment: Any
) -> None:
    url = sqlite_at(tmp_path)
    back_up(url, tmp_path / "saved.db")
    back_up(postgresql_url, tmp_path / "saved.dump")
    with pytest.raises(UnusableBackup, match="no backup of a PostgreSQL database"):
        restore_here(postgresql_url, tmp_path / "saved.db", moment)
    with pytest.raises(UnusableBackup, match="no backup of an SQLite database"):
        restore_here(url, tmp_path / "saved.dump", moment)


@pytest.mark.peer
def test_a_restore_that_postgresql_stops_leaves_all_as_it_was(
    postgresql_url: str, tmp_path: Path, moment: Any
) -> None:
    back_up(postgresql_url, tmp_path / "saved")
    with open_database(postgresql_url) as database, database.write() as session:
        session.execute(text(OTHER_SERIES))
        session.execute(text("CREATE TABLE theirs (job_id integer REFERENCES job)"))
    with pytest.raises(RestoreRefused, match="other objects depend on"):
        restore_here(postgresql_url, tmp_path / "saved", moment, replace=True)
    assert series_of(postgresql_url) == ["9.9"]


@pytest.mark.peer
def test_missing_programs_are_named(
    postgresql_url: str, tmp_path: Path, moment: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    back_up(postgresql_url, tmp_path / "saved")
    monkeypatch.setattr(shutil, "which", lambda name: None)
    with pytest.raises(ProgramMissing, match=r"pg_dump.*postgresql-client"):
        back_up(postgresql_url, tmp_path / "other")
    with pytest.raises(ProgramMissing, match="pg_restore"):
        restore_here(postgresql_url, tmp_path / "saved", moment)
    assert issubclass(ProgramMissing, StorageError)


@pytest.mark.peer
def test_the_password_is_no_argument_of_a_program(
    postgresql_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = tmp_path / "pg_dump"
    program.write_text(f'#!/bin/sh\necho "$*; $PGPASSWORD" > {tmp_path}/called; exit 1\n')
    program.chmod(0o755)
    monkeypatch.setattr(shutil, "which", lambda name: str(program))
    with pytest.raises(BackupFailed):
        back_up(postgresql_url, tmp_path / "saved")
    arguments, password = (tmp_path / "called").read_text().split("; ")
    assert password == "s3cret\n"
    assert "s3cret" not in arguments

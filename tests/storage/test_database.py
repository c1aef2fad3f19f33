import re
import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, MetaData, create_engine, insert, select, text

from storage import database
from storage.catalog import Catalog
from storage.database import (
    Database,
    list_revisions,
    open_database,
    read_url,
    upgrade_database,
)
from storage.deliveries import Deliveries
from storage.errors import (
    DatabaseDamaged,
    DatabaseError,
    SchemaOutdated,
    SchemaTooNew,
    UnusableUrl,
)
from storage.jobs import Jobs
from storage.proofs import Proofs
from storage.states import JobState
from storage.tables import Base, TickRow


def lines_of(statement: str) -> set[str]:
    """Give the parts of a statement that made a table or index, whatever their order."""
    return {
        part.strip(" \t,)")
        for line in statement.splitlines()
        # A column that was added later stands at the end of the last line, after a comma.
        for part in re.split(", (?=[a-z_]+ [A-Z])", line)
    }


SCHEMA = {
    "sqlite": "SELECT name, sql FROM sqlite_master WHERE sql IS NOT NULL",
    "postgresql": """
        SELECT conrelid::regclass || '.' || conname, pg_get_constraintdef(oid)
        FROM pg_constraint WHERE connamespace = 'public'::regnamespace
        UNION ALL SELECT indexname, indexdef FROM pg_indexes WHERE schemaname = 'public'
    """,
}


def schema_of(database: Database) -> dict[str, set[str]]:
    with database.read() as session:
        rows = session.execute(text(SCHEMA[database.dialect])).all()
    return {name: lines_of(sql) for name, sql in rows if "alembic_version" not in name}


def test_migrations_make_what_the_tables_say(node: Any, url: str) -> None:
    with node.database.read() as session:
        context = MigrationContext.configure(session.connection(), opts={"compare_type": True})
        assert compare_metadata(context, Base.metadata) == []
    # The comparison above is blind to check constraints and to conditions of indexes.
    with open_database(url) as direct:
        with direct.write() as session:
            Base.metadata.drop_all(session.connection())
            Base.metadata.create_all(session.connection())
        # Tables know nothing of triggers; `test_audit` sees what they do.
        made = schema_of(node.database).items()
        assert {k: v for k, v in made if not k.startswith("audit_no_")} == schema_of(direct)


def test_upgrade_from_nothing_makes_the_folder_too_and_may_be_repeated(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'with 100% space' / 'hepar.db'}"
    for _ in range(2):
        upgrade_database(url)
    open_database(url).close()


def test_upgrade_keeps_rows(node: Any) -> None:
    node.queued()
    upgrade_database(node.url)
    assert len(node.jobs.list_jobs()) == 1


MOMENT = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
LOCKED = {"name": "x", "next_attempt_at": MOMENT, "created_at": MOMENT, "updated_at": MOMENT}
WRITTEN_SINCE = {
    "0001": {
        "series": {
            "series_uid": "1.2",
            "study_uid": "1.1",
            "modality": "CT",
            "calling_ae_title": "SCANNER",
            "instance_count": 1,
            "has_conflicts": False,
            "first_received_at": MOMENT,
            "last_received_at": MOMENT,
            "settled": True,
            "settled_at": MOMENT,
            "decision": "process",
            "rule": "CT",
            "reason": "It is a CT series.",
            "content_digest": "d",
        },
        "instance": {
            "sop_instance_uid": "1.2.1",
            "sop_class_uid": "1.2.840.10008.5.1.4.1.1.2",
            "study_uid": "1.1",
            "series_uid": "1.2",
            "transfer_syntax_uid": "1.2.840.10008.1.2.1",
            "path": "instances/1.1/1.2/1.2.1.dcm",
            "sha256": "s",
            "size_bytes": 2**33,
            "frame_count": 1,
            "slice_position_mm": -12.5,
            "is_conflict": False,
            "calling_ae_title": "SCANNER",
            "received_at": MOMENT,
        },
        "job": {
            "series_uid": "1.2",
            "study_uid": "1.1",
            "content_digest": "d",
            "calling_ae_title": "SCANNER",
            "model_name": "liver",
            "model_version": "1",
            "model_digest": "m",
            "state": "DELIVERED",
            "attempts": 1,
            "created_at": MOMENT,
            "updated_at": MOMENT,
            "reason": "",
            "summary": {"lesions": [1.5, "\u00b5"]},
        },
        "job_event": {
            "job_id": 1,
            "at": MOMENT,
            "actor": "s1",
            "from_state": "DELIVERING",
            "to_state": "DELIVERED",
            "detail": "",
        },
        "result": {
            "job_id": 1,
            "role": "seg",
            "path": "seg.dcm",
            "sop_class_uid": "1.3",
            "sop_instance_uid": "1.4",
            "series_instance_uid": "1.5",
        },
        "delivery": {
            "job_id": 1,
            "destination": "pacs",
            "state": "DELIVERED",
            "attempts": 1,
            "next_attempt_at": MOMENT,
            "last_error": "",
            "created_at": MOMENT,
            "updated_at": MOMENT,
        },
        "role_heartbeat": {
            "role": "web",
            "host": "ct1",
            "pid": 7,
            "started_at": MOMENT,
            "beat_at": MOMENT,
            "detail": "",
        },
    },
    "0002": {
        "proof": {
            "delivery_id": 1,
            "state": "WAITING",
            "attempts": 1,
            "next_attempt_at": MOMENT,
            "last_error": "does not answer",
            "created_at": MOMENT,
            "updated_at": MOMENT,
        },
    },
    "0003": {
        "series": {"size_bytes": 2**33, "missing_files": 1, "removed_at": None},
        "instance": {"removed_at": None},
        "job": {"results_removed_at": None},
        "series_event": {"series_uid": "1.2", "at": MOMENT, "actor": "s1", "detail": "taken up"},
        "tick": {
            "name": "sweep",
            "attempts": 0,
            "next_attempt_at": MOMENT,
            "last_error": "",
            "created_at": MOMENT,
            "updated_at": MOMENT,
        },
    },
    "0004": {
        "series": {"counted_instances": 2, "counted_at": MOMENT, "waits_for": "1 of 2."},
        "job": {"remark": "1 of 2."},
    },
    "0005": {
        "result": {"profiles": ["ohif", "rt"]},
        "delivery": {"profile": "ohif"},
    },
    "0006": {
        "series": {
            "calling_address": "10.0.0.5",
            "patient_id": "P1",
            "patient_name": "Test, Anna",
            "accession_number": "A1",
            "study_date": "2026-03-01",
            "study_description": "Abdomen",
            "series_description": "Portal venous",
        },
        "job": {"step": "segment", "step_share": 0.25},
        "pause": {"work": "processing", "since": MOMENT, "actor": "user:anna", "reason": "move"},
        "web_user": {
            "name": "anna",
            "role": "administrator",
            "password_hash": "$argon2id$",
            "created_at": MOMENT,
            "password_changed_at": MOMENT,
        },
        "web_access": {
            "digest": "d",
            "user_id": 1,
            "kind": "session",
            "label": "127.0.0.1",
            "created_at": MOMENT,
            "used_at": MOMENT,
            "expires_at": MOMENT,
        },
        "audit": {
            "at": MOMENT,
            "event": "model-run",
            "outcome": "success",
            "actor": "worker",
            "address": "",
            "host": "ct1",
            "patient_id": "P1",
            "study_uid": "1.1",
            "detail": {"model": "liver"},
            "digest": "d",
        },
        "audit_cursor": {"name": "syslog", "last_id": 1},
        "alert": {
            "kind": "disk",
            "subject": "ct1",
            "message": "short",
            "raised_at": MOMENT,
            "seen_at": MOMENT,
        },
        "retrieval": {
            "batch": "b",
            "peer": "pacs",
            "key": "accession",
            "value": "A1",
            "at_night": False,
            "retrieval": "get",
            "actor": "user:anna",
            "state": "WAITING",
            "offered": 0,
            "fetched": 0,
            "series_uids": [],
            "attempts": 0,
            "next_attempt_at": MOMENT,
            "last_error": "",
            "created_at": MOMENT,
            "updated_at": MOMENT,
        },
    },
}
"""What each revision can hold that the one before could not: tables, or columns of their rows."""
REVISIONS = list(WRITTEN_SINCE)


def rows_of(revision: str) -> dict[str, dict[str, Any]]:
    """Give a row for each table that a revision has."""
    rows: dict[str, dict[str, Any]] = {}
    for known in REVISIONS[: REVISIONS.index(revision) + 1]:
        for table, values in WRITTEN_SINCE[known].items():
            rows[table] = rows.get(table, {}) | values
    return rows


def content_of(connection: Connection) -> dict[str, list[dict[str, Any]]]:
    """Read all tables as they are, without our classes."""
    found = MetaData()
    found.reflect(connection)
    return {
        name: [dict(row) for row in connection.execute(select(table)).mappings()]
        for name, table in found.tables.items()
        if name != "alembic_version"
    }


@contextmanager
def transaction(url: str) -> Iterator[Connection]:
    """Open a transaction that knows nothing of our schema."""
    engine = create_engine(read_url(url))
    with engine.begin() as connection:
        yield connection
    engine.dispose()


def write_at(url: str, revision: str) -> dict[str, list[dict[str, Any]]]:
    """Make a database of a revision with a row in each table."""
    upgrade_database(url, revision)
    with transaction(url) as connection:
        found = MetaData()
        found.reflect(connection)
        assert set(found.tables) - {"alembic_version"} == set(rows_of(revision))
        for table, row in rows_of(revision).items():
            connection.execute(insert(found.tables[table]), row)
        return content_of(connection)


def test_each_revision_is_written_to() -> None:
    """Whoever adds a revision says above what it can hold."""
    assert list_revisions() == REVISIONS


def test_a_file_bears_the_name_of_its_revision() -> None:
    script = ScriptDirectory(str(files("storage.migrations")))
    named = {one.revision: Path(one.path).name for one in script.walk_revisions()}
    assert list(named)[::-1] == list_revisions()
    assert all(name.startswith(f"r{revision}_") for revision, name in named.items())


@pytest.mark.parametrize("revision", REVISIONS)
def test_upgrade_from_each_revision_keeps_what_it_holds(
    new_url: Any, node: Any, revision: str, moment: Any
) -> None:
    url = new_url()
    before = write_at(url, revision)
    if revision != REVISIONS[-1]:
        with pytest.raises(SchemaOutdated, match=f"schema {revision}"):
            open_database(url)
    upgrade_database(url)
    with transaction(url) as connection:
        after = content_of(connection)
    for table, rows in before.items():
        for row, kept in zip(rows, after[table], strict=True):
            assert kept == kept | row
    with open_database(url) as upgraded:
        assert schema_of(upgraded) == schema_of(node.database)
        job = Jobs(upgraded).get(1)
        assert (job.state, job.created_at) == (JobState.DELIVERED, MOMENT)
        assert job.summary == {"lesions": [1.5, "\u00b5"]}
        assert Catalog(upgraded).get_series("1.2").size_bytes == 2**33
        deliveries = Deliveries(upgraded)
        assert deliveries.resend(1, {"pacs": "ohif"}, "me", moment(0)).state is JobState.DELIVERING
        due = deliveries.claim_due("s1", destination="pacs", lease_s=30, now=moment(1))
        deliveries.delivered(due.id, "s1", moment(2), asks_proof=True)
        assert len(Proofs(upgraded).list_proofs(1)) == 1


def test_upgrade_by_two_processes_at_once(new_url: Any) -> None:
    url = new_url()
    upgrades = [threading.Thread(target=upgrade_database, args=(url,)) for _ in range(2)]
    for upgrade in upgrades:
        upgrade.start()
    for upgrade in upgrades:
        upgrade.join()
    open_database(url).close()


class BusyCursor:
    """Answers as SQLite does while another process switches a new file to the write-ahead log."""

    def __init__(self, refusals: int, code: int) -> None:
        self.refusals = refusals
        self.code = code

    def execute(self, statement: str) -> None:
        assert statement == "PRAGMA journal_mode = WAL"
        if self.refusals:
            self.refusals -= 1
            error = sqlite3.OperationalError("database is locked")
            error.sqlite_errorcode = self.code
            raise error


def test_the_switch_to_the_log_is_tried_again_while_another_process_does_it() -> None:
    cursor = BusyCursor(refusals=3, code=sqlite3.SQLITE_BUSY)
    database._switch_to_wal(cursor, 30)
    assert cursor.refusals == 0
    with pytest.raises(sqlite3.OperationalError):
        database._switch_to_wal(BusyCursor(refusals=1, code=sqlite3.SQLITE_READONLY), 30)


def test_a_failing_upgrade_leaves_nothing(new_url: Any) -> None:
    url = new_url()
    with transaction(url) as connection:
        connection.execute(text("CREATE TABLE result (id INTEGER)"))
    with pytest.raises(DatabaseError, match=r'"?result"? already exists'):
        upgrade_database(url)
    with transaction(url) as connection:
        assert set(content_of(connection)) == {"result"}


def test_open_can_upgrade(new_url: Any) -> None:
    open_database(new_url(), upgrade=True).close()


def test_what_a_newer_version_has_made_is_left_alone(new_url: Any) -> None:
    url = new_url()
    upgrade_database(url)
    with transaction(url) as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    with pytest.raises(SchemaTooNew, match="restore the backup"):
        upgrade_database(url)


def test_a_database_without_tables_is_outdated(new_url: Any) -> None:
    with pytest.raises(SchemaOutdated, match=r"has no tables yet; run `hepar db upgrade`"):
        open_database(new_url())


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("nonsense", "it is no URL"),
        ("mysql://hepar:s3cret@db/hepar", "it begins with mysql:"),
        ("postgresql+psycopg2://hepar:s3cret@db/hepar", r"postgresql://USER:PASSWORD@HOST/NAME"),
    ],
)
def test_what_is_no_url_of_ours_is_refused_without_quoting_it(url: str, words: str) -> None:
    with pytest.raises(UnusableUrl, match=words) as refused:
        open_database(url)
    assert "s3cret" not in str(refused.value)


def test_a_missing_driver_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(database, "find_spec", lambda name: None)
    with pytest.raises(UnusableUrl, match=r"pip install 'hepar\[postgresql\]'"):
        open_database("postgresql://hepar:s3cret@db/hepar")


def test_a_server_that_does_not_answer_is_told(tmp_path: Path) -> None:
    pytest.importorskip("psycopg")
    with pytest.raises(DatabaseError, match="connection to server") as told:
        open_database(f"postgresql://hepar:s3cret@/hepar?host={tmp_path}")
    assert "s3cret" not in str(told.value)


@pytest.mark.parametrize(
    ("revision", "error", "words"),
    [("9999", SchemaTooNew, "newer version of hepar"), (None, SchemaOutdated, "hepar db upgrade")],
)
def test_another_schema_is_refused(
    url: str, revision: str | None, error: type[Exception], words: str
) -> None:
    with open_database(url) as database, database.write() as session:
        session.execute(text("DELETE FROM alembic_version"))
        if revision:
            session.execute(text("INSERT INTO alembic_version VALUES (:one)"), {"one": revision})
    with pytest.raises(error, match=words):
        open_database(url)


def test_what_is_no_database_is_refused(tmp_path: Path) -> None:
    (tmp_path / "hepar.db").write_text("This is a text, long enough to be read as a header. " * 9)
    with pytest.raises(DatabaseError, match="not a database"):
        open_database(f"sqlite:///{tmp_path / 'hepar.db'}")


def test_commits_to_sqlite_are_durable_and_rows_are_checked(tmp_path: Path) -> None:
    wanted = {"journal_mode": "wal", "synchronous": 2, "foreign_keys": 1, "busy_timeout": 30_000}
    url = f"sqlite:///{tmp_path / 'hepar.db'}"
    with open_database(url, upgrade=True) as opened, opened.read() as session:
        found = {key: session.execute(text(f"PRAGMA {key}")).scalar_one() for key in wanted}
    assert found == wanted


def test_a_transaction_is_all_or_nothing(node: Any) -> None:
    node.queued()

    def change() -> None:
        with node.database.write() as session:
            session.execute(text("UPDATE job SET attempts = 7"))
            session.execute(text("UPDATE job SET state = 'DONE'"))

    with pytest.raises(DatabaseError):
        change()
    assert node.jobs.get(1).attempts == 0


def test_a_reader_sees_one_state_and_does_not_hold_up_writers(node: Any, other_node: Any) -> None:
    count = text("SELECT count(*) FROM job")
    with node.database.read() as session:
        before = session.execute(count).scalar_one()
        other_node.queued()
        assert session.execute(count).scalar_one() == before
    assert len(node.jobs.list_jobs()) == 1


def test_a_database_says_which_it_is(url: str, dialect: str) -> None:
    with open_database(url) as database:
        assert database.dialect == dialect


def test_a_database_that_is_locked_is_waited_for_no_longer_than_was_said(url: str) -> None:
    with open_database(url, timeout_s=1) as other, open_database(url, timeout_s=1) as waiting:
        with other.write() as session:
            session.execute(insert(TickRow).values(LOCKED))
            begin = time.monotonic()
            with (
                pytest.raises(DatabaseError, match=r"locked|lock timeout"),
                waiting.write() as late,
            ):
                late.execute(insert(TickRow).values(LOCKED))
            assert 0.9 < time.monotonic() - begin < 10
        with pytest.raises(DatabaseError), waiting.write() as late:
            late.execute(insert(TickRow).values(LOCKED))


def test_options_in_the_url_come_first() -> None:
    url = read_url("postgresql://hepar@db/hepar?connect_timeout=3&options=-c%20lock_timeout%3D7")
    with pytest.MonkeyPatch.context() as patch:
        made: dict[str, Any] = {}
        patch.setattr(database, "create_engine", lambda url, **more: made.update(more))
        database.make_engine(url, 5)
    assert made["connect_args"] == {"tcp_user_timeout": 5000, "keepalives_idle": 5}


@pytest.mark.parametrize(
    "damage",
    [lambda content: b"not a database" * 1000, lambda content: content[:4096] + bytes(200_000)],
    ids=["other bytes", "pages of zeros"],
)
def test_a_damaged_file_says_what_to_do(tmp_path: Path, damage: Any) -> None:
    path = tmp_path / "hepar.db"
    url = f"sqlite:///{path}"
    open_database(url, upgrade=True).close()
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(DatabaseDamaged, match=r"hepar db restore FILE --replace"):
        open_database(url).check_schema()

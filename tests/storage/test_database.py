import re
import sqlite3
import threading
from pathlib import Path
from typing import Any

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import create_engine, text

from storage import database
from storage.catalog import Catalog
from storage.database import open_database, upgrade_database
from storage.deliveries import Deliveries
from storage.errors import DatabaseError, SchemaOutdated, SchemaTooNew
from storage.jobs import Jobs
from storage.proofs import Proofs
from storage.states import JobState
from storage.tables import Base


def schema_of(path: Path) -> dict[str, set[str]]:
    """Give the parts of each statement that made a table or index, whatever their order."""
    connection = sqlite3.connect(path)
    rows = connection.execute("SELECT name, sql FROM sqlite_master WHERE sql IS NOT NULL")
    # A column that was added later stands at the end of the last line, after a comma.
    found = {
        name: {
            part.strip(" \t,)")
            for line in sql.splitlines()
            for part in re.split(", (?=[a-z_]+ [A-Z])", line)
        }
        for name, sql in rows
    }
    connection.close()
    return found


def test_migrations_make_what_the_tables_say(node: Any, tmp_path: Path) -> None:
    with node.database.read() as session:
        context = MigrationContext.configure(session.connection(), opts={"compare_type": True})
        assert compare_metadata(context, Base.metadata) == []
    # The comparison above is blind to check constraints and to conditions of indexes.
    engine = create_engine(f"sqlite:///{tmp_path / 'direct.db'}")
    Base.metadata.create_all(engine)
    engine.dispose()
    migrated = schema_of(Path(node.url.removeprefix("sqlite:///")))
    del migrated["alembic_version"]
    assert migrated == schema_of(tmp_path / "direct.db")


def test_upgrade_from_nothing_makes_the_folder_too_and_may_be_repeated(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'with 100% space' / 'hepar.db'}"
    for _ in range(2):
        upgrade_database(url)
    open_database(url).close()


def test_upgrade_keeps_rows(node: Any) -> None:
    node.queued()
    upgrade_database(node.url)
    assert len(node.jobs.list_jobs()) == 1


MOMENT = "2026-03-01 12:00:00.000000"
WRITTEN_BEFORE = {
    "series": {
        "series_uid": "1.2",
        "study_uid": "1.1",
        "modality": "CT",
        "calling_ae_title": "SCANNER",
        "instance_count": 1,
        "has_conflicts": 0,
        "first_received_at": MOMENT,
        "last_received_at": MOMENT,
        "settled": 1,
        "settled_at": MOMENT,
        "rule": "",
        "reason": "",
        "content_digest": "d",
    },
    "job": {
        "id": 1,
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
        "summary": "{}",
    },
    "result": {
        "job_id": 1,
        "role": "seg",
        "path": "seg.dcm",
        "sop_class_uid": "1.3",
        "sop_instance_uid": "1.4",
        "series_instance_uid": "1.5",
    },
    "instance": {
        "sop_instance_uid": "1.2.1",
        "sop_class_uid": "1.3",
        "study_uid": "1.1",
        "series_uid": "1.2",
        "transfer_syntax_uid": "1.2.840.10008.1.2.1",
        "path": "instances/1.1/1.2/1.2.1.dcm",
        "sha256": "s",
        "size_bytes": 5_000_000_000,
        "frame_count": 1,
        "is_conflict": 0,
        "calling_ae_title": "SCANNER",
        "received_at": MOMENT,
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
}
"""A delivered job as the first schema had it."""


def test_upgrade_from_the_first_schema_keeps_what_it_holds(tmp_path: Path, moment: Any) -> None:
    url = f"sqlite:///{tmp_path / 'hepar.db'}"
    upgrade_database(url, "0001")
    engine = create_engine(url)
    with engine.begin() as connection:
        for table, row in WRITTEN_BEFORE.items():
            names = ", ".join(row)
            marks = ", ".join(f":{name}" for name in row)
            connection.execute(text(f"INSERT INTO {table} ({names}) VALUES ({marks})"), row)
    engine.dispose()
    with pytest.raises(SchemaOutdated, match="schema 0001"):
        open_database(url)
    with open_database(url, upgrade=True) as upgraded:
        assert Jobs(upgraded).get(1).state is JobState.DELIVERED
        assert Proofs(upgraded).list_proofs(1) == []
        series = Catalog(upgraded).get_series("1.2")
        assert (series.size_bytes, series.removed_at) == (5_000_000_000, None)
        assert Catalog(upgraded).instance_paths("1.2") == ["instances/1.1/1.2/1.2.1.dcm"]
        deliveries = Deliveries(upgraded)
        assert deliveries.resend(1, ["pacs"], "me", moment(0)).state is JobState.DELIVERING
        due = deliveries.claim_due("s1", destination="pacs", lease_s=30, now=moment(1))
        deliveries.delivered(due.id, "s1", moment(2), asks_proof=True)
        assert len(Proofs(upgraded).list_proofs(1)) == 1


def test_upgrade_by_two_processes_at_once(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'hepar.db'}"
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
    database._switch_to_wal(cursor)
    assert cursor.refusals == 0
    with pytest.raises(sqlite3.OperationalError):
        database._switch_to_wal(BusyCursor(refusals=1, code=sqlite3.SQLITE_READONLY))


def test_a_failing_upgrade_leaves_nothing(tmp_path: Path) -> None:
    path = tmp_path / "hepar.db"
    connection = sqlite3.connect(path)
    connection.execute("CREATE TABLE result (id INTEGER)")
    connection.close()
    with pytest.raises(DatabaseError, match="result already exists"):
        upgrade_database(f"sqlite:///{path}")
    assert set(schema_of(path)) == {"result"}


def test_open_can_upgrade(tmp_path: Path) -> None:
    open_database(f"sqlite:///{tmp_path / 'hepar.db'}", upgrade=True).close()


def test_a_database_without_tables_is_outdated(tmp_path: Path) -> None:
    with pytest.raises(SchemaOutdated, match=r"has schema none.* run `hepar db upgrade`"):
        open_database(f"sqlite:///{tmp_path / 'hepar.db'}")


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


def test_commits_are_durable_and_rows_are_checked(node: Any) -> None:
    wanted = {"journal_mode": "wal", "synchronous": 2, "foreign_keys": 1, "busy_timeout": 30_000}
    with node.database.read() as session:
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


def test_the_database_is_closed_on_leaving(url: str) -> None:
    with open_database(url) as database:
        assert database.dialect == "sqlite"

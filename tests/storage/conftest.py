"""A job database and a data folder for each test, and short ways to fill them."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import UpdateBase, delete, text
from sqlalchemy.orm import Session

from config.rules import RuleAction
from dicom_io.headers import InstanceHeader
from dicom_io.rules import Decision
from storage.catalog import Catalog
from storage.database import Database, open_database, upgrade_database
from storage.deliveries import Deliveries
from storage.files import FileStore
from storage.jobs import Jobs
from storage.open_series import OpenSeries
from storage.proofs import Proofs
from storage.records import (
    DeliveryRecord,
    JobRecord,
    NewJob,
    NewResult,
    ProofRecord,
    Sender,
    SeriesRecord,
    StoredFile,
)
from storage.states import AddOutcome
from storage.tables import Base

NOON = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
CT = "1.2.840.10008.5.1.4.1.1.2"
STUDY = "1.2.3"
SERIES = "1.2.3.4"


def at(seconds: float) -> datetime:
    """Give the moment so many seconds after noon."""
    return NOON + timedelta(seconds=seconds)


def make_header(number: int = 1, series_uid: str = SERIES, **changes: Any) -> InstanceHeader:
    """Make the header of slice `number` of a CT series with 2 mm steps."""
    values = {
        "sop_class_uid": CT,
        "sop_instance_uid": f"{series_uid}.{number}",
        "study_instance_uid": STUDY,
        "series_instance_uid": series_uid,
        "transfer_syntax_uid": "1.2.840.10008.1.2.1",
        "modality": "CT",
        "slice_position_mm": 2.0 * number,
        "expected_instances": None,
        "frame_count": 1,
    }
    return InstanceHeader(**(values | changes))


@dataclass
class Node:
    """The stores of one node, and what tests do with them again and again."""

    url: str
    database: Database
    catalog: Catalog
    open_series: OpenSeries
    jobs: Jobs
    deliveries: Deliveries
    proofs: Proofs

    def receive(
        self,
        number: int = 1,
        series_uid: str = SERIES,
        *,
        sha256: str = "",
        second: float = 0,
        **changes: Any,
    ) -> AddOutcome:
        return self.catalog.add_instance(
            make_header(number, series_uid, **changes),
            StoredFile(
                relative_path=f"instances/{series_uid}/{number}{sha256}.dcm",
                sha256=sha256 or f"sha-{series_uid}-{number}",
                size_bytes=100,
            ),
            Sender("SCANNER"),
            at(second),
        )

    def settle(
        self, series_uid: str = SERIES, *, second: float = 10, model: str = "m1"
    ) -> JobRecord | None:
        return self.settle_as_seen(self.catalog.get_series(series_uid), second=second, model=model)

    def skip(self, series_uid: str = SERIES, *, second: float = 10, reason: str = "") -> None:
        """Settle a series that a rule does not want."""
        series = self.catalog.get_series(series_uid)
        decision = Decision(action=RuleAction.SKIP, rule="none", reason=reason)
        assert self.catalog.settle(series, decision, job=None, now=at(second)) is None

    def settle_as_seen(
        self, series: SeriesRecord, *, second: float = 10, model: str = "m1"
    ) -> JobRecord | None:
        return self.catalog.settle(
            series,
            Decision(action=RuleAction.PROCESS, rule="CT", reason="It is a CT series."),
            job=NewJob(model_name="liver", model_version="1", model_digest=model),
            now=at(second),
        )

    def queued(self, series_uid: str = SERIES) -> JobRecord:
        """Receive and settle a series of one instance."""
        self.receive(series_uid=series_uid)
        job = self.settle(series_uid)
        assert job is not None
        return job

    def running(
        self, series_uid: str = SERIES, *, worker: str = "w1", second: float = 20
    ) -> JobRecord:
        self.queued(series_uid)
        job = self.jobs.claim(worker, 30, at(second))
        assert job is not None
        return job

    def produced(
        self, destinations: tuple[str, ...] = ("pacs",), series_uid: str = SERIES
    ) -> JobRecord:
        job = self.running(series_uid)
        return self.produce(job.id, destinations)

    def produce(self, job_id: int, destinations: tuple[str, ...] = ("pacs",)) -> JobRecord:
        return self.jobs.produced(
            job_id,
            "w1",
            results=[make_result("seg", 1), make_result("sr", 2)],
            destinations=dict.fromkeys(destinations, "ohif"),
            summary={"lesions": 2},
            now=at(30),
        )

    def claim(
        self, destination: str = "pacs", *, owner: str = "s1", second: float = 40
    ) -> DeliveryRecord | None:
        return self.deliveries.claim_due(owner, destination=destination, lease_s=30, now=at(second))

    def deliver(
        self, destination: str = "pacs", *, second: float = 40, asks_proof: bool = False
    ) -> JobRecord:
        delivery = self.claim(destination, second=second)
        assert delivery is not None
        return self.deliveries.delivered(delivery.id, "s1", at(second), asks_proof=asks_proof)

    def claim_proof(
        self, destination: str = "pacs", *, owner: str = "p1", second: float = 50
    ) -> ProofRecord | None:
        return self.proofs.claim_due(owner, destination=destination, lease_s=30, now=at(second))

    def plan(self, statement: UpdateBase) -> str:
        """Give how the database would execute a statement on a table with many rows."""
        with self.database.read() as session:
            dialect = session.get_bind().dialect
            sql = statement.compile(dialect=dialect, compile_kwargs={"literal_binds": True})
            if dialect.name == "postgresql":
                session.execute(text("SET LOCAL enable_seqscan = off"))
                explain = f"EXPLAIN {sql}"
            else:
                explain = f"EXPLAIN QUERY PLAN {sql}"
            return "; ".join(row[-1] for row in session.connection().exec_driver_sql(explain))

    def history(self, job_id: int) -> list[tuple[str, str]]:
        """Give who moved the job where."""
        return [(event.actor, event.to_state.value) for event in self.jobs.events(job_id)]


def make_result(role: str, number: int) -> NewResult:
    return NewResult(
        role=role,
        path=f"{role}.dcm",
        sop_class_uid="1.2.840.10008.5.1.4.1.1.66.4",
        sop_instance_uid=f"2.25.{number}",
        series_instance_uid=f"2.25.10{number}",
    )


def open_node(url: str) -> Node:
    database = open_database(url)
    return Node(
        url=url,
        database=database,
        catalog=Catalog(database),
        open_series=OpenSeries(database),
        jobs=Jobs(database),
        deliveries=Deliveries(database),
        proofs=Proofs(database),
    )


@pytest.fixture(scope="session")
def shared_nodes(new_url: Callable[[], str]) -> Iterator[tuple[Node, Node]]:
    """One database, opened twice as by two processes.

    All tests share it, because an engine that has compiled its statements is several times faster.
    """
    url = new_url()
    upgrade_database(url)
    nodes = (open_node(url), open_node(url))
    yield nodes
    for one in nodes:
        one.database.close()


RESTART_NUMBERS = {
    "sqlite": "DELETE FROM sqlite_sequence",
    "postgresql": "TRUNCATE " + ", ".join(Base.metadata.tables) + " RESTART IDENTITY",
}


@contextmanager
def without_triggers(session: Session) -> Iterator[None]:
    """Take away what guards the audit trail, as an intruder would."""
    if session.get_bind().dialect.name == "postgresql":
        session.execute(text("ALTER TABLE audit DISABLE TRIGGER USER"))
        yield
        session.execute(text("ALTER TABLE audit ENABLE TRIGGER USER"))
        return
    triggers = session.execute(text("SELECT name, sql FROM sqlite_master WHERE type = 'trigger'"))
    made = {row.name: row.sql for row in triggers}
    for name in made:
        session.execute(text(f"DROP TRIGGER {name}"))
    yield
    for statement in made.values():
        session.execute(text(statement))


@pytest.fixture
def node(shared_nodes: tuple[Node, Node]) -> Node:
    """A node whose database has no rows."""
    database = shared_nodes[0].database
    with database.write() as session, without_triggers(session):
        for table in reversed(Base.metadata.sorted_tables):
            session.execute(delete(table))
        session.execute(text(RESTART_NUMBERS[database.dialect]))
    return shared_nodes[0]


@pytest.fixture
def unguarded() -> Callable[[Session], AbstractContextManager[None]]:
    return without_triggers


@pytest.fixture
def other_node(shared_nodes: tuple[Node, Node]) -> Node:
    """The same database as `node`, as another process has it."""
    return shared_nodes[1]


@pytest.fixture
def url(new_url: Callable[[], str]) -> str:
    """The URL of an upgraded database of its own."""
    url = new_url()
    upgrade_database(url)
    return url


@pytest.fixture
def header() -> Callable[..., InstanceHeader]:
    return make_header


@pytest.fixture
def files(tmp_path: Path) -> FileStore:
    return FileStore(tmp_path / "data")


@pytest.fixture
def moment() -> Callable[[float], datetime]:
    """Give the moment so many seconds after noon."""
    return at

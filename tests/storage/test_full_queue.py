"""Thousands of small series: what the scheduler does again and again looks only at what is open."""

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import product
from typing import Any

import pytest
from sqlalchemy import Engine, event, insert, text

from benchmarks.job_search import fill
from config.rules import RuleAction
from storage.job_query import JobQuery, JobSort
from storage.moments import Moments
from storage.open_series import Patience
from storage.overview import look_over
from storage.states import JobState
from storage.tables import SeriesRow

SETTLED = 5_000


@contextmanager
def statements(engine: Engine) -> Iterator[list[tuple[str, Any]]]:
    """Collect what is executed."""
    seen: list[tuple[str, Any]] = []

    def take(connection: Any, cursor: Any, statement: str, parameters: Any, *_: Any) -> None:
        if statement.startswith(("SELECT", "UPDATE")):
            seen.append((statement, parameters))

    event.listen(engine, "before_cursor_execute", take)
    try:
        yield seen
    finally:
        event.remove(engine, "before_cursor_execute", take)


@pytest.fixture
def full(node: Any, moment: Any) -> Any:
    """A node that has settled very many series, and has one that is open."""
    rows = [
        {
            "series_uid": f"1.9.{number}",
            "study_uid": "1.9",
            "modality": "CT",
            "calling_ae_title": "SCANNER",
            "instance_count": 1,
            "first_received_at": moment(-number),
            "last_received_at": moment(-number),
            "settled": True,
            "settled_at": moment(0),
            "decision": RuleAction.SKIP,
        }
        for number in range(SETTLED)
    ]
    with node.database.write() as session:
        session.connection().execute(insert(SeriesRow), rows)
    node.receive()
    node.running("1.2.3.5")
    if node.database.dialect == "postgresql":
        # It does so by itself, soon; SQLite never does.
        with node.database.write() as session:
            session.execute(text("ANALYZE"))
    return node


def test_settled_series_are_not_looked_at(full: Any, moment: Any) -> None:
    engine = full.database._engine
    with statements(engine) as seen:
        [ready] = full.open_series.list_settleable(Patience(quiet_s=2), moment(100))
        Moments(full.database).mend(moment(-36000))
        full.jobs.release_abandoned(3, moment(0))
        full.open_series.summarize()
        full.jobs.claim("w2", 30, moment(100))
        full.claim(second=100)
        full.claim_proof(second=100)
    assert ready.series_uid == "1.2.3.4"
    assert len(seen) > 8
    explain = "EXPLAIN" if full.database.dialect == "postgresql" else "EXPLAIN QUERY PLAN"
    with engine.connect() as connection:
        for statement, parameters in seen:
            rows = connection.exec_driver_sql(f"{explain} {statement}", parameters)
            plan = "\n".join(str(row[-1]) for row in rows)
            assert "Seq Scan on series" not in plan, statement
            assert "SCAN series" not in plan.replace("SCAN series USING INDEX ix_series_open", "")


def test_a_list_is_as_quick_as_it_is_long(full: Any) -> None:
    with statements(full.database._engine) as seen:
        assert len(full.catalog.list_series(limit=50)) == 50
    [(statement, parameters)] = seen
    explain = "EXPLAIN" if full.database.dialect == "postgresql" else "EXPLAIN QUERY PLAN"
    with full.database._engine.connect() as connection:
        rows = connection.exec_driver_sql(f"{explain} {statement}", parameters)
        assert "ix_series_first_received_at" in "\n".join(str(row[-1]) for row in rows)


def plans(node: Any, seen: list[tuple[str, Any]]) -> Iterator[tuple[str, str]]:
    explain = "EXPLAIN" if node.database.dialect == "postgresql" else "EXPLAIN QUERY PLAN"
    with node.database._engine.connect() as connection:
        for statement, parameters in seen:
            rows = connection.exec_driver_sql(f"{explain} {statement}", parameters)
            yield statement, "\n".join(str(row[-1]) for row in rows)


def test_among_very_many_jobs_those_that_are_wanted_are_found_by_an_index(
    node: Any, moment: Any
) -> None:
    fill(node.database, 12_000)
    some = ({}, {"states": [JobState.CONFIRMED, JobState.DELIVERED]})
    places = ({}, {"after": 6_000}, {"at_end": True})
    for sort, which, place in product(JobSort, some, places):
        with statements(node.database._engine) as seen:
            page = node.jobs.search(JobQuery(sort=sort, **which, **place))
        assert page.has_more_than_total
        [plan] = [plan for text, plan in plans(node, seen) if "ORDER BY" in text]
        for slow in ("TEMP B-TREE FOR ORDER BY", "Seq Scan", "Hash"):
            assert slow not in plan

    with statements(node.database._engine) as seen:
        look_over(node.database, moment(0))
    for statement, plan in plans(node, seen):
        for table in ("series", "delivery"):
            assert f"Seq Scan on {table}" not in plan, statement
            assert f"SCAN {table}" not in plan.replace(f"SCAN {table} USING INDEX", ""), statement

"""A hundred thousand jobs: how long each search, order and page of them takes.

    python -m benchmarks.job_search [--jobs 100000] [--rounds 5] [--only sqlite]

The rows are those of some years of a department: patients with several studies, series that were
rejected, failed or are under way, the history of each job, deliveries to two archives. They are
written as rows, not through the stores, which would take an hour. Then each search is timed on
SQLite, and on PostgreSQL where that is installed.
"""

import argparse
import random
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from sqlalchemy import insert, text

from benchmarks.postgresql import PostgreSql, find_programs
from config.rules import RuleAction
from storage.database import Database, open_database, upgrade_database
from storage.job_query import JobQuery, JobSort
from storage.jobs import Jobs
from storage.overview import look_over
from storage.states import DeliveryState, JobState
from storage.tables import DeliveryRow, JobEventRow, JobRow, SeriesRow

END = datetime(2026, 11, 1, tzinfo=UTC)
MINUTES = 20
"""Between two jobs, so that a hundred thousand are four years."""
FAMILIES = ("SMITH", "Müller", "GARCÍA", "NGUYEN", "JONES", "Kowalski", "ROSSI", "Østergård")
GIVEN = ("ANNA", "BEN", "CLARA", "DAVID", "EVA", "FINN", "GRETA", "HUGO", "IDA", "JONAS")
SCANNERS = ("CT1", "CT2", "CT3", "PACS")
RULES = ("abdomen", "liver", "CT", "research")
STATES = {
    JobState.CONFIRMED: 70,
    JobState.DELIVERED: 15,
    JobState.REJECTED: 8,
    JobState.SUPERSEDED: 4,
    JobState.FAILED: 2,
    JobState.CANCELED: 1,
}
UNDER_WAY = (
    *[JobState.QUEUED] * 40,
    *[JobState.RUNNING] * 2,
    *[JobState.PRODUCED] * 3,
    *[JobState.DELIVERING] * 5,
)
"""Of the newest jobs."""
SUMMARY = {"lesions": [{"number": n, "volume_ml": 1.5, "note": "x" * 200} for n in range(8)]}
"""About as long as that of a real job."""
BATCH = 5000


def main() -> None:
    """Print a table for each database."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=_Raw)
    parser.add_argument("--jobs", type=int, default=100_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--only", choices=("sqlite", "postgresql"))
    options = parser.parse_args()
    times: dict[str, dict[str, float]] = {}
    if options.only != "postgresql":
        with tempfile.TemporaryDirectory() as folder:
            url = f"sqlite:///{Path(folder) / 'hepar.db'}"
            times["SQLite"] = _measure(url, options.jobs, options.rounds)
    programs = find_programs()
    if options.only != "sqlite" and programs is not None:
        with _server(programs) as server:
            times["PostgreSQL"] = _measure(server.new_database(), options.jobs, options.rounds)
    print(f"| {options.jobs:,} jobs, ms | {' | '.join(times)} |")
    print(f"|---|{'---|' * len(times)}")
    for what in next(iter(times.values())):
        print(f"| {what} | {' | '.join(f'{found[what]:.1f}' for found in times.values())} |")


class _Raw(argparse.RawDescriptionHelpFormatter):
    pass


@contextmanager
def _server(programs: Path) -> Iterator[PostgreSql]:
    server = PostgreSql(programs=programs)
    server.start()
    try:
        yield server
    finally:
        server.stop()


def _measure(url: str, count: int, rounds: int) -> dict[str, float]:
    upgrade_database(url)
    with open_database(url) as database:
        fill(database, count)
        return {
            what: _median_ms(step, rounds) for what, step in _list_steps(database, count).items()
        }


def fill(database: Database, count: int) -> None:
    """Write so many jobs, and what belongs to them."""
    luck = random.Random(7)
    for first in range(0, count, BATCH):
        numbers = range(first, min(first + BATCH, count))
        rows = [_make_rows(number, count, luck) for number in numbers]
        with database.write() as session:
            connection = session.connection()
            for table, which in ((SeriesRow, 0), (JobRow, 1), (JobEventRow, 2), (DeliveryRow, 3)):
                connection.execute(insert(table), [row for each in rows for row in each[which]])
    if database.dialect == "postgresql":
        with database.write() as session:
            # It does so by itself, soon.
            session.execute(text("ANALYZE"))


def _make_rows(number: int, count: int, luck: random.Random) -> tuple[list[dict[str, Any]], ...]:
    job_id = number + 1
    created = END - timedelta(minutes=MINUTES * (count - number))
    left = count - number
    state = (
        UNDER_WAY[-left]
        if left <= len(UNDER_WAY)
        else luck.choices(list(STATES), list(STATES.values()))[0]
    )
    patient = luck.randrange(count // 3)
    series_uid = f"1.2.826.0.1.3680043.{patient}.{number}.1"
    name = f"{FAMILIES[patient % len(FAMILIES)]}{patient % 997}^{GIVEN[patient % len(GIVEN)]}"
    texts = {
        "patient_id": f"PID{patient:07d}",
        "patient_name": name,
        "accession_number": f"A{created:%y%m}{number:06d}",
    }
    scanner = luck.choices(SCANNERS, (50, 30, 15, 5))[0]
    series = {
        "series_uid": series_uid,
        "study_uid": f"1.2.826.0.1.3680043.{patient}.{number}",
        "modality": "CT",
        "calling_ae_title": scanner,
        "instance_count": 200,
        "first_received_at": created - timedelta(seconds=90),
        "last_received_at": created - timedelta(seconds=10),
        "settled": True,
        "settled_at": created,
        "decision": RuleAction.PROCESS,
        "rule": luck.choices(RULES, (60, 25, 14, 1))[0],
        "reason": "The series is a CT of the abdomen with slices of at most 5 mm.",
        "content_digest": f"{number:064d}",
        "size_bytes": 10**8,
        "study_date": f"{created:%Y-%m-%d}",
        "study_description": "CT abdomen",
        "series_description": "portal venous 2.0",
        **texts,
        **{f"{key}_key": value for key, value in texts.items()},
    }
    done = created + timedelta(minutes=luck.randrange(1, 600))
    ended = state in STATES
    job = {
        "id": job_id,
        "series_uid": series_uid,
        "study_uid": series["study_uid"],
        "content_digest": series["content_digest"],
        "calling_ae_title": scanner,
        "model_name": "hepar-liver-ct",
        "model_version": "0.3.0",
        "model_digest": "d" * 64,
        "state": state,
        "created_at": created,
        "updated_at": done if ended else created,
        "started_at": created,
        "finished_at": done if ended else None,
        "lease_until": END if state is JobState.RUNNING else None,
        "worker": "node:1",
        "summary": SUMMARY,
        "reason": "",
    }
    events = [
        {
            "job_id": job_id,
            "at": created + timedelta(minutes=minute),
            "actor": "scheduler",
            "from_state": None,
            "to_state": to,
            "detail": "",
        }
        for minute, to in enumerate((JobState.QUEUED, JobState.RUNNING, JobState.PRODUCED, state))
    ]
    return [series], [job], events, list(_make_deliveries(job))


def _make_deliveries(job: dict[str, Any]) -> Iterator[dict[str, Any]]:
    state = job["state"]
    if state in (JobState.QUEUED, JobState.RUNNING, JobState.FAILED, JobState.CANCELED):
        return
    pending = state in (JobState.PRODUCED, JobState.DELIVERING)
    for destination in ("archive", "research") if job["id"] % 20 == 0 else ("archive",):
        yield {
            "job_id": job["id"],
            "destination": destination,
            "state": DeliveryState.PENDING if pending else DeliveryState.DELIVERED,
            "next_attempt_at": job["created_at"],
            "created_at": job["created_at"],
            "updated_at": job["updated_at"],
        }


def _list_steps(database: Database, count: int) -> dict[str, Callable[[], object]]:
    jobs = Jobs(database)
    middle = count // 2
    some = jobs.search(JobQuery(after=middle, limit=1)).hits[0]
    month = END - timedelta(days=400)
    queries = {
        "all": JobQuery(),
        "a patient ID": JobQuery(patient_id=some.series.patient_id.lower()),
        "patient IDs that begin alike, 1 of 10": JobQuery(patient_id="pid000"),
        "patient IDs that begin alike, all": JobQuery(patient_id="pid"),
        "a family name, 1 of 8": JobQuery(patient_name="muller"),
        "an accession number": JobQuery(accession_number=some.series.accession_number),
        "a study UID": JobQuery(study_uid=some.job.study_uid),
        "a series UID": JobQuery(series_uid=some.job.series_uid),
        "text: a patient ID": JobQuery(text=some.series.patient_id),
        "text: accession numbers of a month": JobQuery(text=some.series.accession_number[:5]),
        "text: a study UID": JobQuery(text=some.job.study_uid),
        "text: nothing": JobQuery(text="nothing"),
        "CONFIRMED, 7 of 10": JobQuery(states=[JobState.CONFIRMED]),
        "FAILED or REJECTED, 1 of 10": JobQuery(states=[JobState.FAILED, JobState.REJECTED]),
        "QUEUED": JobQuery(states=[JobState.QUEUED]),
        "from a scanner, 1 of 2": JobQuery(calling_ae_title="CT1"),
        "from a scanner, 1 of 20": JobQuery(calling_ae_title="PACS"),
        "to an archive, all": JobQuery(destination="archive"),
        "to an archive, 1 of 20": JobQuery(destination="research"),
        "by a rule, 6 of 10": JobQuery(rule="abdomen"),
        "by a rule, 1 of 100": JobQuery(rule="research"),
        "of 30 days": JobQuery(since=month, until=month + timedelta(days=30)),
        "since 400 days": JobQuery(since=month),
        "until 400 days ago": JobQuery(until=month),
        "FAILED, by a rule, from a scanner": JobQuery(
            states=[JobState.FAILED], rule="liver", calling_ae_title="CT2"
        ),
        "CONFIRMED, by a rule, from a scanner": JobQuery(
            states=[JobState.CONFIRMED], rule="abdomen", calling_ae_title="CT1"
        ),
        "CONFIRMED, by patient ID": JobQuery(
            states=[JobState.CONFIRMED], sort=JobSort.PATIENT_ID, descending=False
        ),
        "until 400 days ago, by last change": JobQuery(until=month, sort=JobSort.UPDATED),
        "a family name, by last change": JobQuery(patient_name="muller", sort=JobSort.UPDATED),
        "from a scanner, by state": JobQuery(calling_ae_title="CT1", sort=JobSort.STATE),
    }
    steps: dict[str, Callable[[], object]] = {}

    def add(what: str, query: JobQuery) -> None:
        steps[what] = lambda: jobs.search(query)

    for what, query in queries.items():
        add(what, query)
    for sort in JobSort:
        for descending in (False, True):
            ordered = JobQuery(sort=sort, descending=descending)
            name = f"by {sort.value}, {'descending' if descending else 'ascending'}"
            add(f"{name}: first page", ordered)
            add(f"{name}: a page in the middle", replace(ordered, after=middle))
            add(f"{name}: last page", replace(ordered, at_end=True))
    steps["all that goes on (hepar status)"] = lambda: look_over(database, END)
    return steps


def _median_ms(step: Callable[[], object], rounds: int) -> float:
    times = []
    for _ in range(rounds):
        begin = time.perf_counter()
        step()
        times.append(time.perf_counter() - begin)
    return sorted(times)[rounds // 2] * 1e3


if __name__ == "__main__":
    main()

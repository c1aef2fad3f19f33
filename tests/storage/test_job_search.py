"""What people look for, page by page, in few jobs and among very many."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from benchmarks.job_search import fill
from config.rules import RuleAction
from dicom_io.description import SeriesDescription
from dicom_io.rules import Decision
from storage import job_search
from storage.errors import NotFound
from storage.job_query import JobQuery, JobSort
from storage.records import JobRecord, NewJob
from storage.states import JobState

PEOPLE = {
    "1.1": SeriesDescription(patient_id="abc1", patient_name="Müller^Zoë", accession_number="A-1"),
    "1.2": SeriesDescription(patient_id="ABC2", patient_name="MULLER^BEN", accession_number="a-10"),
    "1.3": SeriesDescription(patient_id="X_1", patient_name="Doe^John", accession_number="B%"),
}


def settle(
    node: Any, uid: str, described: SeriesDescription, second: float, rule: str
) -> JobRecord:
    node.receive(series_uid=uid, study_instance_uid=f"{uid}.0", second=second)
    job = node.catalog.settle(
        node.catalog.get_series(uid),
        Decision(action=RuleAction.PROCESS, rule=rule, reason="It is a CT series."),
        job=NewJob(model_name="liver", model_version="1", model_digest="m1"),
        now=node.catalog.get_series(uid).last_received_at,
        described=described,
    )
    assert isinstance(job, JobRecord)
    return job


@pytest.fixture
def people(node: Any) -> Any:
    """A node with three jobs of three patients, of which the first has results on their way."""
    for number, (uid, described) in enumerate(PEOPLE.items()):
        settle(node, uid, described, second=10 * number, rule=f"rule {number % 2}")
    job = node.jobs.claim("w1", 30, node.catalog.get_series("1.3").last_received_at)
    node.produce(job.id, ("pacs",))
    return node


@pytest.mark.parametrize(
    ("wanted", "found"),
    [
        ({}, [3, 2, 1]),
        ({"patient_id": "abc"}, [2, 1]),
        ({"patient_id": " ABC1 "}, [1]),
        ({"patient_id": "x_"}, [3]),
        ({"patient_id": "x%"}, []),
        ({"patient_name": "muller"}, [2, 1]),
        ({"patient_name": "MÜLLER, zoe"}, [1]),
        ({"patient_name": "doe^j"}, [3]),
        ({"accession_number": "a-1"}, [2, 1]),
        ({"accession_number": "B%"}, [3]),
        ({"study_uid": "1.2.0"}, [2]),
        ({"series_uid": "1.2"}, [2]),
        ({"states": [JobState.QUEUED]}, [3, 2]),
        ({"states": [JobState.QUEUED, JobState.PRODUCED]}, [3, 2, 1]),
        ({"calling_ae_title": "SCANNER"}, [3, 2, 1]),
        ({"calling_ae_title": "OTHER"}, []),
        ({"destination": "pacs"}, [1]),
        ({"rule": "rule 0"}, [3, 1]),
        ({"text": "abc"}, [2, 1]),
        ({"text": "b%"}, [3]),
        ({"text": "1.3"}, [3]),
        ({"text": "1.2.0 "}, [2]),
        ({"text": "muller"}, []),
        ({"patient_id": "abc", "states": [JobState.QUEUED], "rule": "rule 1"}, [2]),
        ({"patient_id": "abc", "destination": "pacs"}, [1]),
    ],
)
@pytest.mark.parametrize("counted", [job_search.COUNTED, 0], ids=["few", "many"])
def test_each_filter(
    people: Any, monkeypatch: Any, counted: int, wanted: dict[str, Any], found: list[int]
) -> None:
    monkeypatch.setattr(job_search, "COUNTED", counted)
    page = people.jobs.search(JobQuery(**wanted))
    assert [hit.job.id for hit in page.hits] == found
    if counted:
        assert (page.total, page.has_more_than_total) == (len(found), False)
    else:
        assert (page.total, page.has_more_than_total) == (0, bool(found))


def test_a_hit_says_whose_it_is(people: Any) -> None:
    [hit] = people.jobs.search(JobQuery(text="abc1")).hits
    assert hit.job == people.jobs.get(1)
    assert hit.series == PEOPLE["1.1"]
    assert hit.rule == "rule 0"


def test_dates_are_those_of_creation_and_the_last_is_left_out(people: Any, moment: Any) -> None:
    def ids(**bounds: Any) -> list[int]:
        return [hit.job.id for hit in people.jobs.search(JobQuery(**bounds)).hits]

    assert ids(since=moment(10)) == [3, 2]
    assert ids(until=moment(10)) == [1]
    assert ids(since=moment(5), until=moment(20)) == [2]


def test_a_page_beside_no_job(people: Any) -> None:
    with pytest.raises(NotFound, match="there is no job 9"):
        people.jobs.search(JobQuery(after=9))


def walk(node: Any, query: JobQuery) -> Iterator[list[int]]:
    """Give the pages of a search, from the first to the last and back."""
    page = node.jobs.search(query)
    assert not page.has_previous
    yield [hit.job.id for hit in page.hits]
    while page.has_next:
        page = node.jobs.search(replace(query, after=page.hits[-1].job.id))
        assert page.has_previous
        yield [hit.job.id for hit in page.hits]


@pytest.mark.parametrize("counted", [job_search.COUNTED, 0], ids=["few", "many"])
@pytest.mark.parametrize("descending", [False, True])
@pytest.mark.parametrize("sort", JobSort)
def test_pages_have_each_job_once_and_in_order(
    node: Any, monkeypatch: Any, sort: JobSort, descending: bool, counted: int
) -> None:
    monkeypatch.setattr(job_search, "COUNTED", counted)
    fill(node.database, 60)
    query = JobQuery(sort=sort, descending=descending, limit=25)
    pages = list(walk(node, query))
    assert [len(page) for page in pages] == [25, 25, 10]
    all_at_once = node.jobs.search(replace(query, limit=100)).hits
    ids = [job_id for page in pages for job_id in page]
    assert ids == [hit.job.id for hit in all_at_once]
    key = {
        JobSort.CREATED: lambda hit: hit.job.created_at,
        JobSort.UPDATED: lambda hit: hit.job.updated_at,
        JobSort.STATE: lambda hit: hit.job.state.value,
        JobSort.PATIENT_ID: lambda hit: (hit.series.patient_id, hit.job.created_at),
    }[sort]
    keys = [key(hit) for hit in all_at_once]
    assert keys == sorted(keys, reverse=descending)
    last = node.jobs.search(replace(query, at_end=True))
    assert [hit.job.id for hit in last.hits] == ids[-25:]
    assert (last.has_previous, last.has_next) == (True, False)
    before = node.jobs.search(replace(query, before=pages[1][0]))
    assert [hit.job.id for hit in before.hits] == pages[0]
    assert (before.has_previous, before.has_next) == (False, True)


def test_what_is_said_anew_of_a_series_is_found(node: Any, moment: Any) -> None:
    settle(node, "1.1", PEOPLE["1.1"], 0, "CT")
    node.receive(2, series_uid="1.1", second=30)
    settle(node, "1.1", replace(PEOPLE["1.1"], patient_id="NEW"), 40, "CT")
    assert node.jobs.search(JobQuery(patient_id="abc")).total == 0
    assert node.jobs.search(JobQuery(patient_id="new")).total == 2

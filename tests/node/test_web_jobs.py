"""The list of jobs: search, order, pages, several at once, export; and who may see what."""

import csv
import io
import re
import threading
from html import unescape

import pytest
from doubles import BoxSegmenter

from benchmarks.job_search import fill
from node.audit_message import audit_source, write_message
from node.web.job_export import export_jobs
from node.worker import Worker
from storage.job_query import JobQuery
from storage.states import AuditEvent, JobState, UserRole
from storage.tables import SeriesRow

COUNT = 250
ARCHIVE = {"ae_title": "ARCHIVE", "host": "127.0.0.1", "port": 1, "roles": ["destination"]}
SCANNER = {"ae_title": "CT1", "host": "127.0.0.1", "roles": ["source"]}


@pytest.fixture
def held(hold, free_port):
    """A node with many jobs."""
    held = hold(late=12, web={"port": free_port()}, peers={"archive": ARCHIVE, "scanner": SCANNER})
    fill(held.services.database, COUNT)
    return held


@pytest.fixture
def some(held):
    """One of the jobs, and whose it is."""
    return held.services.jobs.search(JobQuery(after=101, limit=1)).hits[0]


@pytest.fixture
def visit(held, serve):
    return serve(held)


@pytest.fixture
def browser(visit):
    return visit("anna", UserRole.OPERATOR)


def shown(page: str) -> list[int]:
    """Give the numbers of the jobs of a page."""
    return [int(one) for one in re.findall(r'<th scope="row"><a href="/jobs/(\d+)">', page)]


def address(page: str, name: str) -> str:
    """Give where a link leads."""
    [found] = set(re.findall(rf'<a[^>]* href="([^"]+)"[^>]*>{name}', page))
    return unescape(found)


def test_all_jobs_are_reached_page_by_page(browser):
    page = browser.get("/jobs").text
    assert "<strong>250</strong> jobs" in page
    seen = shown(page)
    assert seen == list(range(250, 150, -1))
    assert "<span>Previous</span>" in page
    seen += shown(browser.get(address(page, "Next")).text)
    page = browser.get(address(browser.page, "Next")).text
    assert shown(page) == list(range(50, 0, -1))
    assert seen + shown(page) == list(range(250, 0, -1))
    assert "<span>Last</span>" in page
    assert shown(browser.get(address(page, "Previous")).text) == list(range(150, 50, -1))
    assert shown(browser.get(address(browser.page, "First")).text)[0] == 250
    assert shown(browser.get(address(browser.page, "Last")).text) == list(range(100, 0, -1))


@pytest.mark.parametrize(
    ("query", "meets"),
    [
        ("state=FAILED&state=REJECTED", {"states": [JobState.FAILED, JobState.REJECTED]}),
        ("source=CT1", {"calling_ae_title": "CT1"}),
        ("source=scanner", {"calling_ae_title": "CT1"}),
        ("to=research", {"destination": "research"}),
        ("rule=liver", {"rule": "liver"}),
        ("rule=liver&source=CT2", {"rule": "liver", "calling_ae_title": "CT2"}),
    ],
)
def test_filters_are_in_the_address(held, browser, query, meets):
    found = held.services.jobs.search(JobQuery(**meets))
    assert found.hits
    page = browser.get(f"/jobs?{query}").text
    assert shown(page) == [hit.job.id for hit in found.hits]


def test_days_are_whole_ones(held, browser):
    created = {one.id: one.created_at.astimezone().date() for one in held.services.jobs.list_jobs()}
    day = created[200]
    page = browser.get(f"/jobs?since={day}&until={day}").text
    assert shown(page) == [number for number, one in created.items() if one == day]


def test_what_is_told_of_patients_is_not_in_the_address(held, browser, some):
    browser.get("/jobs")
    terms = {
        "text": some.series.patient_id.lower(),
        "patient": some.series.patient_id,
        "name": some.series.patient_name.split("^")[0],
        "accession": some.series.accession_number,
    }
    for key, value in terms.items():
        answer = browser.post("/jobs/search", **{key: value}, sort="created", order="asc")
        assert some.job.id in shown(browser.page), key
        for visited in [answer, *answer.history]:
            assert value not in str(visited.url)
        assert "find=" in str(answer.url)
        assert f'value="{value}"' in browser.page, "it can be changed"
    browser.post("/jobs/search", name="Müller", rule="liver")
    found = held.services.jobs.search(JobQuery(patient_name="Müller", rule="liver"))
    assert shown(browser.page) == [hit.job.id for hit in found.hits]
    assert "rule=liver" in address(browser.page, "Created")


def test_a_search_without_patients_can_be_bookmarked(browser, some):
    browser.get("/jobs")
    answer = browser.post(
        "/jobs/search", text="", rule="liver", since="", sort="state", order="asc"
    )
    assert answer.url.query == b"rule=liver&sort=state&order=asc"
    answer = browser.post("/jobs/search", study=some.job.study_uid)
    assert shown(answer.text) == [some.job.id]


def test_what_was_searched_for_is_for_its_visitor_only_and_may_be_forgotten(visit, browser, some):
    browser.get("/jobs")
    url = browser.post("/jobs/search", patient=some.series.patient_id, rule=some.rule).url
    other = visit("ben", UserRole.OPERATOR)
    page = other.get(url.raw_path.decode())
    assert "no longer known; search again" in page.text
    assert page.url.query == f"rule={some.rule}".encode()
    assert other.get(f"/jobs/export.csv?{url.query.decode()}").status_code == 404


def test_columns_sort_both_ways(held, browser):
    page = browser.get("/jobs").text
    assert 'aria-sort="descending"' in page
    up = browser.get(address(page, "Created")).text
    assert shown(up)[0] == 1
    assert 'aria-sort="ascending"' in up
    by_patient = browser.get(address(page, "Patient")).text
    ids = [held.services.jobs.get(number).series_uid for number in shown(by_patient)]
    patients = [held.services.catalog.get_series(uid).patient_id for uid in ids]
    assert patients == sorted(patients)


@pytest.mark.parametrize(
    ("query", "status"),
    [
        ("state=LOST", 422),
        ("since=yesterday", 422),
        ("since=0001-01-01", 422),
        ("after=99999999999999999999", 422),
        ("after=251", 404),
        ("sort=name", 422),
        ("rule=%00", 422),
        ("since=&until=", 200),
        ("find=unknown", 200),
    ],
)
def test_odd_addresses_are_told(browser, query, status):
    assert browser.get(f"/jobs?{query}").status_code == status


def test_who_looks_at_whom_is_written_down(held, browser, some):
    browser.get("/jobs")
    browser.post("/jobs/search", patient=some.series.patient_id)
    line, before = held.services.audit.list_entries([AuditEvent.DATA_VIEWED])
    assert some.job.id in line.detail["jobs"]
    assert line.detail["searched"] == ["patient"]
    assert (line.actor, line.address) == ("user:anna", "127.0.0.1")
    assert before.detail["jobs"] == list(range(250, 150, -1))


@pytest.fixture
def hidden(hold, serve, free_port):
    """A viewer who sees no patient data."""
    held = hold(late=12, web={"port": free_port(), "hide_patients": True})
    fill(held.services.database, COUNT)
    return held, serve(held)("anna", UserRole.VIEWER)


def test_who_may_not_see_patients_finds_nobody_out(hidden):
    held, browser = hidden
    page = browser.get("/jobs").text
    assert len(shown(page)) == 100
    some = held.services.jobs.search(JobQuery(limit=1)).hits[0].series
    for told in (some.patient_id, some.patient_name, some.accession_number):
        assert told not in page
    for key in ("text", "patient", "name", "accession"):
        browser.get("/jobs")
        assert browser.post("/jobs/search", **{key: "P"}).status_code == 403
    assert browser.get("/jobs?sort=patient-id").status_code == 403
    assert browser.get("/jobs/export.csv").status_code == 403
    assert shown(browser.get("/jobs?rule=liver").text)
    assert held.services.audit.list_entries([AuditEvent.DATA_VIEWED]) == []


def test_a_viewer_does_not_act(visit):
    browser = visit("ben", UserRole.VIEWER)
    page = browser.get("/jobs").text
    assert 'type="checkbox" name="job"' not in page
    assert "export.csv" not in page
    assert browser.post("/jobs/act", action="cancel", job=250).status_code == 403
    assert browser.get("/jobs/export.csv").status_code == 403


def test_several_jobs_at_once_and_each_says_what_became_of_it(held, browser):
    done = held.services.jobs.list_jobs(states=[JobState.CONFIRMED], limit=1)[0].id
    queued = [one.id for one in held.services.jobs.list_jobs(states=[JobState.QUEUED], limit=2)]
    browser.get("/jobs?rule=liver")
    answer = browser.post(
        "/jobs/act", action="cancel", job=[*queued, done, queued[0], 999], back="rule=liver&told=x"
    )
    assert answer.url.params["rule"] == "liver"
    assert "2 done" in answer.text
    assert "2 refused" in answer.text
    assert f"job {done} is CONFIRMED and cannot" in answer.text
    assert "there is no job 999" in answer.text
    assert [held.services.jobs.get(one).state for one in queued] == [JobState.CANCELED] * 2
    lines = held.services.audit.list_entries([AuditEvent.ACTION])
    assert [line.detail for line in lines] == [
        {"action": "cancel job", "job": one} for one in reversed(queued)
    ]
    assert all(line.patient_id for line in lines)
    assert "2 done" not in browser.get("/jobs?rule=liver").text


def test_nothing_selected_is_told(browser):
    browser.get("/jobs")
    answer = browser.post("/jobs/act", action="retry")
    assert answer.status_code == 422
    assert "Select at least one job" in answer.text


def test_retry_resend_and_reprocess(hold, serve, free_port):
    held = hold(web={"port": free_port()}, peers={"archive": ARCHIVE})
    held.queue()
    Worker(held.services, BoxSegmenter(), threading.Event()).work_once()
    browser = serve(held)("anna", UserRole.OPERATOR)

    def act(**fields) -> str:
        browser.get("/jobs")
        return browser.post("/jobs/act", job=1, **fields).text

    assert "is sent again to archive" in act(action="resend")
    assert "1 done" in act(action="cancel")
    assert "is tried again; it is DELIVERING" in act(action="retry")
    assert "there is no model package" in act(action="reprocess", model="nowhere")
    assert "gives its place to job 2, for hepar-liver-ct" in act(action="reprocess")
    assert held.services.jobs.get(1).state is JobState.SUPERSEDED
    actions = [one.detail for one in held.services.audit.list_entries([AuditEvent.ACTION])]
    assert [one["action"] for one in actions] == [
        "reprocess",
        "retry job",
        "cancel job",
        "resend job",
    ]
    assert (actions[0]["new_job"], actions[-1]["to"]) == (2, "archive")


def test_what_is_found_is_taken_along(held, browser, monkeypatch):
    monkeypatch.setattr("node.web.job_export._AT_ONCE", 7)
    browser.get("/jobs")
    browser.post("/jobs/search", name="Müller")
    answer = browser.get(address(browser.page, "Export"))
    assert "attachment" in answer.headers["content-disposition"]
    rows = list(csv.DictReader(io.StringIO(answer.content.decode("utf-8-sig"))))
    found = held.services.jobs.search(JobQuery(patient_name="Müller")).hits
    assert [int(row["job"]) for row in rows] == [hit.job.id for hit in found]
    assert rows[0]["patient name"] == found[0].series.patient_name
    [line] = held.services.audit.list_entries([AuditEvent.DATA_EXPORTED])
    assert line.detail["searched"] == ["name"]
    assert "ller" not in str(line), "the trail has no names"


def test_spreadsheets_run_nothing_that_a_sender_has_written(hold):
    held = hold()
    held.queue()
    with held.services.database.write() as session:
        row = session.get_one(SeriesRow, held.series_uid)
        row.patient_name, row.series_description = "=HYPERLINK(1)", 'a "b", c'
    text = "".join(export_jobs(held.services.jobs, JobQuery()))
    [row] = csv.DictReader(io.StringIO(text.removeprefix("\ufeff")))
    assert row["patient name"] == "'=HYPERLINK(1)"
    assert row["series description"] == 'a "b", c'


def test_texts_of_senders_are_only_texts(hold, serve, free_port):
    held = hold(web={"port": free_port()})
    held.queue()
    with held.services.database.write() as session:
        row = session.get_one(SeriesRow, held.series_uid)
        row.patient_name = "<script>alert(1)</script>"
    page = serve(held)("anna").get("/jobs").text
    assert "<script>alert" not in page
    assert "&lt;script&gt;alert" in page


def test_lines_of_the_trail_are_messages_too(held, browser):
    browser.get("/jobs")
    browser.get("/jobs/export.csv")
    source = audit_source(held.services.settings)
    seen, exported = (
        write_message(held.services.audit.list_entries([event])[0], source)
        for event in (AuditEvent.DATA_VIEWED, AuditEvent.DATA_EXPORTED)
    )
    assert b'csd-code="110112"' in seen
    assert b'csd-code="110106"' in exported

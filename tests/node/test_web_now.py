"""The page Now: what goes on, and suspend and resume."""

import threading

import pytest
from doubles import BoxSegmenter

from node.clock import utc_now
from node.roles import Role
from node.worker import Worker
from storage.records import AlertFinding
from storage.states import AuditEvent, UserRole, Work
from storage.tables import SeriesRow

ARCHIVE = {"ae_title": "ARCHIVE", "host": "127.0.0.1", "port": 1, "roles": ["destination"]}
SCANNER = {"ae_title": "SCANNER", "host": "127.0.0.1", "roles": ["source"]}


@pytest.fixture
def held(hold, free_port):
    return hold(web={"port": free_port()}, peers={"archive": ARCHIVE, "scanner": SCANNER})


def test_a_series_is_seen_on_its_way(held, serve):
    browser = serve(held)("anna", UserRole.VIEWER)
    assert "12 instances" in browser.get("/now/live").text
    held.services.heartbeats.beat(Role.WORKER.value, host="h", pid=1, now=utc_now())
    held.queue()
    page = browser.get("/now/live").text
    assert 'href="/jobs/1"' in page
    assert "a worker takes the next at once" in page
    job = held.services.jobs.claim("w", 30, utc_now())
    held.services.jobs.note_step(job.id, "w", "segment", 0.45)
    page = browser.get("/now/live").text
    assert 'value="0.45"' in page
    assert "segment" in page
    held.services.jobs.release(job.id, "w", utc_now())
    Worker(held.services, BoxSegmenter(), threading.Event()).work_once()
    page = browser.get("/now/live").text
    assert "to archive" in page
    delivery = held.services.deliveries.claim_due(
        "s", destination="archive", lease_s=30, now=utc_now()
    )
    later = utc_now().replace(year=2100)
    held.services.deliveries.attempt_failed(delivery.id, "s", "no answer", later, utc_now())
    page = browser.get("/now/live").text
    assert f'<time datetime="{later.replace(microsecond=0).isoformat()}">' in page
    assert "attempt 1: no answer" in page
    held.services.jobs.cancel(1, "user:ben", utc_now())
    assert "CANCELED" in browser.get("/").text


def test_it_shows_no_patient_data(held, serve):
    held.queue()
    told = {"patient_id": "P-4711", "patient_name": "Doe, Jane", "accession_number": "A-0815"}
    with held.services.database.write() as session:
        row = session.get_one(SeriesRow, held.series_uid)
        for name, text in told.items():
            setattr(row, name, text)
    page = serve(held)("anna", UserRole.OPERATOR).get("/").text
    assert 'href="/jobs/1"' in page
    assert not [text for text in told.values() if text in page]
    assert held.services.audit.list_entries([AuditEvent.DATA_VIEWED]) == []


def test_an_operator_suspends_and_resumes_and_all_pages_say_so(held, serve):
    visit = serve(held)
    browser, other = visit("anna", UserRole.OPERATOR), visit("ben", UserRole.VIEWER)
    browser.get("/")
    browser.post("/now/suspend", work="processing", reason="new <GPU>")
    assert "Processing is suspended." in browser.page
    for path in ("/", "/jobs", "/account"):
        page = other.get(path).text
        assert "Processing is suspended</strong> by anna" in page, path
        assert "new &lt;GPU&gt;" in page
    assert "/now/resume" not in other.get("/").text
    browser.get("/")
    browser.post("/now/suspend", work="processing", reason="again")
    assert "before, by another" in browser.page
    browser.post("/now/resume", work="processing")
    assert "Processing goes on." in browser.page
    assert "is suspended" not in other.get("/jobs").text
    lines = held.services.audit.list_entries([AuditEvent.ACTION])
    assert [(line.detail["action"], line.actor, line.address) for line in lines] == [
        ("resume", "user:anna", "127.0.0.1"),
        ("suspend", "user:anna", "127.0.0.1"),
    ]


@pytest.mark.parametrize("path", ["/now/suspend", "/now/resume"])
def test_a_viewer_only_looks(held, serve, path):
    browser = serve(held)("anna", UserRole.VIEWER)
    assert path not in browser.get("/").text
    browser.get("/account")
    assert browser.post(path, work="delivery", reason="x").status_code == 403
    assert not held.services.pauses.is_suspended(Work.DELIVERY)


@pytest.mark.parametrize(
    "fields",
    [
        {"work": "delivery", "reason": "  "},
        {"work": "delivery", "reason": "x" * 201},
        {"work": "sleep", "reason": "x"},
    ],
    ids=["no reason", "long reason", "no work"],
)
def test_what_cannot_be_suspended_is_told(held, serve, fields):
    browser = serve(held)("anna")
    browser.get("/")
    assert browser.post("/now/suspend", **fields).status_code == 422
    assert held.services.pauses.list_pauses() == []


def test_what_is_wrong_is_at_the_top(held, serve):
    found = AlertFinding(kind="worker-dying", subject="h", message="The worker of h dies.")
    held.services.alerts.see([found], utc_now())
    held.services.heartbeats.beat(Role.RECEIVER.value, host="h", pid=1, now=utc_now())
    page = serve(held)("anna").get("/").text
    assert page.index("The worker of h dies.") < page.index("Receiving")
    assert page.count("does not run") == len(Role) - 1
    assert "GB free" in page


def test_an_empty_node_says_what_to_do_next(hold, serve, free_port):
    held = hold(late=12, web={"port": free_port()}, peers={"scanner": SCANNER}, node={"port": 4711})
    page = serve(held)("anna").get("/").text
    for said in (
        "Nothing has come yet",
        "HEPAR",
        "4711",
        "SCANNER",
        "docs/tutorial.md",
        "hepar demo",
    ):
        assert said in page


def test_an_empty_node_that_nobody_may_send_to_says_so(hold, serve, free_port):
    page = serve(hold(late=12, web={"port": free_port()}))("anna").get("/").text
    assert "No peer may send yet" in page


def test_long_lists_say_how_many_more_there_are(held, serve, monkeypatch):
    held.queue()
    monkeypatch.setattr("node.web.pages.now._SHOWN", 0)
    page = serve(held)("anna").get("/now/live").text
    assert '<a href="/jobs?state=QUEUED">and 1 more</a>' in page

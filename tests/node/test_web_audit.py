"""The audit trail on its page: who may read it, what it shows, and that reading leaves a line."""

import json
import re
import sqlite3
import time
from datetime import UTC, datetime, timedelta

import pytest

from node.clock import utc_now
from storage.records import AuditEntry
from storage.states import AuditEvent, AuditOutcome, UserRole

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)


@pytest.fixture
def held(hold, free_port):
    held = hold(web={"port": free_port()})
    for number in range(3):
        entry = AuditEntry(
            event=AuditEvent.MODEL_RUN,
            actor="worker",
            patient_id=f"PAT-{number}",
            study_uid=f"1.2.{number}",
            outcome=AuditOutcome.SERIOUS_FAILURE if number == 2 else AuditOutcome.SUCCESS,
            detail={"model": "liver", "series": ["1.2.3", "1.2.4"], "<b>": "<i>"},
        )
        held.services.audit.append(entry, NOON + timedelta(days=number))
    return held


@pytest.fixture
def visit(held, serve):
    return serve(held)


def rows(page: str) -> list[str]:
    body = page[page.index("<tbody>") :]
    return [" ".join(re.sub(r"<[^>]+>", " ", row).split()) for row in body.split("<tr>")[1:]]


@pytest.mark.parametrize("path", ["/audit", "/audit/export", "/audit/verify/live"])
def test_only_administrators_read_it(visit, path):
    assert visit("ben", UserRole.OPERATOR).get(path).status_code == 403
    assert visit("anna").get(path).status_code == 200


def test_lines_are_shown_newest_first_as_text(visit):
    page = visit("anna").get("/audit").text
    assert "<b>" not in page
    last = next(row for row in rows(page) if "PAT-2" in row)
    assert "model-run serious-failure worker" in last
    assert "model liver; series 1.2.3, 1.2.4" in last
    assert page.index("PAT-2") < page.index("PAT-0")


@pytest.mark.parametrize(
    ("asked", "shown"),
    [
        ({"patient_id": "PAT-1"}, ["PAT-1"]),
        ({"study_uid": "1.2.2"}, ["PAT-2"]),
        ({"event": "model-run"}, ["PAT-2", "PAT-1", "PAT-0"]),
        ({"actor": "worker", "since": "2026-03-02"}, ["PAT-2", "PAT-1"]),
        ({"since": "2026-03-01", "until": "2026-03-02"}, ["PAT-1", "PAT-0"]),
        ({"patient_id": "PAT-9"}, []),
    ],
)
def test_filters(visit, asked, shown):
    browser = visit("anna")
    page = browser.get("/audit", params=asked).text
    assert [found[0] for row in rows(page) if (found := re.findall(r"PAT-\d", row))] == shown
    exported = browser.get("/audit/export", params=asked).text.splitlines()
    told = [json.loads(line)["patient_id"] for line in exported if "PAT-" in line]
    assert [one for one in told if one in shown] == shown[::-1]


@pytest.mark.parametrize("asked", [{"event": "nonsense"}, {"since": "yesterday"}, {"page": 0}])
def test_what_cannot_be_asked_is_told(visit, asked):
    assert visit("anna").get("/audit", params=asked).status_code == 422


def test_pages_of_a_hundred(held, visit):
    for number in range(150):
        entry = AuditEntry(event=AuditEvent.QUERY_SENT, actor="scheduler", detail={"n": number})
        held.services.audit.append(entry, utc_now())
    browser = visit("anna")
    first = browser.get("/audit?event=query-sent").text
    assert len(rows(first)) == 100
    assert 'rel="prev"' not in first
    older = re.search(r'rel="next" href="([^"]+)"', first)[1].replace("&amp;", "&")
    second = browser.get(older).text
    assert len(rows(second)) == 50
    assert 'rel="next"' not in second
    assert 'rel="prev"' in second


def test_reading_leaves_one_line_for_each_question(held, visit):
    browser = visit("anna")
    for page in (1, 2, 1):
        browser.get("/audit", params={"page": page})
    browser.get("/audit", params={"patient_id": "PAT-1"})
    browser.get("/audit/export")
    visit("ben").get("/audit")
    lines = held.services.audit.list_entries([AuditEvent.AUDIT_READ])
    assert [(line.actor, line.detail) for line in reversed(lines)] == [
        ("user:anna", {"action": "read", "page": "audit"}),
        ("user:anna", {"action": "read", "page": "audit", "patient_id": "PAT-1"}),
        ("user:anna", {"action": "export", "form": "JSON lines"}),
        ("user:ben", {"action": "read", "page": "audit"}),
    ]


def test_the_export_has_every_line_as_it_is(held, visit):
    answer = visit("anna").get("/audit/export")
    assert re.search(r'filename="hepar-audit-\w+\.jsonl"', answer.headers["content-disposition"])
    lines = [json.loads(line) for line in answer.text.splitlines()]
    kept = list(held.services.audit.read())
    assert [line["id"] for line in lines] == [one.id for one in kept]
    assert lines[0]["digest"] == kept[0].digest
    assert lines[0]["at"] == "2026-03-01T12:00:00+00:00"
    assert lines[-1]["detail"]["action"] == "export"


def test_the_trail_is_verified(held, visit):
    browser = visit("anna")
    browser.get("/audit")
    browser.post("/audit/verify")
    assert "all lines fit together" in wait_for_outcome(browser)
    with sqlite3.connect(held.services.files.data_dir / "hepar.db") as database:
        for (trigger,) in database.execute("SELECT name FROM sqlite_master WHERE type='trigger'"):
            database.execute(f"DROP TRIGGER {trigger}")
        database.execute("UPDATE audit SET patient_id = 'OTHER' WHERE patient_id = 'PAT-1'")
    database.close()
    browser.get("/audit")
    browser.post("/audit/verify")
    assert "line 2 of 2026-03-02 12:00:00 UTC does not fit" in wait_for_outcome(browser)


def wait_for_outcome(browser) -> str:
    for _ in range(100):
        shown = browser.get("/audit/verify/live").text
        if "Verified" in shown:
            return shown
        time.sleep(0.1)
    raise AssertionError(shown)

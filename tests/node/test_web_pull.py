"""A person at a browser looks numbers up in a real archive, and orders studies from it."""

import re
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from browsing import PASSWORD, Browser, add_user
from doubles import WRITTEN, Held
from pydicom import dcmread

from benchmarks.peers import Orthanc
from config import Retrieval
from node.clock import utc_now
from node.exchange import send_files
from node.retriever import Retriever
from node.roles import Role
from node.web.body_limit import MAX_BYTES
from storage.records import RetrievalProgress
from storage.states import AuditEvent, RetrievalState, UserRole

GET = {"ae_title": "ORTHANC", "host": "127.0.0.1"}
MOVE = GET | {"roles": ["source"]}


@dataclass(kw_only=True)
class Pulling:
    """An operator at the pages of a node with a PACS."""

    held: Held
    visit: Callable[..., Browser]
    browser: Browser
    archive: Orthanc | None

    @property
    def services(self):
        return self.held.services

    def give(self, *series: list[Path]) -> None:
        settings = self.services.settings
        for paths in series:
            send_files(settings.node, settings.peers["pacs"], paths)

    def fill(self, path: str, text: str = "", **fields: Any):
        """Send the form as it is in a browser without script."""
        self.browser.get("/pull")
        told = {"peer": "pacs", "key": "accession", "text": text, "at_once": "1"}
        return self.browser.post(path, **(told | fields))

    def choose(self, *wanted: str, **fields: Any):
        """Tick what was looked up, and send that."""
        told = {"peer": "pacs", "is_choice": "1", "wanted": wanted, "when": "now"}
        return self.browser.post("/pull", **(told | fields))

    def work(self) -> None:
        Retriever(self.services, "pacs", "test", threading.Event()).retrieve()

    def rows(self, batch: str = "1"):
        return self.services.retrievals.list_rows(batch)

    def ticks(self) -> dict[str, bool]:
        """Give the boxes of the page that was shown last, and whether they are ticked."""
        boxes = re.findall(r'<input type="checkbox" name="wanted"[^>]*>', self.browser.page)
        return {re.search(r'value="([^"]*)"', box)[1]: " checked" in box for box in boxes}


@pytest.fixture
def pulling(request, hold, serve, free_port) -> Callable[..., Pulling]:
    def make(*, archive: bool = False, peer: dict | None = GET, **sections: Any) -> Pulling:
        orthanc = request.getfixturevalue("orthanc") if archive else None
        if orthanc is not None:
            orthanc.know(11112)
        port = orthanc.port if orthanc else free_port()
        peers = {"pacs": peer | {"port": port}} if peer else {}
        held = hold(web={"port": free_port()}, peers=peers, late=12, **sections)
        visit = serve(held)
        browser = visit("olga", UserRole.OPERATOR)
        return Pulling(held=held, visit=visit, browser=browser, archive=orthanc)

    return make


@pytest.mark.peer
def test_numbers_are_looked_up_chosen_and_fetched(pulling, write):
    pulling = pulling(archive=True)
    paths = write(accession_number="A1", patient_id="P7", study_date="20260203")
    pulling.give(paths, write(accession_number="A2"))
    page = pulling.fill("/pull/look-up", "A1\nA2\nA3\nA1\nB*").text
    assert "2026-02-03" in page
    assert "P7" in page
    assert "nothing under exactly this number" in page
    assert "line 4: <code>A1</code>: it is there already, in line 1" in page
    assert "line 5: <code>B*</code>: * and ? would match others too" in page
    assert pulling.ticks() == {"accession:A1": True, "accession:A2": True}
    assert pulling.services.catalog.list_series() == [], "nothing is fetched"
    shown = pulling.choose("accession:A1")
    assert shown.url.path == "/pull/1"
    assert "WAITING" in shown.text
    pulling.work()
    [row] = pulling.rows()
    assert (row.state, row.fetched) == (RetrievalState.DONE, WRITTEN)
    live = pulling.browser.get("/pull/1/live").text
    assert f'<progress value="{WRITTEN}" max="{WRITTEN}"' in live
    assert "1 series not yet decided on" in live
    assert "<html" not in live


@pytest.mark.peer
def test_the_script_asks_for_one_number_after_the_other(pulling, write):
    pulling = pulling(archive=True)
    two = [write(patient_id="P1"), write(patient_id="P1")]
    pulling.give(*two)
    pulling.browser.get("/pull")
    fields = {"peer": "pacs", "key": "patient", "text": "P1\nP2"}
    page = pulling.browser.post("/pull/look-up", **fields).text
    assert re.findall('data-value="([^"]*)"', page) == ["P1", "P2"]
    assert pulling.services.audit.list_entries([AuditEvent.QUERY_SENT]) == [], "not asked yet"
    rows = pulling.browser.post("/pull/answer", peer="pacs", key="patient", text="P1").text
    assert rows.count('data-outcome="found"') == 2
    uids = {str(dcmread(paths[0]).StudyInstanceUID) for paths in two}
    assert set(pulling.ticks()) == {f"study:{uid}" for uid in uids}
    [asked] = pulling.services.audit.list_entries([AuditEvent.QUERY_SENT])
    assert (asked.actor, asked.address, asked.patient_id) == ("user:olga", "127.0.0.1", "P1")
    assert set(asked.detail["studies"]) == uids


@pytest.mark.peer
def test_what_is_here_is_told_with_its_jobs_and_not_ticked(pulling):
    pulling = pulling(archive=True)
    pulling.give(pulling.held.paths)
    for path in pulling.held.paths:
        pulling.held.receive(path)
    job = pulling.held.queue()
    page = pulling.fill("/pull/look-up", "HP0000").text
    assert "12 instances" in page
    assert f'href="/jobs/{job.id}"' in page
    assert pulling.ticks() == {"accession:HP0000": False}
    pulling.choose("accession:HP0000")
    pulling.work()
    assert f'href="/jobs/{job.id}"' in pulling.browser.get("/pull/1").text


@pytest.mark.peer
def test_a_pacs_that_is_down_says_so_in_each_row(pulling):
    pulling = pulling(archive=True)
    pulling.archive.stop()
    page = pulling.fill("/pull/look-up", "A1,A2").text
    assert page.count("cannot be reached") == 2
    assert pulling.ticks() == {}
    assert pulling.fill("/pull", "A1", when="now").url.path == "/pull/1"
    pulling.work()
    page = pulling.browser.get("/pull/1").text
    assert "cannot be reached" in page
    assert 'id="retry-1"' in page


@pytest.mark.peer
def test_in_a_browser_rows_fill_up_and_a_dead_pacs_stops_it(pulling, write, program):
    program("chromium")
    from benchmarks.viewers.browser import open_page

    pulling = pulling(archive=True)
    pulling.give(write(accession_number="A2"))
    pulling.archive.stop()
    origin = pulling.services.settings.web.address
    with open_page(origin) as page:
        page.goto(f"{origin}/login")
        page.fill("#f-name", "olga")
        page.fill("#f-password", PASSWORD)
        page.click("main button")
        page.goto(f"{origin}/pull")
        page.fill("#f-text", "A1\nA2\nA3\nA4")
        page.click("text=Look them up")
        page.click("text=Go on", trial=True)
        assert "gives no answers" in page.inner_text("#told")
        assert page.inner_text("tbody >> nth=3").endswith("not asked yet")
        pulling.archive.start()
        pulling.archive.know(11112)
        page.click("text=Go on")
        page.wait_for_selector("#told:has-text('All are looked up')")
        assert "1 found, 3 not there" in page.inner_text("#told")
        assert page.inner_text("#ticked") == "1 of 1 studies ticked"
        page.uncheck("#all")
        assert page.is_disabled("#found >> text=Retrieve now")
        page.check("[name=wanted]")
        page.click("#found >> text=Retrieve now")
        page.wait_for_selector("text=Order 1")
        pulling.work()
        page.wait_for_selector(f"td:has-text('{WRITTEN} of {WRITTEN}')")
    assert [row.value for row in pulling.rows()] == ["A2"]


def test_a_file_is_a_list(pulling):
    pulling = pulling()
    pulling.browser.get("/pull")
    content = b"Name;Accession Number\nDoe;A1\nRoe;A2\nDoe;A1\n"
    token = re.search(r'name="form_token" value="([^"]+)"', pulling.browser.page)[1]
    fields = {"form_token": token, "peer": "pacs", "key": "accession", "text": "", "when": "night"}
    answer = pulling.browser.client.post(
        "/pull", data=fields, files={"file": ("list.csv", content, "text/csv")}
    )
    assert answer.url.path == "/pull/1"
    assert "What was there twice is taken once" in answer.text
    assert [(row.value, row.at_night) for row in pulling.rows()] == [("A1", True), ("A2", True)]
    [entry] = pulling.services.audit.list_entries([AuditEvent.ACTION])
    assert (entry.actor, entry.address) == ("user:olga", "127.0.0.1")
    assert entry.detail["action"] == "pull"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("A1\nB*", "line 2: <code>B*</code>: * and ? would match others too"),
        ("", "it is empty; write at least one number"),
        ("1\n2\n3\n4", "it has 4 rows, and may have 1 to 3 (pull.max_rows)"),
        ("Patient ID\nP1", "its header names no accession number"),
    ],
)
def test_what_cannot_be_asked_for_orders_nothing_and_stays_in_the_box(pulling, text, said):
    pulling = pulling(pull={"max_rows": 3})
    answer = pulling.fill("/pull", text, when="now")
    assert answer.status_code == 422
    assert said in answer.text
    assert f">{text}</textarea>" in answer.text
    assert pulling.services.retrievals.list_batches() == []


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"wanted": ["accession:*"]}, "would match others too"),
        ({"wanted": ["nonsense:1"]}, "no kind of number"),
        ({"wanted": []}, "No study is ticked"),
        ({"wanted": ["accession:A"], "peer": "other"}, "There is no PACS"),
        ({"wanted": ["accession:A"], "by": "move"}, "needs &#39;source&#39;"),
        ({"wanted": ["accession:A"], "by": "post"}, "no way to fetch"),
    ],
)
def test_a_wrong_choice_orders_nothing(pulling, fields, said):
    pulling = pulling()
    pulling.browser.get("/pull")
    answer = pulling.browser.post("/pull", **({"peer": "pacs", "is_choice": "1"} | fields))
    assert answer.status_code == 422
    assert said in answer.text
    assert pulling.services.retrievals.list_batches() == []


def test_a_list_that_is_too_large_is_not_read(pulling):
    pulling = pulling()
    answer = pulling.fill("/pull", "A" * MAX_BYTES)
    assert answer.status_code == 413
    assert "send less at once" in answer.text


def test_more_boxes_than_a_form_has_fields_by_default(pulling):
    pulling = pulling(pull={"max_rows": 2000})
    pulling.browser.get("/pull")
    pulling.choose(*(f"accession:{number}" for number in range(1500)))
    assert len(pulling.rows()) == 1500
    assert pulling.browser.get(f"/pull/1?page={10**30}").status_code == 422
    page = pulling.browser.get("/pull/1?page=15").text
    assert ">1499</span>" in page
    assert 'id="after"' not in page


def test_a_peer_is_asked_as_its_settings_say_or_as_the_form_does(pulling):
    pulling = pulling(peer=MOVE | {"poll": {"by": "move"}})
    assert 'name="by"' in pulling.browser.get("/pull").text
    for by in ("", "get"):
        pulling.fill("/pull", "A1", when="now", by=by)
    ordered = [batch.retrieval for batch in pulling.services.retrievals.list_batches()]
    assert ordered == [Retrieval.GET, Retrieval.MOVE]


def test_rows_and_orders_are_canceled_and_tried_again(pulling):
    pulling = pulling()
    pulling.fill("/pull", "A1\nA2\nA3", when="now")
    row, *_ = pulling.rows()
    assert "1 row canceled" in pulling.browser.post("/pull/1/cancel", row=str(row.id)).text
    assert "2 rows canceled" in pulling.browser.post("/pull/1/cancel").text
    assert {one.state for one in pulling.rows()} == {RetrievalState.CANCELED}
    assert "1 row queued again" in pulling.browser.post("/pull/1/retry", row=str(row.id)).text
    page = pulling.browser.get("/pull/1?state=CANCELED").text
    assert "A1" not in page
    assert "A3" in page
    entries = pulling.services.audit.list_entries([AuditEvent.ACTION])
    told = [(entry.detail["action"], entry.address) for entry in entries]
    assert told[0] == ("retry pull", "127.0.0.1")
    assert pulling.browser.post("/pull/1/cancel", row="99").status_code == 404
    assert pulling.browser.get("/pull/7").status_code == 404


def test_progress_and_what_stands_in_the_way_are_shown(pulling):
    pulling = pulling()
    pulling.fill("/pull", "A1\nA2", when="now")
    retrievals, now = pulling.services.retrievals, utc_now()
    assert "scheduler of the node does not run" in pulling.browser.get("/pull/1").text
    beats = pulling.services.heartbeats
    beats.beat(Role.SCHEDULER.value, host="h", pid=1, now=now)
    row = retrievals.claim_due("test", peer="pacs", lease_s=60, is_night=False, now=now)
    progress = RetrievalProgress(offered=40, fetched=10, series_uids=["1.2.3"])
    retrievals.note_progress(row.id, "test", progress, now)
    page = pulling.browser.get("/pull/1").text
    assert "does not run" not in page
    assert '<progress value="10" max="40" aria-label="Instances of A1">' in page
    retrievals.done(row.id, "test", now)
    orders = pulling.browser.get("/pull/live").text
    assert '<progress value="1" max="2" aria-label="Ended rows of order 1">' in orders
    assert "10 of 40" in orders


def test_without_a_peer_the_page_says_what_to_do(pulling):
    page = pulling(peer=None).browser.get("/pull").text
    assert "There is no PACS to ask" in page
    assert "<textarea" not in page


def test_viewers_neither_look_up_nor_order(pulling):
    pulling = pulling()
    add_user(pulling.services, "vera", UserRole.VIEWER)
    browser = pulling.visit().log_in("vera")
    assert 'href="/pull"' not in browser.page
    for path in ("/pull", "/pull/live", "/pull/1"):
        assert browser.get(path).status_code == 403
    browser.get("/account")
    for path in ("/pull", "/pull/look-up", "/pull/answer", "/pull/1/cancel", "/pull/1/retry"):
        browser.get("/account")
        assert browser.post(path, peer="pacs", key="accession", text="A1").status_code == 403
    assert pulling.services.retrievals.list_batches() == []


def test_a_form_from_elsewhere_orders_nothing(pulling):
    pulling = pulling()
    pulling.browser.get("/pull")
    answer = pulling.browser.post("/pull", form_token="0" * 64, peer="pacs", text="A1", when="now")
    assert answer.status_code == 403
    assert pulling.services.retrievals.list_batches() == []

"""Peers: what is known of each, who was turned away, and whether one answers now."""

import re
import socket
import time
from datetime import timedelta

import pytest
from pynetdicom import AE
from pynetdicom.sop_class import Verification

from node.clock import utc_now
from node.peer_report import find_troubles
from storage.records import AuditEntry
from storage.states import AuditEvent, AuditOutcome, UserRole

CLOUD = {"url": "http://127.0.0.1:1/dicom-web", "token": "very secret", "roles": ["destination"]}


@pytest.fixture
def answering(free_port):
    """Give the port of a peer that answers C-ECHO."""
    entity = AE("ANSWERS")
    entity.add_supported_context(Verification)
    port = free_port()
    server = entity.start_server(("127.0.0.1", port), block=False)
    yield port
    server.shutdown()


@pytest.fixture
def silent():
    """Give the port of a peer that takes connections and says nothing."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


@pytest.fixture
def held(hold, free_port, answering, silent):
    return hold(
        node={"acse_timeout_s": 3.0},
        web={"port": free_port()},
        rules=[{"name": "from it", "action": "skip", "when": {"CallingAETitle": "SCANNER"}}],
        peers={
            "scanner": entity("SCANNER", answering, "source"),
            "pacs": entity("PACS", answering, "source", "destination"),
            "dead": entity("DEAD", free_port(), "destination"),
            "silent": entity("SILENT", silent, "destination"),
            "cloud": CLOUD,
        },
    )


def entity(ae_title, port, *roles):
    return {"ae_title": ae_title, "host": "127.0.0.1", "port": port, "roles": list(roles)}


@pytest.fixture
def visit(held, serve):
    return serve(held)


def card(page: str, name: str) -> str:
    """Give the text of a peer's part of the page."""
    [found] = re.findall(rf'<section class="card" id="peer-{name}".*?</section>', page, re.DOTALL)
    return " ".join(re.sub(r"<[^>]+>", " ", found).split())


def test_each_peer_of_the_settings_is_shown(held, visit):
    services = held.services
    job = held.queue()
    services.jobs.claim("w", 30, utc_now())
    to = {"pacs": "ohif", "dead": "ohif"}
    services.jobs.produced(
        job.id, "w", results=[], destinations=to, summary={}, now=utc_now() - timedelta(seconds=1)
    )
    for name in to:
        services.deliveries.claim_due("s", destination=name, lease_s=30, now=utc_now())
    by_name = {one.destination: one.id for one in services.deliveries.list_deliveries(job.id)}
    services.deliveries.delivered(by_name["pacs"], "s", utc_now())
    services.deliveries.attempt_failed(by_name["dead"], "s", "disk full", utc_now(), utc_now())
    page = visit("anna", UserRole.VIEWER).get("/peers").text
    assert "1 series, 12 instances kept, 1 job" in card(page, "scanner")
    assert "Rules on it from it" in card(page, "scanner")
    assert "Last received nothing yet" in card(page, "pacs")
    assert "1 accepted, 0 pending, 0 failed" in card(page, "pacs")
    assert "0 accepted, 1 pending, 0 failed" in card(page, "dead")
    assert "disk full" in card(page, "dead")
    assert "with a token" in card(page, "cloud")
    assert "very secret" not in page
    assert "Echo not asked yet" in card(page, "dead")
    assert "<button" not in card(page, "dead")


def test_a_node_without_peers_says_what_to_do(hold, serve, free_port):
    page = serve(hold(web={"port": free_port()}))("anna").get("/peers").text
    assert "[peers.pacs]" in page


@pytest.mark.parametrize(
    ("name", "verdict", "answer"),
    [
        ("pacs", "good", "answers C-ECHO"),
        ("dead", "bad", "nothing listens there"),
        ("cloud", "bad", "cannot be reached"),
    ],
)
def test_echo_says_what_the_peer_answers_and_how_fast(held, visit, name, verdict, answer):
    browser = visit("anna", UserRole.OPERATOR)
    browser.get("/peers")
    assert browser.post(f"/peers/{name}/echo").url.path == "/peers"
    shown = wait_for_answer(browser, name)
    assert f"Echo {verdict}" in shown
    assert answer in shown
    assert re.search(r"\d+ ms, .* by anna", shown)
    [line] = held.services.audit.list_entries([AuditEvent.ACTION])
    assert (line.actor, line.detail) == ("user:anna", {"action": "echo peer", "peer": name})


def test_a_silent_peer_holds_up_nobody(visit):
    browser = visit("anna")
    browser.get("/peers")
    begin = time.monotonic()
    shown = browser.post("/peers/silent/echo").text
    assert time.monotonic() - begin < 2.9, "it would be silent for 3 s"
    assert "asking since" in card(shown, "silent")
    assert browser.post("/peers/silent/echo").status_code == 409
    assert browser.get("/jobs").status_code == 200
    browser.get("/peers")
    assert "Echo bad" in wait_for_answer(browser, "silent")


def wait_for_answer(browser, name: str) -> str:
    for _ in range(200):
        shown = card(browser.get("/peers/live").text, name)
        if "asking since" not in shown:
            return shown
        time.sleep(0.1)
    raise AssertionError(shown)


def test_a_viewer_may_not_ask(held, visit):
    browser = visit("anna", UserRole.VIEWER)
    browser.get("/account")
    assert browser.post("/peers/pacs/echo").status_code == 403
    assert held.services.audit.list_entries([AuditEvent.ACTION]) == []


def test_a_peer_that_is_not_in_the_settings_is_not_asked(visit):
    browser = visit("anna")
    browser.get("/peers")
    answer = browser.post("/peers/127.0.0.1/echo")
    assert answer.status_code == 404
    assert "no peer" in answer.text


def test_administrators_see_who_was_turned_away(held, visit):
    for seconds in (20, 10):
        entry = AuditEntry(
            event=AuditEvent.ASSOCIATION_REJECTED,
            actor="ae:ORTHANC2",
            address="10.1.2.3",
            outcome=AuditOutcome.MINOR_FAILURE,
            detail={"reason": "ORTHANC2 is no source"},
        )
        held.services.audit.append(entry, utc_now() - timedelta(seconds=seconds))
    page = visit("anna").get("/peers").text
    row = re.search(r'<tr><th scope="row">ORTHANC2.*?</tr>', page)[0]
    assert "10.1.2.3" in row
    assert "ORTHANC2 is no source" in row
    assert '<td class="number">2</td>' in row
    assert "ORTHANC2" not in visit("ben", UserRole.OPERATOR).get("/peers").text


def test_what_the_scheduler_says_stands_at_its_peer(held, visit):
    told = "poll of pacs: one; two; dead cannot be asked for the number of instances: three"
    held.services.heartbeats.beat("scheduler", host="h", pid=1, now=utc_now(), detail=told)
    page = visit("anna").get("/peers").text
    assert "poll of pacs: one; two" in card(page, "pacs")
    assert "three" not in card(page, "pacs")
    assert "three" in card(page, "dead")


def test_troubles_of_two_schedulers_are_told_once():
    told = "poll of a: x; poll of b: y"
    assert find_troubles(["a", "b"], [told, told, ""]) == {"a": "poll of a: x", "b": "poll of b: y"}

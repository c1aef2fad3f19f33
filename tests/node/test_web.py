"""The pages over stores of a node that does not run."""

import json
import socket
import threading
from pathlib import Path

import pytest
from doubles import BoxSegmenter

from node.clock import utc_now
from node.health import Verdict, check_ready
from node.roles import Role
from node.web.server import WebServer
from node.worker import Worker


@pytest.fixture
def held(hold, free_port):
    """A node with one finished job."""
    held = hold(web={"port": free_port()})
    held.queue()
    Worker(held.services, BoxSegmenter(), threading.Event()).work_once()
    return held


@pytest.fixture
def get(held, serve):
    """Fetch what needs no login."""
    browser = serve(held)()

    def fetch(path: str) -> tuple[int, bytes]:
        answer = browser.get(path)
        return answer.status_code, answer.content

    return fetch


def test_jobs_and_their_history_are_shown(held, serve):
    browser = serve(held)("anna")
    assert "DELIVERED" in browser.get("/jobs").text
    page = browser.get("/jobs/1").text
    assert "PRODUCED" in page
    assert "preview.png" in page
    assert browser.get("/jobs/1/preview.png").headers["content-type"] == "image/png"


@pytest.mark.parametrize(
    ("path", "status"),
    [("/jobs/99", 404), ("/jobs/99/preview.png", 404), ("/jobs/nonsense", 422), ("/nowhere", 404)],
)
def test_what_is_not_there_says_so(held, serve, path, status):
    answer = serve(held)("anna").get(path)
    assert answer.status_code == status
    assert 'role="alert"' in answer.text


def test_health_names_the_roles_that_do_not_run(get):
    status, page = get("/healthz")
    assert status == 503
    assert b"role worker" in page


def test_not_ready_says_why(get):
    status, page = get("/readyz")
    assert status == 503
    checks = json.loads(page)
    assert checks["database"] == "answers"
    assert "not running" in checks["role worker"]


def test_ready_once_all_roles_live_and_not_with_a_short_disk(hold):
    held = hold()
    for number, role in enumerate(Role):
        held.services.heartbeats.beat(role.value, host="h", pid=number, now=utc_now())
    settings = held.services.settings
    assert {check.verdict for check in check_ready(settings)} == {Verdict.GOOD}
    receive = settings.receive.model_copy(update={"min_free_bytes": 1 << 60})
    short = settings.model_copy(update={"receive": receive})
    [bad] = [check for check in check_ready(short) if check.verdict is Verdict.BAD]
    assert bad.name == "disk"
    assert bad.limit.startswith("at least")


def test_not_ready_without_its_database(hold, tmp_path: Path):
    settings = hold().services.settings.model_copy(update={"data_dir": tmp_path / "other"})
    bad = {check.name: check.detail for check in check_ready(settings) if check.verdict == "bad"}
    assert "hepar db upgrade" in bad["database"]


def test_metrics_are_served(get):
    status, page = get("/metrics")
    assert status == 200
    assert b'hepar_jobs{state="DELIVERED"} 1.0' in page
    assert b"Phantom" not in page


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_taken_port_is_an_error_and_no_silence(hold):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        held = hold(web={"port": taken.getsockname()[1]})
        with pytest.raises(OSError, match="cannot listen"):
            WebServer(held.services).start()

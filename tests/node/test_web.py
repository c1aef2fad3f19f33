"""The pages over stores of a node that does not run."""

import socket
import threading
import urllib.error
import urllib.request
from collections.abc import Callable

import pytest
from doubles import BoxSegmenter

from node.web import WebServer
from node.worker import Worker


@pytest.fixture
def get(hold, free_port: Callable[[], int]):
    """Serve a node with one finished job; give a function that fetches a page."""
    port = free_port()
    held = hold(web={"port": port})
    held.queue()
    Worker(held.services, BoxSegmenter(), threading.Event()).work_once()
    server = WebServer(held.services)
    server.start()

    def fetch(path: str) -> tuple[int, bytes]:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}") as answer:
                return answer.status, answer.read()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read()

    yield fetch
    server.stop()


def test_jobs_and_their_history_are_shown_without_patient_data(get):
    status, page = get("/")
    assert status == 200
    assert b"DELIVERED" in page
    status, page = get("/jobs/1")
    assert status == 200
    assert b"PRODUCED" in page
    assert b"preview.png" in page
    assert b"Phantom" not in page


def test_what_is_not_there_is_404(get):
    assert get("/jobs/99")[0] == 404
    assert get("/jobs/99/preview.png")[0] == 404
    assert get("/jobs/nonsense")[0] == 422


def test_health_names_the_roles_that_do_not_run(get):
    status, page = get("/healthz")
    assert status == 503
    assert b"role worker" in page


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_taken_port_is_an_error_and_no_silence(hold):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        held = hold(web={"port": taken.getsockname()[1]})
        with pytest.raises(OSError, match="cannot listen"):
            WebServer(held.services).start()

"""A real archive is asked for new series, by C-FIND and C-GET or by QIDO-RS and WADO-RS."""

import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from doubles import Held
from listening import Listening
from pydicom import dcmread

from benchmarks.peers import Orthanc
from config import PollSettings
from node.exchange import send_files
from node.poller import Poller
from node.services import open_services

pytestmark = pytest.mark.peer

LONG_AGO = 36500
"""Days within which the study of the tests dates from."""
ANY_PORT = 11112
"""Of the node, which the archive need not call."""


@dataclass(kw_only=True)
class Polled:
    """A node that polls an archive."""

    archive: Orthanc
    held: Held
    poller: Poller
    paths: list[Path]

    def give(self, paths: list[Path]) -> None:
        """Have the archive get some files."""
        settings = self.held.services.settings
        send_files(settings.node, settings.peers["pacs"], paths)

    def poll(self) -> int:
        """Poll once, and give the number of instances that are here then."""
        self.poller.poll()
        return sum(one.instance_count for one in self.held.services.catalog.list_series())


@pytest.fixture(params=["dimse", "dicomweb"])
def make_polled(
    request: pytest.FixtureRequest, hold: Callable[..., Held], small_ct: list[Path]
) -> Callable[..., Polled]:
    """Give a node with an archive of one kind, and nothing of the series but `here` slices."""

    def make(*, here: int = 0, rules: list | None = None, **poll: object) -> Polled:
        if request.param == "dimse":
            archive = request.getfixturevalue("orthanc")
            archive.know(ANY_PORT)
            peer = {"ae_title": "ORTHANC", "host": "127.0.0.1", "port": archive.port}
        else:
            archive = request.getfixturevalue("web_archive")
            peer = {"url": archive.url, "user": "hepar", "password": "right"}
        more = {} if rules is None else {"rules": rules}
        settings = PollSettings(**({"days": LONG_AGO} | poll))
        held = hold(late=12 - here, peers={"pacs": peer | {"poll": settings}}, **more)
        poller = Poller(held.services, "pacs", settings, threading.Event())
        return Polled(archive=archive, held=held, poller=poller, paths=small_ct)

    return make


def test_a_series_is_fetched_once_it_has_stopped_growing(make_polled):
    polled = make_polled()
    assert polled.poll() == 0
    assert polled.poller.trouble == ""
    polled.give(polled.paths[:4])
    assert polled.poll() == 0, "it is seen for the first time"
    polled.give(polled.paths)
    assert polled.poll() == 0, "it has grown"
    assert polled.poll() == 12
    for path in polled.paths:
        record = polled.held.services.catalog.find_instance(dcmread(path).SOPInstanceUID)
        assert dcmread(polled.held.services.files.absolute(record.path)) == dcmread(path)
    before = polled.held.services.catalog.list_series()
    assert polled.poll() == 12
    assert polled.held.services.catalog.list_series() == before, "nothing came again"
    assert polled.poller.trouble == ""


def test_what_an_interrupted_fetch_left_out_is_fetched(make_polled):
    polled = make_polled(here=5)
    polled.give(polled.paths)
    polled.poll()
    assert polled.poll() == 12


def test_what_the_rules_skip_is_left_alone(make_polled):
    rules = [
        {"name": "phase", "action": "skip", "when": {"SeriesDescription": {"matches": "venous"}}},
        {"name": "all", "action": "process"},
    ]
    polled = make_polled(rules=rules)
    polled.give(polled.paths)
    assert [polled.poll(), polled.poll()] == [0, 0]


def test_only_the_last_days_are_asked_for(make_polled):
    polled = make_polled(days=0)
    polled.give(polled.paths)
    assert [polled.poll(), polled.poll()] == [0, 0]


def test_an_archive_that_is_gone_is_told_and_asked_again(make_polled, caplog):
    polled = make_polled()
    polled.give(polled.paths)
    polled.poll()
    polled.archive.stop()
    assert polled.poll() == 0
    assert polled.poller.trouble.startswith("poll of pacs: ")
    assert "cannot be reached" in polled.poller.trouble
    assert "cannot be reached" in caplog.text
    polled.archive.start()
    polled.archive.know(ANY_PORT)
    assert polled.poll() == 12
    assert polled.poller.trouble == ""


def test_an_archive_that_is_polled_by_c_move_sends_to_the_receiver(
    listen: Callable[..., Listening], orthanc: Orthanc, small_ct: list[Path]
):
    poll = PollSettings(days=LONG_AGO, by="move")
    peer = {"ae_title": "ORTHANC", "host": "127.0.0.1", "port": orthanc.port, "poll": poll}
    node = listen(peers={"pacs": peer | {"roles": ["source"]}})
    orthanc.know(node.port)
    send_files(node.settings.node, node.settings.peers["pacs"], small_ct)
    poller = Poller(open_services(node.settings), "pacs", poll, threading.Event())
    poller.poll()
    poller.poll()
    assert poller.trouble == ""
    [series] = node.catalog.list_series()
    assert series.instance_count == len(small_ct)
    assert series.calling_ae_title == "ORTHANC"

"""A real archive sends a part of a series, and is asked by C-FIND how many instances it has."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from doubles import Held

from benchmarks.peers import Orthanc
from dicom_io.ct import write_ct_series
from dicom_io.ct_attributes import CtIdentity
from inference.phantom import PhantomSettings, make_phantom
from node.counter import Counter
from node.errors import PeerRefused
from node.exchange import send_files
from node.query import find
from node.scheduler import Scheduler
from storage.open_series import Patience
from storage.records import JobRecord

pytestmark = pytest.mark.peer

ANY_PORT = 11112
"""Of the node, which the archive need not call."""


@dataclass(kw_only=True)
class Counting:
    """A node with slices of a series that the archive has."""

    archive: Orthanc
    held: Held
    scheduler: Scheduler
    counter: Counter

    def tick(self) -> str:
        """Settle, count and settle, and give what the series waits for."""
        self.scheduler.settle()
        self.counter.count()
        self.scheduler.settle()
        return self.held.services.catalog.get_series(self.held.series_uid).waits_for

    @property
    def all_jobs(self) -> list[JobRecord]:
        return self.held.services.jobs.list_jobs()

    @property
    def jobs(self) -> list[str]:
        """What was known to be missing when each job was made."""
        return [job.remark for job in self.all_jobs]


@pytest.fixture
def make_counting(
    orthanc: Orthanc, hold: Callable[..., Held], small_ct: list[Path]
) -> Callable[..., Counting]:
    orthanc.know(ANY_PORT)

    def make(*, quiet_s: float, late: int, archived: int = 12) -> Counting:
        peer = {"ae_title": "ORTHANC", "host": "127.0.0.1", "port": orthanc.port}
        held = hold(
            late=12,
            peers={"pacs": peer | {"roles": ["source"], "ask_counts": True}},
            receive={"quiet_s": quiet_s, "max_wait_s": 600},
        )
        settings = held.services.settings
        send_files(settings.node, settings.peers["pacs"], small_ct[:archived])
        for path in small_ct[: 12 - late]:
            held.receive(path, ae_title="ORTHANC")
        receive = settings.receive
        patience = Patience(
            quiet_s=receive.quiet_s,
            max_wait_s=receive.max_wait_s,
            counted_senders=frozenset({"ORTHANC"}),
        )
        return Counting(
            archive=orthanc,
            held=held,
            scheduler=Scheduler(held.services),
            counter=Counter(held.services, "pacs", patience),
        )

    return make


def test_a_pause_of_the_sender_is_not_the_end(make_counting, small_ct: list[Path]):
    counting = make_counting(quiet_s=0.0, late=3)
    assert counting.tick() == "9 of the 12 instances that its sender lists have come."
    assert counting.tick() == "9 of the 12 instances that its sender lists have come."
    assert counting.jobs == []
    for path in small_ct[9:]:
        counting.held.receive(path, ae_title="ORTHANC")
    assert counting.tick() == ""
    assert counting.jobs == [""]


def test_work_begins_once_all_that_the_archive_has_is_here(make_counting, small_ct: list[Path]):
    counting = make_counting(quiet_s=600.0, late=3)
    assert counting.tick() == ""
    for path in small_ct[9:]:
        counting.held.receive(path, ae_title="ORTHANC")
    assert counting.tick() == ""
    assert counting.jobs == [""]


def test_an_archive_that_still_receives_proves_nothing(make_counting):
    counting = make_counting(quiet_s=600.0, late=3, archived=9)
    counting.tick()
    assert counting.jobs == []


def test_an_archive_that_is_gone_is_told_once_and_waited_for(make_counting, caplog):
    counting = make_counting(quiet_s=0.0, late=3)
    counting.archive.stop()
    assert "not said yet" in counting.tick()
    assert "not said yet" in counting.tick()
    assert caplog.text.count("pacs cannot be asked for the number of instances") == 1
    assert "cannot be reached" in counting.counter.trouble
    assert counting.jobs == []


def test_a_series_that_the_archive_does_not_list_is_not_waited_for(make_counting):
    counting = make_counting(quiet_s=0.0, late=0, archived=0)
    counting.tick()
    assert counting.jobs == [""]


def test_a_series_that_is_refused_holds_up_no_other(make_counting, monkeypatch, tmp_path):
    counting = make_counting(quiet_s=0.0, late=0)
    other = make_phantom(
        PhantomSettings(seed=2, shape=(12, 32, 32), spacing_mm=(10.0, 12.0, 12.0), lesions=())
    )
    for path in write_ct_series(other.volume, tmp_path / "b", identity=CtIdentity.from_seed(2)):
        counting.held.receive(path, ae_title="ORTHANC")

    def refuse_first(node, peer, key):
        if key.SeriesInstanceUID == counting.held.series_uid:
            raise PeerRefused("no such series")
        return find(node, peer, key)

    monkeypatch.setattr("node.counter.find", refuse_first)
    counting.tick()
    assert "no such series" in counting.counter.trouble
    assert [job.series_uid != counting.held.series_uid for job in counting.all_jobs] == [True]

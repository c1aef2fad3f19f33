"""How series come: each way of sending one ends with what the rows and the files should be."""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pytest
from listening import CT, Listening
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.uid import generate_uid

from node.scheduler import Scheduler
from node.services import Services, open_services
from storage.records import JobRecord
from storage.states import JobState

GAP = "No slice between -435.0 and -415.0 mm has come."
FEW = "9 of the 12 instances that its objects announce have come."


@dataclass(kw_only=True)
class Push:
    """A node that listens, a series, and ways of sending it."""

    node: Listening
    services: Services
    slices: Sequence[Dataset]

    def send(self, slices: Sequence[Dataset], calling: str = "SCANNER") -> None:
        """Send on one association, each slice with Success."""
        assoc = self.node.associate(CT, calling=calling)
        assert [assoc.send_c_store(one).Status for one in slices] == [0] * len(slices)
        assoc.release()

    def settle(self) -> list[JobRecord]:
        """Decide what is ready, and give the jobs of our series, the oldest first."""
        Scheduler(self.services).settle()
        jobs = self.services.jobs.list_jobs(series_uid=str(self.slices[0].SeriesInstanceUID))
        return sorted(jobs, key=lambda job: job.id)

    @property
    def waits_for(self) -> str:
        return self.services.catalog.get_series(str(self.slices[0].SeriesInstanceUID)).waits_for


@pytest.fixture
def push(listen: Callable[..., Listening], small_ct: list[Path]) -> Callable[..., Push]:
    """Listen with further settings of [receive]; slices announce their number where asked for."""

    def start(*, announced: bool = False, **receive: float) -> Push:
        node = listen(
            receive={"quiet_s": 0.0, "max_wait_s": 600.0} | receive,
            peers={"pacs": {"ae_title": "PACS", "host": "127.0.0.1", "roles": ["source"]}},
        )
        slices = [dcmread(path) for path in small_ct]
        if announced:
            for one in slices:
                one.NumberOfSeriesRelatedInstances = len(slices)
        return Push(node=node, services=open_services(node.settings), slices=slices)

    return start


def at_once(push: Push) -> None:
    push.send(push.slices)


def backwards(push: Push) -> None:
    push.send(push.slices[::-1])


def in_three_associations(push: Push) -> None:
    for first in range(3):
        push.send(push.slices[first::3])


def in_two_associations_at_once(push: Push) -> None:
    with ThreadPoolExecutor(2) as threads:
        list(threads.map(push.send, (push.slices[::2], push.slices[1::2])))


def from_two_senders_at_once(push: Push) -> None:
    with ThreadPoolExecutor(2) as threads:
        list(threads.map(push.send, (push.slices[:8], push.slices[4:]), ("SCANNER", "PACS")))


def each_slice_twice(push: Push) -> None:
    push.send([one for one in push.slices for _ in range(2)])


def interleaved_with_another_series(push: Push) -> None:
    both = []
    series_uid = generate_uid()
    for one in push.slices:
        other = Dataset()
        other.update(one)
        other.file_meta = one.file_meta
        other.SeriesInstanceUID, other.SOPInstanceUID = series_uid, generate_uid()
        both += [one, other]
    push.send(both)


@pytest.mark.parametrize(
    "how",
    [
        at_once,
        backwards,
        in_three_associations,
        in_two_associations_at_once,
        from_two_senders_at_once,
        each_slice_twice,
        interleaved_with_another_series,
    ],
)
def test_however_a_series_comes_it_is_one_job(push, how: Callable[[Push], None]):
    pushed = push()
    how(pushed)
    [job] = pushed.settle()
    assert (job.state, job.remark) == (JobState.QUEUED, "")
    catalog, files = pushed.services.catalog, pushed.services.files
    paths = catalog.instance_paths(job.series_uid)
    kept = {dcmread(files.absolute(path)).SOPInstanceUID for path in paths}
    assert len(paths) == len(pushed.slices)
    assert kept == {one.SOPInstanceUID for one in pushed.slices}
    record = catalog.get_series(job.series_uid)
    assert (record.instance_count, record.has_conflicts) == (len(pushed.slices), False)


def test_a_series_that_is_sent_again_makes_no_other_job(push):
    pushed = push()
    pushed.send(pushed.slices)
    [job] = pushed.settle()
    pushed.send(pushed.slices)
    assert pushed.settle() == [job]


def test_a_late_slice_makes_a_job_that_takes_the_place_of_the_first(push):
    pushed = push()
    pushed.send(pushed.slices[:-1])
    pushed.settle()
    pushed.send(pushed.slices[-1:])
    first, second = pushed.settle()
    assert (first.state, second.state) == (JobState.SUPERSEDED, JobState.QUEUED)
    assert f"job {second.id} takes its place" in first.reason
    events = pushed.services.jobs.events(second.id)
    assert f"takes the place of job {first.id}" in [event.detail for event in events]


@pytest.mark.parametrize(
    ("announced", "kept_back", "sentence"),
    [(False, slice(5, 6), GAP), (True, slice(9, 12), FEW)],
)
def test_slices_that_are_known_to_be_missing_are_waited_for(
    push, announced: bool, kept_back: slice, sentence: str
):
    pushed = push(announced=announced)
    late = pushed.slices[kept_back]
    pushed.send([one for one in pushed.slices if one not in late])
    assert pushed.settle() == []
    assert pushed.waits_for == sentence
    pushed.send(late)
    [job] = pushed.settle()
    assert job.remark == ""


def test_waiting_has_an_end_and_the_decision_says_what_is_missing(push):
    pushed = push(announced=True, max_wait_s=0.0)
    pushed.send(pushed.slices[:9])
    [job] = pushed.settle()
    assert job.remark == FEW
    assert FEW in pushed.services.catalog.get_series(job.series_uid).reason


def test_a_whole_series_need_not_be_quiet(push):
    pushed = push(announced=True, quiet_s=600.0)
    pushed.send(pushed.slices[:-1])
    assert pushed.settle() == []
    pushed.send(pushed.slices[-1:])
    assert len(pushed.settle()) == 1

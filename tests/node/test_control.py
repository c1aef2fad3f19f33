"""Suspended work, what a running job does, and what goes on: as commands tell of it."""

import json
import threading
from collections.abc import Callable
from pathlib import Path

from doubles import BoxSegmenter, Held
from test_cli import hepar

from node import control
from node.clock import utc_now
from node.doctor import check_node
from node.health import Verdict
from node.metrics_page import render_metrics
from node.overview import describe_situation
from node.roles import Role
from node.step_writer import StepWriter
from node.worker import Worker
from storage.errors import DatabaseError
from storage.states import AuditEvent, JobState, Work

ANNA = "user:anna"
ARCHIVE = {"ae_title": "ARCHIVE", "host": "127.0.0.1", "port": 1, "roles": ["destination"]}


def work(held: Held, segmenter: BoxSegmenter | None = None) -> bool:
    return Worker(held.services, segmenter or BoxSegmenter(), threading.Event()).work_once()


def actions(held: Held) -> list[dict[str, str]]:
    entries = held.services.audit.list_entries([AuditEvent.ACTION])
    assert {entry.actor for entry in entries} <= {ANNA}
    return [dict(entry.detail) for entry in entries]


def test_who_suspends_and_resumes_is_on_record(hold: Callable[..., Held]) -> None:
    held = hold()
    assert control.suspend(held.services, Work.PROCESSING, actor=ANNA, reason="new GPU")
    assert not control.suspend(held.services, Work.PROCESSING, actor=ANNA)
    held.queue()
    assert work(held) is False
    assert control.resume(held.services, Work.PROCESSING, actor=ANNA)
    assert not control.resume(held.services, Work.PROCESSING, actor=ANNA)
    assert work(held) is True
    assert actions(held) == [
        {"action": "resume", "work": "processing"},
        {"action": "suspend", "work": "processing", "reason": "new GPU"},
    ]


def test_suspended_work_is_seen_by_doctor_and_metrics(hold: Callable[..., Held]) -> None:
    held = hold()
    control.suspend(held.services, Work.DELIVERY, actor=ANNA, reason="the archive moves")
    page = render_metrics(held.services).decode()
    assert 'hepar_suspended{work="delivery"} 1.0' in page
    assert 'hepar_suspended{work="processing"} 0.0' in page
    [found] = [
        one for one in check_node(held.services.settings, quick=True) if one.name == "delivery"
    ]
    assert found.verdict is Verdict.REMARK
    assert "the archive moves" in found.detail


class Watched(BoxSegmenter):
    """A network beside which somebody looks at the job."""

    def __init__(self, look: Callable[[], bool]) -> None:
        self._look = look

    def segment(self, volume, progress):
        segmented = super().segment(volume, progress)
        for _ in range(500):
            if self._look():
                return segmented
            threading.Event().wait(0.01)
        raise AssertionError("the step was not written")


def test_the_step_of_a_running_job_is_seen_and_stays_when_it_ends(
    hold: Callable[..., Held],
) -> None:
    held = hold()
    job = held.queue()

    def is_segmenting() -> bool:
        found = held.services.jobs.get(job.id)
        return (found.step, found.step_share) == ("segment", 0.45)

    assert work(held, Watched(is_segmenting))
    found = held.services.jobs.get(job.id)
    assert found.state is JobState.DELIVERED
    assert found.step


def test_a_locked_database_does_not_stop_the_work() -> None:
    told = threading.Event()
    written: list[tuple[str, float]] = []

    def write(step: str, share: float) -> None:
        if not told.is_set():
            told.set()
            raise DatabaseError("locked")
        written.append((step, share))

    with StepWriter(write) as steps:
        steps.tell("read", 0.0)
        assert told.wait(5)
        for share in range(100):
            steps.tell("segment", share / 100)
        for _ in range(500):
            if written[-1:] == [("segment", 0.99)]:
                break
            threading.Event().wait(0.01)
    assert written[-1] == ("segment", 0.99)
    assert len(written) <= 3


def test_why_things_wait(hold: Callable[..., Held]) -> None:
    held = hold(peers={"archive": ARCHIVE}, late=1)
    [series] = describe_situation(held.services).series
    assert series.why == "waits until nothing comes for 5 s"
    held.queue()

    def why() -> str:
        [queued] = describe_situation(held.services).queued
        return queued.why

    assert why() == "no worker is running"
    beat = held.services.heartbeats.beat
    beat(Role.WORKER.value, host="h", pid=1, now=utc_now())
    assert why() == "a worker takes the next at once"
    control.suspend(held.services, Work.PROCESSING, actor=ANNA, reason="new GPU")
    assert why().startswith("processing is suspended by user:anna since ")
    assert why().endswith(": new GPU")
    held.receive(held.paths[-1])
    assert why() == "another slice has arrived"


def test_why_results_are_not_sent(hold: Callable[..., Held]) -> None:
    held = hold(peers={"archive": ARCHIVE})
    held.queue()
    assert work(held)

    def why() -> str:
        [delivery] = describe_situation(held.services).deliveries
        return delivery.why

    assert why() == "due"
    control.suspend(held.services, Work.DELIVERY, actor=ANNA)
    assert why().startswith("delivery is suspended by user:anna")
    control.resume(held.services, Work.DELIVERY, actor=ANNA)
    due = held.services.deliveries.claim_due("s", destination="archive", lease_s=30, now=utc_now())
    assert due is not None
    assert why() == "under way"
    later = utc_now().replace(year=2100)
    held.services.deliveries.attempt_failed(due.id, "s", "down", later, utc_now())
    assert why() == f"is tried again at {later:%Y-%m-%d %H:%M:%S} (UTC)"


def test_the_commands(hold: Callable[..., Held], tmp_path: Path) -> None:
    held = hold()
    held.queue()
    where = ["--set", f"data_dir={held.services.settings.data_dir}"]

    def call(*arguments: str) -> str:
        done = hepar(*arguments, *where, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        return " ".join(done.stdout.split())

    assert "`hepar resume processing`" in call("suspend", "processing", "--reason", "new GPU")
    assert "Nothing to do: processing is suspended by user:" in call("suspend", "processing")
    shown = call("status")
    assert "1 QUEUED" in shown
    assert "Suspended: processing is suspended by user:" in shown
    assert "Running: none" in shown
    told = json.loads(call("status", "--json"))
    assert told["queued"][0]["why"].endswith("new GPU")
    assert told["job_counts"] == {"QUEUED": 1}
    assert call("resume", "processing") == "The processing goes on."
    assert call("resume", "processing") == "The processing was not suspended."

    [listed] = json.loads(call("jobs", "list", "--json", "--rule", "test", "--sort", "patient-id"))
    assert (listed["id"], listed["rule"]) == (1, "test")
    assert "Jobs (1 of 1)" in call("jobs", "list", "--state", "QUEUED", "--from", "SCANNER")
    for none in (
        ["--patient", "x"],
        ["--name", "x"],
        ["--accession", "x"],
        ["--study", "1.2"],
        ["--to", "pacs"],
        ["--since", "2100-01-01"],
        ["--until", "2000-01-01T00:00"],
        ["x"],
    ):
        assert call("jobs", "list", *none) == "Jobs: none", none
    assert hepar("status", "--watch", "--json", *where, cwd=tmp_path).returncode == 2

"""The rare ticks, and what they tell."""

import logging
import threading

import pytest
from doubles import Held

from node import janitor as janitor_module
from node.doctor import check_node
from node.health import Verdict
from node.janitor import Janitor
from storage.errors import FileStoreError

AT_ONCE = 1e-9
"""Days."""


@pytest.fixture
def skipped(hold):
    """A node with one series that no rule wants."""

    def make(**keys: float) -> Held:
        held = hold(retention=keys, receive={"quiet_s": 0.0})
        job = held.queue()
        held.services.jobs.cancel(job.id, "test", job.created_at)
        return held

    return make


def janitor(held: Held, owner: str = "a", *, stopped: bool = False) -> Janitor:
    stop = threading.Event()
    if stopped:
        stop.set()
    return Janitor(held.services, owner, stop)


def files(held: Held) -> int:
    return len(list(held.services.files.data_dir.glob("instances/*/*/*")))


def test_what_is_due_goes_at_the_tick(skipped):
    held = skipped(unused_days=AT_ONCE)
    janitor(held, stopped=True).retain()
    assert files(held) == 12, "a node that stops does not begin anything"
    janitor(held).retain()
    assert files(held) == 0


def test_a_tick_runs_once_in_its_time_and_in_one_process(skipped, monkeypatch):
    held = skipped(unused_days=AT_ONCE)
    ran = []

    def run_another(one: Janitor) -> None:
        ran.append(one)
        janitor(held, "b").retain()

    monkeypatch.setattr(Janitor, "_retain", run_another)
    for owner in ("a", "a", "b"):
        janitor(held, owner).retain()
    assert len(ran) == 1


def test_what_could_not_be_removed_is_told_and_tried_again(skipped, monkeypatch, caplog):
    held = skipped(unused_days=AT_ONCE)

    def refuse(relative) -> None:
        raise FileStoreError("instances", "no permission")

    monkeypatch.setattr(held.services.files, "remove_instances", refuse)
    monkeypatch.setattr(janitor_module, "RETENTION_PERIOD", janitor_module.RETENTION_PERIOD * 0)
    janitor(held).retain()
    janitor(held).retain()
    assert files(held) == 12
    assert "not removed: instances: no permission" in caplog.text
    monkeypatch.undo()
    janitor(held).retain()
    assert files(held) == 0


def test_a_quota_that_cannot_be_met_is_told(hold, caplog):
    held = hold(retention={"max_gb": 1e-6})
    held.queue()
    with caplog.at_level(logging.WARNING):
        janitor(held).retain()
    assert files(held) == 12
    assert "more than retention.max_gb are kept" in caplog.text
    [check] = [
        check
        for check in check_node(held.services.settings, quick=True)
        if check.name == "retention"
    ]
    assert check.verdict is Verdict.REMARK


def test_a_missing_file_is_told_by_the_log_and_the_doctor(skipped, caplog):
    held = skipped()
    path = held.services.catalog.instance_paths(held.series_uid)[0]
    held.services.files.absolute(path).unlink()
    janitor(held).sweep()
    assert "1 files are missing" in caplog.text
    aside = held.services.files.lost_and_found / "instances"
    aside.mkdir(parents=True)
    (aside / "torn.dcm").write_bytes(b"")

    def told() -> list[tuple[Verdict, str]]:
        checks = check_node(held.services.settings, quick=True)
        return [(one.verdict, one.detail[:7]) for one in checks if one.name == "files"]

    assert told() == [(Verdict.BAD, "1 files"), (Verdict.REMARK, "1 files")]
    for source in held.paths:
        held.receive(source)
    assert told() == [(Verdict.REMARK, "1 files")], "it has come again"

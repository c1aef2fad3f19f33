"""What waits while the clock of the machine is set."""

import logging
import math
import threading
import time
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

import pytest
from apscheduler.job import Job
from apscheduler.schedulers.background import BackgroundScheduler
from doubles import Held

from node import clock as clock_module
from node.clock import ClockWatch, utc_now
from node.health import Verdict, check_running
from node.janitor import Janitor
from node.scheduler import Every, Scheduler
from storage.states import JobState


class Clocks:
    """The clock on the wall, and the one that nobody can set."""

    def __init__(self) -> None:
        self.set_by_s = 0.0
        self.passed_s = 0.0

    def time(self) -> float:
        return 1e9 + self.passed_s + self.set_by_s

    def monotonic(self) -> float:
        return 50.0 + self.passed_s


@pytest.fixture
def clocks(monkeypatch: pytest.MonkeyPatch) -> Clocks:
    clocks = Clocks()
    monkeypatch.setattr(
        clock_module, "time", SimpleNamespace(time=clocks.time, monotonic=clocks.monotonic)
    )
    return clocks


@pytest.mark.parametrize("by_s", [-3600.0, 2.0, 1e9])
def test_a_clock_that_is_set_is_noticed(clocks: Clocks, caplog, by_s: float):
    watch = ClockWatch()
    clocks.passed_s += 100
    assert watch.steady_s() == math.inf
    clocks.set_by_s += by_s
    clocks.passed_s += 5
    assert watch.steady_s() == 0
    assert f"the clock was set by {by_s:+.0f} s" in caplog.text
    clocks.passed_s += 7
    assert watch.steady_s() == 7


def test_what_ntp_turns_slowly_is_not(clocks: Clocks):
    watch = ClockWatch()
    clocks.set_by_s = 0.5
    assert watch.steady_s() == math.inf


def test_ten_years_forward_make_one_tick_due_once():
    begin = datetime(2026, 1, 1, tzinfo=UTC)
    scheduler = BackgroundScheduler(timezone="UTC")
    job = Job(scheduler, id="tick", func=print, args=(), kwargs={}, trigger=Every(0.3))
    job._modify(
        next_run_time=begin,
        executor="default",
        misfire_grace_time=None,
        coalesce=True,
        max_instances=1,
    )
    late = begin + timedelta(days=3650)
    assert job._get_run_times(late) == [begin]
    assert job.trigger.get_next_fire_time(begin, late) == late + timedelta(seconds=0.3)


@pytest.fixture
def held(hold) -> Held:
    return hold(receive={"quiet_s": 10.0}, queue={"lease_s": 10.0, "max_attempts": 1})


def shifted(monkeypatch: pytest.MonkeyPatch, clocks: Clocks, by_s: float) -> None:
    """Set the clock for the scheduler."""
    clocks.set_by_s += by_s
    monkeypatch.setattr(
        "node.scheduler.utc_now",
        lambda: utc_now() + timedelta(seconds=clocks.set_by_s + clocks.passed_s),
    )


@pytest.mark.parametrize("by_s", [-36000.0, 36000.0])
def test_a_series_that_is_being_received_is_not_thought_silent(
    held: Held, clocks: Clocks, monkeypatch, by_s: float
):
    scheduler = Scheduler(held.services)
    shifted(monkeypatch, clocks, by_s)
    scheduler.settle()
    scheduler.recover()
    assert held.services.jobs.list_jobs() == []
    for _ in range(3):
        clocks.passed_s += 11
        scheduler.recover()
        scheduler.settle()
    assert len(held.services.jobs.list_jobs()) == 1


@pytest.mark.parametrize("by_s", [-36000.0, 36000.0])
def test_a_worker_at_work_keeps_its_job_and_a_dead_one_loses_it(
    held: Held, clocks: Clocks, monkeypatch, by_s: float
):
    """With `max_attempts` 1, a job taken from a worker that lives would be FAILED."""
    jobs = held.services.jobs
    held.queue()
    job = jobs.claim("alive", lease_s=10, now=utc_now())
    scheduler = Scheduler(held.services)
    shifted(monkeypatch, clocks, by_s)
    scheduler.recover()
    jobs.heartbeat(job.id, "alive", lease_s=20, now=utc_now() + timedelta(seconds=by_s))
    clocks.passed_s += 11
    scheduler.recover()
    assert jobs.get(job.id).state is JobState.RUNNING
    for _ in range(2):
        clocks.passed_s += 25
        scheduler.recover()
    assert jobs.get(job.id).state is JobState.FAILED
    assert "fallen silent" in jobs.get(job.id).reason


def test_files_that_only_look_old_are_not_swept(held: Held, clocks: Clocks):
    scheduler = Scheduler(held.services)
    path = held.services.files.spool(b"being written")
    clocks.set_by_s = 36000
    scheduler.clean()
    assert path.exists()


def test_retention_that_is_very_late_waits_a_day(hold, monkeypatch, caplog):
    """A clock set forward by years would make everything old."""
    held = hold(retention={"unused_days": 30.0}, receive={"quiet_s": 0.0})
    job = held.queue()
    held.services.jobs.cancel(job.id, "test", job.created_at)
    files = held.services.files.data_dir / "instances"
    janitor = Janitor(held.services, "a", threading.Event())
    begin = utc_now()

    def retain(days: float) -> int:
        monkeypatch.setattr("node.janitor.utc_now", lambda: begin + timedelta(days=days))
        with caplog.at_level(logging.WARNING):
            janitor.retain()
        return len(list(files.glob("*/*/*")))

    assert retain(0) == 12
    assert retain(3650) == 12
    assert "retention is late by" in caplog.text
    assert retain(3650.9) == 12
    assert retain(3651.1) == 0


def test_a_sign_of_life_from_the_future_is_none(held: Held):
    beats = held.services.heartbeats
    beats.beat("worker", host="here", pid=1, now=utc_now() + timedelta(hours=3))
    [check] = [one for one in check_running(held.services.settings) if one.name == "role worker"]
    assert check.verdict is Verdict.BAD


def test_the_ticks_go_on_at_once_when_the_clock_is_set_back(hold, monkeypatch):
    """APScheduler's clock is the wall's: it would wait for as long as it was set back by."""
    held = hold(receive={"quiet_s": 0.0}, queue={"lease_s": 0.1})
    stop, set_by = threading.Event(), timedelta()

    class Wall(datetime):
        @classmethod
        def now(cls, tz=None):
            return datetime.now(tz) + set_by

    monkeypatch.setattr("apscheduler.schedulers.base.datetime", Wall)
    monkeypatch.setattr("node.scheduler.utc_now", lambda: utc_now() + set_by)
    scheduler = Scheduler(held.services)
    ticked = threading.Event()
    monkeypatch.setattr(scheduler, "settle", ticked.set)
    thread = threading.Thread(target=scheduler.run, args=(stop,))
    thread.start()
    try:
        assert ticked.wait(10)
        monkeypatch.setattr(
            clock_module,
            "time",
            SimpleNamespace(time=lambda: time.time() - 3600, monotonic=time.monotonic),
        )
        set_by = timedelta(hours=-1)
        time.sleep(0.5)
        ticked.clear()
        assert ticked.wait(10)
    finally:
        stop.set()
        thread.join()

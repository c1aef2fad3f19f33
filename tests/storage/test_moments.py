"""The clock is set back by hours, or forward, while rows wait."""

from datetime import timedelta
from typing import Any

import pytest

from storage.moments import CLOCK_SLACK, Moments
from storage.open_series import Patience
from storage.states import JobState
from storage.ticks import Ticks

HOURS = -5 * 3600.0
"""Seconds from noon to what the clock says after it was set back."""

TWO_SECONDS = Patience(quiet_s=2)


@pytest.fixture
def moments(node: Any) -> Moments:
    return Moments(node.database)


def test_the_job_of_a_dead_worker_does_not_wait_until_the_clock_is_as_before(
    node: Any, moments: Moments, moment: Any
) -> None:
    node.running()
    assert node.jobs.release_abandoned(3, moment(HOURS + 60)) == []
    assert moments.mend(moment(HOURS + 60)) == 1
    [job] = node.jobs.release_abandoned(3, moment(HOURS + 61))
    assert job.state is JobState.QUEUED


def test_a_worker_that_lives_keeps_its_job(node: Any, moments: Moments, moment: Any) -> None:
    job = node.running()
    node.jobs.heartbeat(job.id, "w1", 30, moment(HOURS))
    assert moments.mend(moment(HOURS + 10)) == 0
    assert node.jobs.release_abandoned(3, moment(HOURS + 10)) == []


def test_a_delivery_does_not_wait_for_its_next_attempt(
    node: Any, moments: Moments, moment: Any
) -> None:
    node.produced()
    delivery = node.claim(second=40)
    node.deliveries.attempt_failed(
        delivery.id, "s1", "down", next_attempt_at=moment(900), now=moment(41)
    )
    assert node.claim(second=HOURS) is None
    assert moments.mend(moment(HOURS)) == 1
    again = node.claim(second=HOURS)
    assert again.id == delivery.id
    assert again.first_attempt_at == moment(HOURS), "its patience begins anew"


def test_what_a_dead_sender_held_is_sent(node: Any, moments: Moments, moment: Any) -> None:
    node.produced()
    node.claim(owner="dead", second=40)
    moments.mend(moment(HOURS))
    assert node.claim(second=HOURS + 1) is not None


def test_a_proof_is_asked_for_anew(node: Any, moments: Moments, moment: Any) -> None:
    node.produced()
    node.deliver(asks_proof=True)
    proof = node.claim_proof(second=50)
    node.proofs.asked(proof.delivery_id, "p1", "2.25.7", moment(51))
    node.proofs.attempt_failed(
        proof.delivery_id, "p1", "waits", next_attempt_at=moment(900), now=moment(52)
    )
    assert node.claim_proof(second=HOURS) is None
    moments.mend(moment(HOURS))
    assert node.claim_proof(second=HOURS).asked_at == moment(HOURS)


def test_a_series_waits_for_its_silence_anew(node: Any, moments: Moments, moment: Any) -> None:
    node.receive()
    assert node.open_series.list_settleable(TWO_SECONDS, moment(HOURS + 60)) == []
    assert moments.mend(moment(HOURS)) == 1
    assert node.open_series.list_settleable(TWO_SECONDS, moment(HOURS + 1)) == []
    [series] = node.open_series.list_settleable(TWO_SECONDS, moment(HOURS + 2))
    assert node.settle_as_seen(series, second=HOURS + 2) is not None


def test_a_tick_does_not_wait(node: Any, moments: Moments, moment: Any) -> None:
    ticks = Ticks(node.database)
    ticks.claim("sweep", "a", 30, moment(0))
    ticks.done("sweep", "a", next_at=moment(86400), now=moment(1))
    assert ticks.claim("sweep", "b", 30, moment(HOURS)) is None
    moments.mend(moment(HOURS))
    assert ticks.claim("sweep", "b", 30, moment(HOURS)) == moment(HOURS)


def test_clocks_of_two_machines_may_differ_a_little(
    node: Any, moments: Moments, moment: Any
) -> None:
    node.running(second=20)
    assert moments.mend(moment(20) - CLOCK_SLACK) == 0
    assert moments.mend(moment(20) - CLOCK_SLACK - timedelta(seconds=1)) == 1


def test_what_is_done_stays_as_it_is(node: Any, moments: Moments, moment: Any) -> None:
    node.produced()
    job = node.deliver()
    assert moments.mend(moment(HOURS)) == 0
    assert node.jobs.get(job.id) == job


def test_a_clock_set_forward_keeps_nothing_from_being_done(node: Any, moment: Any) -> None:
    """Leases that only seem to be over cost an attempt, so the scheduler waits for one lease."""
    job = node.running()
    node.jobs.heartbeat(job.id, "w1", 30, moment(36000))
    assert node.jobs.release_abandoned(3, moment(36001)) == []
    node.produce(job.id)
    assert node.claim(second=36010) is not None

from datetime import UTC, datetime, timedelta

import pytest

from config import DeliverySettings
from node.errors import Cause
from node.retry import next_attempt_at

START = datetime(2026, 1, 1, tzinfo=UTC)
SETTINGS = DeliverySettings(first_retry_s=5, max_retry_s=60, give_up_h=1)


def pause(*, attempts: int, cause: Cause = Cause.UNREACHABLE, luck: float = 0.0) -> timedelta:
    due = next_attempt_at(
        SETTINGS, cause=cause, attempts=attempts, first_attempt_at=START, now=START, luck=luck
    )
    return due - START


@pytest.mark.parametrize(
    ("attempts", "pause_s"), [(1, 5), (2, 10), (3, 20), (4, 40), (5, 60), (6, 60), (5000, 60)]
)
def test_pauses_double_up_to_the_longest(attempts: int, pause_s: float):
    assert pause(attempts=attempts) == timedelta(seconds=pause_s)


def test_a_refusal_that_lasts_waits_the_longest_at_once():
    assert pause(attempts=1, cause=Cause.REFUSED_LASTINGLY) == timedelta(seconds=60)
    assert pause(attempts=1, cause=Cause.REFUSED) == timedelta(seconds=5)


def test_luck_spreads_what_failed_together():
    assert pause(attempts=3, luck=1.0) == timedelta(seconds=15)
    assert pause(attempts=9, luck=0.5) == timedelta(seconds=52.5)


@pytest.mark.parametrize(
    ("minutes", "attempts", "goes_on"),
    [(58, 60, True), (59.5, 60, False), (600, 60, False), (59.5, 40, False), (1e6, 9, True)],
    ids=["patient", "over", "long over", "slow attempts", "clock set or node off"],
)
def test_patience_ends(minutes: float, attempts: int, goes_on: bool):
    now = START + timedelta(minutes=minutes)
    due = next_attempt_at(
        SETTINGS,
        cause=Cause.TIMED_OUT,
        attempts=attempts,
        first_attempt_at=START,
        now=now,
        luck=0.0,
    )
    assert (due is not None) is goes_on

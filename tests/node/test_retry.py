from datetime import UTC, datetime, timedelta

import pytest

from config import DeliverySettings
from node.retry import next_attempt_at

START = datetime(2026, 1, 1, tzinfo=UTC)
SETTINGS = DeliverySettings(first_retry_s=5, max_retry_s=60, give_up_h=1)


@pytest.mark.parametrize(
    ("attempts", "pause_s"), [(1, 5), (2, 10), (3, 20), (4, 40), (5, 60), (6, 60), (5000, 60)]
)
def test_pauses_double_up_to_the_longest(attempts: int, pause_s: float):
    due = next_attempt_at(SETTINGS, attempts=attempts, first_attempt_at=START, now=START)
    assert due == START + timedelta(seconds=pause_s)


@pytest.mark.parametrize(("minutes", "goes_on"), [(58, True), (59.5, False), (600, False)])
def test_patience_ends(minutes: float, goes_on: bool):
    now = START + timedelta(minutes=minutes)
    due = next_attempt_at(SETTINGS, attempts=9, first_attempt_at=START, now=now)
    assert (due is not None) is goes_on

import time
from datetime import UTC, datetime

import pytest
from pydantic import ValidationError

from config import PullSettings
from node.night import is_night, next_night


@pytest.fixture(autouse=True)
def _berlin(monkeypatch: pytest.MonkeyPatch):
    """A time zone with summer time, which ends on 2026-10-25 at 01:00 UTC."""
    monkeypatch.setenv("TZ", "Europe/Berlin")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


def utc(day: int, hour: int, minute: int = 0) -> datetime:
    return datetime(2026, 10, day, hour, minute, tzinfo=UTC)


@pytest.mark.parametrize(
    ("now", "expected"),
    [
        (utc(24, 19, 59), False),
        (utc(24, 20), True),
        (utc(25, 0), True),
        (utc(25, 4, 59), True),
        (utc(25, 5), False),
        (utc(25, 20, 59), False),
        (utc(25, 21), True),
    ],
)
def test_a_night_over_midnight(now: datetime, expected: bool):
    assert is_night(PullSettings(), now) is expected


def test_a_night_within_a_day():
    settings = PullSettings(night_from="00:30", night_until="04:00")
    assert [is_night(settings, utc(1, hour)) for hour in (21, 22, 23, 1, 2)] == [
        False,
        False,
        True,
        True,
        False,
    ]


def test_the_next_night_is_now_or_begins_by_local_time():
    settings = PullSettings()
    assert next_night(settings, utc(24, 12)) == utc(24, 20)
    assert next_night(settings, utc(24, 23)) == utc(24, 23)
    assert next_night(settings, utc(25, 12)) == utc(25, 21)
    early = PullSettings(night_from="01:00", night_until="04:00")
    assert next_night(early, utc(26, 12)) == utc(27, 0)


@pytest.mark.parametrize(
    "night", [{"night_from": "06:00"}, {"night_from": "22:00Z"}, {"night_until": "25:00"}]
)
def test_what_is_no_night_is_refused(night: dict[str, str]):
    with pytest.raises(ValidationError):
        PullSettings(**night)

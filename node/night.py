"""The night, in which archives have time: from one time of this machine's time zone to another."""

from datetime import UTC, datetime, timedelta

from config import PullSettings


def is_night(settings: PullSettings, now: datetime) -> bool:
    """Say whether it is night."""
    time = now.astimezone().time()
    begin, end = settings.night_from, settings.night_until
    return begin <= time < end if begin < end else time >= begin or time < end


def next_night(settings: PullSettings, now: datetime) -> datetime:
    """Give when the next night begins (aware, UTC); now, if it is night."""
    if is_night(settings, now):
        return now
    today = now.astimezone().date()
    # A naive time is taken for a local one, by the rules of summer time of its own day.
    begins = (
        datetime.combine(today + timedelta(days=days), settings.night_from).astimezone(UTC)
        for days in (0, 1, 2)
    )
    return next(begin for begin in begins if begin > now)

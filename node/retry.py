"""When a failed delivery is tried again: data in, time out."""

from datetime import datetime, timedelta

from config import DeliverySettings


def next_attempt_at(
    settings: DeliverySettings, *, attempts: int, first_attempt_at: datetime, now: datetime
) -> datetime | None:
    """Give the time of the next attempt, or none when the delivery is to be given up.

    Parameters
    ----------
    settings
        First pause, longest pause and patience.
    attempts
        Attempts made so far, at least 1; the pause doubles with each.
    first_attempt_at
        When the destination was first tried (aware, UTC).
    now
        The present (aware, UTC).
    """
    doublings = min(attempts - 1, 32)
    pause_s = min(settings.first_retry_s * 2.0**doublings, settings.max_retry_s)
    due = now + timedelta(seconds=pause_s)
    patience = timedelta(hours=settings.give_up_h)
    return due if due - first_attempt_at <= patience else None

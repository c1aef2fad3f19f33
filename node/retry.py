"""When a failed delivery is tried again: data in, time out."""

from datetime import datetime, timedelta

from config import DeliverySettings
from node.errors import Cause

JITTER = 0.25
"""A pause is up to so much shorter, so that what failed together does not come back together."""


def next_attempt_at(
    settings: DeliverySettings,
    *,
    cause: Cause,
    attempts: int,
    first_attempt_at: datetime,
    now: datetime,
    luck: float,
) -> datetime | None:
    """Give the time of the next attempt, or none when the delivery is to be given up.

    Parameters
    ----------
    settings
        First pause, longest pause and patience.
    cause
        Why the last attempt failed; after a lasting refusal the pause is the longest at once.
    attempts
        Attempts made so far, at least 1; the pause doubles with each.
    first_attempt_at
        When the destination was first tried (aware, UTC).
    now
        The present (aware, UTC).
    luck
        A random number from 0 to 1, see `JITTER`.
    """
    doublings = 32 if cause is Cause.REFUSED_LASTINGLY else min(attempts - 1, 32)
    pause_s = min(settings.first_retry_s * 2.0**doublings, settings.max_retry_s)
    due = now + timedelta(seconds=pause_s * (1 - JITTER * luck))
    patience = timedelta(hours=settings.give_up_h)
    return due if due - first_attempt_at <= patience else None

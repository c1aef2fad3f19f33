"""When a failed delivery or retrieval is tried again: data in, time out."""

from datetime import datetime, timedelta
from typing import Protocol

from node.errors import Cause

JITTER = 0.25
"""A pause is up to so much shorter, so that what failed together does not come back together."""
_MAX_DOUBLINGS = 32


class RetrySettings(Protocol):
    """What sections of the settings have in common that say how often something is tried."""

    @property
    def first_retry_s(self) -> float:
        """Pause before the second attempt."""

    @property
    def max_retry_s(self) -> float:
        """Longest pause."""

    @property
    def give_up_h(self) -> float:
        """For how long it is tried."""


def next_attempt_at(
    settings: RetrySettings,
    *,
    cause: Cause,
    attempts: int,
    first_attempt_at: datetime,
    now: datetime,
    luck: float,
) -> datetime | None:
    """Give the time of the next attempt, or none when it is to be given up.

    Parameters
    ----------
    settings
        First pause, longest pause and patience.
    cause
        Why the last attempt failed; after a lasting refusal the pause is the longest at once.
    attempts
        Attempts made so far, at least 1; the pause doubles with each.
    first_attempt_at
        When it was first tried (aware, UTC).
    now
        The present (aware, UTC).
    luck
        A random number from 0 to 1, see `JITTER`.
    """
    is_lasting = cause is Cause.REFUSED_LASTINGLY
    doublings = _MAX_DOUBLINGS if is_lasting else min(attempts - 1, _MAX_DOUBLINGS)
    pause_s = _pause_s(settings, doublings)
    due = now + timedelta(seconds=pause_s * (1 - JITTER * luck))
    patience = timedelta(hours=settings.give_up_h)
    # A clock that was set, or a node that was off, must not use the patience up.
    waited = timedelta(seconds=_pauses_s(settings, attempts))
    is_over = due - first_attempt_at > patience and waited > patience / 2
    return None if is_over else due


def _pauses_s(settings: RetrySettings, attempts: int) -> float:
    """Give the sum of the pauses after so many attempts, the one that begins included."""
    doubling = min(attempts, _MAX_DOUBLINGS)
    pauses_s = sum(_pause_s(settings, number) for number in range(doubling))
    return pauses_s + (attempts - doubling) * settings.max_retry_s


def _pause_s(settings: RetrySettings, doublings: int) -> float:
    return min(settings.first_retry_s * 2.0**doublings, settings.max_retry_s)

"""The present, as everywhere in this project: aware and UTC; and whether it can be believed."""

import logging
import math
import time
from datetime import UTC, datetime

logger = logging.getLogger(__name__)

TOLERANCE_S = 1.0
"""NTP turns a clock slowly; whoever sets it by more is noticed."""


def utc_now() -> datetime:
    """Give the present time."""
    return datetime.now(UTC)


class ClockWatch:
    """Notices that the clock was set, or the machine suspended, by a clock that nobody can set."""

    def __init__(self) -> None:
        self._offset_s = _offset_s()
        self._set_at_s = -math.inf

    def steady_s(self) -> float:
        """Give for how long the clock has not been set; infinite if never since this began."""
        offset_s = _offset_s()
        by_s = offset_s - self._offset_s
        if abs(by_s) > TOLERANCE_S:
            self._offset_s, self._set_at_s = offset_s, time.monotonic()
            logger.warning("the clock was set by %+.0f s", by_s, extra={"action": "clock"})
        return time.monotonic() - self._set_at_s


def _offset_s() -> float:
    return time.time() - time.monotonic()

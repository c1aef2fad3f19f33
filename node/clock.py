"""The present, as everywhere in this project: aware and UTC."""

from datetime import UTC, datetime


def utc_now() -> datetime:
    """Give the present time."""
    return datetime.now(UTC)

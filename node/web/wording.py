"""How pages write what programs write otherwise: times within sentences, spans, names of people."""

import re
from datetime import UTC, datetime, timedelta

from markupsafe import Markup, escape

_TIME = re.compile(r"(\d{4}-\d{2}-\d{2} \d{2}:\d{2}(?::\d{2})?) \(UTC\)")


def span(length: timedelta) -> str:
    """Give a length of time in its largest unit, as "12 s" or "3 min"."""
    seconds = max(0, int(length.total_seconds()))
    for unit, size in (("d", 86_400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * size:
            return f"{seconds // size} {unit}"
    return f"{seconds} s"


def mark_times(sentence: str) -> Markup:
    """Mark the times in a sentence, so that browsers show them by their own clock."""

    def mark(found: re.Match[str]) -> str:
        at = datetime.fromisoformat(found[1]).replace(tzinfo=UTC)
        return f'<time datetime="{at.isoformat()}">{found[0]}</time>'

    # What was escaped has no new digits in it.
    return Markup(_TIME.sub(mark, str(escape(sentence))))  # noqa: S704


def plain_name(actor: str) -> str:
    """Give the name of a user without what histories put before it."""
    return actor.removeprefix("user:")

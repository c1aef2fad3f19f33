"""What a page holds for a visitor from one request to the next, and what has no place in a URL.

It is in the memory of this process: after a restart, or at another machine, it is unknown, and
pages say so.
"""

import threading
from collections import OrderedDict
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, TypeVar

from node.clock import utc_now
from node.web.access import new_secret

_MOST = 1000
_LONGEST = timedelta(hours=12)
_Value = TypeVar("_Value")


@dataclass(frozen=True)
class _Entry:
    name: str
    value: Any
    at: datetime


class Kept:
    """Values by tokens; each is given back to its visitor only."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._entries: OrderedDict[str, _Entry] = OrderedDict()

    def keep(self, name: str, value: object) -> str:
        """Keep a value for the visitor of this name; gives the token that stands for it."""
        token = new_secret()
        with self._lock:
            self._entries[token] = _Entry(name, value, utc_now())
            if len(self._entries) > _MOST:
                self._entries.popitem(last=False)
        return token

    def find(self, name: str, token: str, kind: type[_Value]) -> _Value | None:
        """Give a value back; None when it is not known, or no longer, or another visitor's."""
        with self._lock:
            entry = self._entries.get(token)
        if entry is None or entry.name != name or not isinstance(entry.value, kind):
            return None
        return entry.value if abs(utc_now() - entry.at) < _LONGEST else None

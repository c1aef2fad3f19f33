"""Write lines of the audit trail that belong to no transaction: what is done goes on regardless."""

import logging
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

from pydicom.dataset import Dataset
from pynetdicom.sop_class import (
    StudyRootQueryRetrieveInformationModelFind,
    StudyRootQueryRetrieveInformationModelGet,
    StudyRootQueryRetrieveInformationModelMove,
)

from config import AnyPeer, PeerSettings, Retrieval
from node.clock import utc_now
from storage.audit import AuditTrail
from storage.errors import StorageError
from storage.records import AuditEntry
from storage.states import AuditEvent, AuditOutcome

logger = logging.getLogger(__name__)

_MODELS: Mapping[Retrieval | None, str] = {
    None: StudyRootQueryRetrieveInformationModelFind,
    Retrieval.GET: StudyRootQueryRetrieveInformationModelGet,
    Retrieval.MOVE: StudyRootQueryRetrieveInformationModelMove,
}


def write_line(audit: AuditTrail, entry: AuditEntry) -> bool:
    """Add a line; where that fails the log has an error. Say whether the line is there."""
    try:
        audit.append(entry, utc_now())
    except StorageError as error:
        what = entry.event.value
        logger.error(
            "no line in the audit trail about %s: %s", what, error, extra={"action": "audit"}
        )
        return False
    return True


@contextmanager
def told(audit: AuditTrail, entry: AuditEntry) -> Iterator[dict[str, Any]]:
    """Do something, and write a line about it, also when it fails; gives its further detail."""
    detail = dict(entry.detail)
    try:
        yield detail
    except Exception as error:
        detail["error"] = str(error)
        failed = replace(entry, outcome=AuditOutcome.SERIOUS_FAILURE, detail=detail)
        write_line(audit, failed)
        raise
    write_line(audit, replace(entry, detail=detail))


def query_entry(
    peer: AnyPeer, key: Dataset, purpose: str, actor: str, by: Retrieval | None = None
) -> AuditEntry:
    """Describe a question to a peer, or a retrieval from it.

    Parameters
    ----------
    peer
        Who is asked.
    key
        The identifier of the question.
    purpose
        What it is for, as "poll".
    actor
        Who asks, as `AuditEntry.actor`.
    by
        How instances are retrieved; None where only matches are.
    """
    entity = isinstance(peer, PeerSettings)
    return AuditEntry(
        event=AuditEvent.QUERY_SENT,
        actor=actor,
        study_uid=str(key.get("StudyInstanceUID", "")),
        detail={
            "purpose": purpose,
            "by": "find" if by is None else by.value,
            "peer": peer.ae_title,
            "peer_address": peer.address,
            "sop_class": str(_MODELS[by]) if entity else "",
            "query": {one.keyword: str(one.value) for one in key if not one.is_empty},
        },
    )


@dataclass
class _Window:
    """What happened of one kind since its last line."""

    since_s: float
    count: int = 0
    written: bool = False


class Tally:
    """Writes what happens again and again once a window, with its number.

    The first of a kind is written at the next `flush`, the others together when the window is over.
    Nothing is written by `add`, so that a flood of it costs nothing but memory, and little of that.

    Parameters
    ----------
    audit
        Where lines go.
    window_s
        There is a line of each kind in this time at most, besides the first.
    most
        So many kinds are told apart in a window; what is more has one line.
    """

    def __init__(self, audit: AuditTrail, window_s: float, most: int = 60) -> None:
        self._audit = audit
        self._window_s = window_s
        self._most = most
        self._windows: dict[AuditEntry, _Window] = {}
        self._lock = threading.Lock()

    def add(self, entry: AuditEntry) -> None:
        """Count something; its detail does not say how often."""
        with self._lock:
            known = entry in self._windows
            kind = entry if known or len(self._windows) < self._most else _anybody(entry)
            window = self._windows.setdefault(kind, _Window(time.monotonic()))
            window.count += 1

    def flush(self, *, all_of_it: bool = False) -> None:
        """Write the lines that are due; at the end of a process, all."""
        now_s = time.monotonic()
        with self._lock:
            due = [
                (entry, window)
                for entry, window in self._windows.items()
                if all_of_it or not window.written or now_s - window.since_s >= self._window_s
            ]
        for entry, window in due:
            self._write(entry, window, now_s)

    def _write(self, entry: AuditEntry, window: _Window, now_s: float) -> None:
        count = window.count
        if count and not write_line(
            self._audit, replace(entry, detail={**entry.detail, "count": count})
        ):
            return
        with self._lock:
            window.count -= count
            if window.count or count:
                window.written, window.since_s = True, now_s
            else:
                del self._windows[entry]


def _anybody(entry: AuditEntry) -> AuditEntry:
    """Give what is told of those that are too many to be told apart."""
    return AuditEntry(
        event=entry.event,
        actor="ae:",
        outcome=entry.outcome,
        detail={"reason": "further ones, more than are told apart"},
    )

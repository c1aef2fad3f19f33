"""What visitors do and see, for the audit trail."""

import threading
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

from node.clock import utc_now
from node.services import Services
from node.web.visitor import Visitor
from storage.records import AuditEntry, SeriesRecord
from storage.states import AuditEvent

_ONE_LOOK = timedelta(minutes=15)


def note_action(
    services: Services,
    visitor: Visitor,
    action: str,
    *,
    series: SeriesRecord | None = None,
    event: AuditEvent = AuditEvent.ACTION,
    detail: Mapping[str, Any] | None = None,
) -> None:
    """Write into the audit trail what a visitor has done.

    Parameters
    ----------
    services
        Stores.
    visitor
        Who did it.
    action
        What, in a word or two, as "retry job".
    series
        Whose data it was about, if any.
    event
        Kind of the line.
    detail
        JSON values.
    """
    entry = AuditEntry(
        event=event,
        actor=visitor.actor,
        address=visitor.address,
        patient_id="" if series is None else series.patient_id,
        study_uid="" if series is None else series.study_uid,
        detail={"action": action, **(detail or {})},
    )
    services.audit.append(entry, utc_now())


def note_view(services: Services, visitor: Visitor, series: SeriesRecord, **detail: Any) -> None:
    """Write into the audit trail whose data a visitor looked at."""
    event = AuditEvent.DATA_VIEWED
    note_action(services, visitor, "view", series=series, event=event, detail=detail)


class Looks:
    """Who looks at which job, so that each slice of it is no line of its own."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._since: dict[tuple[str, int], datetime] = {}

    def note(self, services: Services, visitor: Visitor, series: SeriesRecord, job_id: int) -> None:
        """Write that a visitor looks at a job, unless that was written a short time ago."""
        now, key = utc_now(), (visitor.actor, job_id)
        with self._lock:
            for old in [one for one, at in self._since.items() if abs(now - at) > _ONE_LOOK]:
                del self._since[old]
            is_new = key not in self._since
            self._since.setdefault(key, now)
        if is_new:
            note_view(services, visitor, series, page="job", job=job_id)

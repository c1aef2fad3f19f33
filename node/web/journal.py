"""What visitors do and see, for the audit trail."""

from collections.abc import Mapping
from typing import Any

from node.clock import utc_now
from node.services import Services
from node.web.visitor import Visitor
from storage.records import AuditEntry, SeriesRecord
from storage.states import AuditEvent


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

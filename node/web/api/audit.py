"""The audit trail, for administrators; to read it is a line of it."""

from datetime import datetime
from typing import Annotated, Any

from fastapi import APIRouter, Query
from pydantic import Field

from node.web.access import Administrator, ServicesHere
from node.web.api.common import Answer, Asked, Moment, Text, Turn, refuses
from node.web.journal import note_action
from storage.states import AuditEvent, AuditOutcome

router = APIRouter(prefix="/audit", tags=["audit"])


class AuditLine(Answer):
    """A line of the audit trail."""

    id: int
    at: datetime
    host: str
    """The machine of this node that saw it."""
    event: AuditEvent
    actor: str
    """A user as "user:NAME", an application entity as "ae:TITLE", else a role of the node."""
    outcome: AuditOutcome
    address: str
    """Of the machine that the actor spoke from, where it was another."""
    patient_id: str
    study_uid: str
    detail: dict[str, Any]
    digest: str
    """SHA-256 of this line and of the digest of the one before."""


class AuditSearch(Asked):
    """Which lines are wanted; they must meet all that is said."""

    event: list[AuditEvent] = Field(default_factory=list, max_length=len(AuditEvent))
    """One of these; may be repeated."""
    actor: Text = ""
    """Exactly, as user:anna, ae:SCANNER or worker."""
    patient_id: Text = ""
    """Exactly."""
    study_uid: Text = ""
    since: Moment | None = None
    """Then or later; ISO 8601 with a zone."""
    until: Moment | None = None
    """Before."""
    limit: int = Field(default=100, ge=1, le=1000)
    offset: int = Field(default=0, ge=0, le=10_000_000)
    """So many are newer."""


class AuditVerdict(Answer):
    """Whether the trail is as it was written."""

    intact: bool
    """Whether all lines fit together; lines cut off at the end leave no trace here."""
    broken_line: int | None
    """The first that was changed, or before which one was taken out."""
    last_line: int
    """The newest; 0 before the first."""


@router.get("")
def list_audit_lines(
    services: ServicesHere, visitor: Administrator, asked: Annotated[AuditSearch, Query()]
) -> list[AuditLine]:
    """List lines, the newest first."""
    sought = asked.model_dump(mode="json", exclude_defaults=True)
    detail = {"page": "api audit", "sought": sought}
    note_action(services, visitor, "read", event=AuditEvent.AUDIT_READ, detail=detail)
    texts = {name: getattr(asked, name) for name in ("actor", "patient_id", "study_uid")}
    lines = services.audit.list_entries(
        asked.event or None,
        since=asked.since,
        until=asked.until,
        limit=asked.limit,
        offset=asked.offset,
        **{name: text for name, text in texts.items() if text},
    )
    return [AuditLine.model_validate(line) for line in lines]


@router.post("/verify", responses=refuses(429))
def verify_audit(services: ServicesHere, visitor: Administrator, turn: Turn) -> AuditVerdict:
    """Check that no line was changed or taken out."""
    del turn
    note_action(services, visitor, "verify", event=AuditEvent.AUDIT_READ)
    broken = services.audit.find_break()
    return AuditVerdict(
        intact=broken is None,
        broken_line=None if broken is None else broken.id,
        last_line=services.audit.last_id(),
    )

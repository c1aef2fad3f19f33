"""The audit trail, for administrators; to read it is a line of it."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from functools import partial
from typing import Annotated, Any
from urllib.parse import urlencode

from fastapi import APIRouter, Depends, Query, Request, Response
from fastapi.responses import StreamingResponse

from node.audit_message import write_jsonl
from node.clock import utc_now
from node.health import Check, Verdict
from node.services import Services
from node.web.access import Administrator, ServicesHere
from node.web.errors import Conflict, Unusable
from node.web.journal import note_action
from node.web.rendering import go_to, render
from node.web.runs import RunsHere
from node.web.visitor import Visitor
from storage.audit import AuditTrail
from storage.records import AuditRecord
from storage.states import AuditEvent

router = APIRouter(prefix="/audit")

_SHOWN = 100
_RUN = "audit trail"
_SAME_READING = timedelta(minutes=10)
"""Whoever leafs through the trail reads it once."""


@dataclass(frozen=True, kw_only=True)
class AuditFilter:
    """Which lines are wanted; empty texts mean all."""

    event: AuditEvent | None
    actor: str
    patient_id: str
    study_uid: str
    first_day: date | None
    last_day: date | None
    """The whole of it included; days are those of UTC."""

    @property
    def texts(self) -> dict[str, str]:
        """The texts that are to be exactly so."""
        known = {"actor": self.actor, "patient_id": self.patient_id, "study_uid": self.study_uid}
        return {name: text for name, text in known.items() if text}

    @property
    def since(self) -> datetime | None:
        """The first moment."""
        return None if self.first_day is None else datetime.combine(self.first_day, time(), UTC)

    @property
    def until(self) -> datetime | None:
        """The moment after the last one."""
        if self.last_day is None or self.last_day == date.max:
            return None
        return datetime.combine(self.last_day + timedelta(days=1), time(), UTC)

    @property
    def told(self) -> dict[str, str]:
        """What is asked for, as the address of the page and the trail have it."""
        known = {
            "event": self.event,
            "actor": self.actor,
            "patient_id": self.patient_id,
            "study_uid": self.study_uid,
            "since": self.first_day,
            "until": self.last_day,
        }
        return {name: str(value) for name, value in known.items() if value}

    def fits(self, line: AuditRecord) -> bool:
        """Say whether a line is wanted."""
        return (
            (self.event is None or line.event is self.event)
            and all(getattr(line, name) == text for name, text in self.texts.items())
            and (self.since is None or line.at >= self.since)
            and (self.until is None or line.at < self.until)
        )


def read_filter(
    event: str = "",
    actor: str = "",
    patient_id: str = "",
    study_uid: str = "",
    since: str = "",
    until: str = "",
) -> AuditFilter:
    """Read what a form asks for.

    Raises
    ------
    Unusable
    """
    try:
        return AuditFilter(
            event=AuditEvent(event) if event else None,
            actor=actor.strip(),
            patient_id=patient_id.strip(),
            study_uid=study_uid.strip(),
            first_day=date.fromisoformat(since) if since else None,
            last_day=date.fromisoformat(until) if until else None,
        )
    except ValueError:
        raise Unusable(
            "Choose an event from the list, and write days as YYYY-MM-DD, or leave them empty."
        ) from None


Wanted = Annotated[AuditFilter, Depends(read_filter)]
PageNumber = Annotated[int, Query(ge=1, le=100_000)]


@router.get("")
def show_trail(
    request: Request,
    services: ServicesHere,
    runs: RunsHere,
    visitor: Administrator,
    wanted: Wanted,
    page: PageNumber = 1,
) -> Response:
    """Show lines of the trail, the newest first."""
    _note_reading(services, visitor, wanted)
    lines = services.audit.list_entries(
        None if wanted.event is None else [wanted.event],
        since=wanted.since,
        until=wanted.until,
        limit=_SHOWN + 1,
        offset=(page - 1) * _SHOWN,
        **wanted.texts,
    )
    context: dict[str, Any] = {
        "lines": lines[:_SHOWN],
        "wanted": wanted,
        "query": urlencode(wanted.told),
        "page": page,
        "has_older": len(lines) > _SHOWN,
        "events": list(AuditEvent),
        "run": runs.get(_RUN),
    }
    return render(request, "audit.html", context)


@router.post("/verify")
def verify(
    request: Request, services: ServicesHere, runs: RunsHere, visitor: Administrator
) -> Response:
    """Check that no line was changed or taken out; the page shows the outcome."""
    if not runs.start(_RUN, visitor.name, partial(_check_trail, services.audit)):
        raise Conflict("The trail is being checked already; the page of the trail shows how it is.")
    note_action(services, visitor, "verify", event=AuditEvent.AUDIT_READ)
    runs.wait(_RUN, 1.0)
    return go_to(request, "/audit#verify")


@router.get("/verify/live")
def show_live(request: Request, runs: RunsHere, visitor: Administrator) -> Response:
    """Give the outcome of the last check."""
    del visitor
    return render(request, "audit_live.html", {"run": runs.get(_RUN)})


@router.get("/export")
def export(services: ServicesHere, visitor: Administrator, wanted: Wanted) -> Response:
    """Give the lines as JSON, one each, the oldest first."""
    detail = {"form": "JSON lines", **wanted.told}
    note_action(services, visitor, "export", event=AuditEvent.AUDIT_READ, detail=detail)
    name = f"hepar-audit-{utc_now():%Y%m%dT%H%M%SZ}.jsonl"
    return StreamingResponse(
        _json_lines(services.audit, wanted),
        media_type="application/jsonl",
        headers={"Content-Disposition": f'attachment; filename="{name}"'},
    )


def _json_lines(audit: AuditTrail, wanted: AuditFilter) -> Iterator[str]:
    for line in filter(wanted.fits, audit.read()):
        yield write_jsonl(line) + "\n"


def _check_trail(audit: AuditTrail) -> Iterator[Check]:
    newest = audit.list_entries(limit=1)
    broken = audit.find_break()
    if broken is not None:
        detail = (
            f"line {broken.id} of {broken.at:%Y-%m-%d %H:%M:%S} UTC does not fit to the one "
            "before: it was changed, or lines before it were taken out. Compare with a copy or a "
            "backup"
        )
        yield Check(name=_RUN, verdict=Verdict.BAD, detail=detail)
        return
    end = f"checked up to line {newest[0].id}" if newest else "there is none yet"
    yield Check(name=_RUN, verdict=Verdict.GOOD, detail=f"all lines fit together; {end}")


def _note_reading(services: Services, visitor: Visitor, wanted: AuditFilter) -> None:
    """Write down who reads what, once for a while."""
    recent = services.audit.list_entries(
        [AuditEvent.AUDIT_READ], since=utc_now() - _SAME_READING, actor=visitor.actor
    )
    detail = {"page": "audit", **wanted.told}
    if {"action": "read", **detail} not in [line.detail for line in recent]:
        note_action(services, visitor, "read", event=AuditEvent.AUDIT_READ, detail=detail)

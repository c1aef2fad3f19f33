"""The selection rules: what they ask for, what they decided, and what they would say of files."""

from collections.abc import AsyncIterator, Sequence
from datetime import timedelta
from functools import partial
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request, Response
from starlette.datastructures import FormData, UploadFile

from dicom_io.rules import describe_conditions
from node.clock import utc_now
from node.rule_trial import FilesTrial, SeriesTrial, try_files, try_received
from node.services import Services
from node.web.access import ServicesHere, Viewer
from node.web.body_limit import MAX_UPLOAD_BYTES
from node.web.errors import Unusable
from node.web.journal import note_action, note_view
from node.web.privacy import for_visitor, sees_value
from node.web.rendering import render
from node.web.visitor import Visitor
from storage.records import SeriesRecord
from storage.states import AuditEvent

router = APIRouter(prefix="/rules")

UPLOAD_PATH = "/rules/try"
_RECENT = timedelta(days=7)
_OFFERED = 20


@router.get("")
def show_rules(
    request: Request, services: ServicesHere, visitor: Viewer, text: str = "", series: str = ""
) -> Response:
    """Show the rules, and try them on a received series; `text` looks for some."""
    context: dict[str, Any] = {"text": text.strip()}
    if series:
        record = services.catalog.get_series(series)
        note_view(services, visitor, record, page="rules", series_uid=series)
        trial = FilesTrial(series=[try_received(services, record)], problems={})
        context |= {"trial": trial, "received": record}
    return _show(request, services, visitor, context)


@router.get("/live")
def show_live(request: Request, services: ServicesHere, visitor: Viewer) -> Response:
    """Give the part of the page that changes."""
    del visitor
    return render(request, "rules_live.html", _figures(services))


async def _read_form(request: Request, visitor: Viewer) -> AsyncIterator[FormData]:
    """Read a form with files, which are gone as soon as the answer is there."""
    del visitor
    async with request.form() as form:
        yield form


@router.post(UPLOAD_PATH.removeprefix("/rules"))
def try_rules(
    request: Request,
    services: ServicesHere,
    visitor: Viewer,
    form: Annotated[FormData, Depends(_read_form)],
) -> Response:
    """Try the rules on files; nothing of them is kept."""
    files = [one for one in form.getlist("files") if isinstance(one, UploadFile) and one.filename]
    if not files:
        raise Unusable("Choose at least one DICOM file.")
    calling = str(form.get("calling_ae_title", "")).strip()
    named = [(one.filename or "", one.file) for one in files]
    trial = try_files(services.settings.rules, named, calling)
    detail = {"files": len(files), "series": [one.series_uid for one in trial.series]}
    note_action(services, visitor, "test rules", detail=detail)
    return _show(request, services, visitor, {"trial": trial, "calling": calling})


def _show(
    request: Request, services: Services, visitor: Visitor, context: dict[str, Any]
) -> Response:
    text = context.get("text", "")
    found = _find(services, visitor, text) if text else services.catalog.list_series(limit=_OFFERED)
    if "trial" in context:
        context["decisive"] = [_decisive(one) for one in context["trial"].series]
    common = {
        "text": "",
        "offered": [for_visitor(one, visitor) for one in found],
        "max_mb": MAX_UPLOAD_BYTES // 1_000_000,
        "max_bytes": MAX_UPLOAD_BYTES,
        "senders": sorted({peer.ae_title for peer in services.settings.sources.values()}),
        "sees_value": partial(sees_value, visitor=visitor),
        "describe": partial(for_visitor, visitor=visitor),
    }
    return render(request, "rules.html", _figures(services) | common | context)


def _figures(services: Services) -> dict[str, Any]:
    rules = services.settings.rules
    known = services.activity.of_rules(utc_now() - _RECENT)
    names = [rule.name for rule in rules]
    return {
        "rules": [(rule, describe_conditions(rule), known.get(rule.name)) for rule in rules],
        "unmatched": known.get(""),
        "former": {name: one for name, one in known.items() if name and name not in names},
        "recent_days": _RECENT.days,
    }


def _find(services: Services, visitor: Visitor, text: str) -> Sequence[SeriesRecord]:
    """Look for received series, and note that somebody did."""
    found = services.activity.find_series(text, by_patient=visitor.sees_patients, limit=_OFFERED)
    if found and visitor.sees_patients:
        event = AuditEvent.DATA_VIEWED
        detail = {"text": text, "series": [one.series_uid for one in found]}
        note_action(services, visitor, "search series", event=event, detail=detail)
    return found


def _decisive(trial: SeriesTrial) -> int | None:
    """Give the place of the rule that decides; None where none does."""
    return next((n for n, rule in enumerate(trial.rules) if rule.matched), None)

"""The selection rules, and what they say of files or of a received series."""

from collections.abc import AsyncIterator, Sequence
from functools import partial
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request
from starlette.datastructures import FormData, UploadFile

from config.rules import RuleAction
from node.rule_trial import FilesTrial, SeriesTrial, try_files, try_received
from node.web.access import ServicesHere, Viewer
from node.web.api.common import Answer, refuses
from node.web.api.jobs import Described
from node.web.errors import Unusable
from node.web.journal import note_action, note_view
from node.web.privacy import for_visitor, sees_value
from node.web.visitor import Visitor

router = APIRouter(prefix="/rules", tags=["rules"])

TRY_PATH = "/rules/test"
_FILES_SCHEMA = {
    "type": "object",
    "required": ["files"],
    "properties": {
        "files": {
            "type": "array",
            "minItems": 1,
            "items": {"type": "string", "format": "binary"},
            "description": "DICOM files (PS3.10), 200 MB together at most; nothing is kept.",
        },
        "calling_ae_title": {
            "type": "string",
            "description": "Sender to assume; without it no condition on the sender holds.",
        },
    },
}


class Rule(Answer):
    """A selection rule; the first whose conditions all hold decides."""

    name: str
    action: RuleAction
    reason: str
    when: dict[str, Any]
    """Keyword of an attribute to a value or a condition; empty means always."""


class ConditionOutcome(Answer):
    """How one condition fared."""

    keyword: str
    wording: str
    """What it asks for, as "is 'CT'"."""
    held: bool
    found: str | None
    """The value, several joined by backslashes; null where it is hidden from the user."""


class RuleOutcome(Answer):
    """How one rule fared."""

    rule: str
    matched: bool
    conditions: Sequence[ConditionOutcome]


class SeriesOutcome(Described):
    """What the rules say of a series."""

    series_uid: str
    instances: int
    action: RuleAction
    rule: str
    """The one that decides; empty where none does."""
    reason: str
    rules: Sequence[RuleOutcome]
    """All of them, in their order."""


class FilesOutcome(Answer):
    """What the rules say of files."""

    series: Sequence[SeriesOutcome]
    problems: dict[str, str]
    """Files that are of no use, by name, and why."""


@router.get("")
def list_rules(services: ServicesHere, visitor: Viewer) -> list[Rule]:
    """List the rules in their order."""
    del visitor
    return [
        Rule.model_validate(rule.model_dump(mode="json", exclude_unset=True) | _named(rule))
        for rule in services.settings.rules
    ]


async def _read_form(request: Request, visitor: Viewer) -> AsyncIterator[FormData]:
    """Read a form with files, which are gone as soon as the answer is there."""
    del visitor
    async with request.form() as form:
        yield form


@router.post(
    TRY_PATH.removeprefix("/rules"),
    responses=refuses(400, 413),
    openapi_extra={
        "requestBody": {
            "required": True,
            "content": {"multipart/form-data": {"schema": _FILES_SCHEMA}},
        }
    },
)
def try_rules(
    services: ServicesHere,
    visitor: Viewer,
    form: Annotated[FormData, Depends(_read_form)],
) -> FilesOutcome:
    """Say of each series of the files which rule decides, and why."""
    files = [one for one in form.getlist("files") if isinstance(one, UploadFile)]
    if not files:
        raise Unusable("Send at least one DICOM file, in a field `files`.")
    named = [(one.filename or "", one.file) for one in files]
    calling = str(form.get("calling_ae_title", "")).strip()
    trial = try_files(services.settings.rules, named, calling)
    detail = {"files": len(files), "series": [one.series_uid for one in trial.series]}
    note_action(services, visitor, "test rules", detail=detail)
    return _answer(trial, visitor)


@router.get("/test/{series_uid}", responses=refuses(404))
def try_rules_on_series(services: ServicesHere, visitor: Viewer, series_uid: str) -> SeriesOutcome:
    """Say which rule would decide on a received series if it came now, and why."""
    series = services.catalog.get_series(series_uid)
    note_view(services, visitor, series, page="api rules", series_uid=series_uid)
    return _answer_series(try_received(services, series), visitor)


def _named(rule: Any) -> dict[str, Any]:
    return {"reason": rule.reason, "when": rule.model_dump(mode="json", exclude_none=True)["when"]}


def _answer(trial: FilesTrial, visitor: Visitor) -> FilesOutcome:
    series = [_answer_series(one, visitor) for one in trial.series]
    return FilesOutcome(series=series, problems=dict(trial.problems))


def _answer_series(trial: SeriesTrial, visitor: Visitor) -> SeriesOutcome:
    shows = partial(sees_value, visitor=visitor)
    rules = [
        {
            "rule": rule.rule,
            "matched": rule.matched,
            "conditions": [
                vars(one) | {"found": one.found if shows(one.keyword) else None}
                for one in rule.conditions
            ],
        }
        for rule in trial.rules
    ]
    return SeriesOutcome.model_validate(
        vars(for_visitor(trial.description, visitor))
        | vars(trial.decision)
        | {"series_uid": trial.series_uid, "instances": trial.instances, "rules": rules}
    )

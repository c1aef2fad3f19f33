"""How the node does: health, versions, settings, retention, conformance statement."""

from collections.abc import Sequence
from datetime import datetime

from fastapi import APIRouter, Response
from fastapi.encoders import jsonable_encoder
from pydantic import JsonValue

from config import LoadedSettings
from config.listing import list_settings
from node.clock import utc_now
from node.health import Verdict, check_ready
from node.system_report import list_versions
from node.web.access import Administrator, Operator, ServicesHere, Viewer
from node.web.api.common import Answer, Turn, gives, refuses
from storage.retention import Holding, HoldingKind, group_kept

router = APIRouter(prefix="/system", tags=["system"])

_REMOVALS_SHOWN = 1000


class HealthCheck(Answer):
    """One check."""

    name: str
    verdict: Verdict
    detail: str
    limit: str
    """What the detail is judged by, where that is a number."""


class Health(Answer):
    """Whether what is sent now is taken and worked on."""

    ready: bool
    """Whether no check is bad."""
    checks: Sequence[HealthCheck]


class Setting(Answer):
    """One key of the settings."""

    key: str
    value: JsonValue
    """Secrets are masked."""
    default: JsonValue
    origin: str
    """Whence the value comes, as "default" or "command line"."""
    meaning: str


class Removal(Answer):
    """Files that would be removed now."""

    kind: HoldingKind
    series_uid: str
    job: int | None
    size_bytes: int
    over_at: datetime | None
    """Until when they were needed."""
    rule: str
    """By which they would go."""


class KeptFiles(Answer):
    """Files that stay for the same reason."""

    kind: HoldingKind
    why: str
    count: int
    size_bytes: int
    first_due_at: datetime | None
    """When the first of them goes; null where none has a time."""


class RetentionPreview(Answer):
    """What would be removed now, and why the rest stays."""

    removals: Sequence[Removal]
    """The first 1000."""
    removal_count: int
    removal_bytes: int
    kept: Sequence[KeptFiles]
    excess_bytes: int
    """By which more than retention.max_gb stays; 0 if none does."""


@router.get("/health")
def get_health(services: ServicesHere, visitor: Viewer) -> Health:
    """Check disk, database and that each role runs."""
    del visitor
    checks = [HealthCheck.model_validate(one) for one in check_ready(services.settings)]
    ready = all(one.verdict is not Verdict.BAD for one in checks)
    return Health(ready=ready, checks=checks)


@router.get("/versions")
def get_versions(visitor: Viewer) -> dict[str, str]:
    """Give the version of this software, and of what it is made of."""
    del visitor
    return list_versions()


@router.get("/settings")
def get_settings(services: ServicesHere, visitor: Administrator) -> list[Setting]:
    """List every key with its value, default, origin and meaning."""
    del visitor
    loaded = LoadedSettings(settings=services.settings, origins=services.origins)
    rows = jsonable_encoder(list_settings(loaded))
    return [Setting.model_validate(row) for row in rows]


@router.get("/retention", responses=refuses(429))
def preview_retention(services: ServicesHere, visitor: Operator, turn: Turn) -> RetentionPreview:
    """Say what would be removed now, by which rule, and why the rest stays; remove nothing."""
    del visitor, turn
    plan = services.retention.plan(utc_now())
    first = plan.removals[:_REMOVALS_SHOWN]
    return RetentionPreview(
        removals=[_answer_removal(one.holding, one.rule) for one in first],
        removal_count=len(plan.removals),
        removal_bytes=sum(one.holding.size_bytes for one in plan.removals),
        kept=[KeptFiles.model_validate(one) for one in group_kept(plan.kept)],
        excess_bytes=plan.excess_bytes,
    )


@router.get("/conformance.md", response_class=Response, responses=gives("text/markdown"))
def get_conformance(services: ServicesHere, visitor: Operator) -> Response:
    """Give the DICOM conformance statement (PS3.2) of the settings in force, as Markdown."""
    from node.conformance import make_statement

    del visitor
    return Response(make_statement(services.settings), media_type="text/markdown")


@router.get("/conformance.pdf", response_class=Response, responses=gives("application/pdf"))
def get_conformance_pdf(services: ServicesHere, visitor: Operator) -> Response:
    """Give the same as PDF."""
    from node.conformance import make_statement_pdf

    del visitor
    content = make_statement_pdf(services.settings, utc_now().date())
    return Response(content, media_type="application/pdf")


def _answer_removal(holding: Holding, rule: str) -> Removal:
    return Removal(
        kind=holding.kind,
        series_uid=holding.series_uid,
        job=holding.job_id,
        size_bytes=holding.size_bytes,
        over_at=holding.verdict.over_at,
        rule=rule,
    )

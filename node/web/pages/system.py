"""How the node and its machine do."""

import os
import socket
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from fastapi import APIRouter, Request, Response

from config import LoadedSettings
from config.listing import DEFAULT, list_settings
from node import system_report as report
from node.clock import utc_now
from node.doctor_apart import check_node_apart
from node.services import Services
from node.web.access import Administrator, Operator, ServicesHere, Viewer
from node.web.errors import Conflict
from node.web.journal import note_action
from node.web.rendering import go_to, render
from node.web.runs import Runs, RunsHere
from node.web.visitor import Visitor
from storage.retention import Kept, Removal, Retention, group_kept
from storage.states import UserRole

router = APIRouter(prefix="/system")

_RUN = "doctor"
_RETENTION = "retention"
_PATIENCE_S = 1.0
_REMOVALS_SHOWN = 200


@dataclass(frozen=True, kw_only=True)
class RetentionSummary:
    """What would be removed now, without all that would not."""

    removals: Sequence[Removal]
    """The first of them."""
    removal_count: int
    going_bytes: int
    kept: Sequence[Kept]
    kept_bytes: int
    excess_bytes: int


@router.get("")
def show_system(
    request: Request, services: ServicesHere, runs: RunsHere, visitor: Viewer
) -> Response:
    """Show how the node and its machine do."""
    model, model_problem = report.find_model(services.settings)
    context = {
        "host": socket.gethostname(),
        "processor": report.describe_processor(),
        "cores": os.cpu_count(),
        "memory_bytes": report.memory_bytes(),
        "settings": services.settings,
        "last_run": report.last_run(services),
        "model": model,
        "model_problem": model_problem,
        "versions": report.list_versions(),
        "certificates": report.list_certificates(services.settings),
    }
    return render(request, "system.html", _figures(services, runs, visitor) | context)


@router.get("/live")
def show_live(
    request: Request, services: ServicesHere, runs: RunsHere, visitor: Viewer
) -> Response:
    """Give the part of the page that changes."""
    return render(request, "system_live.html", _figures(services, runs, visitor))


@router.post("/check")
def check_everything(
    request: Request, services: ServicesHere, runs: RunsHere, visitor: Operator
) -> Response:
    """Let the doctor look at everything but the speed; the page shows what it finds."""
    if not runs.start(_RUN, visitor.name, partial(check_node_apart, services.settings)):
        raise Conflict("Everything is being checked already; the page of the system shows how far.")
    note_action(services, visitor, "check everything")
    return go_to(request, "/system#checks")


@router.get("/settings")
def show_settings(request: Request, services: ServicesHere, visitor: Administrator) -> Response:
    """Show each setting with its origin."""
    del visitor
    rows = list_settings(LoadedSettings(settings=services.settings, origins=services.origins))
    changed = [row for row in rows if row.origin != DEFAULT]
    return render(request, "system_settings.html", {"rows": rows, "changed": changed})


@router.get("/retention")
def show_retention(
    request: Request, services: ServicesHere, runs: RunsHere, visitor: Operator
) -> Response:
    """Show what would be removed, and why the rest stays, as it was looked for last."""
    del visitor
    return render(request, "system_retention.html", _retention(services, runs))


@router.get("/retention/live")
def show_retention_live(
    request: Request, services: ServicesHere, runs: RunsHere, visitor: Operator
) -> Response:
    """Give the part of the page that changes."""
    del visitor
    return render(request, "system_retention_live.html", _retention(services, runs))


@router.post("/retention")
def look_at_retention(
    request: Request, services: ServicesHere, runs: RunsHere, visitor: Operator
) -> Response:
    """Find out what would be removed now; with very many series that takes a while."""
    runs.start(_RETENTION, visitor.name, partial(_plan, services.retention))
    runs.wait(_RETENTION, _PATIENCE_S)
    return go_to(request, "/system/retention")


@router.get("/conformance.md")
def give_statement(services: ServicesHere, visitor: Operator) -> Response:
    """Give the conformance statement as Markdown."""
    from node.conformance import make_statement

    del visitor
    return _download(make_statement(services.settings).encode(), services, "md", "text/markdown")


@router.get("/conformance.pdf")
def give_statement_pdf(services: ServicesHere, visitor: Operator) -> Response:
    """Give the conformance statement as PDF."""
    from node.conformance import make_statement_pdf

    del visitor
    content = make_statement_pdf(services.settings, utc_now().date())
    return _download(content, services, "pdf", "application/pdf")


def _download(content: bytes, services: Services, ending: str, kind: str) -> Response:
    title = "".join(c if c.isalnum() else "-" for c in services.settings.node.ae_title)
    headers = {"Content-Disposition": f'attachment; filename="{title}-conformance.{ending}"'}
    return Response(content, media_type=kind, headers=headers)


def _retention(services: Services, runs: Runs) -> dict[str, Any]:
    return {"run": runs.get(_RETENTION), "retention": services.settings.retention}


def _plan(retention: Retention) -> Iterator[RetentionSummary]:
    plan = retention.plan(utc_now())
    yield RetentionSummary(
        removals=plan.removals[:_REMOVALS_SHOWN],
        removal_count=len(plan.removals),
        going_bytes=sum(one.holding.size_bytes for one in plan.removals),
        kept=list(group_kept(plan.kept)),
        kept_bytes=sum(one.size_bytes for one in plan.kept),
        excess_bytes=plan.excess_bytes,
    )


def _figures(services: Services, runs: Runs, visitor: Visitor) -> dict[str, Any]:
    return {
        "checks": list(report.quick_checks(services)),
        "doctor": runs.get(_RUN),
        "processes": report.list_processes(services),
        "gpus": report.list_gpus(services),
        "disk": report.report_disk(services),
        "database": report.report_database(services),
        "queue": report.report_queue(services),
        "may_check": visitor.may(UserRole.OPERATOR),
        "may_read_settings": visitor.may(UserRole.ADMINISTRATOR),
        "now": utc_now(),
    }

"""One order of what is fetched from a PACS: how far each row is, and what became of what came."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

from fastapi import APIRouter, Form, Request, Response

from config import RuleAction
from node.clock import utc_now
from node.health import Verdict, check_roles
from node.night import is_night
from node.pull_orders import cancel_pull, retry_pull
from node.roles import Role
from node.services import Services
from node.wanted import NAMES
from node.web.access import Operator, ServicesHere
from node.web.journal import note_action
from node.web.pages.pull import PageNumber
from node.web.rendering import go_to, render
from storage.held_studies import HeldSeries, HeldStudies
from storage.records import RetrievalRecord
from storage.states import AuditEvent, JobState, RetrievalState

router = APIRouter(prefix="/pull/{batch}")
_SHOWN = 100

RowId = Annotated[int | None, Form(ge=1, lt=1 << 31)]


@dataclass(frozen=True, kw_only=True)
class ShownRow:
    """A row of an order, and what became of the series that came for it."""

    row: RetrievalRecord
    jobs: Sequence[tuple[int, JobState]]
    without_job: Mapping[str, int]
    """Why series have no job, and how many."""


@router.get("")
def show_order(
    request: Request,
    services: ServicesHere,
    visitor: Operator,
    batch: str,
    state: RetrievalState | None = None,
    page: PageNumber = 1,
) -> Response:
    """Show an order and its rows, or those in one state."""
    context = _facts(services, batch, state, page)
    detail = {"page": "pull", "batch": batch}
    note_action(services, visitor, "view", event=AuditEvent.DATA_VIEWED, detail=detail)
    return render(request, "pull/order.html", context)


@router.get("/live")
def show_rows(
    request: Request,
    services: ServicesHere,
    visitor: Operator,
    batch: str,
    state: RetrievalState | None = None,
    page: PageNumber = 1,
) -> Response:
    """Give the part of the page that changes."""
    del visitor
    return render(request, "pull/order_live.html", _facts(services, batch, state, page))


@router.post("/cancel")
def cancel(
    request: Request, services: ServicesHere, visitor: Operator, batch: str, row: RowId = None
) -> Response:
    """Cancel what has not ended of an order, or one row."""
    rows = cancel_pull(services, batch, visitor.actor, row, visitor.address)
    return go_to(request, f"/pull/{batch}", f"{_rows(len(rows))} canceled; what has come stays.")


@router.post("/retry")
def retry(
    request: Request, services: ServicesHere, visitor: Operator, batch: str, row: RowId = None
) -> Response:
    """Ask again for what was not fetched of an order, or for one row."""
    rows = retry_pull(services, batch, visitor.actor, row, visitor.address)
    return go_to(request, f"/pull/{batch}", f"{_rows(len(rows))} queued again.")


def _facts(
    services: Services, batch: str, state: RetrievalState | None, page: int
) -> dict[str, Any]:
    retrievals, settings = services.retrievals, services.settings
    order, begin = retrievals.get_batch(batch), (page - 1) * _SHOWN
    rows = retrievals.list_rows(batch, state=state, limit=_SHOWN, offset=begin)
    of_all = order.row_count if state is None else order.counts.get(state, 0)
    beats = services.heartbeats.list_beats()
    checks = {check.name: check.verdict for check in check_roles(beats, Verdict.BAD)}
    return {
        "order": order,
        "rows": _with_jobs(services, rows),
        "state": state,
        "page": page,
        "has_more": begin + _SHOWN < of_all,
        "keys": NAMES,
        "is_known": order.peer in settings.peers,
        "is_stopped": checks[f"role {Role.SCHEDULER.value}"] is Verdict.BAD,
        "night": settings.pull,
        "is_night": is_night(settings.pull, utc_now()),
    }


def _with_jobs(services: Services, rows: Sequence[RetrievalRecord]) -> list[ShownRow]:
    uids = list(dict.fromkeys(uid for row in rows for uid in row.series_uids))
    held = HeldStudies(services.database).look_up_series(uids)
    known = {one.series_uid: one for one in held}
    return [_with_own(row, [known[uid] for uid in row.series_uids if uid in known]) for row in rows]


def _with_own(row: RetrievalRecord, series: Sequence[HeldSeries]) -> ShownRow:
    jobs = sorted((job for one in series for job in one.jobs), reverse=True)
    others = Counter(_describe(one) for one in series if not one.jobs)
    return ShownRow(row=row, jobs=jobs, without_job=others)


def _describe(series: HeldSeries) -> str:
    if series.decision is None:
        return "not yet decided on"
    is_skipped = series.decision is RuleAction.SKIP
    return f"skipped: {series.reason}" if is_skipped else series.reason


def _rows(count: int) -> str:
    return "1 row" if count == 1 else f"{count} rows"

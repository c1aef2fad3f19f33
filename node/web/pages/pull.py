"""Fetch from a PACS: look numbers up there, order what is wanted, see all orders."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request, Response

from config import Settings
from node.clock import utc_now
from node.errors import WrongCall
from node.night import is_night
from node.pull_orders import can_move, order_pull
from node.services import Services
from node.study_query import Answer, query_studies
from node.wanted import NAMES, WantedList, check_length
from node.web.access import Operator, ServicesHere
from node.web.errors import Unusable
from node.web.privacy import for_visitor
from node.web.pull_form import FormHere, PullForm, fill_in, ticked
from node.web.rendering import go_to, render
from node.web.visitor import Visitor

router = APIRouter(prefix="/pull")
PageNumber = Annotated[int, Query(ge=1, le=1_000_000)]
_SHOWN = 25
_TOLD_LINES = 20


@router.get("")
def show_pull(
    request: Request, services: ServicesHere, visitor: Operator, page: PageNumber = 1
) -> Response:
    """Show the form, and what was ordered."""
    del visitor
    return _show(request, services, PullForm(), page=page)


@router.get("/live")
def show_orders(
    request: Request, services: ServicesHere, visitor: Operator, page: PageNumber = 1
) -> Response:
    """Give the part of the page that changes."""
    del visitor
    return render(request, "pull/orders.html", _orders(services, page))


@router.post("/look-up")
def look_up(
    request: Request, services: ServicesHere, visitor: Operator, form: FormHere
) -> Response:
    """Show what a PACS lists under each number; the script of the page asks one by one."""
    filled = fill_in(form)
    filled.find_peer(services.settings)
    try:
        listed = filled.read_list()
        if not listed.values:
            trouble = "Nothing was looked up. Mend these lines."
            return _show(request, services, filled, listed=listed, trouble=trouble)
        check_length(listed.values, services.settings.pull)
    except WrongCall as error:
        return _show(request, services, filled, trouble=str(error))
    is_asked = "at_once" in form
    if is_asked:
        answers = _ask(services, visitor, filled, listed.values)
    else:
        answers = [Answer(key=filled.key, value=value) for value in listed.values]
    kept = replace(filled, text=filled.text or "\n".join(listed.values))
    context = {"answers": answers, "is_asked": is_asked, "listed": listed, "filled": kept}
    return render(request, "pull/look_up.html", _form_facts(services.settings) | context)


@router.post("/answer")
def show_answer(
    request: Request, services: ServicesHere, visitor: Operator, form: FormHere
) -> Response:
    """Give the rows of what a PACS lists under one number."""
    filled = fill_in(form)
    [answer] = _ask(services, visitor, filled, [filled.text])
    return render(request, "pull/answer.html", {"answer": answer})


@router.post("")
def order(request: Request, services: ServicesHere, visitor: Operator, form: FormHere) -> Response:
    """Order what was ticked, or all of a list; with a line that cannot be asked for, nothing."""
    filled, wanted, repeated = fill_in(form), ticked(form), ""
    if "is_choice" in form and not wanted:
        raise Unusable("No study is ticked. Go back, and tick what you want.")
    try:
        if not wanted:
            listed = filled.read_list()
            if listed.bad:
                trouble = "Nothing was ordered. Mend these lines; or look the list up, and choose."
                return _show(request, services, filled, listed=listed, trouble=trouble)
            wanted = [(filled.key, value) for value in listed.values]
            repeated = " What was there twice is taken once." if listed.repeated else ""
        at_night = form.get("when") == "night"
        made = filled.make_order(services.settings, wanted, at_night=at_night)
        batch = order_pull(services, made, visitor.actor, visitor.address)
    except WrongCall as error:
        return _show(request, services, filled, trouble=str(error))
    count = "1 row" if batch.row_count == 1 else f"{batch.row_count} rows"
    return go_to(request, f"/pull/{batch.batch}", f"Ordered: {count} from {batch.peer}.{repeated}")


def _show(
    request: Request,
    services: Services,
    filled: PullForm,
    *,
    listed: WantedList | None = None,
    trouble: str = "",
    page: int = 1,
) -> Response:
    context = {"filled": filled, "listed": listed, "trouble": trouble}
    facts = _form_facts(services.settings) | _orders(services, page)
    return render(request, "pull/page.html", facts | context, status=422 if trouble else 200)


def _form_facts(settings: Settings) -> dict[str, Any]:
    """Give what the form offers."""
    now = utc_now()
    return {
        "peers": settings.peers,
        "keys": NAMES,
        "may_move": any(can_move(peer) for peer in settings.peers.values()),
        "max_rows": settings.pull.max_rows,
        "told_lines": _TOLD_LINES,
        "night": settings.pull,
        "is_night": is_night(settings.pull, now),
        "zone": now.astimezone().tzname(),
    }


def _orders(services: Services, page: int) -> dict[str, Any]:
    """Give one page of the orders, and whether there are older ones."""
    batches = services.retrievals.list_batches(limit=_SHOWN + 1, offset=(page - 1) * _SHOWN)
    return {"batches": batches[:_SHOWN], "page": page, "has_older": len(batches) > _SHOWN}


def _ask(
    services: Services, visitor: Visitor, filled: PullForm, values: Sequence[str]
) -> list[Answer]:
    answers = query_studies(
        services,
        filled.find_peer(services.settings),
        [(filled.key, value) for value in values],
        actor=visitor.actor,
        address=visitor.address,
    )
    return [_for_visitor(answer, visitor) for answer in answers]


def _for_visitor(answer: Answer, visitor: Visitor) -> Answer:
    studies = [replace(one, listed=for_visitor(one.listed, visitor)) for one in answer.studies]
    return replace(answer, studies=tuple(studies))

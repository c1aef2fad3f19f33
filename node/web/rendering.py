"""Pages: templates, what every page knows, and messages that survive one redirect."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote

from fastapi import Request, Response
from fastapi.responses import RedirectResponse
from fastapi.templating import Jinja2Templates

from node.services import Services
from node.version import SOFTWARE_VERSION
from node.web.access import FORM_COOKIE, SESSION_COOKIE, form_token, get_services, new_secret
from node.web.wording import mark_times, plain_name, span
from storage.errors import StorageError
from storage.records import Pause
from storage.states import UserRole

FOLDER = Path(__file__).parent
_TOLD_COOKIE = "hepar_told"
_TOLD_S = 30
_MENU = (
    ("/", "Now", UserRole.VIEWER),
    ("/jobs", "Jobs", UserRole.VIEWER),
    ("/pull", "Pull", UserRole.OPERATOR),
    ("/rules", "Rules", UserRole.VIEWER),
    ("/peers", "Peers", UserRole.VIEWER),
    ("/models", "Models", UserRole.VIEWER),
    ("/system", "System", UserRole.VIEWER),
    ("/users", "Users", UserRole.ADMINISTRATOR),
    ("/audit", "Audit", UserRole.ADMINISTRATOR),
)


def _iso(time: datetime | None) -> str:
    return "" if time is None else time.strftime("%Y-%m-%d %H:%M:%S")


_TEMPLATES = Jinja2Templates(directory=FOLDER / "templates")
_TEMPLATES.env.filters["utc"] = _iso
_TEMPLATES.env.filters["mark_times"] = mark_times
_TEMPLATES.env.filters["plain_name"] = plain_name
_TEMPLATES.env.globals["span"] = span
_TEMPLATES.env.globals["version"] = SOFTWARE_VERSION
_TEMPLATES.env.globals["UserRole"] = UserRole


def render(
    request: Request, name: str, context: Mapping[str, Any] | None = None, *, status: int = 200
) -> Response:
    """Render a page or a part of one.

    Parameters
    ----------
    request
        What is answered.
    name
        Of the template.
    context
        What it shows; the visitor, the menu and the token of forms are added.
    status
        Of HTTP.
    """
    visitor = getattr(request.state, "visitor", None)
    known = request.cookies.get(SESSION_COOKIE) or request.cookies.get(FORM_COOKIE)
    secret = known or new_secret()
    told = request.cookies.get(_TOLD_COOKIE)
    services = get_services(request)
    common = {
        "visitor": visitor,
        "form_token": form_token(secret),
        "menu": [entry for entry in _MENU if visitor is not None and visitor.may(entry[2])],
        "ae_title": services.settings.node.ae_title,
        "list_pauses": partial(_list_pauses, services),
        "told": unquote(told) if told else "",
    }
    response = _TEMPLATES.TemplateResponse(
        request, name, common | dict(context or {}), status_code=status
    )
    if known is None:
        set_cookie(request, response, FORM_COOKIE, secret)
    if told:
        response.delete_cookie(_TOLD_COOKIE)
    return response


def _list_pauses(services: Services) -> Sequence[Pause]:
    """List what is suspended; a page that says that the database is gone does without."""
    try:
        return services.pauses.list_pauses()
    except StorageError:
        return ()


def go_to(request: Request, path: str, told: str = "") -> Response:
    """Send the browser to a page after a form, which then shows what was done."""
    response = RedirectResponse(path, status_code=303)
    if told:
        set_cookie(request, response, _TOLD_COOKIE, quote(told), max_age_s=_TOLD_S)
    return response


def set_cookie(
    request: Request, response: Response, name: str, value: str, *, max_age_s: int | None = None
) -> None:
    """Set a cookie that scripts and other sites cannot have."""
    response.set_cookie(
        name,
        value,
        max_age=max_age_s,
        httponly=True,
        samesite="lax",
        secure=request.url.scheme == "https",
    )

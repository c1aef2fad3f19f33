"""The application: probes, pages, files, and what all answers have in common."""

import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from http import HTTPStatus
from urllib.parse import quote

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from fastapi.staticfiles import StaticFiles
from starlette.exceptions import HTTPException

from inference.errors import ModelPackageError
from node.errors import ModelRefused, WrongCall
from node.services import Services
from node.web import login, probes
from node.web.access import LIVE_HEADER, find_visitor
from node.web.api import document
from node.web.api import rules as api_rules
from node.web.body_limit import MAX_UPLOAD_BYTES, BodyLimit
from node.web.errors import NotLoggedIn, Refused
from node.web.journal import Looks
from node.web.kept import Kept
from node.web.pages import (
    account,
    audit,
    job,
    jobs,
    models,
    now,
    peers,
    pull,
    pull_order,
    results,
    rules,
    slices,
    system,
    users,
)
from node.web.proxy import BehindProxy
from node.web.rendering import FOLDER, go_to, render
from node.web.runs import Runs
from node.web.shelf import Shelf
from storage.errors import DatabaseError, NotFound, StorageError

logger = logging.getLogger(__name__)

_PAGES = (
    now,
    jobs,
    job,
    slices,
    results,
    pull,
    pull_order,
    rules,
    peers,
    models,
    system,
    users,
    audit,
    account,
)
_HEADERS = {
    # Nothing comes from another place, and nothing is shown in another's frame.
    "Content-Security-Policy": "default-src 'none'; img-src 'self' data:; style-src 'self'; "
    "script-src 'self'; connect-src 'self'; form-action 'self'; base-uri 'none'; "
    "frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "same-origin",
    # Patient data do not stay in the browser.
    "Cache-Control": "no-store",
}
_STATUSES: dict[type[Exception], int] = {
    NotFound: 404,
    DatabaseError: 503,
    StorageError: 409,
    WrongCall: 422,
    ModelPackageError: 422,
    ModelRefused: 409,
}
"""The first that fits."""
_YEAR_S = 31_536_000
_RETRY_S = 10
_UPLOAD_PATH = f"{document.PREFIX}{api_rules.TRY_PATH}"


def build_app(services: Services) -> FastAPI:
    """Build the pages over the stores of a node."""
    app = FastAPI(
        title="Hepar", docs_url=None, redoc_url=None, openapi_url=None, lifespan=_close_shelf
    )
    app.state.services = services
    app.state.shelf, app.state.looks = Shelf(services), Looks()
    app.state.runs = Runs()
    app.state.kept = Kept()
    app.mount("/static", StaticFiles(directory=FOLDER / "static"), name="static")
    app.include_router(probes.router)
    app.include_router(login.router)
    for page in _PAGES:
        app.include_router(page.router, include_in_schema=False)
    app.include_router(document.router, include_in_schema=False)
    _add_refusals(app)
    # The first one added is the innermost: what it refuses gets a page.
    uploads = dict.fromkeys((rules.UPLOAD_PATH, _UPLOAD_PATH), MAX_UPLOAD_BYTES)
    app.add_middleware(BodyLimit, larger=uploads)
    app.middleware("http")(_add_headers)
    if services.settings.web.proxy is not None:
        # The last one added is the first to see a request.
        app.add_middleware(BehindProxy, networks=services.settings.web.proxy.networks)
    return app


@asynccontextmanager
async def _close_shelf(app: FastAPI) -> AsyncIterator[None]:
    """End the decoders with the server."""
    with app.state.shelf:
        yield


async def _add_headers(
    request: Request, call_next: Callable[[Request], Awaitable[Response]]
) -> Response:
    response = await call_next(request)
    for name, value in _HEADERS.items():
        response.headers.setdefault(name, value)
    if request.url.scheme == "https":
        response.headers["Strict-Transport-Security"] = f"max-age={_YEAR_S}"
    return response


def _add_refusals(app: FastAPI) -> None:
    """Say in one form why something is not served: a page for people, JSON for programs."""
    for kind in (*_STATUSES, Refused, RequestValidationError, HTTPException):
        app.add_exception_handler(kind, _refuse)
    app.add_exception_handler(Exception, _fail)


def _refuse(request: Request, error: Exception) -> Response:
    status, message = _describe(error)
    if _wants_json(request):
        headers = _headers(request, status)
        return JSONResponse({"detail": message}, status_code=status, headers=headers)
    if status == NotLoggedIn.status and LIVE_HEADER not in request.headers:
        return go_to(request, _login_path(request))
    if not hasattr(request.state, "visitor"):
        try:
            request.state.visitor = find_visitor(request)
        except (Refused, StorageError):
            request.state.visitor = None
    context = {"title": HTTPStatus(status).phrase, "message": message}
    return render(request, "refused.html", context, status=status)


def _fail(request: Request, error: Exception) -> Response:
    logger.error("page failed", exc_info=error, extra={"path": request.url.path})
    return _refuse(request, error)


def _headers(request: Request, status: int) -> dict[str, str]:
    """Give what a program needs to know beside the sentence."""
    match status:
        case 401:
            return {"WWW-Authenticate": "Bearer"}
        case 405:
            return {"Allow": ", ".join(document.list_methods(request.url.path))}
        case 429:
            return {"Retry-After": str(_RETRY_S)}
    return {}


def _describe(error: Exception) -> tuple[int, str]:
    """Give the status of HTTP, and a sentence for the user."""
    match error:
        case Refused():
            return error.status, str(error)
        case RequestValidationError():
            return 422, "; ".join(f"{one['loc'][-1]}: {one['msg']}" for one in error.errors())
        case HTTPException():
            return error.status_code, _sentence(error.detail)
    for kind, status in _STATUSES.items():
        if isinstance(error, kind):
            return status, _sentence(str(error))
    return 500, "Something went wrong; the log of the node says what."


def _sentence(text: str) -> str:
    text = text.rstrip(".")
    return f"{text[:1].upper()}{text[1:]}."


def _login_path(request: Request) -> str:
    """Give the way to the login, and from there back to the page that was asked for."""
    if request.method != "GET":
        return "/login"
    asked = f"{request.url.path}?{request.url.query}" if request.url.query else request.url.path
    return f"/login?next_path={quote(asked)}"


def _wants_json(request: Request) -> bool:
    accepted = request.headers.get("Accept", "")
    return request.url.path.startswith("/api/") or accepted.startswith("application/json")

"""The routes of the API, and the OpenAPI document that describes them."""

from collections.abc import Iterator
from functools import cache
from typing import Any

from fastapi import APIRouter, Depends
from fastapi.openapi.utils import get_openapi
from fastapi.responses import JSONResponse
from fastapi.routing import APIRoute
from fastapi.security import APIKeyCookie, HTTPBearer

from node.version import SOFTWARE_VERSION
from node.web.access import FORM_HEADER, SESSION_COOKIE, Needs
from node.web.api import (
    account,
    alerts,
    audit,
    jobs,
    models,
    overview,
    peers,
    pulls,
    results,
    rules,
    series,
    system,
    users,
)
from node.web.api.common import refuses
from storage.states import UserRole

PREFIX = "/api/v1"
ROLE = "x-role"
"""Key of an operation: the least role that may call it."""

_token = HTTPBearer(
    scheme_name="token",
    description="A token of `hepar users make-token`, or of the page of one's account. The call "
    "is made in the name of the user, with that user's role.",
    auto_error=False,
)
_session = APIKeyCookie(
    name=SESSION_COOKIE,
    scheme_name="session",
    description="The session of a browser that is logged in. A call that changes something also "
    f"needs the header {FORM_HEADER}, with the value of `form_token` in any form of the pages.",
    auto_error=False,
)
_DESCRIPTION = (
    "All that the pages of the node do. Times are UTC, as ISO 8601 with Z. A call that is refused "
    'gives {"detail": SENTENCE}, which says what to do. Each call needs a role, given as '
    f"`{ROLE}`; each look at patient data and each action is a line of the audit trail. Where "
    "`web.hide_patients` is set, users of the role viewer get empty texts in the place of patient "
    "data."
)

router = APIRouter(
    prefix=PREFIX,
    # They only describe the ways in; who asks is found out by `node.web.access`.
    dependencies=[Depends(_token), Depends(_session)],
    responses=refuses(401, 403, 422, 503),
    generate_unique_id_function=lambda route: route.name,
)
_SUBJECTS = (
    overview,
    jobs,
    results,
    series,
    peers,
    rules,
    pulls,
    models,
    alerts,
    users,
    account,
    audit,
    system,
)
for _subject in _SUBJECTS:
    router.include_router(_subject.router)


@cache
def describe_api() -> dict[str, Any]:
    """Give the OpenAPI document; it holds nothing of this node but its version."""
    document = get_openapi(
        title="Hepar",
        version=SOFTWARE_VERSION,
        description=_DESCRIPTION,
        routes=router.routes,
    )
    for route in list_routes():
        operations = document["paths"][f"{PREFIX}{route.path_format}"]
        for method in route.methods or ():
            operations[method.lower()][ROLE] = least_role(route).value
    return document


def list_routes() -> Iterator[APIRoute]:
    """Give all calls of the API; their paths begin after `PREFIX`."""
    for subject in _SUBJECTS:
        yield from (route for route in subject.router.routes if isinstance(route, APIRoute))


def least_role(route: APIRoute) -> UserRole:
    """Give the role that a call needs."""
    [role] = [one.call.role for one in route.dependant.dependencies if isinstance(one.call, Needs)]
    return role


def list_methods(path: str) -> list[str]:
    """Give the methods of HTTP that a path of the API has."""
    own = path.removeprefix(PREFIX)
    return sorted(
        {m for one in list_routes() if one.path_regex.match(own) for m in one.methods or ()}
    )


@router.get("/openapi.json", include_in_schema=False)
def get_document() -> JSONResponse:
    """Describe the API as an OpenAPI document; nobody needs to log in for it."""
    return JSONResponse(describe_api())

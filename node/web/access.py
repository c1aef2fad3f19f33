"""Who asks: session, token or proxy; and whether a form is ours."""

import hashlib
import hmac
import secrets
from datetime import timedelta
from typing import Annotated

from fastapi import Depends, Request

from node.clock import utc_now
from node.services import Services
from node.web.errors import Forbidden, NotLoggedIn, WrongForm
from node.web.proxy import FROM_PROXY
from node.web.visitor import Visitor
from storage.errors import NotFound
from storage.records import UserRecord
from storage.states import AccessKind, UserRole

SESSION_COOKIE = "hepar_session"
FORM_COOKIE = "hepar_form"
"""Ties a form to a browser in which nobody is logged in here."""
FORM_FIELD = "form_token"
FORM_HEADER = "X-Form-Token"
LIVE_HEADER = "X-Live"
"""A page renews itself: that is no use by a person, so it keeps no session open."""
_MAX_FIELDS = 10_000
"""Long lists have a box a row."""
_SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
_BEARER = "Bearer "


def new_secret() -> str:
    """Make a secret of 256 bits."""
    return secrets.token_urlsafe(32)


def digest_of(secret: str) -> str:
    """Give the digest by which a secret is kept; it has so many bits that none need be added."""
    return hashlib.sha256(secret.encode()).hexdigest()


def form_token(secret: str) -> str:
    """Give the token that forms carry for a browser with this cookie."""
    return hmac.new(secret.encode(), b"form", hashlib.sha256).hexdigest()


def get_services(request: Request) -> Services:
    """Give the stores that the pages work with."""
    services: Services = request.app.state.services
    return services


def find_visitor(request: Request) -> Visitor | None:
    """Find out who asks; None when nobody is logged in."""
    bearer = _bearer(request)
    if bearer:
        return _visitor(request, _find(request, bearer, AccessKind.TOKEN))
    proxied = _proxied_name(request)
    if proxied:
        return _from_proxy(request, proxied)
    secret = request.cookies.get(SESSION_COOKIE)
    return _visitor(request, _find(request, secret, AccessKind.SESSION)) if secret else None


def address_of(request: Request) -> str:
    """Give the address of who asks."""
    return request.client.host if request.client else ""


async def check_form(request: Request) -> None:
    """Refuse a change that does not come from a page of ours in the same browser.

    Programs that show a bearer token are not concerned: no browser sends one by itself.

    Raises
    ------
    WrongForm
    """
    if request.method in _SAFE_METHODS or _bearer(request):
        return
    secret = request.cookies.get(SESSION_COOKIE) or request.cookies.get(FORM_COOKIE)
    given = request.headers.get(FORM_HEADER)
    if given is None and _is_form(request):
        given = str((await request.form(max_fields=_MAX_FIELDS)).get(FORM_FIELD, ""))
    if not secret or not hmac.compare_digest((given or "").encode(), form_token(secret).encode()):
        # Files that came with it go at once.
        await request.close()
        raise WrongForm("This form is too old, or not ours. Load the page again, and repeat.")


def _known_visitor(request: Request) -> Visitor:
    """Find out who asks.

    Raises
    ------
    NotLoggedIn
    """
    visitor = find_visitor(request)
    if visitor is None:
        raise NotLoggedIn("Log in first.")
    return visitor


class Needs:
    """Dependency that gives the visitor, who must have at least a role."""

    def __init__(self, role: UserRole) -> None:
        self.role = role

    def __call__(
        self,
        request: Request,
        # Before the form: what strangers send is not read.
        visitor: Annotated[Visitor, Depends(_known_visitor)],
        _is_ours: Annotated[None, Depends(check_form)],
    ) -> Visitor:
        """Give the visitor.

        Raises
        ------
        NotLoggedIn, Forbidden, WrongForm
        """
        if not visitor.may(self.role):
            raise Forbidden(
                f"This needs the role {self.role.value}; {visitor.name} is {visitor.role.value}."
            )
        request.state.visitor = visitor
        return visitor


ServicesHere = Annotated[Services, Depends(get_services)]
Viewer = Annotated[Visitor, Depends(Needs(UserRole.VIEWER))]
Operator = Annotated[Visitor, Depends(Needs(UserRole.OPERATOR))]
Administrator = Annotated[Visitor, Depends(Needs(UserRole.ADMINISTRATOR))]


def _bearer(request: Request) -> str:
    value = request.headers.get("Authorization", "")
    return value[len(_BEARER) :].strip() if value.startswith(_BEARER) else ""


def _is_form(request: Request) -> bool:
    kind = request.headers.get("Content-Type", "")
    return kind.startswith(("application/x-www-form-urlencoded", "multipart/form-data"))


def _find(request: Request, secret: str, kind: AccessKind) -> UserRecord | None:
    services = get_services(request)
    is_session = kind is AccessKind.SESSION
    return services.users.find(
        digest_of(secret),
        kind,
        idle=timedelta(minutes=services.settings.web.idle_min) if is_session else None,
        now=utc_now(),
        is_use=LIVE_HEADER not in request.headers,
    )


def _proxied_name(request: Request) -> str:
    """Give the user whom the proxy names; who else sends the header is not believed."""
    proxy = get_services(request).settings.web.proxy
    if proxy is None or not proxy.user_header or not request.scope.get(FROM_PROXY):
        return ""
    return request.headers.get(proxy.user_header, "").strip()


def _from_proxy(request: Request, name: str) -> Visitor | None:
    services = get_services(request)
    proxy = services.settings.web.proxy
    told = request.headers.get(proxy.role_header, "") if proxy and proxy.role_header else ""
    try:
        known = services.users.get(name)
    except NotFound:
        known = None
    if known is not None and known.disabled_at is not None:
        raise Forbidden(f"The user {name} is shut out; ask an administrator.")
    try:
        role = UserRole(told.strip()) if told.strip() else None if known is None else known.role
    except ValueError:
        raise Forbidden(f"The proxy names a role that there is not: {told!r}.") from None
    if role is None:
        raise Forbidden(f"The user {name} has no role here; ask an administrator to add the user.")
    return _make(request, name, role)


def _visitor(request: Request, user: UserRecord | None) -> Visitor | None:
    return None if user is None else _make(request, user.name, user.role)


def _make(request: Request, name: str, role: UserRole) -> Visitor:
    hides = get_services(request).settings.web.hide_patients
    return Visitor(
        name=name,
        role=role,
        address=address_of(request),
        sees_patients=role is not UserRole.VIEWER or not hides,
    )

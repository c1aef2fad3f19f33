"""What users change about themselves: the password, and tokens for programs."""

from datetime import timedelta
from typing import Annotated

from fastapi import APIRouter, Form, Request, Response

from node.clock import utc_now
from node.services import Services
from node.web.access import ServicesHere, Viewer, digest_of, new_secret
from node.web.errors import NotHere, Unusable
from node.web.journal import note_action
from node.web.login import find_user, new_password
from node.web.passwords import is_password
from node.web.rendering import go_to, render
from node.web.visitor import Visitor
from storage.records import UserRecord
from storage.states import AccessKind, AuditEvent

router = APIRouter(prefix="/account")

Text = Annotated[str, Form()]


@router.get("")
def show_account(request: Request, services: ServicesHere, visitor: Viewer) -> Response:
    """Show the user's own password form and tokens."""
    return _show(request, services, visitor)


@router.post("/password")
def change_password(
    request: Request,
    services: ServicesHere,
    visitor: Viewer,
    old: Text,
    password: Text,
    again: Text,
) -> Response:
    """Change the user's own password; all sessions and tokens end."""
    user = _own(services, visitor)
    if not is_password(old, user.password_hash):
        raise Unusable("The old password is wrong.")
    services.users.set_password(user.name, new_password(password, again, user.name), utc_now())
    _note(services, visitor, "change own password")
    return go_to(request, "/login", "The password is changed; log in with the new one.")


@router.post("/tokens")
def make_token(
    request: Request,
    services: ServicesHere,
    visitor: Viewer,
    label: Text,
    days: Annotated[int, Form(ge=1, le=366)],
) -> Response:
    """Make a token for a program, which acts as the user; it is shown once."""
    user, secret, now = _own(services, visitor), new_secret(), utc_now()
    label = label.strip()[:100]
    if not label:
        raise Unusable("Say what the token is for.")
    services.users.grant(
        user.name,
        AccessKind.TOKEN,
        digest_of(secret),
        label=label,
        now=now,
        expires_at=now + timedelta(days=days),
    )
    _note(services, visitor, "make token", label=label)
    return _show(request, services, visitor, secret)


@router.post("/tokens/{digest}/revoke")
def revoke_token(
    request: Request, services: ServicesHere, visitor: Viewer, digest: str
) -> Response:
    """Take one of the user's own tokens away."""
    own = {one.digest: one for one in services.users.list_access(visitor.name, AccessKind.TOKEN)}
    if digest not in own:
        raise NotHere("There is no such token.")
    services.users.revoke(digest)
    _note(services, visitor, "revoke token", label=own[digest].label)
    return go_to(request, "/account", f"The token {own[digest].label!r} is no longer good.")


def _show(request: Request, services: Services, visitor: Visitor, new_token: str = "") -> Response:
    user = find_user(services, visitor.name)
    tokens = services.users.list_access(user.name, AccessKind.TOKEN) if user else []
    return render(request, "account.html", {"user": user, "tokens": tokens, "new_token": new_token})


def _own(services: Services, visitor: Visitor) -> UserRecord:
    user = find_user(services, visitor.name)
    if user is None:
        raise Unusable("The proxy knows you, but there is no user of this name here.")
    return user


def _note(services: Services, visitor: Visitor, action: str, **detail: str) -> None:
    event = AuditEvent.USERS_CHANGED
    note_action(services, visitor, action, event=event, detail={"user": visitor.name, **detail})

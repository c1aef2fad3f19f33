"""The user of the call, and that user's tokens."""

import hashlib
from datetime import datetime, timedelta

from fastapi import APIRouter
from pydantic import Field

from node.clock import utc_now
from node.services import Services
from node.web.access import ServicesHere, Viewer, digest_of, new_secret
from node.web.api.common import Answer, Asked, Text, refuses
from node.web.errors import Conflict, NotHere, Unusable
from node.web.journal import note_action
from node.web.login import find_user, new_password
from node.web.passwords import is_password
from node.web.visitor import Visitor
from storage.records import AccessRecord, UserRecord
from storage.states import AccessKind, AuditEvent, UserRole

router = APIRouter(prefix="/account", tags=["account"])


class Account(Answer):
    """Who asks."""

    name: str
    role: UserRole
    sees_patients: bool
    """Whether patient data are shown."""


class OwnPassword(Asked):
    """Another password of one's own."""

    old: str
    password: str
    """12 to 1000 characters."""


class Token(Answer):
    """A token for a program, which acts as the user."""

    id: str
    """By which it is taken away; it is not the token."""
    label: str
    """What it is for."""
    created_at: datetime
    used_at: datetime
    expires_at: datetime


class NewToken(Token):
    """A token that was made just now."""

    token: str
    """To be sent as "Authorization: Bearer TOKEN"; it is shown this once."""


class WantedToken(Asked):
    """A token to be."""

    label: Text = Field(min_length=1, max_length=100)
    """What it is for."""
    days: int = Field(ge=1, le=366)
    """How long it is good."""


@router.get("")
def get_account(visitor: Viewer) -> Account:
    """Say who asks, and what that user may do."""
    return Account.model_validate(visitor)


@router.put("/password", status_code=204, responses=refuses(400, 409, 413))
def change_password(services: ServicesHere, visitor: Viewer, asked: OwnPassword) -> None:
    """Change one's own password; all sessions and tokens end, also that of this call."""
    user = _own(services, visitor)
    if not is_password(asked.old, user.password_hash):
        raise Unusable("The old password is wrong.")
    hashed = new_password(asked.password, asked.password, user.name)
    services.users.set_password(user.name, hashed, utc_now())
    _note(services, visitor, "change own password")


@router.get("/tokens", responses=refuses(409))
def list_tokens(services: ServicesHere, visitor: Viewer) -> list[Token]:
    """List one's own tokens, the newest first."""
    return [_answer(one) for one in _tokens(services, visitor)]


@router.post("/tokens", status_code=201, responses=refuses(400, 409, 413))
def make_token(services: ServicesHere, visitor: Viewer, asked: WantedToken) -> NewToken:
    """Make a token for a program."""
    user, secret, now = _own(services, visitor), new_secret(), utc_now()
    label = asked.label.strip()
    if not label:
        raise Unusable("Say what the token is for.")
    expires_at = now + timedelta(days=asked.days)
    digest = digest_of(secret)
    services.users.grant(
        user.name, AccessKind.TOKEN, digest, label=label, now=now, expires_at=expires_at
    )
    _note(services, visitor, "make token", label=label)
    made = next(one for one in _tokens(services, visitor) if one.digest == digest)
    return NewToken(**_answer(made).model_dump(), token=secret)


@router.delete("/tokens/{token_id}", status_code=204, responses=refuses(404, 409))
def revoke_token(services: ServicesHere, visitor: Viewer, token_id: str) -> None:
    """Take one of one's own tokens away."""
    own = {_id(one): one for one in _tokens(services, visitor)}
    if token_id not in own:
        raise NotHere("There is no such token.")
    services.users.revoke(own[token_id].digest)
    _note(services, visitor, "revoke token", label=own[token_id].label)


def _tokens(services: Services, visitor: Visitor) -> list[AccessRecord]:
    return services.users.list_access(_own(services, visitor).name, AccessKind.TOKEN)


def _id(token: AccessRecord) -> str:
    """Name a token by what tells nothing of it, nor of the digest by which it is kept."""
    return hashlib.sha256(token.digest.encode()).hexdigest()[:16]


def _answer(token: AccessRecord) -> Token:
    return Token.model_validate({**vars(token), "id": _id(token)})


def _own(services: Services, visitor: Visitor) -> UserRecord:
    user = find_user(services, visitor.name)
    if user is None:
        raise Conflict("The proxy knows you, but there is no user of this name here.")
    return user


def _note(services: Services, visitor: Visitor, action: str, **detail: str) -> None:
    event = AuditEvent.USERS_CHANGED
    note_action(services, visitor, action, event=event, detail={"user": visitor.name, **detail})

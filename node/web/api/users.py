"""Who may use the node, for administrators."""

from datetime import datetime

from fastapi import APIRouter

from node.clock import utc_now
from node.services import Services
from node.web.access import Administrator, ServicesHere
from node.web.api.common import Answer, Asked, Text, refuses
from node.web.journal import note_action
from node.web.login import check_name, new_password
from node.web.visitor import Visitor
from storage.states import AuditEvent, UserRole

router = APIRouter(prefix="/users", tags=["users"])


class User(Answer):
    """A person, or a program, that may use the pages and the API."""

    name: str
    role: UserRole
    created_at: datetime
    password_changed_at: datetime
    last_login_at: datetime | None
    disabled_at: datetime | None
    """When the user was shut out, if so."""


class NewUser(Asked):
    """A user to be."""

    name: Text
    """1 to 64 letters, digits or characters of . _ - @."""
    role: UserRole
    password: str
    """12 to 1000 characters."""


class NewRole(Asked):
    """Another role."""

    role: UserRole


class NewPassword(Asked):
    """Another password."""

    password: str
    """12 to 1000 characters."""


@router.get("")
def list_users(services: ServicesHere, visitor: Administrator) -> list[User]:
    """List all users by name, those who are shut out too."""
    del visitor
    return [User.model_validate(one) for one in services.users.list_users()]


@router.post("", status_code=201, responses=refuses(400, 409, 413))
def add_user(services: ServicesHere, visitor: Administrator, asked: NewUser) -> User:
    """Add a user."""
    check_name(asked.name)
    hashed = new_password(asked.password, asked.password, asked.name)
    services.users.add(asked.name, asked.role, hashed, utc_now())
    return _done(services, visitor, asked.name, "add user", role=asked.role.value)


@router.put("/{name}/role", responses=refuses(400, 404, 409, 413))
def set_role(services: ServicesHere, visitor: Administrator, name: str, asked: NewRole) -> User:
    """Give a user another role."""
    services.users.set_role(name, asked.role)
    return _done(services, visitor, name, "set role", role=asked.role.value)


@router.put("/{name}/password", responses=refuses(400, 404, 413))
def set_password(
    services: ServicesHere, visitor: Administrator, name: str, asked: NewPassword
) -> User:
    """Give a user another password; all sessions and tokens of the user end."""
    hashed = new_password(asked.password, asked.password, name)
    services.users.set_password(name, hashed, utc_now())
    return _done(services, visitor, name, "set password")


@router.post("/{name}/disable", responses=refuses(404, 409))
def disable_user(services: ServicesHere, visitor: Administrator, name: str) -> User:
    """Shut a user out at once."""
    services.users.disable(name, utc_now())
    return _done(services, visitor, name, "shut out")


@router.post("/{name}/enable", responses=refuses(404))
def enable_user(services: ServicesHere, visitor: Administrator, name: str) -> User:
    """Let a user in again."""
    services.users.enable(name)
    return _done(services, visitor, name, "let in")


def _done(services: Services, visitor: Visitor, name: str, action: str, **detail: str) -> User:
    event = AuditEvent.USERS_CHANGED
    note_action(services, visitor, action, event=event, detail={"user": name, **detail})
    return User.model_validate(services.users.get(name))

"""Who may use the node, for administrators."""

from typing import Annotated

from fastapi import APIRouter, Form, Request, Response

from node.clock import utc_now
from node.services import Services
from node.web.access import Administrator, ServicesHere
from node.web.journal import note_action
from node.web.login import check_name, new_password
from node.web.rendering import go_to, render
from node.web.visitor import Visitor
from storage.states import AuditEvent, UserRole

router = APIRouter(prefix="/users")

Text = Annotated[str, Form()]
Role = Annotated[UserRole, Form()]


@router.get("")
def show_users(request: Request, services: ServicesHere, visitor: Administrator) -> Response:
    """List the users."""
    del visitor
    context = {"users": services.users.list_users(), "roles": list(UserRole)}
    return render(request, "users.html", context)


@router.post("")
def add_user(
    request: Request,
    services: ServicesHere,
    visitor: Administrator,
    name: Text,
    role: Role,
    password: Text,
    again: Text,
) -> Response:
    """Add a user."""
    name = name.strip()
    check_name(name)
    services.users.add(name, role, new_password(password, again, name), utc_now())
    _note(services, visitor, "add user", name, role=role.value)
    return go_to(request, "/users", f"{name} may log in as {role.value}.")


@router.post("/{name}/role")
def set_role(
    request: Request, services: ServicesHere, visitor: Administrator, name: str, role: Role
) -> Response:
    """Give a user another role."""
    services.users.set_role(name, role)
    _note(services, visitor, "set role", name, role=role.value)
    return go_to(request, "/users", f"{name} is {role.value} now.")


@router.post("/{name}/password")
def set_password(
    request: Request,
    services: ServicesHere,
    visitor: Administrator,
    name: str,
    password: Text,
    again: Text,
) -> Response:
    """Give a user another password; all sessions and tokens of the user end."""
    services.users.set_password(name, new_password(password, again, name), utc_now())
    _note(services, visitor, "set password", name)
    return go_to(request, "/users", f"{name} has another password, and must log in anew.")


@router.post("/{name}/disable")
def disable(
    request: Request, services: ServicesHere, visitor: Administrator, name: str
) -> Response:
    """Shut a user out at once."""
    services.users.disable(name, utc_now())
    _note(services, visitor, "shut out", name)
    return go_to(request, "/users", f"{name} is shut out.")


@router.post("/{name}/enable")
def enable(request: Request, services: ServicesHere, visitor: Administrator, name: str) -> Response:
    """Let a user in again."""
    services.users.enable(name)
    _note(services, visitor, "let in", name)
    return go_to(request, "/users", f"{name} may log in again.")


def _note(services: Services, visitor: Visitor, action: str, user: str, **detail: str) -> None:
    event = AuditEvent.USERS_CHANGED
    note_action(services, visitor, action, event=event, detail={"user": user, **detail})

"""Log in, log out, the first user, and what users change about themselves."""

import re
import threading
from datetime import timedelta
from pathlib import Path
from typing import Annotated
from urllib.parse import urlsplit

from fastapi import APIRouter, Depends, Form, Request, Response

from node.clock import utc_now
from node.services import Services
from node.web.access import (
    SESSION_COOKIE,
    ServicesHere,
    Viewer,
    address_of,
    check_form,
    digest_of,
    find_visitor,
    new_secret,
)
from node.web.errors import Forbidden, TooMany, Unusable
from node.web.passwords import WeakPassword, hash_password, is_outdated, is_password
from node.web.rendering import go_to, render, set_cookie
from node.web.setup_token import is_setup_token, remove_setup_token
from storage.errors import NotFound, UsersExist
from storage.records import AuditEntry, UserRecord
from storage.states import AccessKind, AuditEvent, AuditOutcome

router = APIRouter(include_in_schema=False)

_WINDOW = timedelta(minutes=15)
_LIMITS = (({"actor", "address"}, 5), ({"address"}, 20), ({"actor"}, 50))
"""Failed attempts within the window, by whom and from where."""
_ONE_AT_A_TIME = threading.Lock()
"""Else many attempts at once would all be within the limits; it bounds the memory of argon2 too."""
_NAME_MAX = 64
_NAME = re.compile(rf"[\w.@-]{{1,{_NAME_MAX}}}")

Text = Annotated[str, Form()]
OurForm = Depends(check_form)


@router.get("/login")
def show_login(request: Request, services: ServicesHere, next_path: str = "/") -> Response:
    """Ask for name and password."""
    if find_visitor(request) is not None:
        return go_to(request, local_path(next_path))
    return render(
        request, "login.html", {"next_path": next_path, "has_users": services.users.exist()}
    )


@router.post("/login", dependencies=[OurForm])
def log_in(
    request: Request,
    services: ServicesHere,
    name: Text,
    password: Text,
    next_path: Text = "/",
) -> Response:
    """Begin a session."""
    name, address = name.strip()[:_NAME_MAX], address_of(request)
    with _ONE_AT_A_TIME:
        _check_attempts(services, name, address)
        user = find_user(services, name)
        is_in = is_password(password, None if user is None else user.password_hash)
        _note_login(services, name, address, is_in=is_in)
    if user is None or not is_in:
        context = {
            "next_path": next_path,
            "has_users": True,
            "name": name,
            "problem": "Name or password is wrong.",
        }
        return render(request, "login.html", context, status=401)
    if is_outdated(user.password_hash):
        better = hash_password(password, name)
        services.users.set_password(name, better, utc_now(), keep_sessions=True)
    return _begin_session(request, services, name, local_path(next_path))


@router.post("/logout")
def log_out(request: Request, services: ServicesHere, visitor: Viewer) -> Response:
    """End a session."""
    secret = request.cookies.get(SESSION_COOKIE)
    if secret:
        services.users.revoke(digest_of(secret))
    entry = AuditEntry(event=AuditEvent.LOGOUT, actor=visitor.actor, address=visitor.address)
    services.audit.append(entry, utc_now())
    response = go_to(request, "/login", "You are logged out.")
    response.delete_cookie(SESSION_COOKIE)
    return response


@router.get("/setup")
def show_setup(request: Request, services: ServicesHere, token: str = "") -> Response:
    """Ask for the first user, whoever has the token of the first start."""
    _check_setup(services, token)
    return render(request, "setup.html", {"token": token})


@router.post("/setup", dependencies=[OurForm])
def set_up(
    request: Request, services: ServicesHere, token: Text, name: Text, password: Text, again: Text
) -> Response:
    """Make the first user, an administrator, and log in."""
    _check_setup(services, token)
    name = name.strip()
    try:
        check_name(name)
        hashed = new_password(password, again, name)
    except Unusable as error:
        context = {"token": token, "name": name, "problem": str(error)}
        return render(request, "setup.html", context, status=422)
    try:
        services.users.add_first(name, hashed, utc_now())
    except UsersExist as error:
        raise Forbidden(str(error)) from error
    remove_setup_token(_data_dir(services))
    actor, detail = f"user:{name}", {"action": "first user", "user": name}
    entry = AuditEntry(
        event=AuditEvent.USERS_CHANGED, actor=actor, address=address_of(request), detail=detail
    )
    services.audit.append(entry, utc_now())
    _note_login(services, name, address_of(request), is_in=True)
    return _begin_session(request, services, name, "/")


def find_user(services: Services, name: str) -> UserRecord | None:
    """Find a user who is not shut out."""
    try:
        user = services.users.get(name)
    except NotFound:
        return None
    return user if user.disabled_at is None else None


def check_name(name: str) -> None:
    """Refuse what is no name of a user.

    Raises
    ------
    Unusable
    """
    if not _NAME.fullmatch(name):
        raise Unusable(f"A name has 1 to {_NAME_MAX} letters, digits or characters of . _ - @.")


def new_password(password: str, again: str, name: str) -> str:
    """Hash a password that was entered twice.

    Raises
    ------
    Unusable
    """
    if password != again:
        raise Unusable("The two passwords differ.")
    try:
        return hash_password(password, name)
    except WeakPassword as error:
        raise Unusable(str(error)) from error


def local_path(path: str) -> str:
    """Give a path on this node; whatever leads elsewhere leads to the first page."""
    parts = urlsplit(path)
    is_local = path.startswith("/") and not path.startswith(("//", "/\\"))
    return path if is_local and not parts.scheme and not parts.netloc else "/"


def _begin_session(request: Request, services: Services, name: str, path: str) -> Response:
    secret, now = new_secret(), utc_now()
    services.users.note_login(name, now)
    services.users.grant(
        name,
        AccessKind.SESSION,
        digest_of(secret),
        label=address_of(request),
        now=now,
        expires_at=now + timedelta(hours=services.settings.web.session_h),
    )
    response = go_to(request, path)
    set_cookie(request, response, SESSION_COOKIE, secret)
    return response


def _check_attempts(services: Services, name: str, address: str) -> None:
    who = {"actor": f"user:{name}", "address": address}
    since = utc_now() - _WINDOW
    for keys, limit in _LIMITS:
        known = {key: who[key] for key in keys}
        if services.audit.count_failures(AuditEvent.LOGIN, since=since, **known) >= limit:
            minutes = int(_WINDOW.total_seconds() // 60)
            raise TooMany(f"Too many wrong passwords. Try again in {minutes} minutes.")


def _note_login(services: Services, name: str, address: str, *, is_in: bool) -> None:
    entry = AuditEntry(
        event=AuditEvent.LOGIN,
        actor=f"user:{name}",
        address=address,
        outcome=AuditOutcome.SUCCESS if is_in else AuditOutcome.MINOR_FAILURE,
    )
    services.audit.append(entry, utc_now())


def _check_setup(services: Services, token: str) -> None:
    if not is_setup_token(_data_dir(services), token) or services.users.exist():
        raise Forbidden(
            "This link is no longer good. If there is no user yet, the log of the node has one "
            "that is, or run `hepar users add NAME --role administrator` on the machine."
        )


def _data_dir(services: Services) -> Path:
    return services.files.data_dir

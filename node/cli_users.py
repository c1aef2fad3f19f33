"""``hepar users``: who may use the pages and the API."""

import getpass
import sys
from dataclasses import asdict
from datetime import timedelta
from typing import TYPE_CHECKING, Annotated

import typer

from node.cli_options import ConfigOption, JsonOption, SetOption, open_stores
from node.clock import utc_now
from node.console import out, print_json, print_table
from storage.states import AccessKind, UserRole

if TYPE_CHECKING:
    from node.services import Services

users_app = typer.Typer(help="Users of the pages and of the API.", no_args_is_help=True)

NameArgument = Annotated[str, typer.Argument(metavar="NAME", help="Name of the user.")]
RoleOption = Annotated[
    UserRole,
    typer.Option(
        help="viewer (looks), operator (also acts on jobs), administrator (also makes users)."
    ),
]
StdinOption = Annotated[
    bool,
    typer.Option(
        "--password-stdin", help="Read the password from standard input; else it is asked."
    ),
]


@users_app.command("list")
def list_users(
    as_json: JsonOption = False, config: ConfigOption = None, overrides: SetOption = None
) -> None:
    """List the users."""
    users = open_stores(config, overrides).users.list_users()
    if as_json:
        print_json([_without_secret(asdict(user)) for user in users])
        return
    columns = ["name", "role", "made (UTC)", "last login (UTC)", "shut out (UTC)"]
    rows = [
        [u.name, u.role.value, u.created_at, u.last_login_at or "never", u.disabled_at or ""]
        for u in users
    ]
    print_table("Users", columns, rows)


@users_app.command("add")
def add_user(
    name: NameArgument,
    role: RoleOption = UserRole.VIEWER,
    from_stdin: StdinOption = False,
    config: ConfigOption = None,
    overrides: SetOption = None,
) -> None:
    """Add a user; the first one should be an administrator."""
    from node.web.login import check_name
    from node.web.passwords import hash_password

    services = open_stores(config, overrides)
    check_name(name)
    hashed = hash_password(_read_password(from_stdin=from_stdin), name)
    services.users.add(name, role, hashed, utc_now())
    _note(services, "add user", name, role=role.value)
    out.print(f"{name} may log in as {role.value} at {services.settings.web.address}/.")


@users_app.command("set-password")
def set_password(
    name: NameArgument,
    from_stdin: StdinOption = False,
    config: ConfigOption = None,
    overrides: SetOption = None,
) -> None:
    """Give a user another password; all sessions and tokens of the user end."""
    from node.web.passwords import hash_password

    services = open_stores(config, overrides)
    services.users.get(name)
    hashed = hash_password(_read_password(from_stdin=from_stdin), name)
    services.users.set_password(name, hashed, utc_now())
    _note(services, "set password", name)
    out.print(f"{name} has another password.")


@users_app.command("set-role")
def set_role(
    name: NameArgument, role: UserRole, config: ConfigOption = None, overrides: SetOption = None
) -> None:
    """Give a user another role."""
    services = open_stores(config, overrides)
    services.users.set_role(name, role)
    _note(services, "set role", name, role=role.value)
    out.print(f"{name} is {role.value} now.")


@users_app.command("disable")
def disable(name: NameArgument, config: ConfigOption = None, overrides: SetOption = None) -> None:
    """Shut a user out at once; the name stays, because the audit trail knows it."""
    services = open_stores(config, overrides)
    services.users.disable(name, utc_now())
    _note(services, "shut out", name)
    out.print(f"{name} is shut out.")


@users_app.command("enable")
def enable(name: NameArgument, config: ConfigOption = None, overrides: SetOption = None) -> None:
    """Let a user in again."""
    services = open_stores(config, overrides)
    services.users.enable(name)
    _note(services, "let in", name)
    out.print(f"{name} may log in again.")


@users_app.command("make-token")
def make_token(
    name: NameArgument,
    label: Annotated[str, typer.Option("--for", help="What the token is for.")],
    days: Annotated[int, typer.Option(help="How long it is good.", min=1, max=3660)] = 90,
    config: ConfigOption = None,
    overrides: SetOption = None,
) -> None:
    """Make a token by which a program uses the API as this user, and print it once."""
    from node.web.access import digest_of, new_secret

    services = open_stores(config, overrides)
    secret, now = new_secret(), utc_now()
    services.users.grant(
        name,
        AccessKind.TOKEN,
        digest_of(secret),
        label=label,
        now=now,
        expires_at=now + timedelta(days=days),
    )
    _note(services, "make token", name, label=label)
    sys.stdout.write(f"{secret}\n")


def _read_password(*, from_stdin: bool) -> str:
    if from_stdin:
        return sys.stdin.readline().rstrip("\r\n")
    password: str = typer.prompt("Password", hide_input=True, confirmation_prompt=True)
    return password


def _note(services: "Services", action: str, user: str, **detail: str) -> None:
    from storage.records import AuditEntry
    from storage.states import AuditEvent

    services.audit.append(
        AuditEntry(
            event=AuditEvent.USERS_CHANGED,
            actor=f"user:{getpass.getuser()}",
            detail={"action": action, "user": user, "by": "command line", **detail},
        ),
        utc_now(),
    )


def _without_secret(user: dict[str, object]) -> dict[str, object]:
    return {name: value for name, value in user.items() if name != "password_hash"}

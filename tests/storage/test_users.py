import threading
from contextlib import suppress
from datetime import timedelta
from typing import Any

import pytest

from storage.errors import LastAdministrator, NameTaken, NotFound, UsersExist
from storage.states import AccessKind, UserRole
from storage.users import Users

HOUR = timedelta(hours=1)


@pytest.fixture
def users(node: Any, moment: Any) -> Users:
    users = Users(node.database)
    users.add_first("anna", "hash", moment(0))
    return users


def grant(users: Users, moment: Any, kind: AccessKind = AccessKind.SESSION) -> None:
    users.grant("anna", kind, "d", label="here", now=moment(0), expires_at=moment(0) + 8 * HOUR)


def test_the_first_user_is_an_administrator_and_there_is_one_first(
    users: Users, moment: Any
) -> None:
    assert users.get("anna").role is UserRole.ADMINISTRATOR
    with pytest.raises(UsersExist):
        users.add_first("ben", "hash", moment(1))
    assert [user.name for user in users.list_users()] == ["anna"]


def test_of_two_first_users_at_once_one_is_made(node: Any, moment: Any) -> None:
    users, made = Users(node.database), []

    def add(name: str) -> None:
        with suppress(UsersExist):
            made.append(users.add_first(name, "hash", moment(0)).name)

    threads = [threading.Thread(target=add, args=(name,)) for name in ("anna", "ben")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert made == [user.name for user in users.list_users()]
    assert len(made) == 1


def test_a_name_is_taken_once(users: Users, moment: Any) -> None:
    with pytest.raises(NameTaken, match="'anna'"):
        users.add("anna", UserRole.VIEWER, "hash", moment(1))


def test_nobody_is_told(users: Users) -> None:
    with pytest.raises(NotFound, match="no user nobody"):
        users.get("nobody")


def test_a_last_administrator_stays(users: Users, moment: Any) -> None:
    users.add("ben", UserRole.OPERATOR, "hash", moment(1))
    with pytest.raises(LastAdministrator):
        users.disable("anna", moment(2))
    with pytest.raises(LastAdministrator):
        users.set_role("anna", UserRole.VIEWER)
    users.set_role("ben", UserRole.ADMINISTRATOR)
    users.set_role("anna", UserRole.VIEWER)
    assert users.get("anna").role is UserRole.VIEWER
    with pytest.raises(LastAdministrator):
        users.disable("ben", moment(3))


@pytest.mark.parametrize(
    ("kind", "idle", "second", "is_in"),
    [
        (AccessKind.SESSION, HOUR, 10, True),
        (AccessKind.TOKEN, HOUR, 10, False),
        (AccessKind.SESSION, HOUR, 3601, False),
        (AccessKind.SESSION, None, 3601, True),
        (AccessKind.SESSION, None, 8 * 3600, False),
    ],
    ids=["in time", "another kind", "idle for too long", "never idle", "over"],
)
def test_a_way_in_ends(
    users: Users, moment: Any, kind: AccessKind, idle: Any, second: float, is_in: bool
) -> None:
    grant(users, moment)
    assert (users.find("d", kind, idle=idle, now=moment(second)) is not None) == is_in


def test_use_keeps_a_session_from_being_idle(users: Users, moment: Any) -> None:
    grant(users, moment)
    for second in (3000, 6000, 9000):
        found = users.find("d", AccessKind.SESSION, idle=HOUR, now=moment(second))
        assert found is not None
        assert found.name == "anna"
    [access] = users.list_access("anna", AccessKind.SESSION)
    assert access.used_at == moment(9000)


def test_whoever_is_shut_out_is_out_at_once(users: Users, moment: Any) -> None:
    users.add("ben", UserRole.ADMINISTRATOR, "hash", moment(0))
    grant(users, moment)
    users.disable("anna", moment(1))
    assert users.find("d", AccessKind.SESSION, idle=None, now=moment(2)) is None
    users.enable("anna")
    assert users.find("d", AccessKind.SESSION, idle=None, now=moment(2)) is None, "log in again"
    assert users.get("anna").disabled_at is None


def test_another_password_ends_what_began_with_the_old_one(users: Users, moment: Any) -> None:
    grant(users, moment)
    users.set_password("anna", "better hash", moment(1), keep_sessions=True)
    assert users.find("d", AccessKind.SESSION, idle=None, now=moment(2)) is not None
    users.set_password("anna", "other", moment(3))
    assert users.find("d", AccessKind.SESSION, idle=None, now=moment(4)) is None
    assert users.get("anna").password_changed_at == moment(3)


def test_a_way_in_can_be_taken_away(users: Users, moment: Any) -> None:
    grant(users, moment)
    users.revoke("d")
    users.revoke("d")
    assert users.list_access("anna", AccessKind.SESSION) == []


@pytest.mark.parametrize("role", UserRole)
def test_roles_stand_above_each_other(role: UserRole) -> None:
    order = [UserRole.VIEWER, UserRole.OPERATOR, UserRole.ADMINISTRATOR]
    assert [role.covers(wanted) for wanted in order] == [
        order.index(wanted) <= order.index(role) for wanted in order
    ]

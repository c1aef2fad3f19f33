import io
import json

import pytest
from browsing import PASSWORD
from typer.testing import CliRunner

from node.cli import app
from storage.states import AuditEvent


@pytest.fixture
def run(hold):
    held = hold()
    options = ["--set", f"data_dir={held.services.settings.data_dir}"]

    def call(*arguments: str, given: str = "", code: int = 0) -> str:
        done = CliRunner().invoke(app, ["users", *arguments, *options], input=given)
        assert done.exit_code == code, (done.output, done.exception)
        return done.output if done.exception is None else str(done.exception)

    call.services = held.services
    return call


def test_users_are_made_and_shut_out(run):
    run("add", "anna", "--role", "administrator", "--password-stdin", given=f"{PASSWORD}\n")
    run("add", "ben", given=f"{PASSWORD}\n{PASSWORD}\n")
    run("set-role", "ben", "operator")
    run("disable", "ben")
    users = json.loads(run("list", "--json"))
    assert [(user["name"], user["role"]) for user in users] == [
        ("anna", "administrator"),
        ("ben", "operator"),
    ]
    assert users[1]["disabled_at"]
    assert "argon2" not in run("list", "--json")
    run("enable", "ben")
    run("set-password", "ben", "--password-stdin", given=f"{PASSWORD} 2\n")
    assert "last administrator" in run("disable", "anna", code=1)
    lines = run.services.audit.list_entries([AuditEvent.USERS_CHANGED])
    assert len(lines) == 6
    assert PASSWORD not in str(lines)


def test_a_weak_password_is_refused(run):
    assert "12 to 1000" in run("add", "anna", "--password-stdin", given="short\n", code=1)


def test_a_token_is_printed_alone(run):
    run("add", "anna", "--password-stdin", given=f"{PASSWORD}\n")
    printed = io.StringIO(run("make-token", "anna", "--for", "export")).readlines()
    assert len(printed) == 1
    assert len(printed[0].strip()) > 40

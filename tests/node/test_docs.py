"""The reference pages name what the code has."""

import re
from pathlib import Path

import pytest
from typer.main import get_command

from config import load_settings
from dicom_io.errors import RejectionReason
from node.audit_message import KINDS
from node.cli import app
from node.cli_options import check_settings
from node.dimse_status import DimseStatus
from storage.states import JOB_TRANSITIONS, AuditEvent

TOP = Path(__file__).parents[2]
DOCS = TOP / "docs"


def page(name: str) -> str:
    return (DOCS / name).read_text(encoding="utf-8")


def test_each_rejection_reason_is_in_the_table():
    text = page("reference/refusals.md")
    for reason in RejectionReason:
        assert f"| `{reason.value}` | {reason.sentence} |" in text


@pytest.mark.parametrize("status", [s for s in DimseStatus if s is not DimseStatus.SUCCESS])
def test_each_failure_status_is_in_the_table(status: DimseStatus):
    assert f"0x{status:04X}" in page("reference/refusals.md")


def test_each_event_of_the_audit_trail_is_in_the_table_with_its_message():
    text = page("reference/audit.md")
    for event, kind in KINDS.items():
        [row] = re.findall(rf"^\| `{event.value}` \|.*$", text, re.MULTILINE)
        for code in filter(None, (kind.event, kind.type)):
            assert f"{code.value} {code.meaning}" in row
    assert set(KINDS) == set(AuditEvent)


def test_each_transition_is_in_the_table():
    text = page("reference/job-states.md")
    for (before, after), who in JOB_TRANSITIONS.items():
        assert f"| {before.value} | {after.value} | {who} |" in text


def _commands(command, prefix: str = "hepar"):
    for name, sub in getattr(command, "commands", {}).items():
        yield f"{prefix} {name}"
        yield from _commands(sub, f"{prefix} {name}")


def test_each_command_in_the_pages_exists():
    known = set(_commands(get_command(app)))
    pages = [TOP / "README.md", *DOCS.rglob("*.md")]
    for path in pages:
        for call in re.findall(r"`(?:\.venv/bin/)?(hepar(?: [a-z-]+)+)", path.read_text()):
            words = call.split()
            assert " ".join(words[:2]) in known, f"{path.name}: {call}"


def test_each_link_between_pages_leads_somewhere():
    for path in [TOP / "README.md", *DOCS.rglob("*.md")]:
        for target in re.findall(r"\]\(([^)#]+)[^)]*\)", path.read_text()):
            if "://" not in target:
                assert (path.parent / target).exists(), f"{path.name}: {target}"


def test_help_is_worth_reading():
    root = get_command(app)
    stack = [root]
    while stack:
        command = stack.pop()
        assert command.help, command.name
        stack += getattr(command, "commands", {}).values()


def test_the_settings_of_the_container_are_accepted_and_believe_the_proxy_of_compose():
    docker = TOP / "docker"
    settings = load_settings(docker / "hepar.toml", environ={}).settings
    check_settings(settings)
    compose = (docker / "compose.yaml").read_text(encoding="utf-8")
    proxy = compose.split("\n  proxy:\n")[1].split("\n\n")[0]
    [network] = settings.web.proxy.networks
    assert f"ipv4_address: {network.network_address}\n" in proxy
    assert network.num_addresses == 1

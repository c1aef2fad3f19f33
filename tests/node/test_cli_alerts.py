"""`hepar alerts` as a person calls it."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from told_people import Hook, MailServer

from config import load_settings
from node.alert_kinds import AlertKind
from node.clock import utc_now
from node.services import open_services
from storage.database import upgrade_database

TOML = """\
data_dir = "data"
[alerts.mail]
host = "127.0.0.1"
port = {mail_port}
security = "none"
sender = "hepar@h"
recipients = ["anna@h"]
[alerts.webhook]
url = "{url}"
"""


def hepar(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "node", "alerts", *arguments, "--config", str(cwd / "hepar.toml")],
        capture_output=True,
        text=True,
        check=False,
        timeout=100,
    )


@pytest.fixture
def people(tmp_path: Path) -> Iterator[tuple[MailServer, Hook]]:
    """A mail server and a webhook, and the settings file that names them."""
    server, hook = MailServer(), Hook()
    (tmp_path / "hepar.toml").write_text(TOML.format(mail_port=server.port, url=hook.url))
    server.start()
    hook.start()
    yield server, hook
    server.stop()
    hook.stop()


def test_a_message_of_each_kind_comes_by_each_way(people: tuple[MailServer, Hook], tmp_path: Path):
    server, hook = people
    done = hepar("test", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("by mail: taken") == len(AlertKind)
    assert "disk-short by webhook: taken" in done.stdout
    assert [kind for [(kind, _, _)] in hook.told] == [kind.value for kind in AlertKind]
    assert all(post["test"] for post in hook.posts)
    for mail in server.mails:
        assert mail["Subject"].startswith("[hepar] TEST, HEPAR on ")
        assert "This is a test of the alerts" in mail.get_content()
    assert not (tmp_path / "data").exists(), "it works without a node"


def test_one_that_is_not_taken_ends_with_1(people: tuple[MailServer, Hook], tmp_path: Path):
    server, hook = people
    hook.status = 403
    done = hepar("test", "--kind", "disk-short", "--json", cwd=tmp_path)
    assert done.returncode == 1
    assert json.loads(done.stdout) == [
        {"kind": "disk-short", "way": "mail", "taken": True, "answer": ""},
        {"kind": "disk-short", "way": "webhook", "taken": False, "answer": "it answers 403"},
    ]
    assert len(server.mails) == 1


def test_without_a_way_it_says_which_section_is_missing(tmp_path: Path):
    (tmp_path / "hepar.toml").write_text('data_dir = "data"\n')
    done = hepar("test", cwd=tmp_path)
    assert done.returncode == 2
    assert "[alerts.mail] or [alerts.webhook]" in " ".join(done.stderr.split())


def test_the_list_says_what_is_wrong_and_what_was(tmp_path: Path):
    (tmp_path / "hepar.toml").write_text('data_dir = "data"\n')
    settings = load_settings(tmp_path / "hepar.toml").settings
    settings.data_dir.mkdir()
    upgrade_database(settings.database_url)
    with open_services(settings) as services:
        alerts, now = services.alerts, utc_now()
        alerts.see([AlertKind.DISK_LOW.finding("data folder", "2 GB")], now, told=True)
        alerts.see([AlertKind.JOBS_FAILED.finding("jobs", "2 jobs have FAILED")], now)
        alerts.clear(alerts.list_alerts()[1], now)
    done = hepar("list", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "disk-low" in done.stdout
    assert "jobs-failed" not in done.stdout
    assert "Nobody looks" in done.stderr
    both = json.loads(hepar("list", "--all", "--json", cwd=tmp_path).stdout)
    assert [one["kind"] for one in both] == ["disk-low", "jobs-failed"]
    assert both[0]["told_at"] == both[0]["raised_at"] == both[1]["cleared_at"] == now.isoformat()

"""What an administrator is shown of received series and of retention."""

import json

import pytest
from doubles import Held
from typer.testing import CliRunner

from node import console
from node.cli import app
from node.clock import utc_now


@pytest.fixture
def shown(hold, monkeypatch):
    """Run a command on a node with one canceled job, and give what it prints."""
    monkeypatch.setattr(console.out, "width", 250)
    held: Held = hold(retention={"unused_days": 1e-9})
    job = held.queue()
    held.services.jobs.cancel(job.id, "test", job.created_at)

    def run(*arguments: str, days: float = 1e-9) -> str:
        keys = [f"data_dir={held.services.files.data_dir}", f"retention.unused_days={days:.9f}"]
        options = [part for key in keys for part in ("--set", key)]
        done = CliRunner().invoke(app, [*arguments, *options])
        assert done.exit_code == 0, done.output
        return done.output

    return held, run


def test_the_preview_says_what_goes_and_why_the_rest_stays(shown):
    held, run = shown
    text = run("retention", "preview")
    assert "CANCELED, unused_days = 1e-09" in text
    assert "0.000 GB would stay" in text
    kept = run("retention", "preview", days=3)
    assert "Would go now: none" in kept
    assert "CANCELED, unused_days = 3" in kept
    plan = json.loads(run("retention", "preview", "--json", days=3))
    assert [(one["kind"], one["job"]) for one in plan["kept"]] == [("instances", None)]
    assert plan["kept"][0]["size_bytes"] == sum(path.stat().st_size for path in held.paths)
    assert plan["removals"] == []
    assert held.services.catalog.get_series(held.series_uid).removed_at is None


def test_a_removed_series_stays_visible(shown):
    held, run = shown
    assert "kept" in run("series", "list")
    retention, now = held.services.retention, utc_now()
    [removal] = retention.plan(now).removals
    retention.remove(removal, now)
    day = f"removed {now:%Y-%m-%d}"
    assert day in run("series", "list")
    text = run("series", "show", held.series_uid)
    assert day in text
    assert "12 instances removed" in text
    events = json.loads(run("series", "show", held.series_uid, "--json"))["events"]
    assert [event["actor"] for event in events] == ["retention"]
    assert "12 instances removed" in run("jobs", "show", "1")


def test_the_check_of_the_settings_gives_hints(shown):
    _, run = shown
    assert "Hint:" not in run("config", "check")

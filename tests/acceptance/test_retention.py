"""What is delivered goes by rule, and comes back when it is wanted: real process, real peers."""

import json
import sqlite3
import time

import pytest

from benchmarks.peers import NodeProcess, wait_until
from storage.states import JobState

pytestmark = [pytest.mark.peer, pytest.mark.timeout(600)]

TWO_S = 2 / 86400
RETENTION_TOML = f"[retention]\ninstances_days = {TWO_S:.9f}\nresults_days = {TWO_S:.9f}\n"


def make_due(node: NodeProcess) -> None:
    """Have the next tick of retention come now."""
    connection = sqlite3.connect(node.services.files.data_dir / "hepar.db")
    with connection:
        connection.execute("UPDATE tick SET next_attempt_at = created_at")
    connection.close()


def test_what_is_delivered_goes_and_comes_back(make_node, storescp, storescu, synthetic_ct):
    node = make_node(storescp.toml + RETENTION_TOML)
    assert storescu(synthetic_ct.folder, node.port).returncode == 0
    job = node.wait_for_state(JobState.DELIVERED)
    files, catalog = node.services.files, node.services.catalog
    sent = {path.name: path.read_bytes() for path in storescp.files()}
    time.sleep(2)
    preview = json.loads(node.hepar("retention", "preview", "--json").stdout)
    assert sorted(one["kind"] for one in preview["removals"]) == ["instances", "results"]

    make_due(node)
    wait_until(lambda: catalog.get_series(job.series_uid).removed_at, "the rows say so")
    node.kill("scheduler")
    wait_until(lambda: not list(files.data_dir.glob("instances/*/*/*")), f"files go\n{node.log}")
    wait_until(lambda: not files.result_ids(), "and the results")
    events = catalog.series_events(job.series_uid)
    assert [event.actor for event in events] == ["retention"] * 2, "nothing is told twice"
    resend = node.hepar("jobs", "resend", str(job.id))
    assert resend.returncode == 1
    assert "its results were removed" in " ".join(resend.stderr.split())

    assert storescu(synthetic_ct.folder, node.port).returncode == 0
    wait_until(lambda: catalog.get_series(job.series_uid).removed_at is None, "it is there again")
    assert len(catalog.instance_paths(job.series_uid)) == len(synthetic_ct.paths)
    assert node.job() == node.services.jobs.get(job.id), "no second job"
    for path in storescp.files():
        path.unlink()
    assert node.hepar("jobs", "retry", str(job.id)).returncode == 0
    again = wait_until(lambda: len(storescp.files()) == 3 and storescp.files(), "sent again")
    assert {path.name for path in again} == sent.keys(), "under the same UIDs"

"""A whole node tells a webhook of a worker that is killed, and of its own end."""

import os
import signal
from collections.abc import Callable, Iterator

import pytest
from told_people import Hook

from benchmarks.peers import NodeProcess, wait_until

TOML = """\
[alerts.webhook]
url = "{url}"
"""


@pytest.fixture
def hook() -> Iterator[Hook]:
    hook = Hook()
    hook.start()
    yield hook
    hook.stop()


@pytest.fixture
def node(make_node: Callable[[str], NodeProcess], hook: Hook) -> NodeProcess:
    return make_node(TOML.format(url=hook.url))


def kinds(hook: Hook) -> list[str]:
    return [kind for post in hook.told for kind, _, _ in post]


def test_a_worker_that_is_killed_and_a_node_that_stops(node: NodeProcess, hook: Hook):
    node.kill("worker")
    wait_until(lambda: kinds(hook) == ["role-died"], "the death is told", 30)
    assert "died (SIGKILL)" in hook.posts[0]["alerts"][0]["message"]
    assert node.stop() == 0
    assert kinds(hook) == ["role-died", "node-stopped"]


def test_a_supervisor_that_is_killed(node: NodeProcess, hook: Hook):
    assert node.process is not None
    os.kill(node.process.pid, signal.SIGKILL)
    node.process.wait()
    node.process = None
    wait_until(lambda: kinds(hook) == ["node-stopped"], "the end is told", 30)
    assert "`hepar serve` was killed" in hook.posts[0]["alerts"][0]["message"]

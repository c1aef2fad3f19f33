"""The database is locked by somebody else: senders are told, and then all goes on by itself."""

import sqlite3
import threading
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
from pydicom import dcmread

from benchmarks.peers import wait_until
from storage.states import JobState

pytestmark = [pytest.mark.peer, pytest.mark.timeout(600)]

IMPATIENT = "\n[database]\ntimeout_s = 1\n"


@contextmanager
def locked(path: Path):
    """Hold the write lock, as a program that an administrator has left open may."""
    with closing(sqlite3.connect(path, timeout=30, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        yield


def test_another_program_holds_the_write_lock(make_node, storescp, storescu, synthetic_ct):
    storescp.stop()
    node = make_node(storescp.toml + IMPATIENT)
    database = node.folder / "data" / "hepar.db"

    with locked(database):
        refused = storescu(synthetic_ct.folder, node.port, "-d")
    assert refused.returncode != 0
    told = refused.stdout + refused.stderr
    assert "0xc001" in told
    assert "The job database does not answer; send it again later" in told
    assert "instance not stored: the job database failed: database is locked" in node.log
    assert node.services.catalog.list_series() == []
    assert not list((node.folder / "data" / "spool").iterdir())

    assert storescu(synthetic_ct.folder, node.port).returncode == 0
    node.wait_for_state(JobState.RUNNING)
    with locked(database):
        wait_until(lambda: "lease not renewed" in node.log, "the worker notices")
    node.wait_for_state(JobState.DELIVERING)
    with locked(database):
        storescp.start()
        threading.Event().wait(2)
    node.wait_for_state(JobState.DELIVERED)
    assert {dcmread(path).Modality for path in storescp.files()} == {"SEG", "SR", "OT"}
    wait_until(node.is_ready, "all roles run again")

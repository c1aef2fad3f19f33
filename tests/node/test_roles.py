"""A role whose work ends in an error ends as a process, so that the supervisor starts it again."""

import subprocess
import sys
from pathlib import Path

from config import Settings
from storage.audit import AuditTrail
from storage.database import open_database, upgrade_database
from storage.states import AuditEvent, AuditOutcome

BROKEN_WORKER = """
import sys
from pathlib import Path
import node.worker
from config import LoadedSettings, Settings
from node.roles import Role, run_role
from storage.errors import DatabaseError

class Broken:
    def run(self):
        raise DatabaseError("disk full")

node.worker.load_worker = lambda services, stop: Broken()
loaded = LoadedSettings(settings=Settings(data_dir=Path(sys.argv[1])), origins={})
run_role(Role.WORKER, loaded, supervised=False)
"""


def test_a_role_that_fails_does_not_live_on_as_a_heartbeat(tmp_path: Path):
    upgrade_database(Settings(data_dir=tmp_path).database_url)
    done = subprocess.run(
        [sys.executable, "-c", BROKEN_WORKER, str(tmp_path)],
        capture_output=True,
        text=True,
        check=False,
        timeout=20,
    )
    assert done.returncode == 1
    assert "disk full" in done.stderr
    with open_database(Settings(data_dir=tmp_path).database_url) as database:
        started, stopped = AuditTrail(database).read()
    assert (started.event, started.actor) == (AuditEvent.NODE_STARTED, "worker")
    assert (stopped.event, stopped.outcome) == (
        AuditEvent.NODE_STOPPED,
        AuditOutcome.MAJOR_FAILURE,
    )
    assert "disk full" in stopped.detail["error"]

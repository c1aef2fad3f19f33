"""What the doctor and `hepar serve` say when disk or database are not well."""

import subprocess
import sys
from pathlib import Path

import pytest

from config import Settings
from node.doctor import check_node
from node.health import Check, Verdict
from storage.database import upgrade_database

RESTORE = "hepar db restore FILE --replace"


def checks(settings: Settings) -> dict[str, Check]:
    return {check.name: check for check in check_node(settings)}


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    made = Settings(data_dir=tmp_path / "data", receive={"min_free_bytes": 10**18})
    upgrade_database(made.database_url)
    return made


def test_a_short_disk_is_bad(settings: Settings):
    found = checks(settings)
    assert found["disk"].verdict is Verdict.BAD
    assert found["database"].verdict is Verdict.GOOD


def test_a_damaged_database_is_bad_and_says_what_to_do(settings: Settings):
    (settings.data_dir / "hepar.db").write_bytes(b"no database" * 1000)
    found = checks(settings)
    assert found["database"].verdict is Verdict.BAD
    assert RESTORE in found["database"].detail


@pytest.mark.parametrize("named", [False, True], ids=["our own", "named in the settings"])
def test_the_node_does_not_start_on_a_damaged_database(tmp_path: Path, named: bool):
    (tmp_path / "hepar.db").write_bytes(b"no database" * 1000)
    command = [sys.executable, "-m", "node", "serve", "--roles", "scheduler"]
    command += ["--set", f"data_dir={tmp_path}"]
    if named:
        command += ["--set", f"database.url=sqlite:///{tmp_path / 'hepar.db'}"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 1
    assert RESTORE in " ".join(done.stderr.split())

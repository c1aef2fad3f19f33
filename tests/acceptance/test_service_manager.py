"""The node under systemd and logrotate, as `docker/` sets them up."""

import os
import re
import shlex
import shutil
import socket
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner

from benchmarks.peers import NODE_TOML, NodeProcess, find_free_port
from node.cli import app
from node.supervisor import STOP_GRACE_S

SYSTEMD = Path(__file__).parents[2] / "docker" / "systemd"
UNIT = SYSTEMD / "hepar.service"
ROTATION = SYSTEMD.parent / "logrotate" / "hepar"


def value_of(key: str) -> str:
    [found] = re.findall(rf"^{key}=(.*)$", UNIT.read_text(encoding="utf-8"), re.MULTILINE)
    return found


def node_in(folder: Path, **environ: str) -> NodeProcess:
    """Give a node of one role, which starts quickly."""
    port = find_free_port()
    toml = NODE_TOML.format(port=port, web_port=find_free_port())
    return NodeProcess(folder=folder, port=port, toml=toml, environ=environ, roles=["scheduler"])


@pytest.mark.parametrize("is_abstract", [False, True])
def test_it_says_when_it_has_started_and_when_it_stops(tmp_path: Path, is_abstract: bool):
    name = f"hepar-test-{find_free_port()}"
    bound, told = (f"\0{name}", f"@{name}") if is_abstract else (str(tmp_path / "notify"),) * 2
    node = node_in(tmp_path, NOTIFY_SOCKET=told)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(bound)
        manager.settimeout(60)
        node.launch()
        try:
            assert manager.recv(100) == b"READY=1"
            assert (tmp_path / "data" / "hepar.db").exists()
            assert (tmp_path / "data").stat().st_mode & 0o077 == 0, "it will name patients"
            node.process.terminate()
            assert manager.recv(100) == b"STOPPING=1"
        finally:
            assert node.process.wait(60) == 0


def test_a_manager_that_is_gone_stops_nothing(tmp_path: Path):
    node = node_in(tmp_path, NOTIFY_SOCKET=str(tmp_path / "nobody"))
    node.start()
    assert node.stop() == 0
    assert "the service manager was not told READY=1" in node.log


def test_the_command_of_the_unit_is_one_of_the_program(tmp_path: Path):
    program, command, *options = shlex.split(value_of("ExecStart"))
    assert Path(program).name == "hepar"
    settings = tmp_path / "hepar.toml"
    settings.write_text('data_dir = "/var/lib/hepar"\n')
    options = [str(settings) if option == "/etc/hepar/hepar.toml" else option for option in options]
    with_help = CliRunner().invoke(app, [command, *options, "--help"])
    assert with_help.exit_code == 0
    checked = CliRunner().invoke(app, ["config", "check", *options])
    assert checked.exit_code == 0, checked.output


def test_the_unit_waits_for_the_roles_to_stop():
    assert int(value_of("TimeoutStopSec")) > STOP_GRACE_S
    assert value_of("KillMode") == "mixed"


def test_wrong_settings_are_not_tried_again(tmp_path: Path):
    (tmp_path / "hepar.toml").write_text("[node]\nprot = 1\n")
    done = CliRunner().invoke(app, ["config", "check", "-c", str(tmp_path / "hepar.toml")])
    assert done.exit_code != 0
    assert value_of("RestartPreventExitStatus") == "2"


@pytest.mark.peer
def test_logrotate_empties_the_file_under_a_running_node(tmp_path: Path):
    logrotate = shutil.which("logrotate", path=f"{os.environ['PATH']}:/usr/sbin")
    if logrotate is None:
        pytest.skip("logrotate is not installed (docker/install-test-peers installs it)")
    node = node_in(tmp_path)
    node.start()
    text = ROTATION.read_text(encoding="utf-8").replace("/var/log/hepar", str(tmp_path))
    configuration = tmp_path / "logrotate.conf"
    configuration.write_text(re.sub(r"su .*\n", "", text))
    configuration.chmod(0o644)
    command = [logrotate, "--force", "--state", tmp_path / "state", configuration]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert '"message": "node starts"' in (tmp_path / "node.log.1").read_text()
    assert node.stop() == 0
    # It went on at the beginning of the file: a hole would be zeros.
    assert node.log.startswith("{")
    assert '"message": "node starts"' not in node.log
    assert '"message": "role stopped"' in node.log


@pytest.mark.peer
def test_systemd_takes_the_unit(tmp_path: Path, program: Callable[[str], str]):
    analyze = program("systemd-analyze")
    # It must be there, and be a program.
    text = UNIT.read_text(encoding="utf-8").replace("/opt/hepar/bin/hepar", "/bin/true")
    (tmp_path / "hepar.service").write_text(text)
    parts = tmp_path / "hepar.service.d"
    parts.mkdir()
    for part in SYSTEMD.glob("*.conf"):
        shutil.copy(part, parts)
    done = subprocess.run(
        [analyze, "verify", "hepar.service"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")

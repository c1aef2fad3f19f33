"""What the doctor and `hepar serve` say of what is well, and of what is not."""

import os
import socket
import subprocess
import sys
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest
from certificates import Holder, certify

from config import Settings
from config.network import NodeSettings
from node.clock import utc_now
from node.doctor import check_node
from node.doctor_network import check_clocks, check_peers, check_ports, check_tls
from node.health import Check, Verdict
from node.roles import Role
from node.services import open_services
from node.tls import read_certificate
from storage.database import upgrade_database

RESTORE = "hepar db restore FILE --replace"


def checks(settings: Settings) -> dict[str, Check]:
    return {check.name: check for check in check_node(settings, quick=True)}


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


def test_it_tells_how_fast_the_model_is_and_how_the_database_writes(settings: Settings):
    found = {check.name: check for check in check_node(settings)}
    assert found["speed"].verdict is Verdict.GOOD
    assert "50 x 160 x 160 voxels in" in found["speed"].detail
    assert "sqlite, journal mode wal, writable" in found["database"].detail
    assert "speed" not in checks(settings)


@pytest.fixture
def ports(free_port: Callable[[], int]) -> Settings:
    return Settings(node={"port": free_port()}, web={"port": free_port()})


def test_a_port_is_free_or_held_by_us_or_by_another(ports: Settings):
    name = f"port {ports.node.port}"

    def judge(*running: Role) -> Check:
        found = {c.name: c for c in check_ports(ports, frozenset(role.value for role in running))}
        assert len(found) == 2
        return found[name]

    assert judge().verdict is Verdict.GOOD
    assert judge(Role.RECEIVER).verdict is Verdict.BAD
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", ports.node.port))
        listener.listen()
        assert judge(Role.RECEIVER).verdict is Verdict.GOOD
        held = judge()
    assert held.verdict is Verdict.BAD
    assert "another program" in held.detail


@pytest.fixture
def signer(tmp_path: Path, program: Callable[[str], str]) -> Holder:
    program("openssl")
    return certify(tmp_path, "authority")


def tls_node(holder: Holder, authority: Holder) -> NodeSettings:
    files = {"certificate": holder.certificate, "key": holder.key}
    return NodeSettings(tls={**files, "authorities": authority.certificate})


def end_of(holder: Holder) -> str:
    command = ["openssl", "x509", "-enddate", "-noout", "-in", str(holder.certificate)]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def test_the_end_of_our_certificate_is_that_which_openssl_reads(signer: Holder, tmp_path: Path):
    ours = certify(tmp_path, "ours", by=signer)
    certificate = read_certificate(tls_node(ours, signer).tls)
    assert f"{certificate.ends_at:%b %e %H:%M:%S %Y}" in end_of(ours)
    assert certificate.mistrust == ""


def test_a_certificate_is_warned_of_30_days_before_its_end(
    signer: Holder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    ours = certify(tmp_path, "ours", by=signer)  # openssl gives it 30 days
    [validity, chain] = check_tls(tls_node(ours, signer))
    assert validity.verdict is Verdict.REMARK
    assert "29 days" in validity.detail
    assert chain.verdict is Verdict.GOOD
    monkeypatch.setattr("node.doctor_network.EXPIRY_WARNING", timedelta(days=20))
    assert next(check_tls(tls_node(ours, signer))).verdict is Verdict.GOOD


def test_a_certificate_that_our_authorities_do_not_vouch_for_is_a_remark(
    signer: Holder, tmp_path: Path
):
    other = certify(tmp_path, "other")
    ours = certify(tmp_path, "ours", by=other)
    [_, chain] = check_tls(tls_node(ours, signer))
    assert chain.verdict is Verdict.REMARK
    assert "does not vouch" in chain.detail


def test_a_key_that_does_not_fit_is_bad(signer: Holder, tmp_path: Path):
    ours, other = certify(tmp_path, "ours", by=signer), certify(tmp_path, "other")
    node = tls_node(Holder(key=other.key, certificate=ours.certificate), signer)
    [check] = check_tls(node)
    assert check.verdict is Verdict.BAD


def test_a_file_system_with_another_time_is_told(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
):
    with open_services(settings) as services:
        spool = services.files.spool
        assert next(check_clocks(services)).verdict is Verdict.GOOD

        def late(content: bytes) -> Path:
            path = spool(content)
            os.utime(path, (0, path.stat().st_mtime - 60))
            return path

        monkeypatch.setattr(type(services.files), "spool", lambda _, content: late(content))
        check = next(check_clocks(services))
    assert check.verdict is Verdict.REMARK
    assert "-60." in check.detail


@pytest.mark.peer
def test_the_clock_of_postgresql_is_asked(tmp_path: Path, postgresql):
    settings = Settings(data_dir=tmp_path, database={"url": postgresql.new_database()})
    with open_services(settings) as services:
        found = {check.name: check for check in check_clocks(services)}
        assert "postgresql, version" in services.database.describe()
    assert found["clock of database"].verdict is Verdict.GOOD


def test_peers_are_judged_by_what_they_are_there_for(free_port: Callable[[], int]):
    silent = {"host": "127.0.0.1", "port": free_port()}
    settings = Settings(
        peers={
            "scanner": {"ae_title": "CT", "roles": ["source"], **silent},
            "pacs": {"ae_title": "PACS", "roles": ["source", "destination"], **silent},
        }
    )
    found = {c.name: c for c in check_peers(settings, {"CT": utc_now()})}
    assert found["peer scanner"].verdict is Verdict.REMARK
    assert found["peer pacs"].verdict is Verdict.BAD
    assert found["peer scanner: calls"].verdict is Verdict.GOOD
    assert found["peer pacs: calls"].verdict is Verdict.REMARK
    assert found["peer pacs: profile"].detail == "gets ohif: seg, sr, summary"

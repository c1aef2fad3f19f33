"""The audit trail on its way to a real syslog server."""

import re
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest
from certificates import certify

from config import Settings, SyslogTransport
from node.audit_forwarder import Forwarder, count_unsent
from node.clock import utc_now
from node.errors import WrongCall
from node.services import open_services
from node.syslog import SyslogFailed, send_messages
from storage.database import upgrade_database
from storage.records import AuditEntry
from storage.states import AuditEvent

pytestmark = pytest.mark.peer

_CONFIGURATION = """\
global(workDirectory="{folder}" maxMessageSize="64k" processInternalMessages="off"
       net.enableDNS="off")
{module}
template(name="whole" type="string" string="%rawmsg%\\n")
action(type="omfile" file="{file}" template="whole")
"""
_MODULES = {
    "udp": 'module(load="imudp")\ninput(type="imudp" address="127.0.0.1" port="{port}")',
    "tcp": 'module(load="imtcp")\ninput(type="imtcp" address="127.0.0.1" port="{port}")',
    "tls": 'global(defaultNetstreamDriverCAFile="{folder}/authority.pem"\n'
    '       defaultNetstreamDriverCertFile="{folder}/server.pem"\n'
    '       defaultNetstreamDriverKeyFile="{folder}/server.key")\n'
    'module(load="imtcp" StreamDriver.Name="gtls" StreamDriver.Mode="1"\n'
    "       StreamDriver.AuthMode={auth})\n"
    'input(type="imtcp" address="127.0.0.1" port="{port}")',
}

KNOWN_ONLY = '"x509/name" PermittedPeer=["node"]'


@dataclass(kw_only=True)
class Rsyslog:
    """rsyslogd on loopback, which writes all that it gets into a file."""

    program: str
    folder: Path
    port: int
    transport: str
    auth: str = '"anon"'
    process: subprocess.Popen | None = None

    @property
    def file(self) -> Path:
        return self.folder / "messages"

    def start(self) -> None:
        module = _MODULES[self.transport].format(folder=self.folder, port=self.port, auth=self.auth)
        text = _CONFIGURATION.format(folder=self.folder, module=module, file=self.file)
        configuration = self.folder / "rsyslog.conf"
        configuration.write_text(text)
        command = [self.program, "-n", "-f", configuration, "-i", self.folder / "pid"]
        self.process = subprocess.Popen(command, stderr=subprocess.PIPE)
        self._wait_until_it_listens()

    def _wait_until_it_listens(self) -> None:
        kind, state = ("udp", "07") if self.transport == "udp" else ("tcp", "0A")
        line = f"0100007F:{self.port:04X} 00000000:0000 {state}"
        give_up_at = time.monotonic() + 10
        while line not in Path(f"/proc/net/{kind}").read_text():
            assert self.process.poll() is None, self.process.stderr.read()
            assert time.monotonic() < give_up_at
            time.sleep(0.02)

    def stop(self) -> None:
        if self.process is not None:
            self.process.terminate()
            self.process.wait(10)
            self.process.stderr.close()
            self.process = None

    def wait_for(self, count: int) -> list[str]:
        give_up_at = time.monotonic() + 10
        while len(lines := self.lines()) < count and time.monotonic() < give_up_at:
            time.sleep(0.02)
        return lines

    def lines(self) -> list[str]:
        return self.file.read_text().splitlines() if self.file.exists() else []


@pytest.fixture
def make_server(
    program: Callable[[str], str], tmp_path: Path, free_port: Callable[[], int]
) -> Iterator[Callable[..., Rsyslog]]:
    running: list[Rsyslog] = []

    def make(transport: str, **more) -> Rsyslog:
        folder = tmp_path / "syslog"
        folder.mkdir()
        server = Rsyslog(
            program=program("rsyslogd"),
            folder=folder,
            port=free_port(),
            transport=transport,
            **more,
        )
        if transport == "tls":
            if not list(Path("/usr/lib").glob("*/rsyslog/lmnsd_gtls.so")):
                pytest.skip("rsyslog-gnutls is not installed (docker/install-test-peers does it)")
            program("openssl")
            authority = certify(folder, "authority")
            certify(folder, "server", by=authority)
            certify(folder, "node", by=authority)
        running.append(server)
        return server

    yield make
    for server in running:
        server.stop()


@pytest.fixture
def open_trail(tmp_path: Path):
    """Open the stores of a node that sends its audit trail to a server."""

    def make(server: Rsyslog, *, certificate: bool = False):
        tls = server.transport == "tls"
        authorities = {"authorities": server.folder / "authority.pem"} if tls else {}
        files = {"certificate": "node.pem", "key": "node.key", "authorities": "authority.pem"}
        node = {"tls": {name: server.folder / file for name, file in files.items()}}
        settings = Settings(
            data_dir=tmp_path / "data",
            node=node if certificate else {},
            audit={
                "site": "General Hospital",
                "syslog": {
                    "host": "127.0.0.1",
                    "port": server.port,
                    "transport": server.transport,
                    **authorities,
                },
            },
        )
        upgrade_database(settings.database_url)
        return open_services(settings)

    return make


def add_lines(services, count: int) -> None:
    for number in range(count):
        detail = {"page": "job", "remark": "x" * 900}
        entry = AuditEntry(
            event=AuditEvent.DATA_VIEWED,
            actor="user:jürgen",
            study_uid="1.2.3",
            patient_id=f"P {number}",
            detail=detail,
        )
        services.audit.append(entry, utc_now())


def check_whole(lines: list[str]) -> list[int]:
    """Check that each line is a whole message, and give their numbers."""
    numbers = []
    for line in lines:
        found = re.fullmatch(r"<85>1 \S+ \S+ hepar (\d+) DICOM\+RFC3881 - (<\?xml .*)", line)
        assert found, line
        assert ET.fromstring(found[2]).find("ActiveParticipant").get("UserName") == "jürgen"
        numbers.append(int(found[1]))
    return numbers


@pytest.mark.parametrize("transport", list(SyslogTransport))
def test_messages_arrive_whole_and_in_order(transport, make_server, open_trail):
    server = make_server(transport.value)
    server.start()
    services = open_trail(server)
    add_lines(services, 25)
    forwarder = Forwarder(services, "me")
    assert forwarder.send() == 25
    assert check_whole(server.wait_for(25)) == list(range(1, 26))
    assert forwarder.send() == 0
    add_lines(services, 2)
    forwarder.forward()
    assert check_whole(server.wait_for(27))[-2:] == [26, 27]
    assert forwarder.trouble == ""


@pytest.mark.parametrize("transport", list(SyslogTransport))
def test_a_server_that_was_down_gets_all(
    transport, make_server, open_trail, monkeypatch: pytest.MonkeyPatch, caplog
):
    monkeypatch.setattr("node.audit_forwarder.BATCH", 4)
    server = make_server(transport.value)
    services = open_trail(server)
    add_lines(services, 10)
    forwarder = Forwarder(services, "me")
    forwarder.forward()
    assert f"the syslog server 127.0.0.1:{server.port} ({transport})" in forwarder.trouble
    assert "10 lines wait" in forwarder.trouble
    assert "audit trail not sent" in caplog.text
    server.start()
    forwarder.forward()
    assert server.lines() == [], "it waits before it tries again"
    forwarder._pause_until_s = 0.0
    forwarder.forward()
    assert check_whole(server.wait_for(10)) == list(range(1, 11))
    assert forwarder.trouble == ""
    server.stop()
    add_lines(services, 1)
    forwarder.forward()
    assert "1 lines wait" in forwarder.trouble
    server.start()
    assert forwarder.send() == 1
    assert check_whole(server.wait_for(11))[-1] == 11


def test_a_server_that_wants_to_know_us(make_server, open_trail):
    server = make_server("tls", auth=KNOWN_ONLY)
    server.start()
    services = open_trail(server, certificate=True)
    add_lines(services, 3)
    assert Forwarder(services, "me").send() == 3
    assert check_whole(server.wait_for(3)) == [1, 2, 3]


def test_a_server_that_does_not_know_us_is_trouble(make_server, open_trail):
    server = make_server("tls", auth=KNOWN_ONLY)
    server.start()
    services = open_trail(server)
    add_lines(services, 1)
    with pytest.raises(SyslogFailed):
        Forwarder(services, "me").send()
    assert count_unsent(services) == 1


def test_a_server_with_a_foreign_certificate_gets_nothing(make_server, open_trail, tmp_path):
    server = make_server("tls")
    server.start()
    services = open_trail(server)
    other = tmp_path / "other"
    other.mkdir()
    syslog = services.settings.audit.syslog.model_copy(
        update={"authorities": certify(other, "stranger").certificate}
    )
    with pytest.raises(SyslogFailed, match="certificate verify failed"):
        send_messages(syslog, [b"secret"])
    assert server.lines() == []


def test_two_processes_do_not_send_at_once(make_server, open_trail):
    server = make_server("tcp")
    server.start()
    services = open_trail(server)
    add_lines(services, 1)
    assert services.ticks.claim("syslog", "another", 30.0, utc_now()) is not None
    assert Forwarder(services, "me").send() is None
    assert server.lines() == []


def test_without_a_server(tmp_path):
    settings = Settings(data_dir=tmp_path / "data")
    upgrade_database(settings.database_url)
    with pytest.raises(WrongCall, match=r"audit\.syslog\.host"):
        Forwarder(open_services(settings), "me").send()

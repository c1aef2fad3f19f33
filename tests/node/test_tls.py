"""DICOM TLS with dcmtk on the other side, whose default is the strict profile of BCP 195."""

import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from certificates import Holder, certify

from config import NodeSettings, PeerSettings, Settings, WebTlsSettings
from node.errors import PeerUnreachable, UnusableTls
from node.scp import Receiver
from node.scu import send_files
from node.services import Services, open_services
from node.tls import check_web_certificate
from storage.database import upgrade_database

pytestmark = pytest.mark.peer

HANDSHAKE_S = NodeSettings().acse_timeout_s


@dataclass(frozen=True, kw_only=True)
class Trust:
    """An authority, whom it knows, and a stranger."""

    authority: Holder
    node: Holder
    peer: Holder
    elsewhere: Holder
    """Known, but with the address of another machine in the certificate."""
    stranger: Holder

    @property
    def section(self) -> dict[str, object]:
        """The section [node.tls]."""
        return {
            "certificate": self.node.certificate,
            "key": self.node.key,
            "authorities": self.authority.certificate,
        }


@pytest.fixture(scope="session")
def trust(tmp_path_factory: pytest.TempPathFactory, program: Callable[[str], str]) -> Trust:
    program("openssl")
    folder = tmp_path_factory.mktemp("tls")
    authority, other = certify(folder, "authority"), certify(folder, "other")
    return Trust(
        authority=authority,
        node=certify(folder, "node", authority),
        peer=certify(folder, "peer", authority),
        elsewhere=certify(folder, "elsewhere", authority, "192.0.2.1"),
        stranger=certify(folder, "stranger", other),
    )


@dataclass(frozen=True, kw_only=True)
class Listening:
    services: Services
    port: int
    tls_port: int
    receiver: Receiver

    @property
    def instances(self) -> int:
        return sum(series.instance_count for series in self.services.catalog.list_series())


@pytest.fixture
def listen(
    tmp_path: Path, trust: Trust, free_port: Callable[[], int]
) -> Iterator[Callable[..., Listening]]:
    """Start receivers with TLS."""
    running: list[Receiver] = []

    def start(**tls: object) -> Listening:
        port, tls_port = free_port(), free_port()
        settings = Settings(
            data_dir=tmp_path / "data",
            node={"port": port, "tls": {**trust.section, "port": tls_port, **tls}},
            peers={"s": {"ae_title": "SCANNER", "host": "127.0.0.1", "roles": ["source"]}},
            receive={"min_free_bytes": 0},
        )
        upgrade_database(settings.database_url)
        services = open_services(settings)
        receiver = Receiver(
            settings,
            files=services.files,
            catalog=services.catalog,
            proofs=services.proofs,
            metrics=services.metrics,
        )
        running.append(receiver)
        receiver.start()
        return Listening(services=services, port=port, tls_port=tls_port, receiver=receiver)

    yield start
    for receiver in running:
        receiver.stop()


def storescu(program, path: Path, port: int, *options: object) -> bool:
    command = [program("storescu"), "-aet", "SCANNER", "-aec", "HEPAR", *options]
    command += ["127.0.0.1", str(port), path]
    done = subprocess.run(command, capture_output=True, check=False, timeout=60)
    return done.returncode == 0


def tls_options(holder: Holder, trust: Trust) -> list[object]:
    return ["+tls", holder.key, holder.certificate, "+cf", trust.authority.certificate]


def test_a_known_sender_is_served_with_and_without_tls(listen, program, trust, small_ct):
    node = listen()
    assert storescu(program, small_ct[0], node.tls_port, *tls_options(trust.peer, trust))
    assert storescu(program, small_ct[1], node.port)
    assert node.instances == 2


def test_without_the_plain_port_only_tls_is_served(listen, program, trust, small_ct):
    node = listen(only=True)
    assert not storescu(program, small_ct[0], node.port)
    assert storescu(program, small_ct[0], node.tls_port, *tls_options(trust.peer, trust))


def test_who_cannot_show_a_certificate_of_the_authority_is_refused(
    listen, program, trust, small_ct
):
    node = listen()
    path = small_ct[0]
    assert not storescu(program, path, node.tls_port), "without TLS"
    assert not storescu(program, path, node.tls_port, "+tla", "-ic"), "without a certificate"
    assert not storescu(program, path, node.tls_port, *tls_options(trust.stranger, trust))
    assert node.instances == 0
    assert storescu(program, path, node.tls_port, *tls_options(trust.peer, trust)), "still serves"


def test_certificates_of_callers_are_asked_for_unless_told_otherwise(
    listen, program, trust, small_ct
):
    node = listen(ask_certificate=False)
    options = ("+tla", "+cf", trust.authority.certificate)
    assert storescu(program, small_ct[0], node.tls_port, *options)


def test_a_silent_caller_holds_up_nobody(listen, program, trust, small_ct):
    node = listen()
    with socket.create_connection(("127.0.0.1", node.tls_port)):
        assert storescu(program, small_ct[0], node.tls_port, *tls_options(trust.peer, trust))
        started = time.monotonic()
        node.receiver.stop()
        assert time.monotonic() - started < HANDSHAKE_S / 2


@pytest.fixture
def archive(
    program, trust: Trust, free_port: Callable[[], int], tmp_path: Path
) -> Iterator[Callable[[Holder], int]]:
    """Start dcmtk's storescp with TLS, and give its port."""
    running: list[subprocess.Popen[bytes]] = []

    def start(holder: Holder) -> int:
        port, folder = free_port(), tmp_path / "archive"
        folder.mkdir()
        command = [program("storescp"), *tls_options(holder, trust), "-od", folder, str(port)]
        running.append(subprocess.Popen(command))
        for _ in range(100):
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    return port
            time.sleep(0.05)
        raise AssertionError("storescp does not listen")

    yield start
    for process in running:
        process.terminate()
        process.wait()


@pytest.mark.parametrize(
    ("holder", "tls", "sent"),
    [
        ("peer", "on", True),
        ("elsewhere", "on", False),
        ("elsewhere", "any-name", True),
        ("stranger", "on", False),
        ("stranger", "any-name", False),
        ("peer", "off", False),
    ],
)
def test_an_archive_gets_results_if_it_is_who_it_says(
    archive, trust, small_ct, tmp_path, holder: str, tls: str, sent: bool
):
    port = archive(getattr(trust, holder))
    node = NodeSettings(tls=trust.section, acse_timeout_s=5.0)
    peer = PeerSettings(ae_title="ARCHIVE", host="127.0.0.1", port=port, tls=tls)
    if sent:
        [answer] = send_files(node, peer, small_ct[:1])
        assert answer.stored
        return
    with pytest.raises(PeerUnreachable):
        send_files(node, peer, small_ct[:1])
    assert not list((tmp_path / "archive").iterdir())


def test_a_certificate_that_cannot_be_used_is_named(listen, trust):
    with pytest.raises(UnusableTls, match=r"peer\.key.*\[node\.tls\] cannot be used"):
        listen(key=trust.peer.key)
    with pytest.raises(UnusableTls, match=r"nowhere\.pem"):
        listen(authorities=Path("nowhere.pem"))


def test_a_certificate_of_the_pages_that_cannot_be_used_is_named(tmp_path: Path):
    holder, other = certify(tmp_path, "pages"), certify(tmp_path, "other")
    locked = tmp_path / "locked.key"
    command = ["openssl", "pkey", "-in", holder.key, "-aes256", "-passout", "pass:x"]
    subprocess.run([*command, "-out", locked], check=True, capture_output=True)
    check_web_certificate(WebTlsSettings(certificate=holder.certificate, key=holder.key))
    for key in (other.key, locked, tmp_path / "missing.key"):
        with pytest.raises(UnusableTls, match=rf"{key} of \[web\.tls\] cannot be used"):
            check_web_certificate(WebTlsSettings(certificate=holder.certificate, key=key))

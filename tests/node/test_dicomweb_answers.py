"""What services answer that no archive at hand can be made to answer."""

import json
import ssl
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from certificates import certify
from pydicom import dcmread

from config import NodeSettings, WebPeerSettings
from node.errors import Cause, PeerRefused, PeerTimedOut, PeerUnreachable, UnusableTls
from node.exchange import echo, find, get, send_files
from node.query import make_key

NODE = NodeSettings(dimse_timeout_s=0.3)
UID = "00081155"


@dataclass
class Service:
    """A service with answers of our choice."""

    url: str = ""
    status: int = 200
    body: bytes = b"[]"
    headers: dict[str, str] = field(default_factory=dict)
    pause_s: float = 0.0
    server: ThreadingHTTPServer | None = None
    asked: list[tuple[str, dict[str, str], bytes]] = field(default_factory=list)
    """Path, headers and body of each request."""

    @property
    def peer(self) -> WebPeerSettings:
        return WebPeerSettings(url=self.url)

    def encrypt(self, context: ssl.SSLContext) -> None:
        """Speak TLS from now on."""
        self.server.socket = context.wrap_socket(self.server.socket, server_side=True)

    def answer(self, path: str) -> bytes:
        return self.body


@pytest.fixture
def service() -> Iterator[Service]:
    told = Service()
    done = threading.Event()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            length = int(self.headers.get("Content-Length", 0))
            told.asked.append((self.path, dict(self.headers), self.rfile.read(length)))
            done.wait(told.pause_s)
            body = told.answer(self.path)
            self.send_response(told.status)
            for name, value in (told.headers | {"Content-Length": str(len(body))}).items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

        do_POST = do_GET  # noqa: N815

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    told.server = server
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    told.url = f"http://127.0.0.1:{server.server_address[1]}/dicom-web"
    yield told
    done.set()
    server.shutdown()
    thread.join()
    server.server_close()


def report(**sequences: list[dict[str, object]]) -> bytes:
    """Make a Store Instances Response in DICOM JSON."""
    tags = {"failed": "00081198", "stored": "00081199"}
    return json.dumps(
        {tags[name]: {"vr": "SQ", "Value": items} for name, items in sequences.items()}
    ).encode()


def item(uid: str = "", **reasons: int) -> dict[str, object]:
    tags = {"warning": "00081196", "failure": "00081197"}
    values = {tags[name]: {"vr": "US", "Value": [code]} for name, code in reasons.items()}
    return {UID: {"vr": "UI", "Value": [uid]}, **values} if uid else values


@pytest.mark.parametrize(
    ("status", "make_body", "stored", "words"),
    [
        (200, lambda uid: report(stored=[item(uid)]), True, "status 0x0000"),
        (202, lambda uid: report(stored=[item(uid, warning=0xB007)]), True, "0xB007 (Data Set Do"),
        (202, lambda uid: report(stored=[item(uid, warning=0xB000)]), True, "0xB000 (Coercion"),
        (409, lambda uid: report(failed=[item(uid, failure=0x0122)]), False, "0x0122 (Refused: S"),
        (409, lambda uid: report(failed=[item(uid, failure=0xA700)]), False, "0xA700 (Refused: O"),
        (400, lambda _: report(failed=[item(failure=0xC000)]), False, "0xC000 (Cannot Understand"),
        (409, lambda uid: report(failed=[item(uid, failure=0x0111)]), True, "0x0111 (Duplic"),
        (202, lambda uid: report(failed=[item(uid)]), False, "0x0110 (Processing Failure"),
        (200, lambda _: report(stored=[item("1.2.3")]), False, "HTTP 200 OK, and no report on"),
        (200, lambda _: b"", False, "HTTP 200 OK, and no report on the instance"),
        (200, lambda _: b"<html>", False, "HTTP 200 OK, and no report on the instance"),
        (413, lambda _: b"too large", False, "HTTP 413 Request Entity Too Large; too large, and"),
        (415, lambda _: b"", False, "HTTP 415 Unsupported Media Type, and no report"),
    ],
)
def test_answers_to_a_store(
    service: Service,
    small_ct: list[Path],
    status: int,
    make_body: Callable[[str], bytes],
    stored: bool,
    words: str,
):
    service.status = status
    service.headers = {"Content-Type": "text/plain"}
    service.body = make_body(dcmread(small_ct[0]).SOPInstanceUID)
    [answer] = send_files(NODE, service.peer, small_ct[:1])
    assert answer.stored is stored
    assert words in answer.answer


def test_a_file_goes_whole_and_in_one_piece(service: Service, small_ct: list[Path]):
    send_files(NODE, service.peer, small_ct[:1])
    [(path, headers, body)] = service.asked
    assert path == "/dicom-web/studies"
    assert small_ct[0].read_bytes() in body
    assert "Transfer-Encoding" not in headers
    assert headers["Content-Type"].startswith('multipart/related; type="application/dicom"')
    assert headers["Accept"] == "application/dicom+json"


@pytest.mark.parametrize(
    ("status", "cause", "words"),
    [
        (503, Cause.REFUSED, "HTTP 503 Service Unavailable"),
        (429, Cause.REFUSED, "HTTP 429 Too Many Requests"),
        (403, Cause.REFUSED_LASTINGLY, "HTTP 403 Forbidden; this user may not do that"),
        (302, Cause.REFUSED_LASTINGLY, "HTTP 302 Found; set `url` after https://else.example/"),
    ],
)
def test_refusals_are_told(
    service: Service, small_ct: list[Path], status: int, cause: Cause, words: str
):
    service.status, service.headers = status, {"Location": "https://else.example/"}
    for ask in (lambda: echo(NODE, service.peer), lambda: send_files(NODE, service.peer, small_ct)):
        with pytest.raises(PeerRefused) as refusal:
            ask()
        assert words in str(refusal.value)
        assert refusal.value.cause is cause


def test_silence_and_absence_are_told(service: Service, free_port: Callable[[], int]):
    service.pause_s = 30.0
    with pytest.raises(PeerTimedOut, match=r"cannot be reached: no answer in 0\.3 s"):
        echo(NODE, service.peer)
    nobody = WebPeerSettings(url=f"http://127.0.0.1:{free_port()}")
    with pytest.raises(PeerUnreachable, match="Connection refused"):
        echo(NODE, nobody)


def test_a_page_of_html_is_no_answer(service: Service):
    service.body = b"<html>Welcome</html>"
    with pytest.raises(PeerRefused, match="no DICOM JSON; check `url`"):
        echo(NODE, service.peer)


def test_matches_are_asked_for_page_by_page(service: Service):
    pages = [["1.2.1", "1.2.2"], ["1.2.3"], []]

    def answer(_: str) -> bytes:
        uids = pages[len(service.asked) - 1]
        return json.dumps([{"0020000D": {"vr": "UI", "Value": [uid]}} for uid in uids]).encode()

    service.answer = answer
    key = make_key("STUDY", StudyInstanceUID="", ModalitiesInStudy="CT", StudyDate="20260101-")
    found = find(NODE, service.peer, key)
    assert [match.StudyInstanceUID for match in found] == ["1.2.1", "1.2.2", "1.2.3"]
    paths = [path for path, *_ in service.asked]
    assert [path.partition("offset=")[2] for path in paths] == ["0", "2", "3"]
    assert paths[0].startswith("/dicom-web/studies?")
    assert "ModalitiesInStudy=CT" in paths[0]
    assert "includefield=StudyInstanceUID" in paths[0]


def test_a_service_that_knows_no_offset_is_asked_twice(service: Service):
    service.body = b'[{"0020000D": {"vr": "UI", "Value": ["1.2.1"]}}]'
    assert len(find(NODE, service.peer, make_key("STUDY", StudyInstanceUID=""))) == 1
    assert len(service.asked) == 2


@pytest.mark.parametrize(
    ("content_type", "body", "words"),
    [
        ("multipart/related; boundary=B", b"--B\r\n\r\nDICM", "cut short"),
        ("multipart/related", b"--B\r\n\r\nDICM\r\n--B--", "no boundary"),
        ("multipart/related; boundary=B", b"--B\r\nDICM\r\n--B--", "no end of its header"),
    ],
)
def test_a_broken_body_is_refused(service: Service, content_type: str, body: bytes, words: str):
    service.headers, service.body = {"Content-Type": content_type}, body
    key = make_key("IMAGE", StudyInstanceUID="1.2", SeriesInstanceUID="1.3", SOPInstanceUID=["1.4"])
    with pytest.raises(PeerRefused, match=words):
        get(NODE, service.peer, key, {"1.5": ["1.6"]}, lambda _content, **_announced: None)


def test_what_is_no_instance_is_left_out(service: Service):
    service.headers = {"Content-Type": "application/dicom"}
    service.body = b"no DICOM at all"
    got = []
    key = make_key("IMAGE", StudyInstanceUID="1.2", SeriesInstanceUID="1.3", SOPInstanceUID=["1.4"])
    get(NODE, service.peer, key, {"1.5": ["1.6"]}, lambda content, **_: got.append(content))
    assert got == []
    assert [path for path, *_ in service.asked] == [
        "/dicom-web/studies/1.2/series/1.3/instances/1.4"
    ]


def test_a_token_is_sent(service: Service):
    echo(NODE, WebPeerSettings(url=service.url, token="secret"))
    assert service.asked[0][1]["Authorization"] == "Bearer secret"


def test_a_file_of_authorities_must_be_one(service: Service, tmp_path: Path):
    peer = WebPeerSettings(url=service.url, authorities=tmp_path / "absent.pem")
    with pytest.raises(UnusableTls, match=r"absent\.pem"):
        echo(NODE, peer)


@pytest.mark.peer
def test_the_certificate_of_a_service_is_checked(
    service: Service, program: Callable[[str], str], tmp_path: Path
):
    program("openssl")
    authority = certify(tmp_path, "authority")
    ours = certify(tmp_path, "service", authority)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(ours.certificate, ours.key)
    service.encrypt(context)
    url = service.url.replace("http:", "https:")
    echo(NODE, WebPeerSettings(url=url, authorities=authority.certificate))
    with pytest.raises(PeerUnreachable, match="CERTIFICATE_VERIFY_FAILED"):
        echo(NODE, WebPeerSettings(url=url))

"""Alerts as a mail server and a webhook get them."""

import socket
import ssl
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from certificates import Holder, certify
from told_people import Hook, MailServer

from config import AlertSettings
from node.alert_channels import Way, open_ways
from node.alert_kinds import AlertKind
from node.alert_notice import AlertItem, AlertStatus, Notice
from node.errors import AlertNotTaken

NOON = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
NOTICE = Notice(
    ae_title="HEPAR",
    host="ct-node",
    at=NOON.replace(hour=14),
    items=[
        AlertItem(
            status=AlertStatus.BEGINS,
            finding=AlertKind.DELIVERY_FAILING.finding("pacs", "pacs has not taken results."),
            since=NOON,
        ),
        AlertItem(
            status=AlertStatus.OVER,
            finding=AlertKind.DISK_SHORT.finding("data folder", "0.4 GB are free."),
            since=NOON,
            over_at=NOON.replace(hour=13),
        ),
    ],
)


@pytest.fixture
def authority(tmp_path: Path, program: Callable[[str], str]) -> Holder:
    program("openssl")
    return certify(tmp_path, "authority")


@pytest.fixture
def server_tls(authority: Holder, tmp_path: Path) -> ssl.SSLContext:
    holder = certify(tmp_path, "mail", authority)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(holder.certificate, holder.key)
    return context


@pytest.fixture
def start() -> Iterator[Callable[[MailServer | Hook], None]]:
    started = []

    def begin(one: MailServer | Hook) -> None:
        one.start()
        started.append(one)

    yield begin
    for one in started:
        one.stop()


def mail_way(server: MailServer, **more: object) -> Way:
    mail = {
        "host": "127.0.0.1",
        "port": server.port,
        "security": "none",
        "sender": "hepar@hospital.example",
        "recipients": ["anna@hospital.example", "ben@hospital.example"],
    }
    [way] = open_ways(AlertSettings(mail=mail | more, timeout_s=2))
    return way


def hook_way(hook: Hook, **more: object) -> Way:
    [way] = open_ways(AlertSettings(webhook={"url": hook.url} | more, timeout_s=2))
    return way


def test_a_mail_says_what_and_since_when_and_what_to_do(start):
    server = MailServer()
    start(server)
    assert mail_way(server).send(NOTICE) == ""
    [mail], [envelope] = server.mails, server.envelopes
    assert envelope.rcpt_tos == ["anna@hospital.example", "ben@hospital.example"]
    assert envelope.mail_from == mail["From"] == "hepar@hospital.example"
    assert mail["Subject"] == "[hepar] HEPAR on ct-node: 2 alerts: delivery-failing, disk-short"
    assert mail["Auto-Submitted"] == "auto-generated"
    assert mail["Date"].datetime == NOTICE.at
    text = mail.get_content()
    assert "delivery-failing (pacs) begins, since 2026-03-01 12:00 UTC." in text
    assert "pacs has not taken results." in text
    assert "`hepar echo NAME` tries the connection" in text
    assert "disk-short (data folder) over, after 60 min." in text


def test_a_login_goes_over_tls(start, server_tls: ssl.SSLContext, authority: Holder):
    server = MailServer(tls=server_tls, password="right")
    start(server)
    over_tls = {"security": "starttls", "authorities": authority.certificate, "user": "hepar"}
    with pytest.raises(AlertNotTaken, match="refuses the login: 535") as refused:
        mail_way(server, **over_tls, password="wrong").send(NOTICE)
    assert "wrong" not in str(refused.value)
    mail_way(server, **over_tls, password="right").send(NOTICE)
    assert len(server.mails) == 1


def test_a_mail_server_that_cannot_prove_who_it_is_gets_nothing(
    start, server_tls: ssl.SSLContext, authority: Holder
):
    server = MailServer(tls=server_tls, password="right")
    start(server)
    login = {"security": "starttls", "user": "hepar", "password": "right"}
    with pytest.raises(AlertNotTaken, match="certificate"):
        mail_way(server, **login).send(NOTICE)
    plain = MailServer()
    start(plain)
    with pytest.raises(AlertNotTaken, match="STARTTLS"):
        mail_way(plain, **login).send(NOTICE)
    assert server.mails == plain.mails == []


def test_what_the_mail_server_refuses_is_said(start):
    server = MailServer()
    start(server)
    with pytest.raises(AlertNotTaken, match=r"all recipients .nobody@h: 550 5\.1\.1 no such"):
        mail_way(server, recipients=["nobody@h"]).send(NOTICE)
    told = mail_way(server, recipients=["nobody@h", "anna@h"]).send(NOTICE)
    assert told == "not for nobody@h"
    assert [envelope.rcpt_tos for envelope in server.envelopes] == [["anna@h"]]


def test_a_webhook_gets_json_and_its_token(start):
    hook = Hook()
    start(hook)
    assert hook_way(hook, token="t0ken").send(NOTICE) == ""
    [post], [headers] = hook.posts, hook.headers
    assert headers["authorization"] == "Bearer t0ken"
    assert headers["content-type"] == "application/json"
    assert post == {
        "version": 1,
        "test": False,
        "node": {"ae_title": "HEPAR", "host": "ct-node"},
        "at": "2026-03-01T14:00:00+00:00",
        "subject": "[hepar] HEPAR on ct-node: 2 alerts: delivery-failing, disk-short",
        "alerts": [
            {
                "kind": "delivery-failing",
                "subject": "pacs",
                "status": "begins",
                "message": "pacs has not taken results.",
                "action": "`hepar echo NAME` tries the connection; `hepar jobs show` has the "
                "cause.",
                "since": "2026-03-01T12:00:00+00:00",
                "over_at": None,
            },
            {
                "kind": "disk-short",
                "subject": "data folder",
                "status": "over",
                "message": "0.4 GB are free.",
                "action": "Make room; `hepar retention preview` says what could go.",
                "since": "2026-03-01T12:00:00+00:00",
                "over_at": "2026-03-01T13:00:00+00:00",
            },
        ],
    }


@pytest.mark.parametrize("status", [302, 401, 500])
def test_an_answer_that_is_no_success_is_a_no(start, status: int):
    hook = Hook(status=status)
    start(hook)
    with pytest.raises(AlertNotTaken, match=f"it answers {status}") as refused:
        hook_way(hook).send(NOTICE)
    assert "hidden" not in str(refused.value)


def test_nobody_there():
    with pytest.raises(AlertNotTaken, match=r"127.0.0.1:\d+ cannot be reached: Connection refused"):
        mail_way(MailServer()).send(NOTICE)
    with pytest.raises(AlertNotTaken, match="cannot be reached") as refused:
        hook_way(Hook()).send(NOTICE)
    assert "hidden" not in str(refused.value)


def test_silence_has_a_time_limit():
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        with pytest.raises(AlertNotTaken, match="timed out"):
            mail_way(MailServer(port=port)).send(NOTICE)
        with pytest.raises(AlertNotTaken, match="does not answer in 2 s"):
            hook_way(Hook(port=port)).send(NOTICE)


def test_authorities_that_are_not_there(tmp_path: Path):
    with pytest.raises(AlertNotTaken, match=r"authorities .* cannot be used"):
        hook_way(Hook(), authorities=tmp_path / "none.pem").send(NOTICE)

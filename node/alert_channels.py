"""The ways on which people are told: mail and webhook."""

import smtplib
import socket
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from email.message import EmailMessage
from email.policy import SMTP
from email.utils import format_datetime, make_msgid
from pathlib import Path
from typing import Protocol

from config import AlertSettings, MailSecurity, MailSettings, WebhookSettings
from node.alert_notice import Notice
from node.errors import AlertNotTaken

_ANSWER_CHARACTERS = 200
"""So much of an answer in words is told."""


class Way(Protocol):
    """A way on which people are told."""

    name: str

    def send(self, notice: Notice) -> str:
        """Send a notice; give what the other side said, if anything worth telling.

        Raises
        ------
        AlertNotTaken
        """


def open_ways(settings: AlertSettings) -> list[Way]:
    """Give the ways that are set."""
    ways: list[Way] = []
    if settings.mail is not None:
        ways.append(Mail(settings.mail, settings.timeout_s))
    if settings.webhook is not None:
        ways.append(Webhook(settings.webhook, settings.timeout_s))
    return ways


class Mail:
    """Alerts by mail (RFC 5321)."""

    name = "mail"

    def __init__(self, settings: MailSettings, timeout_s: float) -> None:
        self._settings = settings
        self._timeout_s = timeout_s

    def send(self, notice: Notice) -> str:
        """Hand it to the mail server, and say for whom it was not taken.

        Raises
        ------
        AlertNotTaken
        """
        message = _make_message(self._settings, notice)
        try:
            with self._connect() as server:
                refused = server.send_message(
                    message, self._settings.sender, list(self._settings.recipients)
                )
        except smtplib.SMTPException as error:
            raise AlertNotTaken(f"{self._address} {_explain(error)}") from error
        except OSError as error:
            reason = error.strerror or str(error)
            raise AlertNotTaken(f"{self._address} cannot be reached: {reason}") from error
        return f"not for {', '.join(refused)}" if refused else ""

    @property
    def _address(self) -> str:
        return f"{self._settings.host}:{self._settings.port}"

    @contextmanager
    def _connect(self) -> Iterator[smtplib.SMTP]:
        settings = self._settings
        # Without a name of its own smtplib asks the DNS for one, for as long as that takes.
        own_name = socket.gethostname()
        if settings.security is MailSecurity.TLS:
            server: smtplib.SMTP = smtplib.SMTP_SSL(
                settings.host,
                settings.port,
                own_name,
                timeout=self._timeout_s,
                context=_make_context(settings.authorities),
            )
        else:
            server = smtplib.SMTP(settings.host, settings.port, own_name, timeout=self._timeout_s)
        with server:
            if settings.security is MailSecurity.STARTTLS:
                server.starttls(context=_make_context(settings.authorities))
            if settings.user is not None and settings.password is not None:
                server.login(settings.user, settings.password.get_secret_value())
            yield server


def _make_message(settings: MailSettings, notice: Notice) -> EmailMessage:
    message = EmailMessage(policy=SMTP)
    message["Subject"] = notice.subject
    message["From"] = settings.sender
    message["To"] = ", ".join(settings.recipients)
    message["Date"] = format_datetime(notice.at)
    message["Message-ID"] = make_msgid(domain=settings.sender.rpartition("@")[2])
    # RFC 3834: nobody on holiday answers it.
    message["Auto-Submitted"] = "auto-generated"
    message.set_content(notice.as_text())
    return message


def _explain(error: smtplib.SMTPException) -> str:
    """Say what a mail server has answered, in one line."""
    if isinstance(error, smtplib.SMTPRecipientsRefused):
        answers = "; ".join(
            f"{address}: {code} {_one_line(text)}"
            for address, (code, text) in error.recipients.items()
        )
        return f"refuses all recipients ({answers})"
    if isinstance(error, smtplib.SMTPResponseException):
        what = "the login" if isinstance(error, smtplib.SMTPAuthenticationError) else "the mail"
        return f"refuses {what}: {error.smtp_code} {_one_line(error.smtp_error)}"
    return f"breaks off: {_one_line(str(error))}"


class Webhook:
    """Alerts by HTTP POST of JSON."""

    name = "webhook"

    def __init__(self, settings: WebhookSettings, timeout_s: float) -> None:
        self._settings = settings
        self._timeout_s = timeout_s

    def send(self, notice: Notice) -> str:
        """Post it; any answer of 200 to 299 means that it was taken.

        Raises
        ------
        AlertNotTaken
        """
        import httpx

        settings = self._settings
        headers = {}
        if settings.token is not None:
            headers["Authorization"] = f"Bearer {settings.token.get_secret_value()}"
        # No message names the address, because it may be a secret.
        try:
            response = httpx.post(
                settings.url.get_secret_value(),
                json=notice.as_json(),
                headers=headers,
                timeout=self._timeout_s,
                verify=_make_context(settings.authorities),
            )
        except httpx.TimeoutException as error:
            raise AlertNotTaken(f"it does not answer in {self._timeout_s:g} s") from error
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise AlertNotTaken(f"it cannot be reached: {_one_line(str(error))}") from error
        if not response.is_success:
            answer = f"{response.status_code} {_one_line(response.text)}".strip()
            raise AlertNotTaken(f"it answers {answer}")
        return ""


def _make_context(authorities: Path | None) -> ssl.SSLContext:
    try:
        return ssl.create_default_context(cafile=authorities)
    except (OSError, ssl.SSLError) as error:
        raise AlertNotTaken(f"authorities {authorities} cannot be used: {error}") from error


def _one_line(answer: bytes | str) -> str:
    text = answer.decode("utf-8", "replace") if isinstance(answer, bytes) else answer
    return " ".join(text.split())[:_ANSWER_CHARACTERS]

"""A mail server and a webhook on loopback that keep what they are told."""

import json
import ssl
import threading
from dataclasses import dataclass, field
from email import message_from_bytes
from email.message import EmailMessage
from email.policy import default
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from aiosmtpd.controller import Controller
from aiosmtpd.smtp import AuthResult

from benchmarks.peers import find_free_port


@dataclass
class MailServer:
    """A mail server; it refuses recipients whose name begins with "nobody"."""

    port: int = field(default_factory=find_free_port)
    tls: ssl.SSLContext | None = None
    password: str = ""
    """Wanted of the user "hepar" where it is set, and only over TLS."""
    mails: list[EmailMessage] = field(default_factory=list)
    envelopes: list[Any] = field(default_factory=list)

    async def handle_RCPT(  # noqa: N802 -- aiosmtpd names it so
        self, server, session, envelope, address, options
    ) -> str:
        if address.startswith("nobody"):
            return "550 5.1.1 no such user"
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, server, session, envelope) -> str:  # noqa: N802
        self.envelopes.append(envelope)
        self.mails.append(message_from_bytes(envelope.content, policy=default))
        return "250 taken"

    def start(self) -> None:
        options: dict[str, Any] = {}
        if self.tls is not None:
            options |= {"tls_context": self.tls, "require_starttls": True}
        if self.password:
            options |= {"authenticator": self._judge, "auth_required": True}
        self._controller = Controller(self, hostname="127.0.0.1", port=self.port, **options)
        self._controller.start()

    def stop(self) -> None:
        self._controller.stop()

    def _judge(self, server, session, envelope, mechanism, data) -> AuthResult:
        good = (data.login, data.password) == (b"hepar", self.password.encode())
        return AuthResult(success=good, handled=good)

    @property
    def texts(self) -> list[str]:
        return [mail.get_content() for mail in self.mails]


@dataclass
class Hook:
    """A service that takes JSON by HTTP POST."""

    port: int = field(default_factory=find_free_port)
    status: int = 204
    posts: list[dict[str, Any]] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/alerts?key=hidden"

    def start(self) -> None:
        hook = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                if 200 <= hook.status < 300:
                    hook.posts.append(json.loads(body))
                    hook.headers.append({k.lower(): v for k, v in self.headers.items()})
                self.send_response(hook.status)
                self.end_headers()

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", self.port), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever)
        self._thread.start()

    def stop(self) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    @property
    def told(self) -> list[list[tuple[str, str, str]]]:
        """Kind, subject and status of what each post told of."""
        return [
            [(one["kind"], one["subject"], one["status"]) for one in post["alerts"]]
            for post in self.posts
        ]

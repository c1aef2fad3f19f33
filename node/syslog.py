"""Send messages to a syslog server: UDP (RFC 5426), TCP (RFC 6587), TLS (RFC 5425).

Syslog has no answer. Over TCP and TLS each batch has a connection of its own, which the server
closes after ours is at its end: one that had died before has not done that.
"""

import socket
import ssl
from collections.abc import Sequence
from contextlib import suppress

from config import SyslogSettings, SyslogTransport, TlsSettings
from node.errors import NodeError
from node.tls import CIPHERS, MINIMUM_VERSION

_LARGEST_DATAGRAM = 65507


class SyslogFailed(NodeError):
    """A syslog server did not take messages."""

    def __init__(self, settings: SyslogSettings, reason: object) -> None:
        super().__init__(
            f"the syslog server {settings.host}:{settings.port} ({settings.transport}) "
            f"does not take messages: {reason}"
        )


def send_messages(
    settings: SyslogSettings, messages: Sequence[bytes], tls: TlsSettings | None = None
) -> None:
    """Send messages in their order.

    Parameters
    ----------
    settings
        Of the server.
    messages
        In the form of RFC 5424.
    tls
        Our certificate, if the server may ask for one.

    Raises
    ------
    SyslogFailed
        Some or all of them did not get there.
    """
    try:
        if settings.transport is SyslogTransport.UDP:
            _send_datagrams(settings, messages)
        else:
            _send_stream(settings, b"".join(b"%d %b" % (len(m), m) for m in messages), tls)
    except OSError as error:
        raise SyslogFailed(settings, error) from error


def _send_datagrams(settings: SyslogSettings, messages: Sequence[bytes]) -> None:
    [family, kind, protocol, _, address] = socket.getaddrinfo(
        settings.host, settings.port, type=socket.SOCK_DGRAM
    )[0]
    with socket.socket(family, kind, protocol) as connection:
        connection.connect(address)
        for message in messages:
            connection.send(message[:_LARGEST_DATAGRAM])
        # All that may be known: nobody listens there.
        error = connection.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
    if error:
        raise OSError(error, "nobody listens")


def _send_stream(settings: SyslogSettings, content: bytes, tls: TlsSettings | None) -> None:
    address = settings.host, settings.port
    with socket.create_connection(address, timeout=settings.timeout_s) as plain:
        if settings.transport is SyslogTransport.TCP:
            plain.sendall(content)
            _wait_for_end(plain)
            return
        context = _make_context(settings, tls)
        with context.wrap_socket(plain, server_hostname=settings.host) as secured:
            secured.sendall(content)
            with suppress(ssl.SSLEOFError):
                # Our end, which a server need not answer; it may just close the connection.
                secured.unwrap()
            _wait_for_end(secured)


def _wait_for_end(connection: socket.socket) -> None:
    """Say that no more comes, and wait until the other side has closed the connection too."""
    connection.shutdown(socket.SHUT_WR)
    while connection.recv(4096):
        pass


def _make_context(settings: SyslogSettings, tls: TlsSettings | None) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=settings.authorities)
    context.minimum_version = MINIMUM_VERSION
    context.set_ciphers(CIPHERS)
    if tls is not None:
        context.load_cert_chain(tls.certificate, tls.key)
    return context

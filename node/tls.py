"""DICOM TLS: contexts after the BCP 195 RFC 9325 profile (PS3.15 B.13), both ways.

TLS 1.2 or later, forward secrecy and authenticated encryption only, certificates of both sides.
"""

import logging
import socket
import ssl
import threading
from typing import Any

from pynetdicom import AE
from pynetdicom.transport import AssociationServer, ThreadedAssociationServer

from config import PeerTls, TlsSettings
from node.errors import UnusableTls

logger = logging.getLogger(__name__)

_CIPHERS = "ECDHE+AESGCM:ECDHE+CHACHA20:DHE+AESGCM"
"""Of TLS 1.2; those of TLS 1.3 are all of that kind."""


def make_server_context(settings: TlsSettings) -> ssl.SSLContext:
    """Make the context of our listening port; a caller without a certificate gets no association.

    Raises
    ------
    UnusableTls
        When a file cannot be read, or key and certificate do not belong together.
    """
    context = _make_context(ssl.PROTOCOL_TLS_SERVER, settings)
    if settings.ask_certificate:
        context.verify_mode = ssl.CERT_REQUIRED
    return context


def make_client_context(settings: TlsSettings, peer: PeerTls) -> ssl.SSLContext:
    """Make the context of an association that we open; the peer's certificate is checked.

    Raises
    ------
    UnusableTls
        When a file cannot be read, or key and certificate do not belong together.
    """
    context = _make_context(ssl.PROTOCOL_TLS_CLIENT, settings)
    context.check_hostname = peer is PeerTls.ON
    return context


def _make_context(protocol: int, settings: TlsSettings) -> ssl.SSLContext:
    context = ssl.SSLContext(protocol)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers(_CIPHERS)
    try:
        context.load_cert_chain(settings.certificate, settings.key)
        context.load_verify_locations(settings.authorities)
    except (OSError, ssl.SSLError) as error:
        raise UnusableTls(
            f"certificate {settings.certificate}, key {settings.key} and authorities "
            f"{settings.authorities} of [node.tls] cannot be used: {error}"
        ) from error
    return context


class TlsAssociationServer(ThreadedAssociationServer):  # type: ignore[misc]  # pynetdicom is not typed
    """A server that shakes hands in the thread of each caller: a silent one holds up nobody."""

    daemon_threads = True
    """Else closing the server would wait for the handshakes of silent callers."""

    def get_request(self) -> tuple[socket.socket, tuple[str, int]]:
        """Accept a connection, without more."""
        accepted: tuple[socket.socket, tuple[str, int]] = self.socket.accept()
        return accepted

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        """Shake hands, then serve the association."""
        request.settimeout(self.ae.acse_timeout)
        try:
            secured = self.ssl_context.wrap_socket(request, server_side=True)
        except OSError as error:
            logger.warning(
                "TLS refused: %s", error, extra={"action": "reject", "address": client_address[0]}
            )
            self.shutdown_request(request)
            return
        secured.settimeout(None)
        super().process_request_thread(secured, client_address)

    def shutdown(self) -> None:
        """Stop serving and close the socket; the entity does not list this server."""
        super(AssociationServer, self).shutdown()
        self.server_close()


def start_tls_server(
    ae: AE, address: tuple[str, int], context: ssl.SSLContext, handlers: list[Any]
) -> TlsAssociationServer:
    """Listen with TLS, in a thread.

    Parameters
    ----------
    ae
        The entity that listens.
    address
        Host and port.
    context
        With our certificate.
    handlers
        Of its events.

    Raises
    ------
    OSError
        When the address cannot be bound.
    """
    server: TlsAssociationServer = ae.make_server(
        address, ssl_context=context, evt_handlers=handlers, server_class=TlsAssociationServer
    )
    threading.Thread(target=server.serve_forever, name="tls", daemon=True).start()
    return server

"""DICOM TLS: contexts after the BCP 195 RFC 9325 profile (PS3.15 B.13), both ways.

TLS 1.2 or later, forward secrecy and authenticated encryption only, certificates of both sides.
"""

import ssl

from config import PeerTls, TlsSettings
from node.errors import UnusableTls

MINIMUM_VERSION = ssl.TLSVersion.TLSv1_2
CIPHERS = "ECDHE+AESGCM:ECDHE+CHACHA20:DHE+AESGCM"
"""Of TLS 1.2, as OpenSSL writes them; those of TLS 1.3 are all of that kind."""


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
    context.minimum_version = MINIMUM_VERSION
    context.set_ciphers(CIPHERS)
    try:
        context.load_cert_chain(settings.certificate, settings.key)
        context.load_verify_locations(settings.authorities)
    except (OSError, ssl.SSLError) as error:
        raise UnusableTls(
            f"certificate {settings.certificate}, key {settings.key} and authorities "
            f"{settings.authorities} of [node.tls] cannot be used: {error}"
        ) from error
    return context

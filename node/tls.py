"""DICOM TLS: contexts after the BCP 195 RFC 9325 profile (PS3.15 B.13), both ways.

TLS 1.2 or later, forward secrecy and authenticated encryption only, certificates of both sides.
"""

import ssl
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from config import PeerTls, TlsSettings, WebTlsSettings
from node.errors import UnusableTls

MINIMUM_VERSION = ssl.TLSVersion.TLSv1_2
CIPHERS = "ECDHE+AESGCM:ECDHE+CHACHA20:DHE+AESGCM"
"""Of TLS 1.2, as OpenSSL writes them; those of TLS 1.3 are all of that kind."""
_FLIGHTS = 3
"""So many times each side speaks at most before both have what they need (RFC 5246 7.3)."""


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


def check_web_certificate(settings: WebTlsSettings) -> None:
    """Check that the pages can be served with certificate and key.

    Raises
    ------
    UnusableTls
        When a file cannot be read, or key and certificate do not belong together.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    try:
        # Else OpenSSL asks whoever sits at the terminal for the password of a key.
        context.load_cert_chain(settings.certificate, settings.key, password="")
    except (OSError, ssl.SSLError) as error:
        raise UnusableTls(
            f"certificate {settings.certificate} and key {settings.key} of [web.tls] cannot be "
            f"used: {error}"
        ) from error


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


@dataclass(frozen=True, kw_only=True)
class Certificate:
    """Our own certificate, as a peer sees it."""

    ends_at: datetime
    """The end of its validity."""
    mistrust: str
    """Why one who trusts our authorities only does not trust it; empty where they do."""


def read_certificate(settings: TlsSettings) -> Certificate:
    """Read our certificate by shaking hands with ourselves.

    Raises
    ------
    UnusableTls
        It is not valid now, or a file cannot be used.
    """
    server = _make_context(ssl.PROTOCOL_TLS_SERVER, settings)
    client = _make_context(ssl.PROTOCOL_TLS_CLIENT, settings)
    client.check_hostname = False
    mistrust = ""
    try:
        _shake_hands(client, server)
    except ssl.SSLCertVerificationError as error:
        mistrust = error.verify_message
    ends_at = read_expiry("node.tls", settings.certificate, settings.key)
    return Certificate(ends_at=ends_at, mistrust=mistrust)


def read_expiry(section: str, certificate: Path, key: Path) -> datetime:
    """Read when a certificate of ours ends.

    Parameters
    ----------
    section
        Of the settings that name it.
    certificate, key
        PEM files.

    Raises
    ------
    UnusableTls
        It is not valid now, or a file cannot be used.
    """
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    client.check_hostname = False
    # Who trusts the certificate itself is told what stands in it.
    client.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    try:
        server.load_cert_chain(certificate, key)
        client.load_verify_locations(certificate)
    except (OSError, ssl.SSLError) as error:
        message = f"certificate {certificate} and key {key} of [{section}] cannot be used: {error}"
        raise UnusableTls(message) from error
    try:
        ends = _shake_hands(client, server)
    except ssl.SSLCertVerificationError as error:
        message = f"certificate {certificate} of [{section}]: {error.verify_message}"
        raise UnusableTls(message) from error
    return datetime.fromtimestamp(ssl.cert_time_to_seconds(ends), UTC)


def _shake_hands(client: ssl.SSLContext, server: ssl.SSLContext) -> str:
    """Let a client look at a server in memory, and give the end of the server's certificate."""
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    ours = client.wrap_bio(to_client, to_server)
    theirs = server.wrap_bio(to_server, to_client, server_side=True)
    for side in (ours, theirs) * _FLIGHTS:
        with suppress(ssl.SSLWantReadError):
            side.do_handshake()
    certificate = ours.getpeercert() or {}
    return str(certificate["notAfter"])


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

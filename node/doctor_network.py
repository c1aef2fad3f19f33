"""What the doctor finds out about ports, certificates, clocks and peers."""

import errno
import socket
import time
from collections.abc import Iterator, Mapping
from datetime import datetime, timedelta

from config import AnyPeer, NodeSettings, PeerRole, Settings, WebPeerSettings
from node.clock import utc_now
from node.dicomweb import read_clock
from node.errors import NodeError, UnusableTls
from node.exchange import echo
from node.health import Check, Verdict
from node.roles import Role
from node.services import Services
from node.tls import make_server_context, read_certificate

EXPIRY_WARNING = timedelta(days=30)
LARGEST_OFFSET_S = 2.0
"""HTTP tells the time in whole seconds."""


def check_ports(settings: Settings, running: frozenset[str]) -> Iterator[Check]:
    """Check that each port that the node listens on is free, or held by a role of this node.

    Parameters
    ----------
    settings
        Name the ports.
    running
        The roles that run on this machine.
    """
    node, web = settings.node, settings.web
    wanted = [(Role.WEB, web.host, web.port)]
    if node.tls is not None:
        wanted.insert(0, (Role.RECEIVER, node.host, node.tls.port))
    if node.tls is None or not node.tls.only:
        wanted.insert(0, (Role.RECEIVER, node.host, node.port))
    for role, host, port in wanted:
        verdict, detail = _judge_port(host, port, held=role.value in running, role=role)
        yield Check(name=f"port {port}", verdict=verdict, detail=f"{host}: {detail}")


def _judge_port(host: str, port: int, *, held: bool, role: Role) -> tuple[Verdict, str]:
    problem = _try_to_bind(host, port)
    if problem is None:
        if held:
            return Verdict.BAD, f"nobody listens, though the role {role.value} runs here"
        return Verdict.GOOD, f"free for the role {role.value}"
    if problem.errno != errno.EADDRINUSE:
        return Verdict.BAD, f"cannot be listened on: {problem.strerror}"
    if held:
        return Verdict.GOOD, f"held by the role {role.value} of this node"
    return Verdict.BAD, f"held by another program; the role {role.value} could not start"


def _try_to_bind(host: str, port: int) -> OSError | None:
    try:
        [(family, kind, *_, address), *_] = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        with socket.socket(family, kind) as probe:
            # As a server does: connections that have ended a moment ago are no hindrance.
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
    except OSError as error:
        return error
    return None


def check_tls(node: NodeSettings) -> Iterator[Check]:
    """Check that certificate and key fit, when the certificate ends, and whom it convinces."""
    if node.tls is None:
        return
    try:
        make_server_context(node.tls)
        certificate = read_certificate(node.tls)
    except UnusableTls as error:
        yield Check(name="tls", verdict=Verdict.BAD, detail=str(error))
        return
    left = certificate.ends_at - utc_now()
    verdict = Verdict.REMARK if left < EXPIRY_WARNING else Verdict.GOOD
    detail = f"certificate and key fit; it ends {certificate.ends_at:%Y-%m-%d}, in {left.days} days"
    yield Check(name="tls", verdict=verdict, detail=detail)
    if certificate.mistrust:
        detail = (
            f"{node.tls.authorities} does not vouch for our own certificate "
            f"({certificate.mistrust}); peers need another authority for it"
        )
        yield Check(name="tls chain", verdict=Verdict.REMARK, detail=detail)
    else:
        detail = f"vouched for by {node.tls.authorities}"
        yield Check(name="tls chain", verdict=Verdict.GOOD, detail=detail)


def check_clocks(services: Services) -> Iterator[Check]:
    """Compare our clock with those of the data folder, the database and DICOMweb services."""
    settings = services.settings
    probe = services.files.spool(b"clock")
    try:
        yield _judge_clock("data folder", probe.stat().st_mtime - time.time())
    finally:
        probe.unlink()
    database_at = services.database.read_clock()
    if database_at is not None:
        yield _judge_clock("database", (database_at - utc_now()).total_seconds())
    for name, peer in settings.peers.items():
        if isinstance(peer, WebPeerSettings):
            told = _ask_clock(settings.node, peer)
            if told is not None:
                yield _judge_clock(name, (told - utc_now()).total_seconds())


def _ask_clock(node: NodeSettings, peer: WebPeerSettings) -> datetime | None:
    try:
        return read_clock(node, peer)
    except NodeError:  # its check as a peer says so
        return None


def _judge_clock(whose: str, offset_s: float) -> Check:
    good = abs(offset_s) <= LARGEST_OFFSET_S
    return Check(
        name=f"clock of {whose}",
        verdict=Verdict.GOOD if good else Verdict.REMARK,
        detail=f"{offset_s:+.1f} s from ours" + ("" if good else "; let NTP set both"),
        limit=f"{LARGEST_OFFSET_S:g} s",
    )


def check_peers(settings: Settings, called: Mapping[str, datetime]) -> Iterator[Check]:
    """Ask each peer for a sign of life, and say when each source has last sent something.

    Parameters
    ----------
    settings
        Name the peers.
    called
        When something last came, by calling AE title.
    """
    for name, peer in settings.peers.items():
        yield check_peer(settings.node, name, peer)
        if PeerRole.SOURCE in peer.roles:
            yield _say_when_called(name, called.get(peer.ae_title))
        if PeerRole.DESTINATION in peer.roles:
            profile = settings.profiles[peer.profile]
            detail = f"gets {peer.profile}: {', '.join(profile.objects)}"
            if peer.proofs:
                detail += f"; proves by {', '.join(peer.proofs)}"
            yield Check(name=f"peer {name}: profile", verdict=Verdict.GOOD, detail=detail)


def check_peer(node: NodeSettings, name: str, peer: AnyPeer) -> Check:
    """Ask a peer for a sign of life."""
    try:
        detail = echo(node, peer)
    except NodeError as error:
        if _is_only_caller(peer):
            detail = f"{error}; it may do without, because it is only a source"
            return Check(name=f"peer {name}", verdict=Verdict.REMARK, detail=detail)
        return Check(name=f"peer {name}", verdict=Verdict.BAD, detail=str(error))
    return Check(name=f"peer {name}", verdict=Verdict.GOOD, detail=detail)


def _is_only_caller(peer: AnyPeer) -> bool:
    """Whether we never call it: a scanner may listen to nobody."""
    return (
        peer.roles == {PeerRole.SOURCE}
        and peer.poll is None
        and not getattr(peer, "ask_counts", False)
    )


def _say_when_called(name: str, at: datetime | None) -> Check:
    name = f"peer {name}: calls"
    if at is None:
        detail = "nothing has come from it yet; send a series, or run `hepar commission`"
        return Check(name=name, verdict=Verdict.REMARK, detail=detail)
    return Check(name=name, verdict=Verdict.GOOD, detail=f"last sent at {at:%Y-%m-%d %H:%M} UTC")

"""The peers of the settings, and whether they answer."""

from collections.abc import Sequence
from datetime import datetime
from typing import Literal

from fastapi import APIRouter

from config import AnyPeer, PeerRole, PeerSettings
from node.errors import NodeError
from node.exchange import echo
from node.web.access import Operator, ServicesHere, Viewer
from node.web.api.common import Answer, Turn, refuses
from node.web.errors import NotHere
from node.web.journal import note_action

router = APIRouter(prefix="/peers", tags=["peers"])


class Peer(Answer):
    """Another application entity or DICOMweb service."""

    name: str
    """In the settings."""
    ae_title: str
    address: str
    """Host and port, or URL."""
    by: Literal["DIMSE", "DICOMweb"]
    """How it is spoken to."""
    roles: Sequence[PeerRole]
    last_received_at: datetime | None
    """When the last instance came from it."""


class Echo(Answer):
    """Whether a peer answers."""

    name: str
    answered: bool
    detail: str
    """What it said, or why there was no answer."""


@router.get("")
def list_peers(services: ServicesHere, visitor: Viewer) -> list[Peer]:
    """List the peers of the settings."""
    del visitor
    received = services.catalog.last_received()
    return [
        _answer(name, peer, received.get(peer.ae_title))
        for name, peer in services.settings.peers.items()
    ]


@router.post("/{name}/echo", responses=refuses(404, 429))
def echo_peer(services: ServicesHere, visitor: Operator, name: str, turn: Turn) -> Echo:
    """Ask a peer for a C-ECHO, or a DICOMweb service for an answer; waits for it."""
    del turn
    peer = services.settings.peers.get(name)
    if peer is None:
        raise NotHere(f"There is no peer {name!r} in the settings.")
    note_action(services, visitor, "echo peer", detail={"peer": name})
    try:
        return Echo(name=name, answered=True, detail=echo(services.settings.node, peer))
    except NodeError as error:
        return Echo(name=name, answered=False, detail=str(error))


def _answer(name: str, peer: AnyPeer, last_received_at: datetime | None) -> Peer:
    return Peer(
        name=name,
        ae_title=peer.ae_title,
        address=peer.address,
        by="DIMSE" if isinstance(peer, PeerSettings) else "DICOMweb",
        roles=sorted(peer.roles),
        last_received_at=last_received_at,
    )

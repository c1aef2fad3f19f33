"""The peers: what they do, when they were last heard of, and whether they answer now."""

from collections.abc import Iterator
from functools import partial
from typing import Any

from fastapi import APIRouter, Request, Response

from config import AnyPeer, NodeSettings
from node.clock import utc_now
from node.doctor_network import check_peer
from node.health import Check
from node.peer_report import list_refused_callers, report_peers
from node.services import Services
from node.web.access import Operator, ServicesHere, Viewer
from node.web.errors import Conflict, NotHere
from node.web.journal import note_action
from node.web.rendering import go_to, render
from node.web.runs import Runs, RunsHere
from node.web.visitor import Visitor
from storage.states import UserRole

router = APIRouter(prefix="/peers")

_PATIENCE_S = 1.0
"""Most peers answer within this, and then the page has the answer at once."""


@router.get("")
def show_peers(
    request: Request, services: ServicesHere, runs: RunsHere, visitor: Viewer
) -> Response:
    """Show each peer of the settings."""
    return render(request, "peers.html", _context(services, runs, visitor))


@router.get("/live")
def show_live(
    request: Request, services: ServicesHere, runs: RunsHere, visitor: Viewer
) -> Response:
    """Give the part of the page that changes."""
    return render(request, "peers_live.html", _context(services, runs, visitor))


@router.post("/{name}/echo")
def echo_peer(
    request: Request, services: ServicesHere, runs: RunsHere, visitor: Operator, name: str
) -> Response:
    """Ask a peer for a sign of life; the page shows the answer once there is one."""
    peer = services.settings.peers.get(name)
    if peer is None:
        raise NotHere(f"There is no peer {name!r} in the settings.")
    work = partial(_ask, services.settings.node, name, peer)
    if not runs.start(_run_name(name), visitor.name, work):
        raise Conflict(f"{name} is being asked already; the page of the peers shows its answer.")
    note_action(services, visitor, "echo peer", detail={"peer": name})
    runs.wait(_run_name(name), _PATIENCE_S)
    return go_to(request, f"/peers#peer-{name}")


def _ask(node: NodeSettings, name: str, peer: AnyPeer) -> Iterator[Check]:
    yield check_peer(node, name, peer)


def _run_name(peer: str) -> str:
    return f"echo {peer}"


def _context(services: Services, runs: Runs, visitor: Visitor) -> dict[str, Any]:
    reports = report_peers(services)
    sees_trail = visitor.may(UserRole.ADMINISTRATOR)
    return {
        "peers": reports,
        "echoes": {one.name: runs.get(_run_name(one.name)) for one in reports},
        "may_echo": visitor.may(UserRole.OPERATOR),
        "refused": list_refused_callers(services, utc_now()) if sees_trail else [],
        "profiles": services.settings.profiles,
    }

"""What any peer is asked for, by DIMSE or by DICOMweb, as its settings say."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from pydicom.dataset import Dataset

from config import AnyPeer, NodeSettings, WebPeerSettings
from node import dicomweb, query, scu
from node.ingest import OnInstance
from node.scu import SentInstance


def echo(node: NodeSettings, peer: AnyPeer) -> str:
    """Ask a peer for a sign of life, and say in words what it answered.

    Raises
    ------
    PeerUnreachable, PeerRefused
    """
    if isinstance(peer, WebPeerSettings):
        dicomweb.echo(node, peer)
        return f"{peer.address} answers QIDO-RS"
    scu.echo(node, peer)
    return f"{peer.ae_title} at {peer.address} answers C-ECHO"


def send_files(
    node: NodeSettings,
    peer: AnyPeer,
    paths: Sequence[Path],
    on_sent: Callable[[SentInstance], None] | None = None,
) -> list[SentInstance]:
    """Send part-10 files by C-STORE or STOW-RS; see `scu.send_files`, `dicomweb.send_files`."""
    if isinstance(peer, WebPeerSettings):
        return dicomweb.send_files(node, peer, paths, on_sent)
    return scu.send_files(node, peer, paths, on_sent)


def find(
    node: NodeSettings, peer: AnyPeer, key: Dataset, limit: int | None = None
) -> list[Dataset]:
    """Ask by C-FIND or QIDO-RS, and give the matches; see `query.find`, `dicomweb.find`."""
    if isinstance(peer, WebPeerSettings):
        return dicomweb.find(node, peer, key, limit)
    return query.find(node, peer, key, limit)


def get(
    node: NodeSettings,
    peer: AnyPeer,
    key: Dataset,
    syntaxes: Mapping[str, Sequence[str]],
    on_instance: OnInstance,
) -> None:
    """Retrieve by C-GET or WADO-RS; see `query.get`, `dicomweb.get`."""
    if isinstance(peer, WebPeerSettings):
        dicomweb.get(node, peer, key, syntaxes, on_instance)
    else:
        query.get(node, peer, key, syntaxes, on_instance)

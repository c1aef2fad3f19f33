"""Errors of the node.

NodeError
|-- PeerUnreachable
|-- PeerRefused
|-- NotThere
|-- UnknownPeer
`-- NodeStopped
"""

from collections.abc import Iterable
from difflib import get_close_matches


class NodeError(Exception):
    """The node could not do what was asked."""


class PeerUnreachable(NodeError):
    """No association with a peer, or no connection, came about."""

    def __init__(self, peer: str, address: str, reason: str) -> None:
        super().__init__(f"{peer} at {address} cannot be reached: {reason}")


class PeerRefused(NodeError):
    """A peer answered, and the answer was no."""


class NodeStopped(NodeError):
    """The node is asked to stop; what is under way goes on at the next start."""


class NotThere(NodeError):
    """A peer does not have what is wanted of it."""


class WrongCall(NodeError):
    """The command was called with something that is not there."""


class UnusableInput(WrongCall):
    """The input path holds nothing that can be segmented."""


class UnknownPeer(WrongCall):
    """A name that the settings do not have."""

    def __init__(self, name: str, known: Iterable[str]) -> None:
        known = sorted(known)
        close = get_close_matches(name, known, n=1)
        hint = f" Did you mean {close[0]!r}?" if close else ""
        listed = ", ".join(known) or "none"
        super().__init__(
            f"There is no peer {name!r} in the settings (peers: {listed}).{hint}"
            " Give AETITLE@host:port or a URL for a peer that is not in the settings."
        )


class WrongModel(NodeError):
    """A job was made for another model than the one that this node runs."""

    def __init__(self, wanted: str, loaded: str) -> None:
        super().__init__(
            f"The job was made for the model {wanted}, and this node runs {loaded}. "
            "Set inference.model, inference.tumor_engine and inference.clustering back, or cancel "
            "the job."
        )


class UnusableTls(WrongCall):
    """Certificate, key or authorities cannot be used."""


class JobPutBack(NodeError):
    """The job in hand cannot go on now; it returns to the queue without losing an attempt."""

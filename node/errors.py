"""Errors of the node.

NodeError
|-- PeerUnreachable
|   `-- PeerTimedOut
|-- PeerRefused
|-- NotThere
|-- NodeStopped
|-- WrongModel
|-- JobPutBack
|-- AlertNotTaken
`-- WrongCall
    |-- UnusableInput
    |-- UnknownPeer
    `-- UnusableTls
"""

from collections.abc import Iterable
from difflib import get_close_matches
from enum import StrEnum


class Cause(StrEnum):
    """Why an exchange with a peer failed."""

    UNREACHABLE = "unreachable"
    """Nobody listens there, the certificate is wrong, or the connection broke."""
    TIMED_OUT = "timed out"
    """The peer is silent."""
    REFUSED = "refused"
    """The peer said no, and may say yes another time, as when its disk is full."""
    REFUSED_LASTINGLY = "refused until something is changed"
    """The peer said no, and will again: to our AE title, our password or this kind of object."""
    OURS = "failed here"
    """It is none of the peer's doing."""


class NodeError(Exception):
    """The node could not do what was asked."""

    cause = Cause.OURS


class PeerUnreachable(NodeError):
    """No association with a peer, or no connection, came about, or it broke."""

    cause = Cause.UNREACHABLE

    def __init__(self, peer: str, address: str, reason: str) -> None:
        super().__init__(f"{peer} at {address} cannot be reached: {reason}")


class PeerTimedOut(PeerUnreachable):
    """A peer did not answer in time."""

    cause = Cause.TIMED_OUT

    def __init__(self, peer: str, address: str, waited_s: float) -> None:
        super().__init__(peer, address, f"no answer in {waited_s:g} s")


class PeerRefused(NodeError):
    """A peer answered, and the answer was no."""

    def __init__(self, message: str, *, lasting: bool = False) -> None:
        super().__init__(message)
        self.cause = Cause.REFUSED_LASTINGLY if lasting else Cause.REFUSED


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


class AlertNotTaken(NodeError):
    """Mail server or webhook did not take an alert."""


class JobPutBack(NodeError):
    """The job in hand cannot go on now; it returns to the queue without losing an attempt."""

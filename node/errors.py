"""Errors of the node.

NodeError
|-- PeerUnreachable
|   `-- PeerTimedOut
|-- PeerRefused
|-- NotThere
|-- TooMany
|-- NodeStopped
|-- MissingModel
|-- ModelRefused
|-- JobPutBack
|-- AlertNotTaken
`-- WrongCall
    |-- UnusableInput
    |-- UnusableValue
    |-- UnusableList
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


class TooMany(NodeError):
    """A peer has more of what is wanted than anybody can mean."""


class WrongCall(NodeError):
    """The command was called with something that is not there."""


class UnusableInput(WrongCall):
    """The input path holds nothing that can be segmented."""


class UnusableValue(WrongCall):
    """A number that no study can have, or that would match others too."""

    def __init__(self, value: str, why: str) -> None:
        super().__init__(f"{value!r} cannot be asked for: {why}")
        self.why = why


class UnusableList(WrongCall):
    """A list of numbers that cannot be taken."""

    def __init__(self, why: str) -> None:
        super().__init__(f"The list cannot be used: {why}")


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


class MissingModel(NodeError):
    """A job was made for a model that this node does not have, or not with these settings."""

    def __init__(self, job_id: int, model: str) -> None:
        super().__init__(
            f"The job was made for the model {model}, which this node does not have, or not with "
            "these settings. Put its package back with `hepar model add FOLDER`, or set "
            "inference.clustering back, then use "
            f"`hepar jobs retry {job_id}`; or have the present model process the series with "
            f"`hepar jobs reprocess {job_id}`."
        )


class ModelRefused(NodeError):
    """A model package cannot be added, removed or asked for."""


class UnusableTls(WrongCall):
    """Certificate, key or authorities cannot be used."""


class AlertNotTaken(NodeError):
    """Mail server or webhook did not take an alert."""


class JobPutBack(NodeError):
    """The job in hand cannot go on now; it returns to the queue without losing an attempt."""

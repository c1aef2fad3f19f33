"""The SCU side: C-ECHO and C-STORE to a peer."""

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydicom import dcmread
from pydicom.dataset import Dataset
from pynetdicom import AE, build_context
from pynetdicom.association import Association
from pynetdicom.presentation import PresentationContext
from pynetdicom.sop_class import Verification
from pynetdicom.status import (
    STATUS_SUCCESS,
    STATUS_WARNING,
    STORAGE_SERVICE_CLASS_STATUS,
    code_to_category,
)

from config import NodeSettings, PeerSettings, PeerTls
from node.errors import PeerRefused, PeerTimedOut, PeerUnreachable
from node.tls import make_client_context
from node.version import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME

logger = logging.getLogger(__name__)

MAX_CONTEXTS = 128
"""Presentation contexts of one association (PS3.8 9.3.2.2: odd identifiers 1 to 255)."""

_REJECTED_PERMANENT = 0x01
"""Result of an A-ASSOCIATE-RJ (PS3.8 9.3.4)."""
DUPLICATE = 0x0111
"""The status Duplicate SOP Instance (PS3.7 C.5.3), which a few archives give."""

_LASTING = frozenset({0x0122, 0x0124})
"""SOP class not supported, not authorized (PS3.7 annex C); with 0xA9xx, data set does not match,
and 0xCxxx, cannot understand (PS3.4 B.2.3)."""


@dataclass(frozen=True, kw_only=True)
class SentInstance:
    """What a peer answered to one C-STORE, or to one instance by STOW-RS."""

    path: Path
    sop_instance_uid: str
    status: int | None
    """DIMSE status, which STOW-RS has too; none when the peer gave none for this instance."""
    comment: str

    @property
    def stored(self) -> bool:
        """Whether the peer has it: Success, a warning (PS3.4 B.2.3), or it had it already."""
        if self.status is None:
            return False
        good = (STATUS_SUCCESS, STATUS_WARNING)
        return self.status == DUPLICATE or code_to_category(self.status) in good

    @property
    def lasting(self) -> bool:
        """Whether a refusal would come again: it is about the object, not about the moment."""
        if self.status is None:
            return True
        return self.status in _LASTING or self.status >> 8 == 0xA9 or self.status >> 12 == 0xC

    @property
    def answer(self) -> str:
        """The answer in words."""
        if self.status is None:
            return self.comment or "no answer"
        meaning = STORAGE_SERVICE_CLASS_STATUS.get(self.status, ("", ""))[1]
        words = ", ".join(part for part in (meaning, self.comment) if part)
        return f"status 0x{self.status:04X} ({words})" if words else f"status 0x{self.status:04X}"


def echo(node: NodeSettings, peer: PeerSettings) -> None:
    """Ask a peer for a C-ECHO.

    Raises
    ------
    PeerUnreachable
        When no association comes about.
    PeerRefused
        When the answer is not Success.
    """
    assoc = associate(node, peer, [build_context(Verification)])
    try:
        status = assoc.send_c_echo()
    finally:
        assoc.release()
    if not status or status.Status != 0:
        raise PeerRefused(f"{peer.ae_title} answered C-ECHO with {describe_status(status)[1]}")


def send_files(
    node: NodeSettings,
    peer: PeerSettings,
    paths: Sequence[Path],
    on_sent: Callable[[SentInstance], None] | None = None,
) -> list[SentInstance]:
    """Send part-10 files by C-STORE in as few associations as the standard allows.

    Parameters
    ----------
    node
        Our AE title and time limits.
    peer
        Who gets them.
    paths
        The files, sent in this order, as they are: no transcoding.
    on_sent
        Called after each answer.

    Returns
    -------
    list of SentInstance
        One for each file, also for the refused ones.

    Raises
    ------
    PeerUnreachable
        When no association comes about, or one breaks before every file has an answer.
    """
    sent: list[SentInstance] = []
    for batch in _batches([Outgoing.read(path) for path in paths]):
        contexts = [
            build_context(sop, syntax) for sop, syntax in dict.fromkeys(b.kind for b in batch)
        ]
        assoc = associate(node, peer, contexts)
        try:
            for outgoing in batch:
                start = time.monotonic()
                result = _send_one(assoc, outgoing)
                if result.status is None and not assoc.is_established:
                    raise _broken(peer, start, node.dimse_timeout_s, "the association broke")
                sent.append(result)
                if on_sent is not None:
                    on_sent(result)
        finally:
            if assoc.is_established:
                assoc.release()
    return sent


@dataclass(frozen=True, kw_only=True)
class Outgoing:
    """A file that is to be sent."""

    path: Path
    sop_instance_uid: str
    kind: tuple[str, str]
    """SOP class and transfer syntax: one presentation context each, so that a peer that knows
    the class in another syntax only cannot make us transcode."""

    @classmethod
    def read(cls, path: Path) -> "Outgoing":
        """Read what a file says of itself."""
        ds = dcmread(path, specific_tags=["SOPClassUID", "SOPInstanceUID"])
        return cls(
            path=path,
            sop_instance_uid=str(ds.file_meta.MediaStorageSOPInstanceUID),
            kind=(str(ds.file_meta.MediaStorageSOPClassUID), str(ds.file_meta.TransferSyntaxUID)),
        )


def _batches(files: Sequence[Outgoing]) -> list[list[Outgoing]]:
    """Cut a list where one association would need more than 128 presentation contexts."""
    batches: list[list[Outgoing]] = []
    kinds: set[tuple[str, str]] = set()
    for file in files:
        kinds.add(file.kind)
        if not batches or len(kinds) > MAX_CONTEXTS:
            batches.append([])
            kinds = {file.kind}
        batches[-1].append(file)
    return batches


def associate(
    node: NodeSettings,
    peer: PeerSettings,
    contexts: list[PresentationContext],
    **extras: Any,
) -> Association:
    """Open an association; the caller releases it.

    Parameters
    ----------
    node
        Our AE title and time limits.
    peer
        Who is called.
    contexts
        Presentation contexts to propose.
    **extras
        More for `pynetdicom.AE.associate`, as event handlers and role selections.

    Raises
    ------
    PeerUnreachable
        When none comes about; the message says why.
    PeerRefused
        When the peer rejects it, or all that is proposed.
    """
    ae = AE(ae_title=node.ae_title)
    ae.implementation_class_uid = IMPLEMENTATION_CLASS_UID
    ae.implementation_version_name = IMPLEMENTATION_VERSION_NAME
    ae.acse_timeout = node.acse_timeout_s
    ae.dimse_timeout = node.dimse_timeout_s
    ae.network_timeout = node.network_timeout_s
    ae.connection_timeout = node.acse_timeout_s
    if peer.tls is not PeerTls.OFF and node.tls is not None:
        extras["tls_args"] = (make_client_context(node.tls, peer.tls), peer.host)
    start = time.monotonic()
    assoc = ae.associate(
        peer.host,
        peer.port,
        contexts=contexts,
        ae_title=peer.ae_title,
        max_pdu=node.max_pdu_bytes,
        **extras,
    )
    if assoc.is_established:
        return assoc
    answer = assoc.acceptor.primitive
    if assoc.is_rejected and answer is not None:
        raise PeerRefused(
            f"{peer.ae_title} at {peer.address} rejects the association: {answer.reason_str}",
            lasting=answer.result == _REJECTED_PERMANENT,
        )
    if answer is not None:
        raise PeerRefused(
            f"{peer.ae_title} at {peer.address} accepts none of the offered SOP classes and "
            "transfer syntaxes",
            lasting=True,
        )
    raise _broken(peer, start, node.acse_timeout_s, "nothing listens there, or the way is closed")


def _broken(peer: PeerSettings, start: float, limit_s: float, reason: str) -> PeerUnreachable:
    """Tell a peer that was silent for too long from one that is gone."""
    if time.monotonic() - start >= limit_s:
        return PeerTimedOut(peer.ae_title, peer.address, limit_s)
    return PeerUnreachable(peer.ae_title, peer.address, reason)


def _send_one(assoc: Association, outgoing: Outgoing) -> SentInstance:
    try:
        response = assoc.send_c_store(outgoing.path)
    except ValueError as error:
        status, comment = None, f"not accepted by the peer: {error}"
    except RuntimeError as error:
        status, comment = None, str(error)
    else:
        status, comment = describe_status(response)
    return SentInstance(
        path=outgoing.path,
        sop_instance_uid=outgoing.sop_instance_uid,
        status=status,
        comment=comment,
    )


def describe_status(response: Dataset) -> tuple[int | None, str]:
    """Give status and error comment of a response; no status where no answer came."""
    if "Status" not in response:
        return None, "no answer"
    return int(response.Status), str(response.get("ErrorComment", ""))

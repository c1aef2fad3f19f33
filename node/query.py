"""The user side of query and retrieve, Study Root (PS3.4 annex C): C-FIND, C-GET, C-MOVE."""

from collections.abc import Mapping, Sequence

from pydicom.dataset import Dataset
from pynetdicom import build_context, build_role, evt
from pynetdicom.presentation import PresentationContext
from pynetdicom.sop_class import (
    StudyRootQueryRetrieveInformationModelFind,
    StudyRootQueryRetrieveInformationModelGet,
    StudyRootQueryRetrieveInformationModelMove,
)
from pynetdicom.status import STATUS_PENDING, STATUS_SUCCESS, STATUS_WARNING, code_to_category

from config import NodeSettings, PeerSettings
from node.errors import PeerRefused
from node.ingest import OnInstance
from node.scp import answer_store
from node.scu import associate, describe_status


def make_key(level: str, **attributes: str | list[str]) -> Dataset:
    """Make an identifier (PS3.4 C.4.1.1.3): the level, and attributes by keyword."""
    key = Dataset()
    key.QueryRetrieveLevel = level
    for keyword, value in attributes.items():
        setattr(key, keyword, value)
    return key


def find(
    node: NodeSettings, peer: PeerSettings, key: Dataset, limit: int | None = None
) -> list[Dataset]:
    """Ask by C-FIND, and give the matches; after so many the association is aborted.

    Raises
    ------
    PeerUnreachable
        When no association comes about.
    PeerRefused
        When the query fails.
    """
    model = StudyRootQueryRetrieveInformationModelFind
    assoc = associate(node, peer, [build_context(model)])
    try:
        found = []
        for response, match in assoc.send_c_find(key, model):
            _check(response, f"{peer.ae_title} refuses a query")
            if match is not None:
                found.append(match)
            if len(found) == limit:
                assoc.abort()
                break
    finally:
        if assoc.is_established:
            assoc.release()
    return found


def get(
    node: NodeSettings,
    peer: PeerSettings,
    key: Dataset,
    syntaxes: Mapping[str, Sequence[str]],
    on_instance: OnInstance,
) -> None:
    """Retrieve by C-GET, on the association of the request.

    Parameters
    ----------
    node
        Our AE title and time limits.
    peer
        Who is asked.
    key
        What for.
    syntaxes
        The storage SOP classes that may come, each with its transfer syntaxes.
    on_instance
        Takes each instance; what it refuses is answered with a failure.

    Raises
    ------
    PeerUnreachable
        When no association comes about.
    PeerRefused
        When the retrieval fails.
    """
    model = StudyRootQueryRetrieveInformationModelGet
    assoc = associate(
        node,
        peer,
        [build_context(model), *_contexts(syntaxes)],
        ext_neg=[build_role(sop_class, scp_role=True) for sop_class in syntaxes],
        evt_handlers=[(evt.EVT_C_STORE, answer_store, [on_instance])],
    )
    try:
        for response, _ in assoc.send_c_get(key, model):
            _check(response, f"{peer.ae_title} refuses a retrieval")
    finally:
        if assoc.is_established:
            assoc.release()


def move(node: NodeSettings, peer: PeerSettings, key: Dataset) -> None:
    """Have a peer send to the receiver of this node, by C-MOVE.

    Raises
    ------
    PeerUnreachable
        When no association comes about.
    PeerRefused
        When the retrieval fails, as when the peer does not know our AE title.
    """
    model = StudyRootQueryRetrieveInformationModelMove
    assoc = associate(node, peer, [build_context(model)])
    try:
        for response, _ in assoc.send_c_move(key, node.ae_title, model):
            _check(response, f"{peer.ae_title} refuses to send to {node.ae_title}")
    finally:
        if assoc.is_established:
            assoc.release()


def _contexts(syntaxes: Mapping[str, Sequence[str]]) -> list[PresentationContext]:
    return [build_context(sop_class, list(those)) for sop_class, those in syntaxes.items()]


def _check(response: Dataset, what: str) -> None:
    """Raise unless a response is a success, a warning or one of several."""
    status, comment = describe_status(response)
    good = (STATUS_SUCCESS, STATUS_WARNING, STATUS_PENDING)
    if status is None or code_to_category(status) not in good:
        code = "no answer" if status is None else f"status 0x{status:04X}"
        raise PeerRefused(f"{what}: {code} {comment}".strip())

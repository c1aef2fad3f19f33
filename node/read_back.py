"""Look whether a peer has an object (C-FIND), and whether it is still the same (C-GET)."""

from pathlib import Path

from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.uid import ExplicitVRLittleEndian
from pynetdicom import evt

from config import NodeSettings, PeerSettings
from node.dimse_status import DimseStatus
from node.query import find, get, make_key
from storage.records import NewResult

_NAMED = 5
"""So many differing attributes are named."""


def find_instance(
    node: NodeSettings, peer: PeerSettings, study_uid: str, result: NewResult
) -> bool:
    """Ask a peer by C-FIND on the level IMAGE whether it has an object (PS3.4 C.4.1).

    Raises
    ------
    PeerUnreachable
        When no association comes about.
    PeerRefused
        When the query fails.
    """
    matches = find(node, peer, _key(study_uid, result))
    return any(match.get("SOPInstanceUID") == result.sop_instance_uid for match in matches)


def get_instance(
    node: NodeSettings, peer: PeerSettings, study_uid: str, result: NewResult
) -> Dataset | None:
    """Get an object back by C-GET (PS3.4 C.4.3), or None where the peer does not have it.

    It is asked for in Explicit VR Little Endian, as it was sent: another encoding may lose VRs.

    Raises
    ------
    PeerUnreachable
        When no association comes about.
    PeerRefused
        When the retrieval fails.
    """
    received: list[Dataset] = []

    def keep(event: evt.Event) -> int:
        received.append(event.dataset)
        return int(DimseStatus.SUCCESS)

    syntaxes = {result.sop_class_uid: [ExplicitVRLittleEndian]}
    get(node, peer, _key(study_uid, result), syntaxes, keep)
    same = [one for one in received if one.get("SOPInstanceUID") == result.sop_instance_uid]
    return same[0] if same else None


def find_differences(path: Path, other: Dataset) -> list[str]:
    """Name the attributes in which an object differs from a file, a few of them at most.

    Group lengths may differ: they are about the encoding.

    Parameters
    ----------
    path
        Part-10 file.
    other
        Data set of the object.
    """
    ours = dcmread(path)
    tags = sorted({*ours.keys(), *other.keys()})
    differing = [tag for tag in tags if tag.element != 0 and ours.get(tag) != other.get(tag)]
    return [ours.get(tag, other.get(tag)).name for tag in differing[:_NAMED]]


def _key(study_uid: str, result: NewResult) -> Dataset:
    return make_key(
        "IMAGE",
        StudyInstanceUID=study_uid,
        SeriesInstanceUID=result.series_instance_uid,
        SOPInstanceUID=result.sop_instance_uid,
    )

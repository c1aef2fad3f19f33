"""Look whether a peer has an object and whether it is still the same, by DIMSE or DICOMweb."""

from io import BytesIO
from pathlib import Path

from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.uid import ExplicitVRLittleEndian

from config import AnyPeer, NodeSettings
from node.exchange import find, get
from node.identifiers import named_instances
from storage.records import NewResult

_NAMED = 5
"""So many differing attributes are named."""


def find_instance(node: NodeSettings, peer: AnyPeer, study_uid: str, result: NewResult) -> bool:
    """Ask a peer by C-FIND on the level IMAGE (PS3.4 C.4.1), or QIDO-RS, whether it has an object.

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
    node: NodeSettings, peer: AnyPeer, study_uid: str, result: NewResult
) -> Dataset | None:
    """Get an object back by C-GET (PS3.4 C.4.3) or WADO-RS; None where the peer does not have it.

    It is asked for in Explicit VR Little Endian, as it was sent: another encoding may lose VRs.

    Raises
    ------
    PeerUnreachable
        When no association comes about.
    PeerRefused
        When the retrieval fails.
    """
    received: list[Dataset] = []

    def keep(content: bytes, **_announced: str) -> None:
        received.append(dcmread(BytesIO(content)))

    syntaxes = {result.sop_class_uid: [ExplicitVRLittleEndian]}
    get(node, peer, _key(study_uid, result), syntaxes, keep)
    same = [one for one in received if one.get("SOPInstanceUID") == result.sop_instance_uid]
    return same[0] if same else None


def find_differences(path: Path, other: Dataset) -> list[str]:
    """Name the attributes of a file that an object has lost or changed, a few of them at most.

    What a peer adds is left aside, as archives do; so are group lengths, which are encoding.

    Parameters
    ----------
    path
        Part-10 file.
    other
        Data set of the object.
    """
    ours = dcmread(path)
    differing = [
        element.name
        for element in ours
        if element.tag.element != 0 and element != other.get(element.tag)
    ]
    return differing[:_NAMED]


def _key(study_uid: str, result: NewResult) -> Dataset:
    return named_instances(study_uid, result.series_instance_uid, result.sop_instance_uid)

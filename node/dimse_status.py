"""The DIMSE status codes that this node answers with (PS3.4 table B.2-1, PS3.7 annex C)."""

from enum import IntEnum

from pydicom.dataset import Dataset

MAX_COMMENT_CHARACTERS = 64
"""Error Comment (0000,0902) has the VR LO (PS3.7 C.4.2)."""


class DimseStatus(IntEnum):
    """Answers to C-STORE and N-EVENT-REPORT requests."""

    SUCCESS = 0x0000
    """The file and its row are durable."""
    PROCESSING_FAILURE = 0x0110
    """The report on a storage commitment belongs to no request that waits for one."""
    INVALID_ARGUMENT = 0x0115
    """The report on a storage commitment is malformed."""
    NOT_AUTHORIZED = 0x0124
    """The peer may report storage commitment, but not send instances."""
    OUT_OF_RESOURCES = 0xA700
    """Disk short; nothing was written."""
    DATA_SET_MISMATCH = 0xA900
    """The data set does not belong to the SOP class or instance of the request."""
    CANNOT_UNDERSTAND = 0xC000
    """The data set cannot be decoded."""
    CANNOT_STORE = 0xC001
    """The data set was understood and could not be stored."""


def status_response(status: DimseStatus, comment: str = "") -> Dataset:
    """Give the status data set of a response, with an Error Comment when there is one."""
    response = Dataset()
    response.Status = int(status)
    if comment:
        printable = comment.encode("ascii", "replace").decode("ascii").replace("\\", "/")
        response.ErrorComment = printable[:MAX_COMMENT_CHARACTERS]
    return response

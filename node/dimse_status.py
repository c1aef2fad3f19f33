"""The DIMSE status codes that this node answers C-STORE with (PS3.4 B.2.3, table B.2-1)."""

from enum import IntEnum

from pydicom.dataset import Dataset

MAX_COMMENT_CHARACTERS = 64
"""Error Comment (0000,0902) has the VR LO (PS3.7 C.4.2)."""


class DimseStatus(IntEnum):
    """Answers to a C-STORE request."""

    SUCCESS = 0x0000
    """The file and its row are durable."""
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

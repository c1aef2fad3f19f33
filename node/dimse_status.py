"""The DIMSE status codes that this node answers with (PS3.4 table B.2-1, PS3.7 annex C)."""

from enum import IntEnum

from pydicom.dataset import Dataset

MAX_COMMENT_CHARACTERS = 64
"""Error Comment (0000,0902) has the VR LO (PS3.7 C.4.2)."""


class DimseStatus(IntEnum):
    """Answers to requests: what the standard calls them, to which services, and when."""

    meaning: str
    """Further meaning, as the standard has it."""
    services: str
    """The requests that are answered with it."""
    when: str
    """A sentence."""

    def __new__(cls, code: int, meaning: str, services: str, when: str) -> "DimseStatus":
        """Attach the words to the code, which alone is the value."""
        member = int.__new__(cls, code)
        member._value_ = code
        member.meaning, member.services, member.when = meaning, services, when
        return member

    SUCCESS = (
        0x0000,
        "Success",
        "C-ECHO, C-STORE, N-EVENT-REPORT",
        "The file and its row in the job database are durable; the report was taken.",
    )
    PROCESSING_FAILURE = (
        0x0110,
        "Processing Failure",
        "N-EVENT-REPORT",
        "The report on a storage commitment belongs to no request that waits for one.",
    )
    INVALID_ARGUMENT = (
        0x0115,
        "Invalid Argument Value",
        "N-EVENT-REPORT",
        "The report on a storage commitment is malformed: it has no transaction UID.",
    )
    NOT_AUTHORIZED = (
        0x0124,
        "Refused: Not Authorized",
        "C-STORE",
        "The peer may report storage commitment, but not send instances.",
    )
    OUT_OF_RESOURCES = (
        0xA700,
        "Refused: Out of Resources",
        "C-STORE",
        "The disk is short; nothing was written.",
    )
    DATA_SET_MISMATCH = (
        0xA900,
        "Data Set Does Not Match SOP Class",
        "C-STORE",
        "The data set does not belong to the SOP class or instance of the request.",
    )
    CANNOT_UNDERSTAND = (
        0xC000,
        "Cannot Understand",
        "C-STORE",
        "The data set cannot be decoded.",
    )
    CANNOT_STORE = (
        0xC001,
        "Cannot Understand",
        "C-STORE",
        "The data set was understood and could not be stored, as when the job database does not "
        "answer.",
    )


def status_response(status: DimseStatus, comment: str = "") -> Dataset:
    """Give the status data set of a response, with an Error Comment when there is one."""
    response = Dataset()
    response.Status = int(status)
    if comment:
        printable = comment.encode("ascii", "replace").decode("ascii").replace("\\", "/")
        response.ErrorComment = printable[:MAX_COMMENT_CHARACTERS]
    return response

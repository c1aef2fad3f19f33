"""What all calls of the API have in common: forms of answers, refusals, and bounds."""

import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from http import HTTPStatus
from typing import Annotated, Any

from fastapi import Depends, Path
from pydantic import AfterValidator, AwareDatetime, BaseModel, ConfigDict, StringConstraints

from node.web.errors import TooMany

_LONG_AT_ONCE = 4
_long_work = threading.BoundedSemaphore(_LONG_AT_ONCE)
_LARGEST_ID = 2**31 - 1


class Answer(BaseModel):
    """What a call gives; it is read from the records of the node."""

    model_config = ConfigDict(from_attributes=True, use_attribute_docstrings=True, frozen=True)


class Asked(BaseModel):
    """What a call is given; a name that is not known is refused."""

    model_config = ConfigDict(extra="forbid", use_attribute_docstrings=True, frozen=True)


class Problem(Answer):
    """Why a call was refused."""

    detail: str
    """A sentence that says what to do."""


def _to_utc(moment: datetime) -> datetime:
    try:
        return moment.astimezone(UTC)
    except OverflowError:
        raise ValueError("no such moment in UTC") from None


def _has_no_controls(text: str) -> str:
    if any(ord(sign) < 32 for sign in text):
        raise ValueError("it has control characters")
    return text


Moment = Annotated[AwareDatetime, AfterValidator(_to_utc)]
"""ISO 8601 with a zone."""
Text = Annotated[str, StringConstraints(max_length=200), AfterValidator(_has_no_controls)]
JobId = Annotated[int, Path(ge=1, le=_LARGEST_ID, description="Number of the job.")]
Number = Annotated[int, Path(ge=1, le=_LARGEST_ID)]

_BYTES = {"type": "string", "format": "binary"}
_FILE_SCHEMAS = {
    "application/json": {"type": "object"},
    "text/html": {"type": "string"},
    "text/markdown": {"type": "string"},
}
_WHY = {
    400: "The body cannot be read.",
    401: "No token or session, or one that is no longer good.",
    403: "The role of the user does not go so far, patient data are hidden from it, or the header "
    "X-Form-Token is missing or wrong.",
    404: "There is no such thing, or no longer.",
    409: "It cannot be done as things stand.",
    413: "The body is too large.",
    422: "What was given cannot be used.",
    429: "Too many long calls are under way.",
    503: "The job database does not answer, or too many calls are under way.",
}


def refuses(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """Describe the statuses of HTTP with which a call is refused."""
    return {
        status: {
            "model": Problem,
            "description": f"{HTTPStatus(status).phrase}. {_WHY[status]}",
        }
        for status in statuses
    }


def gives(*media_types: str) -> dict[int | str, dict[str, Any]]:
    """Describe an answer that is a file."""
    return {
        200: {"content": {one: {"schema": _FILE_SCHEMAS.get(one, _BYTES)} for one in media_types}}
    }


def take_turn() -> Iterator[None]:
    """Let a few calls at once do what takes long, so that pages are served all the while.

    Raises
    ------
    TooMany
    """
    if not _long_work.acquire(blocking=False):
        raise TooMany(f"{_LONG_AT_ONCE} long calls are under way; try again when one has ended.")
    try:
        yield
    finally:
        _long_work.release()


Turn = Annotated[None, Depends(take_turn)]

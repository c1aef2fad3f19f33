"""Bodies of the type multipart/related (RFC 2387) as DICOMweb has them (PS3.18 8.6.1.2)."""

import uuid
from collections.abc import Iterator
from email.message import Message
from pathlib import Path

_CHUNK_BYTES = 1 << 16


class MalformedBody(ValueError):
    """A body is not what its content type says."""


class FileBody:
    """A part-10 file as the one part of a body, which is read while it is sent.

    Parameters
    ----------
    path
        The file.
    """

    def __init__(self, path: Path) -> None:
        boundary = uuid.uuid4().hex
        self._path = path
        self._head = f"--{boundary}\r\nContent-Type: application/dicom\r\n\r\n".encode()
        self._tail = f"\r\n--{boundary}--\r\n".encode()
        length = len(self._head) + path.stat().st_size + len(self._tail)
        self.headers = {
            "Content-Type": f'multipart/related; type="application/dicom"; boundary={boundary}',
            # Without it the body would go in chunks, which not every gateway takes.
            "Content-Length": str(length),
        }

    def __iter__(self) -> Iterator[bytes]:
        yield self._head
        with self._path.open("rb") as file:
            while chunk := file.read(_CHUNK_BYTES):
                yield chunk
        yield self._tail


def split_parts(content_type: str, body: bytes) -> list[bytes]:
    """Give the contents of the parts of a body; one that has no parts is its own only one.

    Raises
    ------
    MalformedBody
        When it has parts and they cannot be told apart.
    """
    header = Message()
    header["Content-Type"] = content_type
    if header.get_content_maintype() != "multipart":
        return [body]
    boundary = header.get_boundary()
    if not boundary:
        raise MalformedBody("a multipart answer names no boundary")
    # A line break belongs to the delimiter behind it, so each part begins and ends with one.
    _, *parts = (b"\r\n" + body).split(b"\r\n--" + boundary.encode())
    if not parts or not parts[-1].startswith(b"--"):
        raise MalformedBody("a multipart answer is cut short")
    return [_content(part) for part in parts[:-1]]


def _content(part: bytes) -> bytes:
    """Leave out the header of a part, which may be empty."""
    _, separator, content = part.partition(b"\r\n\r\n")
    if not separator:
        raise MalformedBody("a part of a multipart answer has no end of its header")
    return content

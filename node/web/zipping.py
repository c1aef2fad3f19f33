"""Files as one ZIP archive, sent while it is made."""

import zipfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO, cast

_CHUNK_BYTES = 1 << 18


class _Outbox:
    """Takes what the archive writes, until it is sent."""

    def __init__(self) -> None:
        self._waiting = bytearray()

    def write(self, content: bytes) -> int:
        """Take bytes."""
        self._waiting += content
        return len(content)

    def flush(self) -> None:
        """Do nothing: there is no disk behind."""

    def take(self) -> bytes:
        """Give what was written since."""
        content = bytes(self._waiting)
        self._waiting.clear()
        return content


def stream_zip(files: Iterable[tuple[str, Path]]) -> Iterator[bytes]:
    """Give a ZIP archive of files in pieces; no more than one piece is held.

    Parameters
    ----------
    files
        The name of each in the archive, and where it is.

    Raises
    ------
    OSError
        A file cannot be read; whoever gets the archive sees that it is not whole.
    """
    outbox = _Outbox()
    archive = zipfile.ZipFile(cast("IO[bytes]", outbox), "w", zipfile.ZIP_DEFLATED, compresslevel=1)
    with archive:
        for name, path in files:
            entry = zipfile.ZipInfo.from_file(path, name)
            entry.compress_type = zipfile.ZIP_DEFLATED
            with path.open("rb") as file, archive.open(entry, "w") as target:
                while content := file.read(_CHUNK_BYTES):
                    target.write(content)
                    yield outbox.take()
    yield outbox.take()

"""Compressed frames, decoded in processes of their own.

The decoders are libraries in C, C++ and Rust that believe what a stream says of itself: one ends
the process on a stream that it dislikes, one takes gigabytes for a few bytes, one computes without
end. So they run where memory and time have limits, and where their end is only the end of the
images that brought it about. ``python -m dicom_io.decoder`` is such a process: it takes a request
as one line of JSON and answers each frame with a line of JSON and the stored values.
"""

import json
import os
import resource
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import IO, cast

import numpy as np
from numpy.typing import NDArray
from pydicom.pixels.utils import iter_pixels

from dicom_io.errors import DecoderFailed
from dicom_io.values import DAMAGED_FILE_ERRORS

DECODER_ERRORS: tuple[type[Exception], ...] = (
    DecoderFailed,
    MemoryError,
    StopIteration,
    *DAMAGED_FILE_ERRORS,
)
"""What pydicom and the decoders raise on pixel data that cannot be decoded."""
_REPORTED: tuple[type[Exception], ...] = (OSError, *DECODER_ERRORS)
MAX_DECODER_BYTES = 1 << 30
"""Address space of a decoder: it begins with a fifth of it, and holds one frame at a time."""
LONGEST_FRAME_S = 20
_MAX_TEXT = 500
_ENVIRONMENT = {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
"""Threads that it has no use for would take address space."""


class DecoderPool:
    """Decoders for the threads that ask; closed, all of them end."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._all: list[_Decoder] = []
        self._idle: list[_Decoder] = []

    def __enter__(self) -> "DecoderPool":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for decoder in self._all:
            decoder.end()

    def decode(
        self, path: Path, indices: Sequence[int], *, plugin: str, shape: tuple[int, int]
    ) -> Iterator[NDArray[np.integer]]:
        """Yield the stored values of frames of a file, in the order asked for.

        Parameters
        ----------
        path, indices
            The file, and the frames from 0.
        plugin
            The decoder, as pydicom names it.
        shape
            Rows and columns that each frame must have.

        Raises
        ------
        DecoderFailed
            A frame cannot be decoded within the limits, or is none of this shape.
        OSError
            The file cannot be read.
        """
        decoder = self._take()
        decoder.ask(path, indices, plugin)
        try:
            for _ in indices:
                yield decoder.next_frame(shape)
        finally:
            self._give_back(decoder)

    def _take(self) -> "_Decoder":
        with self._lock:
            if self._idle:
                return self._idle.pop()
            self._all.append(_Decoder())
            return self._all[-1]

    def _give_back(self, decoder: "_Decoder") -> None:
        """Keep a decoder that waits for a request; end one that was left, or has broken down."""
        with self._lock:
            if decoder.unanswered:
                self._all.remove(decoder)
                decoder.end()
            else:
                self._idle.append(decoder)


class _Decoder:
    """One such process, seen from ours."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "dicom_io.decoder"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env={**os.environ, **_ENVIRONMENT, "PYTHONPATH": os.pathsep.join(sys.path)},
        )
        self._requests = cast("IO[bytes]", self._process.stdin)
        self._answers = cast("IO[bytes]", self._process.stdout)
        self.unanswered = 0

    def ask(self, path: Path, indices: Sequence[int], plugin: str) -> None:
        self.unanswered = len(indices)
        request = {"path": str(path), "indices": list(indices), "plugin": plugin}
        # Where it has ended, the answer says so.
        with suppress(BrokenPipeError):
            self._requests.write(json.dumps(request).encode() + b"\n")
            self._requests.flush()

    def next_frame(self, shape: tuple[int, int]) -> NDArray[np.integer]:
        line = self._answers.readline()
        if not line:
            raise DecoderFailed(f"the decoder broke down ({self._fate()})")
        answer = json.loads(line)
        if "error" in answer:
            self.unanswered = 0
            if answer["errno"] is not None:
                raise OSError(answer["errno"], answer["error"])
            raise DecoderFailed(answer["error"])
        kind = np.dtype(answer["dtype"])
        if tuple(answer["shape"]) != shape or kind.kind not in "iu":
            raise DecoderFailed(f"the stream holds {kind} of shape {answer['shape']}")
        content = self._answers.read(shape[0] * shape[1] * kind.itemsize)
        self.unanswered -= 1
        return np.frombuffer(content, kind).reshape(shape)

    def _fate(self) -> str:
        code = self._process.wait()
        return signal.Signals(-code).name if code < 0 else f"exit code {code}"

    def end(self) -> None:
        self._process.kill()
        self._process.wait()
        self._answers.close()
        with suppress(BrokenPipeError):
            self._requests.close()


def _serve(requests: IO[bytes], answers: IO[bytes]) -> None:
    """Answer until nobody asks any more; an error is the last answer to a request."""
    for line in requests:
        request = json.loads(line)
        try:
            for stored in _frames(Path(request["path"]), request["indices"], request["plugin"]):
                head = {"dtype": stored.dtype.str, "shape": stored.shape}
                _answer(answers, head, stored.tobytes())
        except _REPORTED as error:
            text = str(error)[:_MAX_TEXT] or type(error).__name__
            _answer(answers, {"error": text, "errno": getattr(error, "errno", None)})


def _frames(path: Path, indices: list[int], plugin: str) -> Iterator[NDArray[np.integer]]:
    """Decode; whoever takes too long for a frame is ended by the operating system."""
    frames = iter_pixels(path, indices=indices, raw=True, decoding_plugin=plugin)
    for _ in indices:
        signal.alarm(LONGEST_FRAME_S)
        try:
            stored = next(frames, None)
        finally:
            signal.alarm(0)
        if stored is None:
            raise EOFError("a frame is missing")
        yield stored


def _answer(answers: IO[bytes], head: Mapping[str, object], content: bytes = b"") -> None:
    answers.write(json.dumps(head).encode() + b"\n" + content)
    answers.flush()


def _main() -> None:
    """Serve on standard input and output, which the libraries must not write to."""
    with os.fdopen(os.dup(sys.stdout.fileno()), "wb") as answers:
        os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
        resource.setrlimit(resource.RLIMIT_AS, (MAX_DECODER_BYTES, MAX_DECODER_BYTES))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        with suppress(BrokenPipeError):
            _serve(sys.stdin.buffer, answers)


if __name__ == "__main__":
    _main()

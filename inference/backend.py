"""Where networks are computed: the protocols, the choice, and what happens when memory runs out.

The engines themselves are heavy imports and stay in modules of their own, imported when chosen.
"""

import logging
from collections.abc import Callable
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from config.inference import InferenceSettings
from inference.errors import BackendError

logger = logging.getLogger(__name__)


class Predictor(Protocol):
    """A network as a function."""

    def __call__(self, batch: NDArray[np.float32]) -> NDArray[np.float32]:
        """Compute logits (batch, classes, rows, columns) of (batch, slices, rows, columns).

        Raises
        ------
        BackendError
            The engine failed, mostly for lack of memory.
        """
        ...


class Engine(Protocol):
    """An inference engine on one device."""

    @property
    def backend(self) -> str:
        """Name of the software."""
        ...

    @property
    def device(self) -> str:
        """Where it computes, ``cpu`` or ``cuda``."""
        ...

    @property
    def precision(self) -> str:
        """Its arithmetic, ``fp32``, ``bf16`` or ``fp16``."""
        ...

    def load(self, path: Path) -> Predictor:
        """Load an ONNX file.

        Raises
        ------
        BackendError
            The file cannot be loaded.
        """
        ...


def open_engine(settings: InferenceSettings) -> Engine:
    """Choose the engine: CUDA where there is a working GPU, else OpenVINO on the CPU.

    On CPUs OpenVINO is preferred because it was measured to be the fastest, and because it computes
    in bfloat16 on processors that have it. On GPUs half precision is preferred. The agreement of
    either with float32 is a Dice coefficient of at least 0.99; a test holds the shipped model to
    that.

    Raises
    ------
    BackendError
        What the settings ask for is not there, with the remedy.
    """
    if settings.backend == "openvino" and settings.device == "cuda":
        raise BackendError(
            "OpenVINO does not compute on NVIDIA GPUs; set inference.backend to 'onnxruntime' "
            "or inference.device to 'cpu'"
        )
    if settings.backend != "openvino" and _wants_cuda(settings):
        return _open_cuda_engine(settings)
    if settings.precision == "fp16":
        raise BackendError(
            "fp16 is for NVIDIA GPUs; set inference.precision to 'auto', which takes bf16 on CPUs "
            "that have it"
        )
    return open_cpu_engine(settings)


def _open_cuda_engine(settings: InferenceSettings) -> Engine:
    if settings.precision == "bf16":
        raise BackendError("bf16 is for CPUs; set inference.precision to 'auto', 'fp16' or 'fp32'")
    # The converter comes with the extra 'cuda'; without it single precision is the default.
    can_convert = find_spec("onnx") is not None
    if settings.precision == "fp16" and not can_convert:
        raise BackendError(
            "fp16 needs the package onnx: pip install 'hepar[cuda]', or set inference.precision to "
            "'auto'"
        )
    precision = "fp16" if can_convert and settings.precision != "fp32" else "fp32"
    return _open_onnx(settings, device="cuda", precision=precision)


def open_cpu_engine(settings: InferenceSettings) -> Engine:
    """Choose the engine for the CPU; half precision, which is for GPUs, counts as ``auto``.

    Raises
    ------
    BackendError
        What the settings ask for is not there, with the remedy.
    """
    if settings.backend != "onnxruntime":
        engine: Engine = import_module("inference.openvino_backend").OpenVinoEngine(
            precision=settings.precision, threads=settings.threads
        )
        return engine
    if settings.precision == "bf16":
        raise BackendError(
            "ONNX Runtime computes in fp32; set inference.precision to 'auto' or "
            "inference.backend to 'openvino'"
        )
    return _open_onnx(settings, device="cpu", precision="fp32")


def _wants_cuda(settings: InferenceSettings) -> bool:
    if settings.device != "auto":
        return settings.device == "cuda"
    return bool(import_module("inference.onnx_backend").cuda_is_available())


def _open_onnx(settings: InferenceSettings, *, device: str, precision: str) -> Engine:
    engine: Engine = import_module("inference.onnx_backend").OnnxEngine(
        device=device, threads=settings.threads, precision=precision
    )
    return engine


class ResilientPredictor:
    """A network that answers a failing engine with smaller batches, then with another engine.

    Parameters
    ----------
    path:
        ONNX file.
    engine:
        Used as long as it works.
    open_fallback:
        Gives the engine to use when the first one fails with a single slice; None where there is
        nothing to fall back to.

    Raises
    ------
    BackendError
        The engine cannot load the file.
    """

    def __init__(
        self, path: Path, engine: Engine, open_fallback: Callable[[], Engine] | None = None
    ) -> None:
        self._path = path
        self._engine = engine
        self._predictor = engine.load(path)
        self._open_fallback = open_fallback
        self._limit: int | None = None
        self._notes: list[str] = []

    @property
    def engine(self) -> Engine:
        """The engine in use."""
        return self._engine

    def take_notes(self) -> tuple[str, ...]:
        """Give what happened since the last call."""
        notes, self._notes = tuple(self._notes), []
        return notes

    def __call__(self, batch: NDArray[np.float32]) -> NDArray[np.float32]:
        """Compute logits, in parts if need be."""
        limit = min(len(batch), self._limit or len(batch))
        try:
            parts = [
                self._predictor(batch[first : first + limit])
                for first in range(0, len(batch), limit)
            ]
        except BackendError as error:
            self._retreat(limit, error)
            return self(batch)
        return parts[0] if len(parts) == 1 else np.concatenate(parts)

    def _retreat(self, limit: int, error: BackendError) -> None:
        """Halve the batch, or turn to the other engine, or give up."""
        if limit > 1:
            self._limit = limit // 2
            self._note(f"batch reduced to {self._limit}", error)
        elif self._open_fallback is not None:
            self._engine, self._open_fallback = self._open_fallback(), None
            self._predictor, self._limit = self._engine.load(self._path), None
            self._note(f"went on with {self._engine.backend} on {self._engine.device}", error)
        else:
            raise error

    def _note(self, note: str, error: BackendError) -> None:
        logger.warning("%s after: %s", note, error)
        self._notes.append(note)

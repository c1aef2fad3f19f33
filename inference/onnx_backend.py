"""ONNX Runtime on NVIDIA GPUs and on CPUs."""

import ctypes
import sys
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from inference.errors import BackendError

try:
    import onnxruntime
    from onnxruntime.capi import onnxruntime_pybind11_state as _state
except ImportError as error:
    raise BackendError(
        "ONNX Runtime is not installed: pip install onnxruntime, or set inference.backend to "
        "'openvino'"
    ) from error

_CUDA = "CUDAExecutionProvider"
_CPU = "CPUExecutionProvider"
_ERRORS_ONLY = 3
ONNX_ERRORS = (
    _state.EPFail,
    _state.Fail,
    _state.InvalidArgument,
    _state.InvalidGraph,
    _state.InvalidProtobuf,
    _state.NoSuchFile,
    _state.NotImplemented,
    _state.RuntimeException,
)
"""What ONNX Runtime raises; they share no base below Exception."""


def cuda_is_available() -> bool:
    """Tell whether this ONNX Runtime can compute on CUDA and a driver answers."""
    if _CUDA not in onnxruntime.get_available_providers():
        return False
    try:
        driver = ctypes.CDLL("nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1")
    except OSError:
        return False
    return bool(driver.cuInit(0) == 0)


class OnnxEngine:
    """ONNX Runtime on one device.

    Parameters
    ----------
    device:
        ``cpu`` or ``cuda``.
    threads:
        CPU threads; 0 for all cores.
    precision:
        ``fp32``, or ``fp16``, for which a network is converted when it is loaded. GPUs compute in
        it; ONNX Runtime on a CPU computes such a network in single precision.

    Raises
    ------
    BackendError
        CUDA is asked for and not there.
    """

    backend = "onnxruntime"

    def __init__(self, *, device: str, threads: int, precision: str = "fp32") -> None:
        if device == "cuda":
            if not cuda_is_available():
                raise BackendError(
                    "no CUDA device: install onnxruntime-gpu and the NVIDIA driver, or set "
                    "inference.device to 'cpu'"
                )
            onnxruntime.preload_dlls()
        self.device = device
        self.precision = precision
        self._threads = threads

    def load(self, path: Path) -> "OnnxPredictor":
        """Open an ONNX file.

        Raises
        ------
        BackendError
            It cannot be opened, or not on the device.
        """
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = self._threads
        options.log_severity_level = _ERRORS_ONLY
        providers = [_CUDA, _CPU] if self.device == "cuda" else [_CPU]
        try:
            source = str(path) if self.precision == "fp32" else _read_in_half(path)
            session = onnxruntime.InferenceSession(source, options, providers=providers)
        except ONNX_ERRORS as error:
            raise BackendError(f"ONNX Runtime cannot load {path}: {error}") from error
        if self.device == "cuda" and _CUDA not in session.get_providers():
            raise BackendError(
                "ONNX Runtime could not start CUDA: install NVIDIA's libraries with the extra "
                "'cuda' (pip install 'hepar[cuda]'), or set inference.device to 'cpu'"
            )
        return OnnxPredictor(session)


def _read_in_half(path: Path) -> bytes:
    """Read a network and let it compute in half precision; what goes in and out stays single."""
    from google.protobuf.message import DecodeError
    from onnx import load_model
    from onnxruntime.transformers.float16 import convert_float_to_float16

    try:
        network = convert_float_to_float16(load_model(str(path)), keep_io_types=True)
    except (OSError, ValueError, DecodeError) as error:
        raise BackendError(f"ONNX Runtime cannot load {path}: {error}") from error
    return bytes(network.SerializeToString())


class OnnxPredictor:
    """An open network."""

    def __init__(self, session: Any) -> None:
        self._session = session
        self._input = session.get_inputs()[0].name

    def __call__(self, batch: NDArray[np.float32]) -> NDArray[np.float32]:
        """Compute logits (batch, classes, rows, columns)."""
        try:
            (logits,) = self._session.run(None, {self._input: np.ascontiguousarray(batch)})
        except ONNX_ERRORS as error:
            raise BackendError(f"ONNX Runtime failed: {error}") from error
        return np.asarray(logits, dtype=np.float32)

"""OpenVINO on CPUs."""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from inference.errors import BackendError

try:
    import openvino
except ImportError as error:
    raise BackendError(
        "OpenVINO is not installed: pip install openvino, or set inference.backend to 'onnxruntime'"
    ) from error


class OpenVinoEngine:
    """OpenVINO on the CPU.

    Parameters
    ----------
    precision:
        ``fp32``, ``bf16``, or ``auto`` for bf16 where the processor computes in it.
    threads:
        CPU threads; 0 for all cores.

    Raises
    ------
    BackendError
        bf16 is asked for, and the processor does not have it.
    """

    backend = "openvino"
    device = "cpu"

    def __init__(self, *, precision: str, threads: int) -> None:
        self._core = openvino.Core()
        has_bf16 = "BF16" in self._core.get_property("CPU", "OPTIMIZATION_CAPABILITIES")
        if precision == "bf16" and not has_bf16:
            raise BackendError(
                "this processor does not compute in bf16; set inference.precision to 'auto'"
            )
        self.precision = "bf16" if has_bf16 and precision != "fp32" else "fp32"
        self._settings: dict[str, Any] = {
            "PERFORMANCE_HINT": "LATENCY",
            "INFERENCE_PRECISION_HINT": {"bf16": "bf16", "fp32": "f32"}[self.precision],
        }
        if threads:
            self._settings["INFERENCE_NUM_THREADS"] = threads

    def load(self, path: Path) -> "OpenVinoPredictor":
        """Compile an ONNX file.

        Raises
        ------
        BackendError
            It cannot be read or compiled.
        """
        try:
            model = self._core.read_model(str(path))
            compiled = self._core.compile_model(model, "CPU", self._settings)
        except RuntimeError as error:
            raise BackendError(f"OpenVINO cannot load {path}: {error}") from error
        return OpenVinoPredictor(compiled)


class OpenVinoPredictor:
    """A compiled network."""

    def __init__(self, compiled: Any) -> None:
        self._request = compiled.create_infer_request()

    def __call__(self, batch: NDArray[np.float32]) -> NDArray[np.float32]:
        """Compute logits (batch, classes, rows, columns)."""
        try:
            # The batch is shared, not copied; the answer is a copy because the request reuses it.
            results = self._request.infer({0: batch}, share_inputs=True)
        except RuntimeError as error:
            raise BackendError(f"OpenVINO failed: {error}") from error
        return np.asarray(results[0], dtype=np.float32)

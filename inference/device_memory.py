"""The memory of the NVIDIA GPUs of this machine, as its driver tells it."""

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, kw_only=True)
class DeviceMemory:
    """The memory of one GPU."""

    index: int
    """Its number, as the driver counts."""
    total_bytes: int
    _nvml: Any
    _handle: Any

    def used_bytes(self) -> float:
        """Give what is in use, by whomever; NaN where the driver does not say."""
        try:
            return float(self._nvml.nvmlDeviceGetMemoryInfo(self._handle).used)
        except self._nvml.NVMLError:
            return float("nan")


def list_device_memory() -> list[DeviceMemory]:
    """List the GPUs; none where there is no driver, or the extra `cuda` is not installed."""
    try:
        import pynvml
    except ImportError:
        return []
    try:
        pynvml.nvmlInit()
        handles = [
            pynvml.nvmlDeviceGetHandleByIndex(index) for index in range(pynvml.nvmlDeviceGetCount())
        ]
        return [
            DeviceMemory(
                index=index,
                total_bytes=pynvml.nvmlDeviceGetMemoryInfo(handle).total,
                _nvml=pynvml,
                _handle=handle,
            )
            for index, handle in enumerate(handles)
        ]
    except pynvml.NVMLError:
        return []

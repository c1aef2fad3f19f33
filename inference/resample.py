"""Separable resampling along array axes.

The grids of this package differ in spacing, extent and axis order, never by a rotation. So each
axis is resampled by itself: a small weight matrix per axis, and matrix products.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, kw_only=True)
class AxisGrid:
    """Sample positions along one axis, in mm from the center of the first source voxel."""

    start_mm: float
    spacing_mm: float
    size: int

    @property
    def positions_mm(self) -> NDArray[np.float64]:
        """Positions of all samples."""
        return np.asarray(self.start_mm + self.spacing_mm * np.arange(self.size), np.float64)


def whole_axis(size: int, spacing_mm: float, target_spacing_mm: float) -> AxisGrid:
    """Give the grid of another spacing that covers an axis, centered on it."""
    extent_mm = size * spacing_mm
    samples = max(1, round(extent_mm / target_spacing_mm))
    start_mm = (size - 1) * spacing_mm / 2 - (samples - 1) * target_spacing_mm / 2
    return AxisGrid(start_mm=start_mm, spacing_mm=target_spacing_mm, size=samples)


def sampling_matrix(source: AxisGrid, target: AxisGrid) -> NDArray[np.float32]:
    """Give the weights that turn samples at ``source`` into samples at ``target``.

    Linear interpolation; where the target is coarser, a triangle as wide as its spacing averages
    over the source samples and so keeps aliasing out. Beyond the ends the outermost sample counts.

    Returns
    -------
    NDArray
        (target.size, source.size) float32, each row sums to one.
    """
    ratio = max(1.0, target.spacing_mm / source.spacing_mm)
    indices = (target.positions_mm - source.start_mm) / source.spacing_mm
    indices = np.clip(indices, 0, source.size - 1)
    distance = np.abs(indices[:, None] - np.arange(source.size)[None, :])
    weights = np.clip(1 - distance / ratio, 0, None)
    return np.asarray(weights / weights.sum(axis=1, keepdims=True), dtype=np.float32)

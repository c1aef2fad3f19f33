"""Separable resampling along array axes.

The grids of this package differ in spacing, extent and axis order, never by a rotation. So each
axis is resampled by itself: a sparse weight matrix per axis, and matrix products.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import sparse


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


def sampling_matrix(source: AxisGrid, target: AxisGrid) -> sparse.csr_array:
    """Give the weights that turn samples at ``source`` into samples at ``target``.

    Linear interpolation; where the target is coarser, a triangle as wide as its spacing averages
    over the source samples and so keeps aliasing out. Beyond the ends the outermost sample counts.

    Returns
    -------
    csr_array
        (target.size, source.size) float32, each row sums to one.
    """
    ratio = max(1.0, target.spacing_mm / source.spacing_mm)
    indices = (target.positions_mm - source.start_mm) / source.spacing_mm
    indices = np.clip(indices, 0, source.size - 1)
    distance = np.abs(indices[:, None] - np.arange(source.size)[None, :])
    weights = np.clip(1 - distance / ratio, 0, None)
    weights /= weights.sum(axis=1, keepdims=True)
    return sparse.csr_array(weights.astype(np.float32))


def smoothing_matrix(size: int, sd: float) -> sparse.csr_array:
    """Give the weights of a Gaussian along an axis, cut off at 3 standard deviations.

    Returns
    -------
    csr_array
        (size, size) float32, each row sums to one.
    """
    distance = np.abs(np.subtract.outer(np.arange(size), np.arange(size)))
    weights = np.where(distance <= 3 * sd, np.exp(-0.5 * (distance / sd) ** 2), 0)
    weights /= weights.sum(axis=1, keepdims=True)
    return sparse.csr_array(weights.astype(np.float32))


def resample_plane(
    plane: NDArray[np.float32], rows: sparse.csr_array, columns: sparse.csr_array
) -> NDArray[np.float32]:
    """Resample one slice (rows, columns)."""
    return np.asarray((columns @ (rows @ plane).T).T)


def resample_slices(planes: NDArray[np.float32], slices: sparse.csr_array) -> NDArray[np.float32]:
    """Resample a stack (slices, rows, columns) along its slices."""
    flat = planes.reshape(len(planes), -1)
    return np.asarray(slices @ flat).reshape(-1, *planes.shape[1:])

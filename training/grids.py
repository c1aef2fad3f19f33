"""From a labeled scan to the two grids that networks are trained on.

The coarse grid is the whole scan at 3 mm. The fine grid is the box of the liver with a margin of
30 mm: 1 mm in the plane and the slices as they are, or 1.5 mm where they are closer than 1.25 mm.
Both are in canonical order (`inference.preprocess`), so the orientation in which a data set is
stored leaves no trace.

Arrays are resampled slice by slice and class by class: beside the scan itself, memory is needed
for a few arrays of the size of the result. Labels are resampled as nnU-Net does it (Isensee et
al., nnU-Net, Nature Methods 18 (2021) 203-211): each class linearly, then the largest.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from inference.labels import Label
from inference.manifest import Window
from inference.preprocess import Axes, Scan, orient
from inference.resample import (
    AxisGrid,
    resample_plane,
    resample_slices,
    sampling_matrix,
    whole_axis,
)
from training.scans import LabeledScan

GRIDS = ("coarse", "fine")
LEVELS = 127
"""Arrays hold the HU window as 0 to this number."""
WINDOW = Window(low_hu=-160.0, high_hu=240.0)
COARSE_MM = 3.0
FINE_MM = 1.0
_MARGIN_MM = 30.0
THIN_MM = 1.25
"""Slices closer than this are resampled on the fine grid."""
THIN_TARGET_MM = 1.5


@dataclass(frozen=True, kw_only=True, eq=False)
class Gridded:
    """A scan and its labels on one grid, in canonical order."""

    levels: NDArray[np.uint8]
    """(slices, rows, columns), 0 to `LEVELS` over the HU window."""
    labels: NDArray[np.uint8]
    """Same shape; values of `inference.labels.Label`."""
    spacing_mm: tuple[float, float, float]

    @property
    def has_liver(self) -> bool:
        """Whether a voxel is labeled liver or tumor."""
        return bool(self.labels.any())


def make_grids(scan: LabeledScan) -> dict[str, Gridded]:
    """Resample a scan onto each of `GRIDS`.

    Parameters
    ----------
    scan:
        In any orientation.

    Returns
    -------
    dict
        By the name of the grid. The arrays of the fine grid are empty where no liver is labeled.
    """
    oriented = orient(scan.volume)
    labels = oriented.order.apply(scan.labels)
    axes = {"coarse": _coarse_axes(oriented), "fine": _fine_axes(oriented, labels)}
    return {grid: _resample(oriented, labels, axes[grid]) for grid in GRIDS}


def levels_to_hu(levels: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Give the CT numbers of levels, clipped to the window; same shape."""
    low, high = WINDOW.low_hu, WINDOW.high_hu
    return levels.astype(np.float32) * np.float32((high - low) / LEVELS) + np.float32(low)


def _hu_to_levels(planes: NDArray[np.float32]) -> NDArray[np.uint8]:
    planes -= WINDOW.low_hu
    planes *= LEVELS / (WINDOW.high_hu - WINDOW.low_hu)
    return np.rint(planes, out=planes).astype(np.uint8)


def _coarse_axes(scan: Scan) -> Axes:
    slices, rows, columns = (whole_axis(a.size, a.spacing_mm, COARSE_MM) for a in scan.axes)
    return slices, rows, columns


def _fine_axes(scan: Scan, labels: NDArray[np.uint8]) -> Axes:
    """Give the liver box with its margin, as far as the scan reaches."""
    organ = labels != Label.BACKGROUND
    limits = [_limits_mm(scan.axes[axis], organ, axis) for axis in range(3)]
    return (
        _fine_slices(scan.axes[0], limits[0]),
        _fill(limits[1], FINE_MM),
        _fill(limits[2], FINE_MM),
    )


def _limits_mm(axis: AxisGrid, organ: NDArray[np.bool_], number: int) -> tuple[float, float] | None:
    """Give the first and last position of a box along one axis, or none without a liver."""
    others = tuple(other for other in range(3) if other != number)
    inside = np.flatnonzero(organ.any(axis=others))
    if not len(inside):
        return None
    last_mm = (axis.size - 1) * axis.spacing_mm
    return (
        max(0.0, float(inside[0]) * axis.spacing_mm - _MARGIN_MM),
        min(last_mm, float(inside[-1]) * axis.spacing_mm + _MARGIN_MM),
    )


def _fine_slices(axis: AxisGrid, limits: tuple[float, float] | None) -> AxisGrid:
    """Give slices of the scan as they are: between two of them nothing has been measured."""
    if limits is None or axis.spacing_mm < THIN_MM:
        return _fill(limits, THIN_TARGET_MM)
    first = int(np.floor(limits[0] / axis.spacing_mm))
    last = min(axis.size - 1, int(np.ceil(limits[1] / axis.spacing_mm)))
    start_mm = first * axis.spacing_mm
    return AxisGrid(start_mm=start_mm, spacing_mm=axis.spacing_mm, size=last - first + 1)


def _fill(limits: tuple[float, float] | None, spacing_mm: float) -> AxisGrid:
    if limits is None:
        return AxisGrid(start_mm=0.0, spacing_mm=spacing_mm, size=0)
    size = int((limits[1] - limits[0]) / spacing_mm) + 1
    return AxisGrid(start_mm=limits[0], spacing_mm=spacing_mm, size=size)


def _resample(scan: Scan, labels: NDArray[np.uint8], axes: Axes) -> Gridded:
    """Resample the image and, class by class, the labels."""
    slices, rows, columns = axes
    shape = (slices.size, rows.size, columns.size)
    found = np.zeros(shape, dtype=np.uint8)
    levels = np.zeros(shape, dtype=np.uint8)
    if found.size:
        levels = _hu_to_levels(_sample(lambda index: _windowed(scan.array[index]), scan, axes))
        largest = np.zeros(shape, dtype=np.float32)
        for value in Label:
            shares = _sample(_indicator(labels, value), scan, axes)
            found[shares > largest] = value
            np.maximum(largest, shares, out=largest)
    return Gridded(
        levels=levels,
        labels=found,
        spacing_mm=(slices.spacing_mm, rows.spacing_mm, columns.spacing_mm),
    )


def _windowed(plane: NDArray[np.int16]) -> NDArray[np.float32]:
    return np.clip(plane.astype(np.float32), WINDOW.low_hu, WINDOW.high_hu)


def _indicator(labels: NDArray[np.uint8], value: Label) -> Callable[[int], NDArray[np.float32]]:
    return lambda index: (labels[index] == value).astype(np.float32)


def _sample(
    plane: Callable[[int], NDArray[np.float32]], scan: Scan, axes: Axes
) -> NDArray[np.float32]:
    """Resample the planes (rows, columns) that a function gives for a slice index."""
    slices, rows, columns = (
        sampling_matrix(source, target) for source, target in zip(scan.axes, axes, strict=True)
    )
    first, last = int(slices.indices.min()), int(slices.indices.max()) + 1
    planes = np.empty((last - first, axes[1].size, axes[2].size), dtype=np.float32)
    for index in range(first, last):
        planes[index - first] = resample_plane(plane(index), rows, columns)
    return resample_slices(planes, slices[:, first:last])

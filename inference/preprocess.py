"""From a scan in any orientation to the grid of a network, and back.

Canonical order: slices from feet to head, rows from anterior to posterior, columns from the
patient's right to the left. A stack is brought into it by permuting and flipping its axes, which
is exact; an oblique stack takes the nearest such order and keeps its obliquity.
"""

from dataclasses import dataclass
from typing import TypeAlias, TypeVar

import numpy as np
from numpy.typing import NDArray

from inference.manifest import Grid, Stage, Window
from inference.resample import (
    AxisGrid,
    resample_plane,
    resample_slices,
    sampling_matrix,
    whole_axis,
)
from inference.volume import Volume

_T = TypeVar("_T", bound=np.generic)

_SLICE_DIRECTIONS = {"H": False, "F": True}
_ROW_DIRECTIONS = {"P": False, "A": True}
_COLUMN_DIRECTIONS = {"L": False, "R": True}


@dataclass(frozen=True, kw_only=True)
class AxisOrder:
    """How the axes of a stack are permuted and then flipped to come into canonical order."""

    permutation: tuple[int, int, int]
    flipped: tuple[int, ...]
    """Canonical axes that run the other way in the stack."""

    def apply(self, array: NDArray[_T]) -> NDArray[_T]:
        """Give a view in canonical order."""
        return np.flip(array.transpose(self.permutation), self.flipped)

    def undo(self, array: NDArray[_T]) -> NDArray[_T]:
        """Give a view of a canonical array in the order of the stack."""
        inverse = [self.permutation.index(axis) for axis in range(3)]
        return np.flip(array, self.flipped).transpose(inverse)


def find_axis_order(volume: Volume) -> AxisOrder:
    """Give the order that brings a stack nearest to the canonical one."""
    directions = [str(way.value) for way in volume.get_closest_patient_orientation()]
    permutation, flipped = [], []
    for axis, wanted in enumerate((_SLICE_DIRECTIONS, _ROW_DIRECTIONS, _COLUMN_DIRECTIONS)):
        source = next(i for i, direction in enumerate(directions) if direction in wanted)
        permutation.append(source)
        if wanted[directions[source]]:
            flipped.append(axis)
    slices, rows, columns = permutation
    return AxisOrder(permutation=(slices, rows, columns), flipped=tuple(flipped))


@dataclass(frozen=True, kw_only=True, eq=False)
class Scan:
    """A stack in canonical order."""

    array: NDArray[np.int16]
    """(slices, rows, columns), HU; a view of the source array."""
    spacing_mm: tuple[float, float, float]
    order: AxisOrder

    @property
    def axes(self) -> tuple[AxisGrid, AxisGrid, AxisGrid]:
        """The voxels along each axis."""
        slices, rows, columns = (
            AxisGrid(start_mm=0.0, spacing_mm=mm, size=size)
            for mm, size in zip(self.spacing_mm, self.array.shape, strict=True)
        )
        return slices, rows, columns


def orient(volume: Volume) -> Scan:
    """Bring a scan into canonical order."""
    order = find_axis_order(volume)
    slices_mm, rows_mm, columns_mm = (float(volume.spacing[axis]) for axis in order.permutation)
    return Scan(
        array=order.apply(volume.array),
        spacing_mm=(slices_mm, rows_mm, columns_mm),
        order=order,
    )


Axes: TypeAlias = tuple[AxisGrid, AxisGrid, AxisGrid]
Box: TypeAlias = tuple[tuple[float, float], tuple[float, float], tuple[float, float]]
"""First and last position in mm along each canonical axis, voxel centers."""


def whole_grid(scan: Scan, stage: Stage) -> Axes:
    """Give the voxels of a stage over a whole scan."""
    grid, multiple = stage.grid, _plane_multiple(stage)
    slices, rows, columns = scan.axes
    return (
        _whole_slices(slices, grid),
        _grow(whole_axis(rows.size, rows.spacing_mm, grid.in_plane_mm), multiple),
        _grow(whole_axis(columns.size, columns.spacing_mm, grid.in_plane_mm), multiple),
    )


def _plane_multiple(stage: Stage) -> int:
    """Give what rows and columns are grown to; a volume is padded where it is computed."""
    return stage.multiple_px if stage.kind == "stack" else 1


def _whole_slices(axis: AxisGrid, grid: Grid) -> AxisGrid:
    if _keeps_slices(axis, grid):
        return axis
    return whole_axis(axis.size, axis.spacing_mm, grid.slice_mm)


def box_grid(scan: Scan, stage: Stage, box: Box) -> Axes:
    """Give the voxels of a stage that cover a box, as far as the scan reaches.

    For a 2.5D network rows and columns are then grown to the multiple that it needs; samples beyond
    the scan repeat its edge.
    """
    grid, multiple = stage.grid, _plane_multiple(stage)
    slices, rows, columns = (
        _clip_to_axis(axis, limits) for axis, limits in zip(scan.axes, box, strict=True)
    )
    return (
        _box_slices(scan.axes[0], grid, slices),
        _grow(_cover(rows, grid.in_plane_mm), multiple),
        _grow(_cover(columns, grid.in_plane_mm), multiple),
    )


def _keeps_slices(axis: AxisGrid, grid: Grid) -> bool:
    return grid.native_from_mm is not None and axis.spacing_mm >= grid.native_from_mm


def _clip_to_axis(axis: AxisGrid, limits: tuple[float, float]) -> tuple[float, float]:
    last_mm = axis.spacing_mm * (axis.size - 1)
    return max(0.0, limits[0]), min(last_mm, limits[1])


def _box_slices(axis: AxisGrid, grid: Grid, limits: tuple[float, float]) -> AxisGrid:
    if not _keeps_slices(axis, grid):
        return _cover(limits, grid.slice_mm)
    first = int(np.floor(limits[0] / axis.spacing_mm))
    last = min(axis.size - 1, int(np.ceil(limits[1] / axis.spacing_mm)))
    return AxisGrid(
        start_mm=first * axis.spacing_mm, spacing_mm=axis.spacing_mm, size=last - first + 1
    )


def _cover(limits: tuple[float, float], spacing_mm: float) -> AxisGrid:
    """Give samples that reach from one end to the other, centered between them."""
    length_mm = limits[1] - limits[0]
    size = int(np.ceil(length_mm / spacing_mm)) + 1
    start_mm = limits[0] - ((size - 1) * spacing_mm - length_mm) / 2
    return AxisGrid(start_mm=start_mm, spacing_mm=spacing_mm, size=size)


def _grow(axis: AxisGrid, multiple: int) -> AxisGrid:
    """Add samples at both ends until their number is a multiple."""
    missing = -axis.size % multiple
    start_mm = axis.start_mm - (missing // 2) * axis.spacing_mm
    return AxisGrid(start_mm=start_mm, spacing_mm=axis.spacing_mm, size=axis.size + missing)


def sample_scan(scan: Scan, axes: Axes, window: Window) -> NDArray[np.float32]:
    """Give the scan on other voxels, clipped to the window and mapped to 0 to 1.

    Returns
    -------
    NDArray
        (slices, rows, columns) float32.
    """
    slices, rows, columns = (
        sampling_matrix(source, target) for source, target in zip(scan.axes, axes, strict=True)
    )
    first, last = int(slices.indices.min()), int(slices.indices.max()) + 1
    planes = np.empty((last - first, axes[1].size, axes[2].size), dtype=np.float32)
    for index in range(first, last):
        plane = scan.array[index].astype(np.float32)
        np.clip(plane, window.low_hu, window.high_hu, out=plane)
        planes[index - first] = resample_plane(plane, rows, columns)
    planes -= window.low_hu
    planes /= window.high_hu - window.low_hu
    return resample_slices(planes, slices[:, first:last])

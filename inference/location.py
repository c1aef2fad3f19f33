"""Where the locator found the liver: the box around it, and what lies too far from it."""

from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from inference.preprocess import Axes, Box
from inference.resample import AxisGrid, resample_plane, sampling_matrix

Window3d: TypeAlias = tuple[slice, slice, slice]


@dataclass(frozen=True, kw_only=True, eq=False)
class Location:
    """The liver on the voxels of the locator."""

    liver: NDArray[np.bool_]
    """(slices, rows, columns)."""
    axes: Axes

    def box(self, margin_mm: float) -> Box:
        """Give the box around the liver, with a margin on all sides."""
        limits = []
        for axis, grid in enumerate(self.axes):
            others = tuple(other for other in range(3) if other != axis)
            inside = np.flatnonzero(self.liver.any(axis=others))
            positions = grid.positions_mm[inside[[0, -1]]]
            limits.append((float(positions[0]) - margin_mm, float(positions[1]) + margin_mm))
        slices, rows, columns = limits
        return slices, rows, columns


def drop_far(
    labels: NDArray[np.uint8],
    window: Window3d,
    source: Axes,
    location: Location,
    max_distance_mm: float,
) -> None:
    """Set to background, in place, what lies farther from the located liver than allowed.

    The segmenter sees fine detail and little around it, the locator the whole abdomen and no
    detail. So the segmenter draws the border, and only near the one that the locator saw.

    Parameters
    ----------
    labels:
        Labels of the source voxels inside ``window``.
    window, source:
        Which voxels of the scan these are, and the voxels of the scan.
    location:
        The liver on its own voxels.
    max_distance_mm:
        Largest distance from it.
    """
    spacing_mm = [axis.spacing_mm for axis in location.axes]
    distance = ndimage.distance_transform_edt(~location.liver, sampling=spacing_mm)
    distance_mm = distance.astype(np.float32)
    slices, rows, columns = (
        sampling_matrix(axis, part_of_axis(origin, part))
        for axis, origin, part in zip(location.axes, source, window, strict=True)
    )
    for index, plane in enumerate(labels):
        if plane.any():
            weights = slices[[index]]
            near = np.tensordot(weights.data, distance_mm[weights.indices], axes=(0, 0))
            plane[resample_plane(near, rows, columns) > max_distance_mm] = 0


def part_of_axis(axis: AxisGrid, part: slice) -> AxisGrid:
    """Give some of the voxels along an axis."""
    return AxisGrid(
        start_mm=axis.start_mm + part.start * axis.spacing_mm,
        spacing_mm=axis.spacing_mm,
        size=max(0, part.stop - part.start),
    )

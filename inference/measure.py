"""Volumes, densities and diameters of the liver and of each lesion, from the label volume."""

import math
from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.spatial import KDTree
from scipy.spatial.distance import cdist

from inference.findings import Diameter, Findings, Lesion, Region
from inference.labels import Label
from inference.volume import Volume

_TOUCHING = np.ones((3, 3, 3), bool)
"""26-connectivity: voxels that share a face, an edge or a corner belong together."""
_MEASURABLE_MM = 10.0
_THICK_SLICE_MM = 5.0
_AXIAL_COSINE = math.cos(math.radians(20.0))
"""Slices whose normal is nearer to the long axis of the patient are axial."""
_LEAF_SIZE = 40
"""Of the tree of surface voxels: searched several times as fast as with the default of 10."""
_CELL_MM = 4.0
"""Edge of the cells in which the surface of a lesion is compared with that of the liver."""
_ROUNDING_MM = 1e-6
"""More than distances differ by the way in which they are computed."""
_SKEW_LIMIT = math.sin(math.radians(5.0))

BoolArray = NDArray[np.bool_]
IntArray = NDArray[np.int64]
Box = tuple[slice, slice, slice]


def measure(volume: Volume, labels: Volume) -> Findings:
    """Measure the liver and its lesions.

    A lesion is a 26-connected component of `Label.TUMOR`. Its long axis is the longest line
    between the centers of two of its voxels in one slice of the source grid, in the slice where
    that line is longest (the first such slice). Its short axis is the longest line in the same
    slice between two voxels of the outline that stands perpendicular on the long axis, give or
    take 5 degrees or half a pixel, whichever allows more. The standard deviation is that of the
    population.

    Parameters
    ----------
    volume
        (slices, rows, columns) HU.
    labels
        The same grid, values of `inference.labels.Label`.

    Raises
    ------
    ValueError
        When the grids differ or no voxel is labeled as liver.
    """
    if volume.shape != labels.shape or not np.allclose(volume.affine, labels.affine, atol=1e-3):
        message = "the labels do not lie on the grid of the volume"
        raise ValueError(message)
    liver_box, tumor_box = _boxes(labels.array)
    if liver_box is None:
        message = "no voxel is labeled as liver"
        raise ValueError(message)
    lesion_map = _number_lesions(labels.array, tumor_box)
    return Findings(
        liver=_region(volume, labels.array[liver_box] == Label.LIVER, liver_box),
        lesions=()
        if tumor_box is None
        else _lesions(volume, labels, lesion_map, (liver_box, tumor_box)),
        lesion_map=labels.with_array(lesion_map),
    )


def dice(first: BoolArray, second: BoolArray) -> float:
    """Give the Dice coefficient of two masks: twice the overlap over the sum of the sizes.

    Two empty masks agree: 1.0.
    """
    total = np.count_nonzero(first) + np.count_nonzero(second)
    return 2.0 * np.count_nonzero(first & second) / total if total else 1.0


def _boxes(labels: NDArray[np.uint8]) -> tuple[Box | None, Box | None]:
    """Give the bounding boxes of liver and tumor."""
    boxes = ndimage.find_objects(labels, max_label=Label.TUMOR)
    return boxes[Label.LIVER - 1], boxes[Label.TUMOR - 1]


def _number_lesions(labels: NDArray[np.uint8], tumor_box: Box | None) -> NDArray[np.uint16]:
    """Give each component its number from 1, the largest first, equal ones in grid order."""
    numbered = np.zeros(labels.shape, np.uint16)
    if tumor_box is not None:
        parts, count = ndimage.label(labels[tumor_box] == Label.TUMOR, structure=_TOUCHING)
        sizes = np.bincount(parts.ravel(), minlength=count + 1)[1:]
        ranks = np.zeros(count + 1, np.uint16)
        ranks[1 + np.argsort(-sizes, kind="stable")] = np.arange(1, count + 1)
        numbered[tumor_box] = ranks[parts]
    return numbered


def _lesions(
    volume: Volume, labels: Volume, lesion_map: NDArray[np.uint16], boxes: tuple[Box, Box]
) -> tuple[Lesion, ...]:
    """Measure all lesions, given the boxes of liver and tumor."""
    _, tumor_box = boxes
    surface_mm = _surface_mm(labels, _around(*boxes))
    found = ndimage.find_objects(lesion_map[tumor_box])
    return tuple(
        _lesion(volume, lesion_map[box] == number, box, number, surface_mm)
        for number, box in enumerate((_outward(tumor_box, inner) for inner in found), start=1)
    )


def _outward(outer: Box, inner: Box) -> Box:
    """Move a box in a box to the whole grid."""
    first, second, third = (
        slice(whole.start + extent.start, whole.start + extent.stop)
        for whole, extent in zip(outer, inner, strict=True)
    )
    return first, second, third


def _around(liver_box: Box, tumor_box: Box) -> Box:
    """Give the box of the organ with one voxel around it, where the grid has it."""
    first, second, third = (
        slice(max(0, min(one.start, other.start) - 1), max(one.stop, other.stop) + 1)
        for one, other in zip(liver_box, tumor_box, strict=True)
    )
    return first, second, third


def _lesion(volume: Volume, mask: BoolArray, box: Box, number: int, surface_mm: KDTree) -> Lesion:
    region = _region(volume, mask, box)
    in_slice = mask[region.long_axis.slice_index - box[0].start]
    return Lesion(
        **vars(region),
        number=number,
        short_axis=_short_axis(in_slice, box, region.long_axis, _pixel_spacing_mm(volume)),
        surface_distance_mm=_surface_distance_mm(volume, mask, box, surface_mm),
        is_measurable=_is_measurable(volume, region.long_axis),
    )


def _surface_mm(labels: Volume, box: Box) -> KDTree:
    """Give the outermost voxels of the liver with its lesions, for the nearest to be looked up.

    What lies on the border of the scan is no surface: the liver may go on there.
    """
    organ = labels.array[box] > 0
    shell = organ & ~ndimage.binary_erosion(organ, border_value=1)
    return KDTree(_points_mm(labels, shell, box), leafsize=_LEAF_SIZE)


def _surface_distance_mm(
    volume: Volume, mask: BoolArray, box: Box, surface_mm: KDTree
) -> float | None:
    if not surface_mm.n:
        return None
    return _shortest_mm(_points_mm(volume, mask & ~ndimage.binary_erosion(mask), box), surface_mm)


def _shortest_mm(points_mm: NDArray[np.float64], surface_mm: KDTree) -> float:
    """Give the shortest distance of points to a surface.

    No point is nearer to it than the middle of its cell, less the way from there: so few points
    need a closer look. Deep in a round liver, where the surface is about as far on all sides, each
    search costs much, unless it knows how far to look.
    """
    cells, cell_of = np.unique(np.floor(points_mm / _CELL_MM), axis=0, return_inverse=True)
    middles_mm = (cells + 0.5) * _CELL_MM
    limit_mm = _bound_mm(points_mm, surface_mm, points_mm.mean(axis=0))
    reach_mm = limit_mm + _CELL_MM * math.sqrt(3) / 2
    far_mm, _ = surface_mm.query(middles_mm, distance_upper_bound=reach_mm)
    limit_mm = min(limit_mm, _bound_mm(points_mm, surface_mm, middles_mm[far_mm.argmin()]))
    ways_mm = np.linalg.norm(points_mm - middles_mm[cell_of.ravel()], axis=1)
    near = points_mm[far_mm[cell_of.ravel()] - ways_mm < limit_mm]
    distances_mm, _ = surface_mm.query(near, distance_upper_bound=limit_mm)
    return float(distances_mm.min())


def _bound_mm(
    points_mm: NDArray[np.float64], surface_mm: KDTree, place_mm: NDArray[np.float64]
) -> float:
    """Give what the shortest distance of points to a surface is less than.

    It is that to the voxel of the surface which is nearest to a place, and a little more, so that
    rounding does not matter.
    """
    _, nearest = surface_mm.query(place_mm)
    distances_mm = np.linalg.norm(points_mm - surface_mm.data[nearest], axis=1)
    return float(distances_mm.min()) + _ROUNDING_MM


def _points_mm(volume: Volume, mask: BoolArray, box: Box) -> NDArray[np.float64]:
    """Give where the voxels of a mask in a box lie along the axes of the grid, (n, 3)."""
    corner = [extent.start for extent in box]
    return np.asarray((np.argwhere(mask) + corner) * volume.spacing)


def _is_measurable(volume: Volume, long_axis: Diameter) -> bool | None:
    """Apply RECIST 1.1 (Eisenhauer et al. 2009, 3.1.1): 10 mm on CT, or two slices where thick."""
    normal = np.asarray(volume.affine)[:3, 0]
    if abs(normal[2]) < _AXIAL_COSINE * np.linalg.norm(normal):
        return None
    slice_mm = float(volume.spacing[0])
    least_mm = _MEASURABLE_MM if slice_mm <= _THICK_SLICE_MM else 2 * slice_mm
    return long_axis.length_mm >= least_mm


def _region(volume: Volume, mask: BoolArray, box: Box) -> Region:
    """Measure `mask`, which lies in `box` of the volume."""
    hu = volume.array[box][mask]
    return Region(
        voxel_count=hu.size,
        volume_ml=hu.size * volume.voxel_volume / 1000,
        mean_hu=float(hu.mean(dtype=np.float64)),
        sd_hu=float(hu.std(dtype=np.float64)),
        min_hu=float(hu.min()),
        max_hu=float(hu.max()),
        centroid_mm=_centroid_mm(volume, mask, box),
        long_axis=_long_axis(mask, box, _pixel_spacing_mm(volume)),
    )


def _pixel_spacing_mm(volume: Volume) -> tuple[float, float]:
    """Give the spacing between rows and between columns."""
    _, rows_mm, columns_mm = volume.spacing
    return float(rows_mm), float(columns_mm)


def _centroid_mm(volume: Volume, mask: BoolArray, box: Box) -> tuple[float, float, float]:
    middle = []
    for axis in range(3):
        others = tuple(other for other in range(3) if other != axis)
        counts = np.count_nonzero(mask, axis=others)
        middle.append(box[axis].start + counts @ np.arange(len(counts)) / counts.sum())
    x, y, z = volume.affine[:3, :3] @ middle + volume.affine[:3, 3]
    return float(x), float(y), float(z)


def _long_axis(mask: BoolArray, box: Box, spacing_mm: tuple[float, float]) -> Diameter:
    longest = None
    for index, in_slice in enumerate(mask):
        if not in_slice.any():
            continue
        corners = _hull_corners(in_slice)
        lengths = cdist(corners * spacing_mm, corners * spacing_mm)
        first, second = np.unravel_index(lengths.argmax(), lengths.shape)
        if longest is None or lengths[first, second] > longest.length_mm:
            ends = corners[first], corners[second]
            longest = _diameter(index, ends, float(lengths[first, second]), box)
    if longest is None:
        message = "an empty mask has no diameter"
        raise ValueError(message)
    return longest


def _diameter(index: int, ends: tuple[IntArray, IntArray], length_mm: float, box: Box) -> Diameter:
    """Move a line from the box to the whole grid."""
    (top, left), (bottom, right) = ends
    rows, columns = box[1].start, box[2].start
    return Diameter(
        slice_index=box[0].start + index,
        start=(float(rows + top), float(columns + left)),
        end=(float(rows + bottom), float(columns + right)),
        length_mm=length_mm,
    )


def _short_axis(
    in_slice: BoolArray, box: Box, long_axis: Diameter, spacing_mm: tuple[float, float]
) -> Diameter | None:
    direction = np.subtract(long_axis.end, long_axis.start) * spacing_mm
    outline = _outline(in_slice)
    along = (outline * spacing_mm) @ direction / max(long_axis.length_mm, 1e-9)
    best_mm, best = 0.0, (0, 0)
    for index in range(len(outline)):
        lengths = np.hypot(*((outline[index:] - outline[index]) * spacing_mm).T)
        skew = np.abs(along[index:] - along[index])
        lengths[skew > np.maximum(_SKEW_LIMIT * lengths, min(spacing_mm) / 2)] = 0.0
        farthest = int(lengths.argmax())
        if lengths[farthest] > best_mm:
            best_mm, best = float(lengths[farthest]), (index, index + farthest)
    if best_mm == 0.0:
        return None
    ends = outline[best[0]], outline[best[1]]
    return _diameter(long_axis.slice_index - box[0].start, ends, best_mm, box)


def _outline(in_slice: BoolArray) -> IntArray:
    """Give (row, column) of the pixels that have a neighbor outside, (n, 2)."""
    return np.argwhere(in_slice & ~ndimage.binary_erosion(in_slice))


def _hull_corners(in_slice: BoolArray) -> IntArray:
    """Give (row, column) of the corners of the convex hull of the pixel centers, (n, 2).

    Andrew's monotone chain over the first and the last pixel of each row: exact in integers.
    """
    rows = np.flatnonzero(in_slice.any(axis=1))
    first = in_slice[rows].argmax(axis=1)
    last = in_slice.shape[1] - 1 - in_slice[rows, ::-1].argmax(axis=1)
    left = _chain(zip(rows.tolist(), first.tolist(), strict=True), turn=1)
    right = _chain(zip(rows.tolist(), last.tolist(), strict=True), turn=-1)
    return np.array(left + right)


def _chain(points: Iterable[tuple[int, int]], turn: int) -> list[tuple[int, int]]:
    """Keep the points at which a path down the rows turns to one side only."""
    chain: list[tuple[int, int]] = []
    for row, column in points:
        while len(chain) > 1 and turn * _cross(chain[-2], chain[-1], (row, column)) <= 0:
            chain.pop()
        chain.append((row, column))
    return chain


def _cross(first: tuple[int, int], middle: tuple[int, int], last: tuple[int, int]) -> int:
    down, across = middle[0] - first[0], middle[1] - first[1]
    return down * (last[1] - first[1]) - across * (last[0] - first[0])

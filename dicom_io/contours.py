"""Outlines of masks as polygons from which the same pixels come back.

Vertices lie midway between the centers of neighboring pixels, so a pixel is in the mask exactly if
its center is in one of the polygons, and no center is nearer to a polygon than a third of a pixel.
"""

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray
from skimage.measure import find_contours

from dicom_io.frames import Frame

Points = NDArray[np.float64]
"""Array (points, 2) of (row, column) indices; an integer is the center of a pixel."""
_Point = tuple[float, float]
_Polygon = list[_Point]


def trace_mask(mask: NDArray[np.bool_]) -> list[Points]:
    """Give the closed polygons around a mask; they do not overlap.

    There is one polygon for each part of the mask, the first point not repeated. A hole is joined
    to what lies left of it by a keyhole: a line, half a pixel beside the centers, that is walked
    forth and back (PS3.3 C.8.8.6.3). Pixels that touch at a corner only are apart, and a gap that
    is open at a corner only is open: this makes the fewest keyholes. A part inside a hole has a
    polygon of its own.

    Parameters
    ----------
    mask
        One slice (rows, columns); it may reach the border.

    Returns
    -------
    list of (points, 2) arrays
        In the order in which the parts begin, from top left; none for an empty mask.
    """
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if not rows.size:
        return []
    box = mask[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    rings = find_contours(np.pad(box, 1).astype(np.float64), 0.5, fully_connected="low")
    offset = np.array([rows[0] - 1, columns[0] - 1])
    polygons = _join([ring[:-1] + offset for ring in rings])
    return [_without_straight_points(np.array(polygon)) for polygon in polygons]


def points_in_patient(points: Points, plane: Frame) -> NDArray[np.float64]:
    """Map (row, column) indices to LPS in mm, by the plane of a source frame (PS3.3 C.7.6.2.1.1).

    Returns
    -------
    array (points, 3)
    """
    along_row, down_column = np.reshape(plane.orientation, (2, 3))
    row_spacing_mm, column_spacing_mm = plane.pixel_spacing_mm
    axes_mm = np.array([down_column * row_spacing_mm, along_row * column_spacing_mm])
    return np.asarray(plane.position_mm + points @ axes_mm)


def _join(rings: Iterable[Points]) -> list[_Polygon]:
    """Join each hole to its part of the mask."""
    outer: list[Points] = []
    holes: list[Points] = []
    for ring in rings:
        (holes if _is_hole(ring) else outer).append(ring)
    polygons = [_as_polygon(ring) for ring in outer]
    if not holes:
        return polygons
    owners: dict[_Point, _Polygon] = {point: polygon for polygon in polygons for point in polygon}
    places = np.concatenate([_places_to_meet(ring) for ring in (*outer, *holes)])
    for hole in sorted((_as_polygon(_from_top_left(ring)) for ring in holes), key=lambda h: h[0]):
        _cut_keyhole(hole, places, owners)
    return polygons


def _is_hole(ring: Points) -> bool:
    """Whether a ring winds around pixels outside the mask: by the sign of its area."""
    rows, columns = ring.T
    return bool(np.sum(rows * np.roll(columns, -1) - columns * np.roll(rows, -1)) > 0)


def _as_polygon(ring: Points) -> _Polygon:
    return [(row, column) for row, column in ring.tolist()]


def _from_top_left(ring: Points) -> Points:
    top_left = int(np.lexsort(ring.T[::-1])[0])
    return np.roll(ring, -top_left, axis=0)


def _places_to_meet(ring: Points) -> Points:
    """Give the points of a ring on lines half a pixel beside the centers.

    They are vertices, and the middles of edges that go up or down.
    """
    middles = (ring + np.roll(ring, -1, axis=0)) / 2
    upright = np.abs(np.diff(ring, axis=0, append=ring[:1])[:, 0]) == 1
    return np.concatenate([ring, middles[upright]])


def _cut_keyhole(hole: _Polygon, places: Points, owners: dict[_Point, _Polygon]) -> None:
    """Insert a hole where the line from its top left point to the left meets the first ring.

    Holes come from the top, and from the left, so a hole that is met has been joined before. Rings
    have the mask on their right hand: one that is met goes up, and after the last visit of a point
    comes what lies right of it.
    """
    row, column = hole[0]
    met = row, float(places[(places[:, 0] == row) & (places[:, 1] < column), 1].max())
    is_vertex = met in owners
    before = met if is_vertex else (row + 0.5, met[1])
    polygon = owners[before]
    place = len(polygon) - polygon[::-1].index(before)
    polygon[place:place] = [*([] if is_vertex else [met]), *hole, hole[0], met]
    owners.update(dict.fromkeys(hole, polygon))


def _without_straight_points(points: Points) -> Points:
    """Drop points at which a polygon goes straight on; at the end of a keyhole it turns back."""
    before, after = points - np.roll(points, 1, axis=0), np.roll(points, -1, axis=0) - points
    turn = before[:, 0] * after[:, 1] - before[:, 1] * after[:, 0]
    return np.asarray(points[(turn != 0) | (np.sum(before * after, axis=1) < 0)])

"""Order and geometry of a stack of slices, or the reason why the slices are none.

Tolerances
----------
Directions may differ by 1e-3 rad and pixel spacings by 1e-4 of themselves, which moves no pixel of
a 500 mm field by more than a pixel. A slice may lie 0.1 mm away from its place in the regular
stack: scanners that round positions to 0.1 mm move a slice and both ends of the stack by up to
0.05 mm each, and 0.1 mm is less than a fifth of the thinnest CT slice. Positions that are closer
to each other than that are the same.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dicom_io.errors import RejectionReason, UnsuitableSeries
from dicom_io.frames import Frame

ANGLE_TOLERANCE_RAD = 1e-3
PIXEL_SPACING_TOLERANCE = 1e-4
POSITION_TOLERANCE_MM = 0.1
_FLOAT_NOISE_MM = 1e-6
_LISTED_GAPS = 5

_Floats = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True, eq=False)
class Stack:
    """A regular stack of slices."""

    order: tuple[int, ...]
    """Indices of the frames, sorted along the slice normal."""
    affine: _Floats
    """(4, 4): index (slice, row, column) to patient coordinates in mm, LPS."""


def arrange(frames: Sequence[Frame]) -> Stack:
    """Sort frames along the slice normal and find their common geometry.

    The normal is row cosines x column cosines (PS3.3 C.7.6.2.1.1). Neither file names nor
    Instance Number have a say.

    Parameters
    ----------
    frames
        At least two frames.

    Raises
    ------
    UnsuitableSeries
        SEVERAL_STACKS, MIXED_GRID, MIXED_ORIENTATION, NO_POSITION, DUPLICATE_POSITION, GANTRY_TILT,
        MISSING_SLICE or IRREGULAR_SPACING.
    """
    _check_one_stack(frames)
    row_spacing_mm, column_spacing_mm = _common_pixel_spacing(frames)
    row, column = _common_directions(frames)
    normal = np.cross(row, column)
    positions = np.array([frame.position_mm for frame in frames], dtype=np.float64)
    distances = positions @ normal
    order = np.argsort(distances, kind="stable")
    positions, distances = positions[order], distances[order]
    _check_distinct(distances)
    _check_straight(positions, distances, normal)
    _check_even(distances)
    slice_spacing_mm = (distances[-1] - distances[0]) / (len(frames) - 1)
    affine = np.eye(4)
    affine[:3, 0] = normal * slice_spacing_mm
    affine[:3, 1] = column * row_spacing_mm
    affine[:3, 2] = row * column_spacing_mm
    affine[:3, 3] = positions[0]
    return Stack(order=tuple(int(index) for index in order), affine=affine)


def _check_one_stack(frames: Sequence[Frame]) -> None:
    stacks = {frame.stack for frame in frames}
    if len(stacks) > 1:
        raise UnsuitableSeries(RejectionReason.SEVERAL_STACKS, f"{len(stacks)} stack IDs")


def _common_pixel_spacing(frames: Sequence[Frame]) -> tuple[float, float]:
    """Return row and column distance in mm; also refuse mixed matrix sizes."""
    shapes = sorted({frame.shape for frame in frames})
    if len(shapes) > 1:
        sizes = ", ".join(f"{rows} x {columns}" for rows, columns in shapes)
        raise UnsuitableSeries(RejectionReason.MIXED_GRID, f"matrix sizes {sizes}")
    spacings = np.array([frame.pixel_spacing_mm for frame in frames])
    low, high = spacings.min(axis=0), spacings.max(axis=0)
    if np.any(high - low > PIXEL_SPACING_TOLERANCE * low):
        detail = f"pixel spacings from {low[0]:g} x {low[1]:g} mm to {high[0]:g} x {high[1]:g} mm"
        raise UnsuitableSeries(RejectionReason.MIXED_GRID, detail)
    row_spacing_mm, column_spacing_mm = np.median(spacings, axis=0)
    return float(row_spacing_mm), float(column_spacing_mm)


def _common_directions(frames: Sequence[Frame]) -> tuple[_Floats, _Floats]:
    """Return the unit vectors along a row and along a column, exactly perpendicular."""
    cosines = np.array([frame.orientation for frame in frames]).reshape(-1, 2, 3)
    lengths = np.linalg.norm(cosines, axis=2)
    angles = np.abs(np.einsum("nk,nk->n", cosines[:, 0], cosines[:, 1]))
    if np.any(np.abs(lengths - 1) > ANGLE_TOLERANCE_RAD) or angles.max() > ANGLE_TOLERANCE_RAD:
        detail = "ImageOrientationPatient is not a pair of perpendicular unit vectors"
        raise UnsuitableSeries(RejectionReason.NO_POSITION, detail)
    usual = np.median(cosines, axis=0)
    deviations = np.linalg.norm(cosines - usual, axis=2).max(axis=1)
    if deviations.max() > ANGLE_TOLERANCE_RAD:
        spread = np.ptp(cosines, axis=0).max()
        detail = f"direction cosines differ by up to {spread:.3f}"
        raise UnsuitableSeries(RejectionReason.MIXED_ORIENTATION, detail)
    row = usual[0] / np.linalg.norm(usual[0])
    column = usual[1] - (usual[1] @ row) * row
    return row, column / np.linalg.norm(column)


def _check_distinct(distances: _Floats) -> None:
    """Refuse slices that share a position."""
    same = np.diff(distances) < POSITION_TOLERANCE_MM
    if not same.any():
        return
    first_mm = distances[:-1][same][0]
    detail = (
        f"{len(distances)} slices lie at only {len(distances) - int(same.sum())} positions; "
        f"the first shared one is at {first_mm:.1f} mm along the slice normal"
    )
    raise UnsuitableSeries(RejectionReason.DUPLICATE_POSITION, detail)


def _check_straight(positions: _Floats, distances: _Floats, normal: _Floats) -> None:
    """Refuse a stack whose slices are shifted in their plane: by a tilted gantry, or anyhow."""
    shifts = positions - positions[0] - np.outer(distances - distances[0], normal)
    length_mm = distances[-1] - distances[0]
    tolerance_mm = POSITION_TOLERANCE_MM + ANGLE_TOLERANCE_RAD * length_mm
    if np.linalg.norm(shifts, axis=1).max() <= tolerance_mm:
        return
    slope = shifts[-1] / length_mm
    bends = shifts - np.outer(distances - distances[0], slope)
    bend_mm = float(np.linalg.norm(bends, axis=1).max())
    if bend_mm > tolerance_mm:
        detail = f"slices are shifted within their plane by up to {bend_mm:.1f} mm"
        raise UnsuitableSeries(RejectionReason.IRREGULAR_SPACING, detail)
    angle = np.degrees(np.arctan(np.linalg.norm(slope)))
    raise UnsuitableSeries(RejectionReason.GANTRY_TILT, f"tilted by {angle:.1f} degrees")


def _check_even(distances: _Floats) -> None:
    """Refuse gaps and uneven distances."""
    steps = np.diff(distances)
    usual_mm = float(np.median(steps))
    counts = np.rint(steps / usual_mm).astype(int)
    deviations = np.abs(steps - counts * usual_mm)
    tolerance_mm = POSITION_TOLERANCE_MM + _FLOAT_NOISE_MM
    uneven = (counts < 1) | (deviations > (counts + 1) * tolerance_mm)
    if not uneven.any() and (counts > 1).any():
        _refuse_gaps(distances, counts - 1, usual_mm)
    regular = np.linspace(distances[0], distances[-1], len(distances))
    if uneven.any() or np.abs(distances - regular).max() > tolerance_mm:
        detail = f"slice distances from {steps.min():.2f} to {steps.max():.2f} mm"
        raise UnsuitableSeries(RejectionReason.IRREGULAR_SPACING, detail)


def _refuse_gaps(distances: _Floats, missing: NDArray[np.int_], usual_mm: float) -> None:
    gaps = np.flatnonzero(missing)
    places = [
        f"{missing[gap]} between {distances[gap]:.1f} and {distances[gap + 1]:.1f} mm"
        for gap in gaps[:_LISTED_GAPS]
    ]
    if len(gaps) > _LISTED_GAPS:
        places.append(f"and {len(gaps) - _LISTED_GAPS} more gaps")
    total = int(missing.sum())
    detail = (
        f"{total} missing at a slice distance of {usual_mm:.2f} mm, "
        f"along the slice normal: {', '.join(places)}"
    )
    raise UnsuitableSeries(RejectionReason.MISSING_SLICE, detail)

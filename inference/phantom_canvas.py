"""The grid on which a phantom is painted: warped coordinates, shapes, blur and noise."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

FloatArray = NDArray[np.floating]
BoolArray = NDArray[np.bool_]
Point = tuple[float, float, float]
Box = tuple[slice, slice, slice]

_CONTROL_STEP_MM = 60.0
_CONTROL_REACH_MM = 240.0
_SLAB_SLICES = 4


@dataclass(frozen=True, kw_only=True, eq=False)
class Coordinates:
    """Anatomical coordinates in mm (LPS sense, origin in the liver's height at mid-body).

    Each array has the shape of the box it belongs to.
    """

    x: FloatArray
    y: FloatArray
    z: FloatArray

    def ellipsoid(self, center: Point, radii: Point, *, turn_deg: float = 0.0) -> FloatArray:
        """Give the depth in an ellipsoid: positive inside, about mm, negative outside.

        Parameters
        ----------
        center, radii
            In mm, (x, y, z).
        turn_deg
            Rotation about the z axis.
        """
        across, back, up = self.x - center[0], self.y - center[1], self.z - center[2]
        if turn_deg:
            cos, sin = math.cos(math.radians(turn_deg)), math.sin(math.radians(turn_deg))
            across, back = cos * across + sin * back, cos * back - sin * across
        radius = np.sqrt(
            (across / radii[0]) ** 2 + (back / radii[1]) ** 2 + (up / radii[2]) ** 2,
            dtype=np.float32,
        )
        return np.asarray((1.0 - radius) * min(radii), np.float32)

    def capsule(self, start: Point, end: Point, radius_mm: float) -> BoolArray:
        """Give the voxels within `radius_mm` of the line from `start` to `end`."""
        step = np.subtract(end, start)
        offset = (self.x - start[0], self.y - start[1], self.z - start[2])
        along = sum(o * s for o, s in zip(offset, step, strict=True)) / max(step @ step, 1e-6)
        along = np.clip(along, 0.0, 1.0)
        distance2 = sum((o - along * s) ** 2 for o, s in zip(offset, step, strict=True))
        return np.asarray(distance2 < radius_mm**2)


class Canvas:
    """Hounsfield units under construction, with the anatomical coordinates of each voxel.

    Parameters
    ----------
    axes_mm
        Positions of the voxel centers along (z, y, x).
    rng
        Source of warp and rotation.
    """

    def __init__(self, axes_mm: Sequence[NDArray[np.float64]], rng: np.random.Generator) -> None:
        self._axes_mm = tuple(axes_mm)
        self.shape = tuple(len(axis) for axis in axes_mm)
        self.hu = np.full(self.shape, -1000.0, np.float32)
        self.free = np.zeros(self.shape, bool)
        """Voxels of the abdominal cavity that no organ fills yet."""
        self._coordinates = _warped_coordinates(self._axes_mm, rng)

    def slabs(self) -> Iterator[tuple[Box, Coordinates]]:
        """Give the whole grid in boxes of a few slices, which are kinder to the CPU's caches."""
        at, everything = self._coordinates, slice(None)
        for first in range(0, self.shape[0], _SLAB_SLICES):
            part = slice(first, first + _SLAB_SLICES)
            box = (part, everything, everything)
            yield box, Coordinates(x=at.x[part], y=at.y[part], z=at.z[part])

    def box(self, center: Point, reach: Point) -> tuple[Box, Coordinates]:
        """Give the part of the grid around `center`, at least `reach` mm each way."""
        half_mm = np.add(reach, 8.0 + 0.12 * min(max(reach), 150.0))
        bounds = []
        for axis, middle, half in zip(
            self._axes_mm, self._unwarped(center), half_mm[::-1], strict=True
        ):
            first, last = np.searchsorted(axis, (middle - half, middle + half))
            bounds.append(slice(int(first), int(last)))
        box = (bounds[0], bounds[1], bounds[2])
        at = self._coordinates
        return box, Coordinates(x=at.x[box], y=at.y[box], z=at.z[box])

    def _unwarped(self, center: Point) -> tuple[float, float, float]:
        """Give about where on the axes (z, y, x) an anatomical point lies."""
        index = tuple(
            min(int(np.searchsorted(axis, middle)), len(axis) - 1)
            for axis, middle in zip(self._axes_mm, center[::-1], strict=True)
        )
        at = self._coordinates
        shifts = (at.z[index], at.y[index], at.x[index])
        z, y, x = (
            middle - float(shift) + axis[i]
            for axis, i, shift, middle in zip(
                self._axes_mm, index, shifts, center[::-1], strict=True
            )
        )
        return z, y, x

    def paint(self, box: Box, mask: BoolArray, hu: float, *, take: bool = False) -> None:
        """Set the masked voxels of `box` to `hu`."""
        self.hu[box][mask] = hu
        if take:
            self.free[box] &= ~mask

    def paint_ellipsoid(
        self, center: Point, radii: Point, hu: float, *, turn_deg: float = 0.0, take: bool = False
    ) -> None:
        """Fill an ellipsoid."""
        reach = max(radii) if turn_deg else None
        box, at = self.box(center, radii if reach is None else (reach, reach, radii[2]))
        self.paint(box, at.ellipsoid(center, radii, turn_deg=turn_deg) > 0, hu, take=take)

    def paint_capsule(
        self,
        start: Point,
        end: Point,
        radius_mm: float,
        hu: float,
        *,
        within: BoolArray | None = None,
    ) -> None:
        """Fill a round-ended tube, only in the voxels `within` when given."""
        middle = np.add(start, end) / 2
        reach = np.abs(np.subtract(end, start)) / 2 + radius_mm
        box, at = self.box(tuple(middle), tuple(reach))
        mask = at.capsule(start, end, radius_mm)
        if within is not None:
            mask &= within[box]
        self.paint(box, mask, hu)


def _warped_coordinates(
    axes_mm: tuple[NDArray[np.float64], ...], rng: np.random.Generator
) -> Coordinates:
    """Rotate by a few degrees and warp smoothly; the same for every grid of the same seed."""
    controls = np.arange(-_CONTROL_REACH_MM, _CONTROL_REACH_MM + 1, _CONTROL_STEP_MM)
    weights = [_smooth_weights(axis, controls) for axis in axes_mm]
    turn = _rotation(rng.uniform(-4, 4, size=3) * (0.5, 0.5, 1.0))
    z, y, x = np.meshgrid(*(a.astype(np.float32) for a in axes_mm), indexing="ij", sparse=True)
    warped = []
    for row in turn.astype(np.float32):
        shift = rng.normal(0.0, 5.0, size=(len(controls),) * 3).clip(-9, 9).astype(np.float32)
        field = np.tensordot(weights[0], shift, axes=(1, 0))
        field = np.tensordot(field, weights[1], axes=(1, 1))
        field = np.tensordot(field, weights[2], axes=(1, 1))
        field += row[0] * x + row[1] * y
        field += row[2] * z
        warped.append(field)
    return Coordinates(x=warped[0], y=warped[1], z=warped[2])


def _smooth_weights(axis_mm: NDArray[np.float64], controls_mm: NDArray[np.float64]) -> FloatArray:
    distance = (axis_mm[:, None] - controls_mm[None, :]) / (0.6 * _CONTROL_STEP_MM)
    weights = np.exp(-0.5 * distance**2)
    return np.asarray(weights / weights.sum(axis=1, keepdims=True), np.float32)


def _rotation(angles_deg: NDArray[np.float64]) -> NDArray[np.float64]:
    (cx, cy, cz), (sx, sy, sz) = np.cos(np.deg2rad(angles_deg)), np.sin(np.deg2rad(angles_deg))
    about_x = np.array([[1, 0, 0], [0, cx, -sx], [0, sx, cx]])
    about_y = np.array([[cy, 0, sy], [0, 1, 0], [-sy, 0, cy]])
    about_z = np.array([[cz, -sz, 0], [sz, cz, 0], [0, 0, 1]])
    return np.asarray(about_z @ about_y @ about_x)


def smooth_maximum(first: FloatArray, second: FloatArray, blend_mm: float) -> FloatArray:
    """Join two depth fields with a rounded seam."""
    seam = np.maximum(blend_mm - np.abs(first - second), 0) / blend_mm
    return np.asarray(np.maximum(first, second) + seam**2 * blend_mm / 4, np.float32)


def smooth_minimum(first: FloatArray, second: FloatArray, blend_mm: float) -> FloatArray:
    """Cut one depth field with another, with a rounded edge."""
    return -smooth_maximum(-first, -second, blend_mm)


def acquire(
    hu: FloatArray,
    spacing_mm: tuple[float, float, float],
    noise_hu: float,
    rng: np.random.Generator,
) -> NDArray[np.int16]:
    """Blur edges as a scanner does, add noise with the grain of a soft kernel, round to int16.

    Parameters
    ----------
    hu
        (slices, rows, columns).
    spacing_mm
        (slices, rows, columns).
    noise_hu
        Standard deviation of the noise.
    """
    sigma = (0.4, 0.75 / spacing_mm[1], 0.75 / spacing_mm[2])
    blurred = ndimage.gaussian_filter(hu, sigma, truncate=3.0)
    noise = rng.standard_normal(hu.shape, dtype=np.float32)
    noise = ndimage.gaussian_filter(noise, (0.35, 0.7, 0.7), truncate=3.0)
    noise *= noise_hu / noise.std()
    blurred += noise
    return np.asarray(np.clip(np.rint(blurred), -1024, 3071), np.int16)

"""Synthetic masses in volumes: lesions inside the liver, and look-alikes against it."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

_WINDOW_HU = 400.0
_SOFT_TISSUE = 0.3
"""Level above which a voxel is no air and little fat (-40 HU)."""


@dataclass(frozen=True, kw_only=True)
class MassShape:
    """A bumpy ellipsoid."""

    center: tuple[int, int, int]
    """Voxel."""
    radii_mm: tuple[float, float, float]


@dataclass(frozen=True, kw_only=True, eq=False)
class PaintedMass:
    """The voxels that a mass covers."""

    window: tuple[slice, ...]
    """Part of the volume."""
    inside: NDArray[np.bool_]
    """Shape of that part."""


def draw_lesion(
    rng: np.random.Generator, organ: NDArray[np.intp], radius_mm: tuple[float, float]
) -> MassShape:
    """Draw a mass around a random voxel of the liver, given as (count, 3) indices."""
    return _draw(rng, organ, radius_mm)


def draw_look_alike(
    rng: np.random.Generator,
    distance_mm: NDArray[np.float32],
    image: NDArray[np.float32],
    radius_mm: tuple[float, float],
) -> MassShape:
    """Draw a mass whose center lies outside the liver, so near that it touches it.

    Parameters
    ----------
    distance_mm:
        Distance of each voxel from the liver.
    image:
        Levels 0 to 1; centers lie in soft tissue.
    radius_mm:
        Least and largest radius.
    """
    reach = rng.uniform(*radius_mm)
    near = (distance_mm > 0.25 * reach) & (distance_mm < reach) & (image > _SOFT_TISSUE)
    return _draw(rng, np.argwhere(near), (reach, reach))


def _draw(
    rng: np.random.Generator, candidates: NDArray[np.intp], radius_mm: tuple[float, float]
) -> MassShape:
    z, y, x = candidates[rng.integers(len(candidates))]
    radius = float(np.exp(rng.uniform(*np.log(radius_mm))))
    a, b, c = radius * rng.uniform(0.75, 1.3, size=3)
    return MassShape(center=(int(z), int(y), int(x)), radii_mm=(float(a), float(b), float(c)))


def paint_mass(
    rng: np.random.Generator,
    image: NDArray[np.float32],
    allowed: NDArray[np.bool_],
    shape: MassShape,
    spacing_mm: tuple[float, float, float],
    liver_level: float,
) -> PaintedMass:
    """Replace what lies inside a mass by its own texture, in place.

    Parameters
    ----------
    rng:
        Source of outline, density, texture and rim.
    image:
        (slices, rows, columns), 0 to 1 over the HU window.
    allowed:
        Voxels that may change.
    shape:
        Where it lies.
    spacing_mm:
        Of the volume.
    liver_level:
        Density to which that of the mass is relative.

    Returns
    -------
    PaintedMass
        Which voxels it covers.
    """
    window = tuple(
        slice(max(0, int(at - 1.6 * radius / mm) - 2), int(at + 1.6 * radius / mm) + 3)
        for at, radius, mm in zip(shape.center, shape.radii_mm, spacing_mm, strict=True)
    )
    part = image[window]
    distance = _distance(rng, shape, window, part.shape, spacing_mm)
    inside = (distance < 1) & allowed[window]
    weight = ndimage.gaussian_filter(inside.astype(np.float32), rng.uniform(0.3, 0.8))
    texture = _texture(rng, distance, liver_level)
    image[window] = np.where(allowed[window], part + weight * (texture - part), part)
    return PaintedMass(window=window, inside=inside)


def _distance(
    rng: np.random.Generator,
    shape: MassShape,
    window: tuple[slice, ...],
    size: tuple[int, ...],
    spacing_mm: tuple[float, float, float],
) -> NDArray[np.float32]:
    """Give the squared normalized distance to the center, uneven by smooth noise."""
    square = _smooth_noise(rng, size, 2.5) * np.float32(rng.uniform(0, 0.4))
    for axis, (part, mm) in enumerate(zip(window, spacing_mm, strict=True)):
        steps = np.arange(part.start, part.start + size[axis]) - shape.center[axis]
        line = ((steps * mm / shape.radii_mm[axis]) ** 2).astype(np.float32)
        square = square + line.reshape([-1 if other == axis else 1 for other in range(3)])
    return np.asarray(square, dtype=np.float32)


def _smooth_noise(
    rng: np.random.Generator, size: tuple[int, ...], sigma: float
) -> NDArray[np.float32]:
    """Give noise of unit deviation, smooth over some voxels."""
    noise = ndimage.gaussian_filter(rng.standard_normal(size, dtype=np.float32), sigma)
    return np.asarray(noise / (noise.std() + 1e-6), dtype=np.float32)


def _texture(
    rng: np.random.Generator, distance: NDArray[np.float32], liver_level: float
) -> NDArray[np.float32]:
    """Give levels: mostly darker than liver, with blobs of necrosis, grain and perhaps a rim."""
    offset = rng.uniform(-90, 5) if rng.random() < 0.8 else rng.uniform(0, 60)
    hu = np.full(distance.shape, offset, dtype=np.float32)
    hu += _smooth_noise(rng, distance.shape, 2.0) * np.float32(rng.uniform(0, 25))
    hu += _smooth_noise(rng, distance.shape, 0.5) * np.float32(rng.uniform(0, 12))
    if rng.random() < 0.3:
        hu += np.float32(rng.uniform(10, 60)) * ((distance < 1) & (distance > 0.65))
    return np.asarray(liver_level + hu / _WINDOW_HU, dtype=np.float32)

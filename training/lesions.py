"""Synthetic lesions, painted into livers whose tumors nobody annotated."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

_LEAST_AREA_PX = 6
_LEAST_LIVER_PX = 50
_EDGE_PX = 3
_WINDOW_HU = 400.0


@dataclass(frozen=True, kw_only=True, eq=False)
class PaintedStack:
    """A stack of slices with one lesion more."""

    image: NDArray[np.float32]
    """(slices, rows, columns), 0 to 1 over the HU window."""
    lesion: NDArray[np.bool_]
    """(rows, columns), the lesion in the middle slice."""


def _ellipsoid(
    rng: np.random.Generator, shape: tuple[int, ...], center_px: tuple[int, int], step_mm: float
) -> NDArray[np.float32]:
    """Give the squared normalized distance to the center of a random, bumpy ellipsoid."""
    slices, rows, columns = shape
    radius = float(np.exp(rng.uniform(np.log(2.5), np.log(28.0))))
    depth = (np.arange(slices) - slices // 2) * step_mm - rng.uniform(-0.4, 0.4) * radius
    angle = rng.uniform(0, np.pi)
    y = np.arange(rows, dtype=np.float32)[:, None] - center_px[0]
    x = np.arange(columns, dtype=np.float32)[None, :] - center_px[1]
    along = x * np.cos(angle) + y * np.sin(angle)
    across = y * np.cos(angle) - x * np.sin(angle)
    long_axis, short_axis = radius * rng.uniform(0.8, 1.3), radius * rng.uniform(0.7, 1.1)
    flat = (along / long_axis) ** 2 + (across / short_axis) ** 2
    return np.asarray(
        flat[None]
        + (depth[:, None, None] / radius) ** 2
        + _bumps(rng, shape) * rng.uniform(0, 0.35),
        dtype=np.float32,
    )


def _bumps(rng: np.random.Generator, shape: tuple[int, ...]) -> NDArray[np.float32]:
    """Give smooth noise of about 12 px that makes an outline uneven."""
    slices, rows, columns = shape
    coarse = rng.standard_normal((rows // 12 + 2, columns // 12 + 2)).astype(np.float32)
    zoom = (rows / coarse.shape[0], columns / coarse.shape[1])
    smooth = ndimage.zoom(coarse, zoom, order=1)[:rows, :columns]
    return np.broadcast_to(smooth, (slices, rows, columns))


def _contrast_hu(rng: np.random.Generator, distance: NDArray[np.float32]) -> NDArray[np.float32]:
    """Give the difference to the liver: mostly darker, some brighter, some with a bright rim."""
    offset = -rng.uniform(15, 75) if rng.random() < 0.88 else rng.uniform(15, 50)
    noise = rng.standard_normal(distance.shape).astype(np.float32)
    texture = ndimage.gaussian_filter(noise, (0.5, 1.2, 1.2)) * rng.uniform(0, 25)
    contrast = offset + texture
    if rng.random() < 0.3:
        rim = ((distance < 1) & (distance > 0.65)).astype(np.float32)
        contrast += ndimage.gaussian_filter(rim, (0, 0.8, 0.8)) * rng.uniform(10, 50)
    return np.asarray(contrast, dtype=np.float32)


def paint_lesion(
    rng: np.random.Generator,
    image: NDArray[np.float32],
    labels: NDArray[np.uint8],
    step_mm: float,
) -> PaintedStack | None:
    """Paint one random lesion around a random point of the liver in the middle slice.

    Parameters
    ----------
    rng:
        Source of all choices.
    image:
        (slices, rows, columns), 0 to 1 over the HU window, 1 mm pixels.
    labels:
        Same shape, 0 background, 1 liver, 2 tumor.
    step_mm:
        Distance between the slices of the stack.

    Returns
    -------
    PaintedStack or None
        None where the slice shows too little liver.
    """
    middle = len(labels) // 2
    rows, columns = np.nonzero(ndimage.binary_erosion(labels[middle] == 1, iterations=_EDGE_PX))
    if len(rows) < _LEAST_LIVER_PX:
        return None
    chosen = rng.integers(len(rows))
    center = (int(rows[chosen]), int(columns[chosen]))
    distance = _ellipsoid(rng, image.shape, center, step_mm)
    mask = (distance < 1) & (labels > 0)
    if mask[middle].sum() < _LEAST_AREA_PX:
        return None
    edge_px = (0.4, rng.uniform(0.6, 1.6), rng.uniform(0.6, 1.6))
    weight = ndimage.gaussian_filter(mask.astype(np.float32), edge_px)
    painted = image + weight * _contrast_hu(rng, distance) / _WINDOW_HU
    return PaintedStack(image=painted.astype(np.float32), lesion=mask[middle])

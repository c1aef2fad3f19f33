"""Synthetic masses: lesions and cysts inside the liver, look-alikes against it.

After Hu et al., Label-Free Liver Tumor Segmentation (CVPR 2023): an ellipsoid, bent, textured,
blurred, with a rim and with the tissue around it pushed aside, where no vessel of its size runs.
Other than there, the noise of the scan stays in it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage
from torch.nn import functional

_WINDOW_HU = 400.0
_WATER_LEVEL = 0.4
_SOFT_TISSUE = 0.3
"""Level above which a voxel is no air and little fat (-40 HU)."""
_VESSEL_HU = 22.0
_MAX_VESSEL_SHARE = 0.3
_GRAIN_MM, _MAX_GRAIN_HU = 1.5, 35.0
_TRIES = 20
_BEND_NODES = 5
_CYST_HU = (-8.0, 22.0)

Radii: TypeAlias = tuple[float, float]
"""Least and largest radius in mm."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Scene:
    """A part of a scan, painted in place."""

    image: NDArray[np.float32]
    """(slices, rows, columns), 0 to 1 over the HU window."""
    organ: NDArray[np.bool_]
    """Liver with everything in it."""
    spacing_mm: tuple[float, float, float]
    liver_level: float
    """Median of the liver in the scan."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Mass:
    """A bent ellipsoid on the voxels of a part of the scene."""

    window: tuple[slice, ...]
    """Part of the scene."""
    depth: NDArray[np.float32]
    """Normalized distance from the center, 1 on the surface."""
    offsets_mm: NDArray[np.float32]
    """(3, ...), of each voxel from the center."""
    radius_mm: float
    """Geometric mean of the half-axes."""

    @property
    def inside(self) -> NDArray[np.bool_]:
        """Voxels of the ellipsoid."""
        return np.asarray(self.depth < 1)

    def within(self, rim_mm: float) -> NDArray[np.bool_]:
        """Voxels of the ellipsoid and of a rim around it."""
        return np.asarray(self.depth < 1 + rim_mm / self.radius_mm)


def paint_lesion(
    rng: np.random.Generator, scene: Scene, radii: Radii, rim_mm: float
) -> Mass | None:
    """Paint a lesion around a random voxel of the liver where no vessel of its size runs.

    Parameters
    ----------
    rng:
        Source of all choices.
    scene:
        Where to paint.
    radii:
        Least and largest radius; small ones are as likely as large ones by their logarithm.
    rim_mm:
        The window of the mass reaches this far beyond its surface.

    Returns
    -------
    Mass or None
        None where no place was found.
    """
    mass = _find_place(rng, scene, radii, rim_mm)
    if mass is None:
        return None
    allowed = scene.organ[mass.window]
    if rng.random() < 0.5:
        _push_aside(rng, scene, mass, allowed)
    level = scene.liver_level + _contrast_hu(rng, mass) / _WINDOW_HU
    _blend(scene, mass, allowed, level, blur_mm=rng.uniform(0.4, 1.6))
    return mass


def paint_cyst(rng: np.random.Generator, scene: Scene, radii: Radii, rim_mm: float) -> Mass | None:
    """Paint a cyst: even, sharply bordered, as dense as water. It is no tumor.

    Parameters and result are those of `paint_lesion`.
    """
    mass = _find_place(rng, scene, radii, rim_mm)
    if mass is None:
        return None
    level = np.float32(_WATER_LEVEL + rng.uniform(*_CYST_HU) / _WINDOW_HU)
    even = np.full(mass.depth.shape, level)
    _blend(scene, mass, scene.organ[mass.window], even, blur_mm=rng.uniform(0.2, 0.6))
    return mass


def paint_look_alike(rng: np.random.Generator, scene: Scene, radii: Radii) -> Mass | None:
    """Paint a mass whose center lies outside the liver, so near that it mostly touches it.

    Parameters and result are those of `paint_lesion`.
    """
    for _ in range(_TRIES):
        radius = _draw_radius(rng, radii)
        center = _step_out(rng, scene, radius * rng.uniform(0.25, 1.0))
        if center is not None and scene.image[center] > _SOFT_TISSUE:
            mass = _shape(rng, scene, center, radius, 0.0)
            level = scene.liver_level + _contrast_hu(rng, mass) / _WINDOW_HU
            allowed = ~scene.organ[mass.window]
            _blend(scene, mass, allowed, level, blur_mm=rng.uniform(0.8, 3.0))
            return mass
    return None


def _find_place(rng: np.random.Generator, scene: Scene, radii: Radii, rim_mm: float) -> Mass | None:
    for _ in range(_TRIES):
        center = _draw_voxel(rng, scene.organ)
        if center is None:
            return None
        mass = _shape(rng, scene, center, _draw_radius(rng, radii), rim_mm)
        if _vessel_share(scene, mass) < _MAX_VESSEL_SHARE:
            return mass
    return None


def _draw_voxel(rng: np.random.Generator, mask: NDArray[np.bool_]) -> tuple[int, ...] | None:
    inside = np.flatnonzero(mask)
    if not len(inside):
        return None
    chosen = inside[rng.integers(len(inside))]
    return tuple(int(index) for index in np.unravel_index(chosen, mask.shape))


def _draw_radius(rng: np.random.Generator, radii: Radii) -> float:
    return float(np.exp(rng.uniform(*np.log(radii))))


def _step_out(rng: np.random.Generator, scene: Scene, beyond_mm: float) -> tuple[int, ...] | None:
    """Walk from a voxel of the liver straight on, and that far beyond its border."""
    start = _draw_voxel(rng, scene.organ)
    if start is None:
        return None
    direction = rng.standard_normal(3)
    step = direction / np.linalg.norm(direction) / scene.spacing_mm
    path = np.rint(start + np.arange(0.0, 300.0)[:, None] * step).astype(int)
    path = path[((path >= 0) & (path < scene.organ.shape)).all(axis=1)]
    last = np.flatnonzero(scene.organ[tuple(path.T)])[-1] + round(beyond_mm)
    return tuple(int(index) for index in path[last]) if last < len(path) else None


def _shape(
    rng: np.random.Generator,
    scene: Scene,
    center: Sequence[int],
    radius_mm: float,
    rim_mm: float,
) -> Mass:
    half_axes = radius_mm * rng.uniform(0.75, 1.3, size=3)
    reach_mm = 1.6 * radius_mm + rim_mm
    window = tuple(
        slice(max(0, int(at - reach_mm / mm) - 1), min(size, int(at + reach_mm / mm) + 2))
        for at, mm, size in zip(center, scene.spacing_mm, scene.image.shape, strict=True)
    )
    lines = [
        (np.arange(part.start, part.stop, dtype=np.float32) - at) * np.float32(mm)
        for part, at, mm in zip(window, center, scene.spacing_mm, strict=True)
    ]
    offsets_mm = np.stack(np.meshgrid(*lines, indexing="ij"))
    turn, _ = np.linalg.qr(rng.standard_normal((3, 3)))
    turned = np.tensordot((turn / half_axes[:, None]).astype(np.float32), offsets_mm, axes=1)
    bend = _smooth_noise(rng, turned.shape, _BEND_NODES) * np.float32(rng.uniform(0.05, 0.3))
    return Mass(
        window=window,
        depth=np.linalg.norm(turned + bend, axis=0),
        offsets_mm=offsets_mm,
        radius_mm=float(np.prod(half_axes) ** (1 / 3)),
    )


def _smooth_noise(
    rng: np.random.Generator, shape: tuple[int, ...], nodes: int
) -> NDArray[np.float32]:
    """Give noise (channels, slices, rows, columns) between a few random nodes along each axis."""
    noise = rng.standard_normal((1, shape[0], nodes, nodes, nodes), dtype=np.float32)
    smooth = functional.interpolate(
        torch.from_numpy(noise), size=shape[1:], mode="trilinear", align_corners=True
    )
    return np.asarray(smooth[0].numpy())


def _vessel_share(scene: Scene, mass: Mass) -> float:
    """Give the share of a mass that is brighter than the liver, as vessels are."""
    bright = scene.image[mass.window] > scene.liver_level + _VESSEL_HU / _WINDOW_HU
    # Noise is bright here and there; a vessel is bright in all of a neighborhood.
    run = ndimage.uniform_filter(bright.astype(np.float32), size=3) > 0.6
    return float(run[mass.inside].mean()) if mass.inside.any() else 1.0


def _push_aside(
    rng: np.random.Generator, scene: Scene, mass: Mass, allowed: NDArray[np.bool_]
) -> None:
    """Show around a mass, compressed, what was in its outer part: vessels bend around it."""
    push, reach = rng.uniform(0.1, 0.4), 0.6
    shell = (mass.depth > 1) & (mass.depth < 1 + reach) & allowed
    depth = mass.depth[shell]
    nearer = 1 - push * (1 + reach - depth) / reach / depth
    spacing_mm = np.array(scene.spacing_mm, dtype=np.float32)
    shift = (mass.offsets_mm[:, shell] * (nearer - 1)) / spacing_mm[:, None]
    part = scene.image[mass.window]
    part[shell] = ndimage.map_coordinates(
        part, np.argwhere(shell).T + shift, order=1, mode="nearest"
    )


def _contrast_hu(rng: np.random.Generator, mass: Mass) -> NDArray[np.float32]:
    """Give the difference to the liver: darker or brighter, uneven, perhaps with rim and core."""
    offset = -rng.uniform(12, 80) if rng.random() < 0.85 else rng.uniform(12, 60)
    (blobs,) = _smooth_noise(rng, (1, *mass.depth.shape), 7)
    contrast = offset + blobs * np.float32(rng.uniform(0, 18))
    if rng.random() < 0.3:
        contrast -= np.float32(rng.uniform(8, 40)) * np.clip(1 - 2 * mass.depth, 0, None)
    if rng.random() < 0.35:
        # A thin one is a capsule, a broad one an enhancing rim.
        rim = mass.depth > 1 - rng.uniform(0.06, 0.35)
        contrast += np.float32(rng.uniform(10, 60)) * rim
    return np.asarray(contrast, dtype=np.float32)


def _blend(
    scene: Scene,
    mass: Mass,
    allowed: NDArray[np.bool_],
    level: NDArray[np.float32],
    *,
    blur_mm: float,
) -> None:
    """Put a mass in the place of what is there, and keep the noise of the scan."""
    part = scene.image[mass.window]
    spacing_mm = np.array(scene.spacing_mm)
    limit = _MAX_GRAIN_HU / _WINDOW_HU
    # Averaged over allowed voxels only, so that the border of the liver leaves no ghost.
    share = ndimage.gaussian_filter(allowed.astype(np.float32), _GRAIN_MM / spacing_mm)
    smooth = ndimage.gaussian_filter(part * allowed, _GRAIN_MM / spacing_mm)
    grain = np.clip(part - smooth / np.maximum(share, 1e-3), -limit, limit)
    covered = (mass.inside & allowed).astype(np.float32)
    weight = ndimage.gaussian_filter(covered, blur_mm / spacing_mm) * allowed
    part += weight * (level + grain - part)

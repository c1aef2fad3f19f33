"""Random changes of a sample: where it is taken from, and how its image looks."""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

from training.config import AugmentConfig

_NODES = 6
_INTERPOLATION = {2: "bilinear", 3: "trilinear"}
_PLAIN_TISSUE = 0.525
"""Level of 50 HU: tissue that has taken up little contrast agent."""
_THICK_SLICES = 3


def draw_nodes(
    rng: np.random.Generator,
    config: AugmentConfig,
    spacing_mm: Sequence[float],
    center: NDArray[np.float64],
    patch: Sequence[int],
) -> torch.Tensor:
    """Place the nodes of a turned, scaled and bent patch.

    Parameters
    ----------
    rng:
        Source of all choices.
    config:
        Their ranges.
    spacing_mm:
        Of the array that is sampled, along its 2 or 3 axes.
    center:
        Middle of the patch, in elements of the array.
    patch:
        Its size along the axes.

    Returns
    -------
    Tensor
        (axes, nodes, ...) positions in elements of the array. Those of the elements of the patch
        lie linearly between them, see `spread_nodes`.
    """
    axes = len(patch)
    spacing = np.asarray(spacing_mm)
    scale = rng.uniform(config.min_scale, config.max_scale) * rng.uniform(0.93, 1.07, size=axes)
    matrix = _rotation(rng, axes, np.deg2rad(config.rotation_sd_deg)) * scale * spacing
    steps = np.meshgrid(*[np.linspace(1 - n, n - 1, _NODES) / 2 for n in patch], indexing="ij")
    bend_mm = rng.standard_normal((axes, *[_NODES] * axes)) * config.elastic_sd_mm
    offset_mm = np.tensordot(matrix, np.stack(steps), axes=1) + bend_mm
    column = (axes, *[1] * axes)
    nodes = offset_mm / spacing.reshape(column) + center.reshape(column)
    return torch.from_numpy(nodes.astype(np.float32))


def _rotation(rng: np.random.Generator, axes: int, deviation: float) -> NDArray[np.float64]:
    """Give a small random rotation of (row, column) or (slice, row, column) vectors."""
    matrix = np.eye(axes)
    for first in range(axes):
        for second in range(first + 1, axes):
            angle = rng.normal(0, deviation)
            turn = np.eye(axes)
            turn[first, first] = turn[second, second] = np.cos(angle)
            turn[first, second], turn[second, first] = -np.sin(angle), np.sin(angle)
            matrix = matrix @ turn
    return matrix


def spread_nodes(nodes: torch.Tensor, shape: Sequence[int], patch: Sequence[int]) -> torch.Tensor:
    """Give the positions of all elements of a patch.

    Parameters
    ----------
    nodes:
        (axes, nodes, ...) positions in elements of an array, of `draw_nodes`.
    shape:
        Size of that array along its axes.
    patch:
        Size of the patch.

    Returns
    -------
    Tensor
        (1, *patch, axes), -1 to 1 over the array, the last axis first.
    """
    axes = len(patch)
    size = torch.tensor(shape).reshape(axes, *[1] * axes)
    normal = nodes / (size - 1).clamp(min=1) * 2 - 1
    positions = functional.interpolate(
        normal.flip(0)[None], size=tuple(patch), mode=_INTERPOLATION[axes], align_corners=True
    )
    return positions.movedim(1, -1)


def sample_array(
    array: NDArray[np.float32], positions: torch.Tensor, *, nearest: bool = False
) -> torch.Tensor:
    """Sample an array (channels, ...) at the positions of `spread_nodes`; outside there is 0.

    Parameters
    ----------
    array:
        Channels, then the axes.
    positions:
        Where, see `spread_nodes`.
    nearest:
        Take the nearest element instead of interpolating linearly.

    Returns
    -------
    Tensor
        (channels, *patch).
    """
    mode = "nearest" if nearest else "bilinear"
    source = torch.from_numpy(array)[None]
    return functional.grid_sample(source, positions, mode=mode, align_corners=True)[0]


def change_intensity(
    rng: np.random.Generator, config: AugmentConfig, image: torch.Tensor
) -> torch.Tensor:
    """Change contrast phase, gain, offset, noise, sharpness and slice thickness.

    Parameters
    ----------
    rng:
        Source of all choices.
    config:
        How often each is changed.
    image:
        (channels, slices, rows, columns), 0 to 1.
    """
    if rng.random() < config.phase_share:
        # With less contrast agent, or another delay, what is enhanced is nearer to plain tissue.
        enhanced = (image - _PLAIN_TISSUE).clamp(min=0)
        image = image + enhanced * rng.uniform(-0.8, 0.3)
    if rng.random() < config.gain_share:
        image = (image - 0.45) * rng.uniform(0.8, 1.2) + 0.45 + rng.uniform(-0.06, 0.06)
    if rng.random() < config.thick_share and image.shape[1] >= _THICK_SLICES:
        image = _smooth(image, (_THICK_SLICES, 1, 1))
    if rng.random() < config.blur_share:
        image = _smooth(image, (1, 3, 3))
    if rng.random() < config.noise_share:
        noise = rng.standard_normal(image.shape, dtype=np.float32)
        image = image + torch.from_numpy(noise) * rng.uniform(0, 0.06)
    return image.clamp(0, 1)


def _smooth(image: torch.Tensor, kernel: tuple[int, int, int]) -> torch.Tensor:
    padding = [edge // 2 for edge in kernel]
    return functional.avg_pool3d(image, kernel, 1, padding, count_include_pad=False)

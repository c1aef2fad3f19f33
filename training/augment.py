"""Random crops of slice stacks, turned, scaled and changed in intensity."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

from training.config import AugmentConfig
from training.samples import Sample


def _sampling_grid(
    rng: np.random.Generator,
    config: AugmentConfig,
    shape: tuple[int, int],
    center_px: tuple[float, float],
    patch_px: int,
) -> torch.Tensor:
    """Give the normalized positions (1, patch, patch, 2) of a turned and scaled patch."""
    rows, columns = shape
    scale = rng.uniform(config.min_scale, config.max_scale)
    angle = np.deg2rad(rng.normal(0, config.rotation_sd_deg))
    steps = (np.arange(patch_px) - (patch_px - 1) / 2) * scale
    y, x = steps[:, None], steps[None, :] * rng.uniform(0.93, 1.07)
    shift_y, shift_x = rng.uniform(-config.shift_px, config.shift_px, size=2)
    at_x = center_px[1] + shift_x + x * np.cos(angle) - y * np.sin(angle)
    at_y = center_px[0] + shift_y + x * np.sin(angle) + y * np.cos(angle)
    grid = np.stack([at_x / (columns - 1) * 2 - 1, at_y / (rows - 1) * 2 - 1], axis=-1)
    return torch.from_numpy(grid[None].astype(np.float32))


def change_intensity(
    rng: np.random.Generator, config: AugmentConfig, image: torch.Tensor
) -> torch.Tensor:
    """Change gain, offset, noise and sharpness of an image (..., rows, columns)."""
    if rng.random() < config.gain_share:
        image = (image - 0.45) * rng.uniform(0.8, 1.2) + 0.45 + rng.uniform(-0.06, 0.06)
    if rng.random() < config.noise_share:
        noise = rng.standard_normal(image.shape, dtype=np.float32)
        image = image + torch.from_numpy(noise) * rng.uniform(0, 0.06)
    if rng.random() < config.blur_share:
        image = functional.avg_pool2d(image, kernel_size=3, stride=1, padding=1)
    return image.clamp(0, 1)


def augment(
    rng: np.random.Generator,
    config: AugmentConfig,
    stack: tuple[NDArray[np.float32], NDArray[np.uint8], NDArray[np.bool_]],
    center_px: tuple[float, float],
    patch_px: int,
) -> Sample:
    """Cut a random patch around a point.

    Parameters
    ----------
    rng:
        Source of all choices.
    config:
        Their ranges.
    stack:
        Image (slices, rows, columns) 0 to 1, labels and ``known`` mask (rows, columns).
    center_px:
        Row and column around which the patch lies.
    patch_px:
        Edge of the patch.
    """
    image, labels, known = stack
    rows, columns = labels.shape
    grid = _sampling_grid(rng, config, (rows, columns), center_px, patch_px)
    pixels = functional.grid_sample(
        torch.from_numpy(image)[None], grid, padding_mode="border", align_corners=True
    )[0]
    masks = torch.from_numpy(np.stack([labels, known]).astype(np.float32))[None]
    masks = functional.grid_sample(masks, grid, mode="nearest", align_corners=True)[0]
    pixels = change_intensity(rng, config, pixels)
    if rng.random() < config.reverse_share:
        pixels = pixels.flip(0)
    return Sample(image=pixels, labels=masks[0].long(), known=masks[1] > 0)

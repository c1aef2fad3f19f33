"""Draws training samples for a network that sees whole volumes (3D)."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage
from torch.nn import functional

from training.augment import change_intensity
from training.config import AugmentConfig, Experiment
from training.dataset import LEVELS, Case
from training.masses import draw_lesion, draw_look_alike, paint_mass
from training.samples import Sample, Sampler

_ELASTIC_NODES = (5, 6, 6)
_LEAST_MARGIN_MM, _MOST_MARGIN_MM = 10.0, 60.0
_LEAST_KEPT_MM = 60.0


@dataclass(frozen=True, kw_only=True, eq=False)
class _Body:
    """A case with what painting needs."""

    case: Case
    distance_mm: NDArray[np.float32]
    """Of each voxel from the liver."""
    liver_level: float
    center: NDArray[np.float64]

    @classmethod
    def of(cls, case: Case) -> "_Body":
        organ = case.labels > 0
        distance = ndimage.distance_transform_edt(~organ, sampling=case.spacing_mm)
        return cls(
            case=case,
            distance_mm=distance.astype(np.float32),
            liver_level=float(np.median(case.levels[organ])) / LEVELS,
            center=np.argwhere(organ).mean(axis=0),
        )


class VolumeSampler(Sampler):
    """Draws sub-volumes for a 3D network.

    Parameters
    ----------
    experiment:
        What to draw.
    real, synthetic:
        Cases; synthetic ones are drawn with the share that the experiment says.
    """

    def __init__(
        self, experiment: Experiment, real: Sequence[Case], synthetic: Sequence[Case]
    ) -> None:
        self._experiment = experiment
        self._real = [_Body.of(case) for case in real]
        self._synthetic = [_Body.of(case) for case in synthetic]

    def sample(self, rng: np.random.Generator) -> Sample:
        """Draw one sample: image (1, slices, rows, columns), labels (slices, rows, columns)."""
        data, config = self._experiment.data, self._experiment.augment
        synthetic = self._synthetic and rng.random() < self._experiment.phantoms.share
        bodies = self._synthetic if synthetic else self._real
        body = bodies[rng.integers(len(bodies))]
        image = self._paint(rng, body)
        labels, spacing = body.case.labels, body.case.spacing_mm
        window = _cut(rng, labels, spacing, config.cut_share)
        offset = np.array([part.start for part in window])
        image, labels = image[window], labels[window]
        size = np.array(labels.shape)
        if rng.random() < data.organ_slices:
            center = (body.center - offset + rng.uniform(0, size - 1)) / 2
        else:
            center = rng.uniform(0, size - 1)
        patch = (data.patch_slices, data.patch_px, data.patch_px)
        grid = _sampling_grid(rng, config, (size, spacing), center, (patch, data.spacing_mm))
        volume = torch.from_numpy(np.ascontiguousarray(image))[None, None]
        truth = torch.from_numpy((labels > 0).astype(np.float32))[None, None]
        pixels = functional.grid_sample(volume, grid, align_corners=True)[0]
        organ = functional.grid_sample(truth, grid, align_corners=True)[0, 0] > 0.5
        return Sample(
            image=change_intensity(rng, config, pixels),
            labels=organ.long(),
            known=torch.zeros_like(organ),
        )

    def _paint(self, rng: np.random.Generator, body: _Body) -> NDArray[np.float32]:
        """Give the levels, 0 to 1, with lesions in the liver or masses beside it in some."""
        config, case = self._experiment.masses, body.case
        image = case.levels.astype(np.float32) / np.float32(LEVELS)
        if case.synthetic:
            return image
        organ = case.labels > 0
        if rng.random() < config.look_alike_share:
            for _ in range(rng.integers(1, config.count + 1)):
                shape = draw_look_alike(rng, body.distance_mm, image, config.look_alike_radius_mm)
                paint_mass(rng, image, ~organ, shape, case.spacing_mm, body.liver_level)
        if rng.random() < config.lesion_share:
            for _ in range(rng.integers(1, config.count + 1)):
                shape = draw_lesion(rng, case.labels, config.lesion_radius_mm)
                paint_mass(rng, image, organ, shape, case.spacing_mm, body.liver_level)
        return image


def _cut(
    rng: np.random.Generator,
    labels: NDArray[np.uint8],
    spacing_mm: tuple[float, float, float],
    share: float,
) -> tuple[slice, slice, slice]:
    """Give a part of the volume: all, or a box around the liver, or some of its slices."""
    parts = [slice(0, size) for size in labels.shape]
    choice = rng.random()
    if choice < share / 2:
        for axis in range(3):
            others = tuple(other for other in range(3) if other != axis)
            inside = np.flatnonzero((labels > 0).any(axis=others))
            margin = rng.uniform(_LEAST_MARGIN_MM, _MOST_MARGIN_MM, size=2) / spacing_mm[axis]
            first = max(0, int(inside[0] - margin[0]))
            parts[axis] = slice(first, int(inside[-1] + margin[1]) + 1)
    elif choice < share:
        least = int(_LEAST_KEPT_MM / spacing_mm[0])
        first = int(rng.integers(0, max(1, len(labels) - least)))
        last = int(rng.integers(min(len(labels), first + least), len(labels) + 1))
        parts[0] = slice(first, last)
    slices, rows, columns = parts
    return slices, rows, columns


def _sampling_grid(
    rng: np.random.Generator,
    config: AugmentConfig,
    source: tuple[NDArray[np.intp], tuple[float, float, float]],
    center: NDArray[np.float64],
    patch: tuple[tuple[int, int, int], float],
) -> torch.Tensor:
    """Give normalized positions (1, slices, rows, columns, 3) of a turned, scaled, bent patch."""
    (size, spacing_mm), (shape, patch_mm) = source, patch
    scale = rng.uniform(config.min_scale, config.max_scale) * rng.uniform(0.93, 1.07, size=3)
    matrix = _rotation(rng, np.deg2rad(config.rotation_sd_deg)) * scale * patch_mm
    axes = [torch.arange(n, dtype=torch.float32) - (n - 1) / 2 for n in shape]
    steps = torch.stack(torch.meshgrid(*axes, indexing="ij"), dim=-1)
    mm = steps @ torch.from_numpy(matrix.T.astype(np.float32))
    nodes = rng.standard_normal((1, 3, *_ELASTIC_NODES), dtype=np.float32) * config.elastic_sd_mm
    bend = functional.interpolate(
        torch.from_numpy(nodes), size=shape, mode="trilinear", align_corners=True
    )
    mm = mm + bend[0].permute(1, 2, 3, 0)
    voxels = mm / torch.tensor(spacing_mm) + torch.from_numpy(center.astype(np.float32))
    normalized = voxels / (torch.from_numpy(size.astype(np.float32)) - 1).clamp(min=1) * 2 - 1
    return normalized.flip(-1)[None]


def _rotation(rng: np.random.Generator, deviation: float) -> NDArray[np.float64]:
    """Give a small random rotation of (slice, row, column) vectors."""
    matrix = np.eye(3)
    for first, second in ((0, 1), (0, 2), (1, 2)):
        angle = rng.normal(0, deviation)
        turn = np.eye(3)
        turn[first, first] = turn[second, second] = np.cos(angle)
        turn[first, second], turn[second, first] = -np.sin(angle), np.sin(angle)
        matrix = matrix @ turn
    return matrix

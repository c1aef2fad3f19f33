"""Draws training samples for a network that sees whole volumes (3D)."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage
from torch.nn import functional

from inference.labels import Label
from inference.resample import (
    AxisGrid,
    resample_plane,
    resample_slices,
    sampling_matrix,
    whole_axis,
)
from training.augment import change_intensity
from training.config import AugmentConfig, DataConfig, Experiment
from training.dataset import LEVELS, Case
from training.masses import PaintedMass, draw_lesion, draw_look_alike, paint_mass
from training.samples import Sample, Sampler

_ELASTIC_NODES = (5, 6, 6)
_LEAST_MARGIN_MM, _MOST_MARGIN_MM = 10.0, 60.0
_LEAST_KEPT_MM = 60.0


@dataclass(frozen=True, kw_only=True, eq=False)
class _Body:
    """A case on the grid of the network, with what painting and choosing need."""

    case: Case
    distance_mm: NDArray[np.float32]
    """Of each voxel from the liver."""
    liver_level: float
    organ: NDArray[np.intp]
    """Voxels of the liver, (count, 3)."""
    tumor: NDArray[np.intp]
    """Voxels of annotated tumors."""

    @classmethod
    def of(cls, case: Case, config: DataConfig) -> "_Body":
        case = resample_case(case, config.slice_mm, config.in_plane_mm)
        organ = case.labels > 0
        distance = ndimage.distance_transform_edt(~organ, sampling=case.spacing_mm)
        return cls(
            case=case,
            distance_mm=distance.astype(np.float32),
            liver_level=float(np.median(case.levels[organ])) / LEVELS,
            organ=np.argwhere(organ),
            tumor=np.argwhere((case.labels == Label.TUMOR) & case.tumors_known),
        )


def resample_case(case: Case, slice_mm: float, in_plane_mm: float) -> Case:
    """Bring a case to other voxels, in the way in which a scan is sampled for inference."""
    sources = [
        AxisGrid(start_mm=0.0, spacing_mm=mm, size=size)
        for size, mm in zip(case.labels.shape, case.spacing_mm, strict=True)
    ]
    spacing_mm = (slice_mm, in_plane_mm, in_plane_mm)
    targets = [
        whole_axis(source.size, source.spacing_mm, mm)
        for source, mm in zip(sources, spacing_mm, strict=True)
    ]
    slices, rows, columns = (sampling_matrix(a, b) for a, b in zip(sources, targets, strict=True))

    def resample(array: NDArray[np.uint8] | NDArray[np.bool_]) -> NDArray[np.float32]:
        planes = [resample_plane(plane.astype(np.float32), rows, columns) for plane in array]
        return resample_slices(np.stack(planes), slices)

    classes = [resample(case.labels == label) for label in Label]
    return replace(
        case,
        levels=np.rint(resample(case.levels)).astype(np.uint8),
        labels=np.argmax(classes, axis=0).astype(np.uint8),
        spacing_mm=spacing_mm,
    )


@dataclass(kw_only=True, eq=False)
class _Scene:
    """A case as it is shown once: with what was painted into it."""

    image: NDArray[np.float32]
    labels: NDArray[np.uint8]
    known: NDArray[np.bool_]


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
        data = experiment.data
        self._experiment = experiment
        self._real = [
            body
            for body in (_Body.of(case, data) for case in real)
            for _ in range(data.annotated_weight if len(body.tumor) else 1)
        ]
        self._synthetic = [_Body.of(case, data) for case in synthetic]

    def sample(self, rng: np.random.Generator) -> Sample:
        """Draw one sample: image (1, slices, rows, columns), labels (slices, rows, columns)."""
        data, config = self._experiment.data, self._experiment.augment
        synthetic = self._synthetic and rng.random() < self._experiment.phantoms.share
        bodies = self._synthetic if synthetic else self._real
        body = bodies[rng.integers(len(bodies))]
        scene = self._paint(rng, body)
        kept = _cut(rng, body.case.labels, body.case.spacing_mm, config.cut_share)
        size = np.array([part.stop - part.start for part in kept])
        offset = np.array([part.start for part in kept])
        center = self._choose_center(rng, body, size, offset)
        patch = (data.patch_slices, data.patch_px, data.patch_px)
        positions = _patch_positions(rng, config, body.case.spacing_mm, center, patch)
        image, liver, tumor, known = _interpolate(
            (
                scene.image[kept],
                scene.labels[kept] == Label.LIVER,
                scene.labels[kept] == Label.TUMOR,
                scene.known[kept],
            ),
            positions,
        )
        organ = liver + tumor > 0.5
        labels = torch.where(tumor > liver, Label.TUMOR, Label.LIVER) * organ
        return Sample(
            image=change_intensity(rng, config, image[None]), labels=labels, known=known > 0.5
        )

    def _choose_center(
        self,
        rng: np.random.Generator,
        body: _Body,
        size: NDArray[np.intp],
        offset: NDArray[np.intp],
    ) -> NDArray[np.float64]:
        """Give a voxel in a tumor, or near the liver, or anywhere in what is left of the scan."""
        data, choice = self._experiment.data, rng.random()
        anywhere = rng.uniform(0, size - 1)
        if len(body.tumor) and choice < data.tumor_slices:
            chosen = body.tumor[rng.integers(len(body.tumor))] - offset
            return np.asarray(0.75 * chosen + 0.25 * anywhere)
        if choice < data.organ_slices:
            chosen = body.organ[rng.integers(len(body.organ))] - offset
            return np.asarray((chosen + anywhere) / 2)
        return np.asarray(anywhere)

    def _paint(self, rng: np.random.Generator, body: _Body) -> _Scene:
        """Give a case, in some draws with lesions in the liver or masses beside it."""
        config, case = self._experiment.masses, body.case
        scene = _Scene(
            image=case.levels.astype(np.float32) / np.float32(LEVELS),
            labels=case.labels.copy(),
            known=np.full(case.labels.shape, case.tumors_known),
        )
        if case.synthetic:
            return scene
        organ = case.labels > 0
        if rng.random() < config.look_alike_share:
            for _ in range(rng.integers(1, config.count + 1)):
                shape = draw_look_alike(
                    rng, body.distance_mm, scene.image, config.look_alike_radius_mm
                )
                paint_mass(rng, scene.image, ~organ, shape, case.spacing_mm, body.liver_level)
        if rng.random() < config.lesion_share:
            for _ in range(rng.integers(1, config.count + 1)):
                shape = draw_lesion(rng, body.organ, config.lesion_radius_mm)
                mass = paint_mass(rng, scene.image, organ, shape, case.spacing_mm, body.liver_level)
                self._label_lesion(scene, mass, case.spacing_mm)
        return scene

    def _label_lesion(
        self, scene: _Scene, mass: PaintedMass, spacing_mm: tuple[float, float, float]
    ) -> None:
        """Label a lesion, and let the network be judged in it and around it."""
        labels, known = scene.labels[mass.window], scene.known[mass.window]
        labels[mass.inside] = Label.TUMOR
        rim_px = self._experiment.masses.known_rim_mm / np.array(spacing_mm)
        distance = ndimage.distance_transform_edt(~mass.inside, sampling=1 / rim_px)
        known[distance <= 1] = True


def _interpolate(arrays: Sequence[NDArray[Any]], positions: torch.Tensor) -> torch.Tensor:
    """Sample arrays (slices, rows, columns) linearly; outside of them there is 0, which is air.

    Parameters
    ----------
    arrays:
        All of one shape.
    positions:
        (..., 3), voxels.

    Returns
    -------
    torch.Tensor
        (arrays, ...).
    """
    # Only the part that is reached is turned into floats.
    flat = positions.reshape(-1, 3)
    first = (flat.amin(dim=0).floor().long() - 1).clamp(min=0)
    last = torch.minimum(flat.amax(dim=0).ceil().long() + 2, torch.tensor(arrays[0].shape))
    last = torch.maximum(last, first + 1)
    window = tuple(slice(int(a), int(b)) for a, b in zip(first, last, strict=True))
    part = np.stack([array[window].astype(np.float32) for array in arrays])
    size = torch.tensor(part.shape[1:])
    grid = (positions - first) / (size - 1).clamp(min=1) * 2 - 1
    volume = torch.from_numpy(part)[None]
    return functional.grid_sample(volume, grid.flip(-1)[None], align_corners=True)[0]


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


def _patch_positions(
    rng: np.random.Generator,
    config: AugmentConfig,
    spacing_mm: tuple[float, float, float],
    center: NDArray[np.float64],
    patch: tuple[int, int, int],
) -> torch.Tensor:
    """Give positions (slices, rows, columns, 3), in voxels, of a turned, scaled and bent patch."""
    scale = rng.uniform(config.min_scale, config.max_scale) * rng.uniform(0.93, 1.07, size=3)
    matrix = _rotation(rng, np.deg2rad(config.rotation_sd_deg)) * scale * spacing_mm
    axes = [torch.arange(n, dtype=torch.float32) - (n - 1) / 2 for n in patch]
    steps = torch.stack(torch.meshgrid(*axes, indexing="ij"), dim=-1)
    mm = steps @ torch.from_numpy(matrix.T.astype(np.float32))
    nodes = rng.standard_normal((1, 3, *_ELASTIC_NODES), dtype=np.float32) * config.elastic_sd_mm
    bend = functional.interpolate(
        torch.from_numpy(nodes), size=patch, mode="trilinear", align_corners=True
    )
    mm = mm + bend[0].permute(1, 2, 3, 0)
    return mm / torch.tensor(spacing_mm) + torch.from_numpy(center.astype(np.float32))


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

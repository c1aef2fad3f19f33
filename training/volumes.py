"""Draws training samples for a network that sees whole volumes (3D)."""

from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray

from inference.labels import Label
from inference.resample import (
    AxisGrid,
    resample_plane,
    resample_slices,
    sampling_matrix,
    whole_axis,
)
from training.augment import change_intensity, draw_nodes, sample_array, spread_nodes
from training.dataset import Case
from training.samples import CaseSampler, Sample

_LEAST_MARGIN_MM, _MOST_MARGIN_MM = 10.0, 60.0
_LEAST_KEPT_MM = 60.0
_KNOWN = 4
"""Added to a label where liver and tumor are told apart."""


@dataclass(frozen=True, kw_only=True, eq=False)
class _Body:
    """A case on the grid of the network, with what choosing needs."""

    case: Case
    organ: NDArray[np.int16]
    """Voxels of the liver, (count, 3)."""
    tumor: NDArray[np.int16]
    """Voxels of annotated tumors."""


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


class VolumeSampler(CaseSampler[_Body]):
    """Draws sub-volumes for a 3D network."""

    def _prepare(self, case: Case) -> _Body:
        data = self._experiment.data
        case = resample_case(case, data.slice_mm, data.in_plane_mm)
        tumor = (case.labels == Label.TUMOR) & case.tumors_known
        return _Body(
            case=case,
            organ=np.argwhere(case.labels > 0).astype(np.int16),
            tumor=np.argwhere(tumor).astype(np.int16),
        )

    def sample(self, rng: np.random.Generator) -> Sample:
        """Draw one sample: image (channels, slices, rows, columns), labels without channels."""
        data, config = self._experiment.data, self._experiment.augment
        body = self._choose(rng)
        case = body.case
        kept = _cut(rng, case.labels, case.spacing_mm, config.cut_share)
        patch = (data.patch_slices, data.patch_px, data.patch_px)
        center = self._choose_center(rng, body, kept)
        nodes = draw_nodes(rng, config, case.spacing_mm, center, patch)
        window, nodes = _reached(nodes, kept)
        canvas = self._paint(rng, case, case.levels[window], case.labels[window], case.spacing_mm)
        coded = (canvas.labels + np.uint8(_KNOWN) * canvas.known).astype(np.float32)
        positions = spread_nodes(nodes, coded.shape, patch)
        image = sample_array(canvas.scene.image[None], positions)
        (codes,) = sample_array(coded[None], positions, nearest=True).long()
        return Sample(
            image=self._show(change_intensity(rng, config, image)[0]),
            labels=codes % _KNOWN,
            known=codes >= _KNOWN,
        )

    def _choose_center(
        self, rng: np.random.Generator, body: _Body, kept: tuple[slice, slice, slice]
    ) -> NDArray[np.float64]:
        """Give a voxel in a tumor, or near the liver, or anywhere in what is left of the scan."""
        data, choice = self._experiment.data, rng.random()
        first = np.array([part.start for part in kept])
        anywhere = rng.uniform(first, [part.stop - 1 for part in kept])
        if len(body.tumor) and choice < data.tumor_slices:
            return np.asarray(0.75 * body.tumor[rng.integers(len(body.tumor))] + 0.25 * anywhere)
        if choice < data.organ_slices:
            return np.asarray((body.organ[rng.integers(len(body.organ))] + anywhere) / 2)
        return np.asarray(anywhere)


def _reached(
    nodes: torch.Tensor, kept: tuple[slice, slice, slice]
) -> tuple[tuple[slice, ...], torch.Tensor]:
    """Give the voxels that a patch reaches, at least one, and its nodes relative to the first."""
    first = torch.tensor([part.start for part in kept])
    last = torch.tensor([part.stop for part in kept])
    flat = nodes.flatten(start_dim=1)
    start = torch.minimum(flat.amin(dim=1).floor().long(), last - 1).maximum(first)
    stop = (flat.amax(dim=1).ceil().long() + 1).minimum(last).maximum(start + 1)
    window = tuple(slice(int(a), int(b)) for a, b in zip(start, stop, strict=True))
    return window, nodes - start.reshape(3, 1, 1, 1)


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

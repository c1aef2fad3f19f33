"""Draws training samples for a network that sees a slice (2D) or a few neighboring ones (2.5D)."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from inference.labels import Label
from inference.sliding_window import context_step, stack_indices
from training.augment import change_intensity, draw_nodes, sample_array, spread_nodes
from training.dataset import Case
from training.samples import Canvas, CaseSampler, Sample


@dataclass(frozen=True, kw_only=True, eq=False)
class _Slices:
    """A case with the lists that sampling needs."""

    case: Case
    step: int
    """How many slices apart the channels are."""
    organ: NDArray[np.intp]
    tumor: NDArray[np.intp]


class StackSampler(CaseSampler[_Slices]):
    """Draws stacks of slices for a 2.5D network, or slices for a 2D one."""

    def _prepare(self, case: Case) -> _Slices:
        tumor = (case.labels == Label.TUMOR).any(axis=(1, 2)) & case.tumors_known
        return _Slices(
            case=case,
            step=context_step(case.spacing_mm[0], self._experiment.data.context_distance_mm),
            organ=np.flatnonzero((case.labels > 0).any(axis=(1, 2))),
            tumor=np.flatnonzero(tumor),
        )

    def sample(self, rng: np.random.Generator) -> Sample:
        """Draw one sample: image (channels, rows, columns), labels (rows, columns)."""
        data, config = self._experiment.data, self._experiment.augment
        slices = self._choose(rng)
        canvas = self._stack(rng, slices, self._choose_slice(rng, slices))
        labels, known = (array[len(array) // 2] for array in (canvas.labels, canvas.known))
        center = _choose_center(rng, labels)
        center = center + rng.uniform(-config.shift_px, config.shift_px, size=2)
        patch = (data.patch_px, data.patch_px)
        nodes = draw_nodes(rng, config, slices.case.spacing_mm[1:], center, patch)
        positions = spread_nodes(nodes, labels.shape, patch)
        image = sample_array(canvas.scene.image, positions)
        both = np.stack([labels, known]).astype(np.float32)
        masks = sample_array(both, positions, nearest=True)
        (image,) = change_intensity(rng, config, image[None])
        if rng.random() < config.reverse_share:
            image = image.flip(0)
        channels = self._show(image).flatten(0, 1)
        return Sample(image=channels, labels=masks[0].long(), known=masks[1] > 0)

    def _choose_slice(self, rng: np.random.Generator, slices: _Slices) -> int:
        data, choice = self._experiment.data, rng.random()
        if len(slices.tumor) and choice < data.tumor_slices:
            return int(rng.choice(slices.tumor))
        if choice < data.organ_slices:
            return int(rng.choice(slices.organ))
        return int(rng.integers(len(slices.case.levels)))

    def _stack(self, rng: np.random.Generator, slices: _Slices, index: int) -> Canvas:
        case, count = slices.case, self._experiment.data.context_slices
        (indices,) = stack_indices(np.array([index]), len(case.levels), slices.step, count)
        spacing_mm = (slices.step * case.spacing_mm[0], *case.spacing_mm[1:])
        return self._paint(rng, case, case.levels[indices], case.labels[indices], spacing_mm)


def _choose_center(rng: np.random.Generator, labels: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Give a point between the middle and a random point of the organ; without one, the middle."""
    points = np.argwhere(labels)
    if not len(points):
        return np.array(labels.shape) / 2
    return np.asarray((points.mean(axis=0) + points[rng.integers(len(points))]) / 2)

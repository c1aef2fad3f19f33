"""Draws training samples for a network that sees a few neighboring slices (2.5D)."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from inference.sliding_window import context_step, stack_indices
from training.augment import augment
from training.config import Experiment
from training.dataset import LEVELS, Case
from training.lesions import paint_lesion
from training.samples import Sample, Sampler

_MAX_LESIONS = 3


class _Scan:
    """A case with the lists that sampling needs."""

    def __init__(self, case: Case, distance_mm: float) -> None:
        self.case = case
        self.step = context_step(case.spacing_mm[0], distance_mm)
        self.organ_slices = np.flatnonzero((case.labels > 0).any(axis=(1, 2)))
        tumor = (case.labels == 2).any(axis=(1, 2)) & case.tumors_known
        self.tumor_slices = np.flatnonzero(tumor)


class StackSampler(Sampler):
    """Draws stacks of slices for a 2.5D network.

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
            _Scan(case, data.context_distance_mm)
            for case in real
            for _ in range(data.annotated_weight if (case.labels == 2).any() else 1)
        ]
        self._synthetic = [_Scan(case, data.context_distance_mm) for case in synthetic]

    def sample(self, rng: np.random.Generator) -> Sample:
        """Draw one sample."""
        synthetic = self._synthetic and rng.random() < self._experiment.phantoms.share
        scans = self._synthetic if synthetic else self._real
        scan = scans[rng.integers(len(scans))]
        index = self._choose_slice(rng, scan)
        stack = self._stack(scan, index)
        labels = stack[1][len(stack[1]) // 2]
        known = np.full(labels.shape, scan.case.tumors_known)
        image, labels, known = self._paint(rng, scan, stack, known)
        center = _choose_center(rng, labels, self._experiment.data.image_centers)
        return augment(
            rng,
            self._experiment.augment,
            (image, labels, known),
            center,
            self._experiment.data.patch_px,
        )

    def _choose_slice(self, rng: np.random.Generator, scan: _Scan) -> int:
        data, choice = self._experiment.data, rng.random()
        if len(scan.tumor_slices) and choice < data.tumor_slices:
            return int(rng.choice(scan.tumor_slices))
        if choice < data.organ_slices:
            return int(rng.choice(scan.organ_slices))
        return int(rng.integers(len(scan.case.levels)))

    def _stack(self, scan: _Scan, index: int) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
        slices = self._experiment.data.context_slices
        (indices,) = stack_indices(np.array([index]), len(scan.case.levels), scan.step, slices)
        image = scan.case.levels[indices].astype(np.float32) / LEVELS
        return image, scan.case.labels[indices]

    def _paint(
        self,
        rng: np.random.Generator,
        scan: _Scan,
        stack: tuple[NDArray[np.float32], NDArray[np.uint8]],
        known: NDArray[np.bool_],
    ) -> tuple[NDArray[np.float32], NDArray[np.uint8], NDArray[np.bool_]]:
        """Paint lesions into some of the real stacks."""
        config = self._experiment.lesions
        image, all_labels = stack
        labels = all_labels[len(all_labels) // 2].copy()
        share = config.share_annotated if scan.case.tumors_known else config.share_unannotated
        if scan.case.synthetic or rng.random() >= share:
            return image, labels, known
        step_mm = scan.step * scan.case.spacing_mm[0]
        for _ in range(rng.integers(1, _MAX_LESIONS + 1)):
            painted = paint_lesion(rng, image, all_labels, step_mm)
            if painted is not None:
                image = painted.image
                labels[painted.lesion] = 2
                rim = ndimage.binary_dilation(painted.lesion, iterations=config.known_rim_px)
                known = known | rim
        return image, labels, known


def _choose_center(
    rng: np.random.Generator, labels: NDArray[np.uint8], image_centers: float
) -> tuple[float, float]:
    """Give the middle of the slice, or a point between middle and random point of the organ."""
    rows, columns = np.nonzero(labels)
    if not len(rows) or rng.random() < image_centers:
        return labels.shape[0] / 2, labels.shape[1] / 2
    chosen = rng.integers(len(rows))
    return float(rows.mean() + rows[chosen]) / 2, float(columns.mean() + columns[chosen]) / 2

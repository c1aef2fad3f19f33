"""Whether a probability of 0.8 is right in 8 of 10 voxels."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from inference.labels import Label
from inference.preprocess import Axes, orient
from inference.resample import AxisGrid
from inference.segment import BoxProbabilities
from training.metrics import BoolArray, LabelArray, ratio
from training.scans import LabeledScan

BINS = 10


@dataclass(frozen=True, kw_only=True)
class Reliability:
    """Voxels by probability, in bins of equal width from 0 to 1."""

    counts: tuple[int, ...]
    """Voxels of each bin."""
    probability_sums: tuple[float, ...]
    """Sum of their probabilities."""
    true_counts: tuple[int, ...]
    """Those of them that truly belong to the structure."""

    @property
    def mean_probabilities(self) -> tuple[float | None, ...]:
        """Mean probability of each bin; None where it is empty."""
        pairs = zip(self.probability_sums, self.counts, strict=True)
        return tuple(ratio(total, count) for total, count in pairs)

    @property
    def true_shares(self) -> tuple[float | None, ...]:
        """Share of true voxels of each bin; None where it is empty."""
        pairs = zip(self.true_counts, self.counts, strict=True)
        return tuple(ratio(true, count) for true, count in pairs)

    @property
    def expected_calibration_error(self) -> float | None:
        """Mean distance of probability and true share over all voxels.

        Naeini et al., AAAI 2015; Guo et al., ICML 2017. None where there are no voxels.
        """
        pairs = zip(self.probability_sums, self.true_counts, strict=True)
        return ratio(sum(abs(total - true) for total, true in pairs), sum(self.counts))

    def plus(self, other: "Reliability") -> "Reliability":
        """Add the voxels of another case."""
        return Reliability(
            counts=tuple(np.add(self.counts, other.counts).tolist()),
            probability_sums=tuple(np.add(self.probability_sums, other.probability_sums).tolist()),
            true_counts=tuple(np.add(self.true_counts, other.true_counts).tolist()),
        )


def measure_reliability(probability: NDArray[np.float32], truth: BoolArray) -> Reliability:
    """Sort voxels by probability.

    Parameters
    ----------
    probability:
        0 to 1, any shape.
    truth:
        Same shape.
    """
    bins = np.minimum((probability * BINS).astype(np.uint8), BINS - 1).ravel()
    return Reliability(
        counts=tuple(np.bincount(bins, minlength=BINS).tolist()),
        probability_sums=tuple(
            np.bincount(bins, weights=probability.ravel(), minlength=BINS).tolist()
        ),
        true_counts=tuple(np.bincount(bins[truth.ravel()], minlength=BINS).tolist()),
    )


def measure_calibration(
    scan: LabeledScan, probabilities: BoxProbabilities
) -> tuple[Reliability, Reliability | None]:
    """Judge the probabilities of the segmenter, on its own voxels that lie in the scan.

    The truth is that of the nearest voxel of the scan. The probability of the organ is judged in
    the whole box around the located liver; that of the tumor in the true organ only, since the rest
    of the box, where it is next to 0 and rightly so, would hide the rest.

    Returns
    -------
    tuple
        Of organ and tumor; None for the latter where tumors were not annotated, or where the model
        does not know them.
    """
    values, truth = _on_common_voxels(scan, probabilities)
    organ = measure_reliability(1 - values[0], truth > 0)
    if not scan.tumors_known or Label.TUMOR not in probabilities.label_values:
        return organ, None
    inside = truth > 0
    tumor_values = values[probabilities.label_values.index(Label.TUMOR)]
    return organ, measure_reliability(tumor_values[inside], truth[inside] == Label.TUMOR)


def _on_common_voxels(
    scan: LabeledScan, probabilities: BoxProbabilities
) -> tuple[NDArray[np.float32], LabelArray]:
    """Give probabilities and true labels on the voxels of the segmenter that lie in the scan."""
    truth, inside = nearest_truth(scan, probabilities.axes)
    common = np.ix_(*inside)
    return np.stack([plane[common] for plane in probabilities.values]), truth[common]


def nearest_truth(scan: LabeledScan, axes: Axes) -> tuple[LabelArray, list[BoolArray]]:
    """Give the label of the nearest voxel of a scan for other voxels.

    Parameters
    ----------
    scan:
        The truth.
    axes:
        Other voxels along its canonical axes.

    Returns
    -------
    tuple
        Labels on these voxels, 0 outside of the scan, and along each axis which of them lie in it.
    """
    canonical = orient(scan.volume.with_array(scan.labels))
    nearest = _nearest_voxels(axes, canonical.axes)
    inside = [
        (index >= 0) & (index < size)
        for index, size in zip(nearest, canonical.array.shape, strict=True)
    ]
    truth = np.zeros([axis.size for axis in axes], dtype=np.uint8)
    common = [index[kept] for index, kept in zip(nearest, inside, strict=True)]
    truth[np.ix_(*inside)] = canonical.array[np.ix_(*common)]
    return truth, inside


def _nearest_voxels(axes: Axes, source: Axes) -> list[NDArray[np.intp]]:
    def nearest(axis: AxisGrid, origin: AxisGrid) -> NDArray[np.intp]:
        return np.rint(axis.positions_mm / origin.spacing_mm).astype(np.intp)

    return [nearest(axis, origin) for axis, origin in zip(axes, source, strict=True)]

"""Which lesions were found: components of tumor, matched between truth and result."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from training.metrics import BoolArray, Spacing, bounding_box, ratio

LARGE_MM = 10.0
"""Lesions of this equivalent diameter or more are also counted apart."""
LEAST_JACCARD = 0.5
_TOUCHING = np.ones((3, 3, 3), dtype=bool)
"""26-connectivity, as in `inference.measure`."""

IntArray = NDArray[np.int64]


@dataclass(frozen=True, kw_only=True)
class Detection:
    """Counts of lesions under one rule of matching."""

    true: int
    """Annotated lesions."""
    detected: int
    """Those of them that were found."""
    found: int
    """Lesions in the result."""
    correct: int
    """Those of them that are no false alarm."""

    @property
    def recall(self) -> float | None:
        """Share of the annotated lesions that were found; None where there are none."""
        return ratio(self.detected, self.true)

    @property
    def precision(self) -> float | None:
        """Share of the lesions in the result that are none of the false alarms."""
        return ratio(self.correct, self.found)

    @property
    def f1(self) -> float | None:
        """Harmonic mean of recall and precision; None where there are no lesions at all."""
        if self.recall is None or self.precision is None:
            return ratio(0, self.true + self.found)
        return ratio(2 * self.recall * self.precision, self.recall + self.precision) or 0.0

    def plus(self, other: "Detection") -> "Detection":
        """Add the counts of another case."""
        return Detection(
            true=self.true + other.true,
            detected=self.detected + other.detected,
            found=self.found + other.found,
            correct=self.correct + other.correct,
        )


_NO_LESIONS = Detection(true=0, detected=0, found=0, correct=0)


@dataclass(frozen=True, kw_only=True)
class LesionScore:
    """Lesions found and missed, under the two rules of `score_lesions`."""

    any_overlap: Detection = _NO_LESIONS
    half_overlap: Detection = _NO_LESIONS
    large_any_overlap: Detection = _NO_LESIONS
    """Of the lesions of at least `LARGE_MM`."""
    large_half_overlap: Detection = _NO_LESIONS

    def plus(self, other: "LesionScore") -> "LesionScore":
        """Add the counts of another case."""
        return LesionScore(
            any_overlap=self.any_overlap.plus(other.any_overlap),
            half_overlap=self.half_overlap.plus(other.half_overlap),
            large_any_overlap=self.large_any_overlap.plus(other.large_any_overlap),
            large_half_overlap=self.large_half_overlap.plus(other.large_half_overlap),
        )


@dataclass(frozen=True, kw_only=True, eq=False)
class _Lesions:
    """The components of truth and result, and the voxels that each pair shares."""

    true_voxels: IntArray
    """(true lesions,)."""
    found_voxels: IntArray
    """(found lesions,)."""
    shared_voxels: IntArray
    """(true lesions, found lesions)."""


def score_lesions(truth: BoolArray, found: BoolArray, spacing_mm: Spacing) -> LesionScore:
    """Count the lesions that were found, missed and made up.

    A lesion is a 26-connected component. Two rules say which of them match:

    Any overlap
        A true lesion is detected where the result marks at least one of its voxels; a found lesion
        is correct where it holds at least one voxel of true tumor.
    Half overlap
        The rule of LiTS (Bilic et al., Med Image Anal 84 (2023) 102680, detection at 50 % overlap,
        and its scoring program), by which one found lesion may stand for several true ones and the
        other way round. Each true lesion goes to the found lesion that covers most of it; true
        lesions that go to the same one form a group. Each found lesion goes to the group that it
        covers most of. The group is detected where the Jaccard coefficient of all its true and all
        its found voxels exceeds 0.5; then all its true lesions are detected and all its found ones
        correct. Where two are covered equally, the first in grid order is taken.

    Unlike here, the scoring program of LiTS joins voxels through faces only, and counts merged
    lesions in another way; so values are like those of LiTS, not equal to them.

    The size of a lesion is the diameter of the sphere of its volume, which is its number of voxels
    times the volume of a voxel. Large true lesions are detected, and large found lesions correct,
    whatever the size of their counterparts.

    Parameters
    ----------
    truth, found:
        (slices, rows, columns), tumor.
    spacing_mm:
        Distance of slices, rows and columns.
    """
    lesions = _label(truth, found)
    voxel_mm3 = float(np.prod(spacing_mm))
    large_true, large_found = (
        _diameters_mm(voxels, voxel_mm3) >= LARGE_MM
        for voxels in (lesions.true_voxels, lesions.found_voxels)
    )
    touched_true, touched_found = _match_touching(lesions)
    matched_true, matched_found = _match_groups(lesions)
    return LesionScore(
        any_overlap=_count(touched_true, touched_found),
        half_overlap=_count(matched_true, matched_found),
        large_any_overlap=_count(touched_true[large_true], touched_found[large_found]),
        large_half_overlap=_count(matched_true[large_true], matched_found[large_found]),
    )


def _count(detected: BoolArray, correct: BoolArray) -> Detection:
    return Detection(
        true=detected.size,
        detected=int(np.count_nonzero(detected)),
        found=correct.size,
        correct=int(np.count_nonzero(correct)),
    )


def _diameters_mm(voxels: IntArray, voxel_mm3: float) -> NDArray[np.float64]:
    """Give the diameters of the spheres of these volumes."""
    return np.asarray(np.cbrt(6 / np.pi * voxel_mm3 * voxels))


def _label(truth: BoolArray, found: BoolArray) -> _Lesions:
    box = bounding_box(truth | found)
    if box is None:
        nothing = np.zeros(0, dtype=np.int64)
        return _Lesions(
            true_voxels=nothing, found_voxels=nothing, shared_voxels=np.zeros((0, 0), np.int64)
        )
    true_map, true_count = ndimage.label(truth[box], structure=_TOUCHING)
    found_map, found_count = ndimage.label(found[box], structure=_TOUCHING)
    either = (true_map > 0) | (found_map > 0)
    pairs = true_map[either].astype(np.int64) * (found_count + 1) + found_map[either]
    table = np.bincount(pairs, minlength=(true_count + 1) * (found_count + 1))
    table = table.reshape(true_count + 1, found_count + 1)
    return _Lesions(
        true_voxels=table[1:].sum(axis=1),
        found_voxels=table[:, 1:].sum(axis=0),
        shared_voxels=table[1:, 1:],
    )


def _match_touching(lesions: _Lesions) -> tuple[BoolArray, BoolArray]:
    """Tell which true lesions are detected and which found ones are correct at any overlap."""
    shares = lesions.shared_voxels > 0
    return np.asarray(shares.any(axis=1)), np.asarray(shares.any(axis=0))


def _match_groups(lesions: _Lesions) -> tuple[BoolArray, BoolArray]:
    """Tell which true lesions are detected and which found ones are correct at half overlap."""
    shared = lesions.shared_voxels
    detected, correct = np.zeros(shared.shape[0], bool), np.zeros(shared.shape[1], bool)
    touched = np.flatnonzero(shared.any(axis=1))
    if not touched.size:
        return detected, correct
    _, group_of_true = np.unique(shared[touched].argmax(axis=1), return_inverse=True)
    covered = np.zeros((group_of_true.max() + 1, shared.shape[1]), dtype=np.int64)
    np.add.at(covered, group_of_true, shared[touched])
    group_of_found = np.where(covered.any(axis=0), covered.argmax(axis=0), -1)
    for group, in_group in enumerate(covered):
        true = touched[group_of_true == group]
        found = np.flatnonzero(group_of_found == group)
        common = in_group[found].sum()
        union = lesions.true_voxels[true].sum() + lesions.found_voxels[found].sum() - common
        detected[true] = correct[found] = common > LEAST_JACCARD * union
    return detected, correct

"""What is said of one case and of all cases together."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import reduce
from typing import Self, TypeAlias

import numpy as np

from inference.labels import Label
from training.calibration import Reliability
from training.detection import LesionScore, score_lesions
from training.metrics import (
    MM3_PER_ML,
    Confusion,
    LabelArray,
    Overlap,
    Spacing,
    StructureScore,
    count_confusion,
    score_structure,
    tumor_burden,
)
from training.scans import LabeledScan

LARGE_TUMOR_ML = 5.0
"""Tumor Dice is also summarized over the cases with this much tumor or more."""

ConfusionMl: TypeAlias = tuple[tuple[float, ...], ...]
"""Volumes: a row per true class, a column per found class; background, liver, tumor."""


@dataclass(frozen=True, kw_only=True)
class CaseScore:
    """How well one case came out.

    Where tumors were not annotated, everything that judges what was found of them is None.
    """

    case_id: str
    fold: int | None
    tumors_known: bool
    liver: StructureScore
    """Of liver and tumor together."""
    tumor: StructureScore | None
    lesions: LesionScore | None
    true_burden: float | None
    found_burden: float | None
    false_tumor_ml: float | None
    """Tumor found in a liver known to be free of it; None for all other livers."""
    found_tumor_ml: float
    """Told in any case, although nothing judges it where tumors were not annotated."""
    confusion: Confusion
    """Voxels of background, liver, tumor; of background and organ where tumors are not known."""
    voxel_ml: float
    organ_reliability: Reliability | None = None
    """None where there is no result."""
    tumor_reliability: Reliability | None = None
    """In the true organ."""
    seconds: float = 0.0
    """Time of the segmentation."""
    note: str = ""
    """Why there is no result; the case is then scored as if nothing had been found."""

    @property
    def burden_error(self) -> float | None:
        """Found minus true share of tumor in the liver."""
        if self.true_burden is None or self.found_burden is None:
            return None
        return self.found_burden - self.true_burden

    @property
    def has_tumor(self) -> bool:
        """Whether the truth has tumor."""
        return self.tumor is not None and self.tumor.true_ml > 0


@dataclass(frozen=True, kw_only=True)
class BoxScore:
    """How well the locator found the liver of one whole scan."""

    case_id: str
    liver_in_box: float | None = 0.0
    """Share of the liver inside the box that the segmenter is given; None without a liver."""
    box_ml: float = 0.0
    note: str = ""
    """Why there is no box."""


def score_labels(scan: LabeledScan, found: LabelArray) -> CaseScore:
    """Compare a result with the truth.

    Parameters
    ----------
    scan:
        The scan and its truth.
    found:
        (slices, rows, columns), values of `Label`.

    Raises
    ------
    ValueError
        The result does not lie on the grid of the truth.
    """
    truth = scan.labels
    slices_mm, rows_mm, columns_mm = (float(mm) for mm in scan.volume.spacing)
    spacing_mm = (slices_mm, rows_mm, columns_mm)
    tumor, lesions = _score_tumor(scan, found, spacing_mm)
    known, voxel_ml = scan.tumors_known, float(np.prod(spacing_mm)) / MM3_PER_ML
    return CaseScore(
        case_id=scan.case_id,
        fold=scan.fold,
        tumors_known=known,
        liver=score_structure(truth > 0, found > 0, spacing_mm),
        tumor=tumor,
        lesions=lesions,
        true_burden=tumor_burden(truth) if known else None,
        found_burden=tumor_burden(found) if known else None,
        false_tumor_ml=tumor.found_ml if tumor is not None and not tumor.true_ml else None,
        found_tumor_ml=int(np.count_nonzero(found == Label.TUMOR)) * voxel_ml,
        confusion=count_confusion(truth, found, tumors_known=known),
        voxel_ml=voxel_ml,
    )


def _score_tumor(
    scan: LabeledScan, found: LabelArray, spacing_mm: Spacing
) -> tuple[StructureScore | None, LesionScore | None]:
    if not scan.tumors_known:
        return None, None
    masks = scan.labels == Label.TUMOR, found == Label.TUMOR
    return score_structure(*masks, spacing_mm), score_lesions(*masks, spacing_mm)


@dataclass(frozen=True, kw_only=True)
class Summary:
    """One measure over the cases that have it."""

    cases: int
    mean: float
    median: float
    min: float
    max: float

    @classmethod
    def of(cls, values: Iterable[float | None]) -> Self | None:
        """Summarize what is not None; None where nothing is left."""
        present = [value for value in values if value is not None]
        if not present:
            return None
        return cls(
            cases=len(present),
            mean=float(np.mean(present)),
            median=float(np.median(present)),
            min=min(present),
            max=max(present),
        )


@dataclass(frozen=True, kw_only=True)
class PooledStructure:
    """One structure over all cases."""

    dice: Summary | None
    jaccard: Summary | None
    volume_overlap_error: Summary | None
    relative_volume_difference: Summary | None
    assd_mm: Summary | None
    """Over the cases with a result only, as the next: an empty one has no distance."""
    hd95_mm: Summary | None
    surface_dice: Summary | None
    slice_dice: Summary | None
    """Of slices that hold the structure."""
    global_dice: float | None
    """As if the masks of all cases were one, by volume."""
    global_jaccard: float | None


@dataclass(frozen=True, kw_only=True)
class Pooled:
    """All cases together."""

    cases: int
    cases_without_result: int
    liver: PooledStructure
    tumor: PooledStructure
    """Over the cases with tumor; the global values over all whose tumors are known."""
    large_tumor_dice: Summary | None
    """Over the cases with at least `LARGE_TUMOR_ML` of tumor."""
    lesions: LesionScore
    false_tumor_ml: Summary | None
    """Over the livers known to be free of tumor."""
    burden_rmse: float | None
    burden_max_error: float | None
    confusion_ml: ConfusionMl | None
    """Over the cases whose tumors are known."""
    organ_reliability: Reliability | None
    tumor_reliability: Reliability | None


def pool(scores: Sequence[CaseScore]) -> Pooled:
    """Summarize cases."""
    with_tumor = [score.tumor for score in scores if score.tumor and score.has_tumor]
    known = [score.tumor for score in scores if score.tumor]
    large = [tumor.dice for tumor in with_tumor if tumor.true_ml >= LARGE_TUMOR_ML]
    burden = Summary.of(_absolute(score.burden_error) for score in scores)
    livers = [score.liver for score in scores]
    return Pooled(
        cases=len(scores),
        cases_without_result=sum(bool(score.note) for score in scores),
        liver=_pool_structure(livers, livers),
        tumor=_pool_structure(with_tumor, known),
        large_tumor_dice=Summary.of(large),
        lesions=reduce(
            LesionScore.plus, (score.lesions for score in scores if score.lesions), LesionScore()
        ),
        false_tumor_ml=Summary.of(score.false_tumor_ml for score in scores),
        burden_rmse=_root_mean_square([score.burden_error for score in scores]),
        burden_max_error=burden.max if burden else None,
        confusion_ml=_pool_confusion(scores),
        organ_reliability=_pool_reliability(score.organ_reliability for score in scores),
        tumor_reliability=_pool_reliability(score.tumor_reliability for score in scores),
    )


def _pool_structure(
    cases: Sequence[StructureScore], whole: Sequence[StructureScore]
) -> PooledStructure:
    """Summarize ``cases``, and give the global values of ``whole``."""

    def summarize(measure: Callable[[StructureScore], float | None]) -> Summary | None:
        return Summary.of(measure(case) for case in cases)

    together = reduce(Overlap.plus, whole, Overlap(true_ml=0.0, found_ml=0.0, overlap_ml=0.0))
    return PooledStructure(
        dice=summarize(lambda case: case.dice),
        jaccard=summarize(lambda case: case.jaccard),
        volume_overlap_error=summarize(lambda case: case.volume_overlap_error),
        relative_volume_difference=summarize(lambda case: case.relative_volume_difference),
        assd_mm=summarize(lambda case: case.assd_mm),
        hd95_mm=summarize(lambda case: case.hd95_mm),
        surface_dice=summarize(lambda case: case.surface_dice),
        slice_dice=summarize(lambda case: case.slice_dice),
        global_dice=together.dice,
        global_jaccard=together.jaccard,
    )


def _absolute(value: float | None) -> float | None:
    return None if value is None else abs(value)


def _root_mean_square(values: Sequence[float | None]) -> float | None:
    present = [value for value in values if value is not None]
    return float(np.sqrt(np.mean(np.square(present)))) if present else None


def _pool_confusion(scores: Sequence[CaseScore]) -> ConfusionMl | None:
    volumes = [np.array(score.confusion) * score.voxel_ml for score in scores if score.tumors_known]
    if not volumes:
        return None
    return tuple(tuple(row) for row in np.sum(volumes, axis=0).tolist())


def _pool_reliability(parts: Iterable[Reliability | None]) -> Reliability | None:
    present = [part for part in parts if part is not None]
    return reduce(Reliability.plus, present) if present else None

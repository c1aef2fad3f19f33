"""How well labels agree with the truth: overlap, surfaces, tumor burden, confusion.

The structures are those of the LiTS benchmark (Bilic et al., Med Image Anal 84 (2023) 102680): the
liver is liver and tumor together, the tumor is `inference.labels.Label.TUMOR`. What cannot be
computed, because a mask is empty, is None and never NaN.
"""

from dataclasses import dataclass
from typing import Self, TypeAlias

import numpy as np
from monai.metrics import get_mask_edges, get_surface_distance
from numpy.typing import NDArray
from scipy import ndimage

from inference.labels import Label

TOLERANCE_MM = 2.0
"""Surfaces this close agree, for the surface Dice of liver and tumor."""
MM3_PER_ML = 1000.0
_HD_PERCENTILE = 95.0

BoolArray: TypeAlias = NDArray[np.bool_]
LabelArray: TypeAlias = NDArray[np.uint8]
Spacing: TypeAlias = tuple[float, float, float]
"""Distance of the voxels along each axis of an array, in mm."""
Confusion: TypeAlias = tuple[tuple[int, ...], ...]
"""Voxel counts: a row per true class, a column per found class."""


def ratio(part: float, whole: float) -> float | None:
    """Divide; None where there is nothing to divide by."""
    return part / whole if whole else None


@dataclass(frozen=True, kw_only=True)
class Overlap:
    """Volumes of a true mask, a found mask and of what they share."""

    true_ml: float
    found_ml: float
    overlap_ml: float

    @property
    def dice(self) -> float | None:
        """Twice the overlap over the sum of the volumes; None where both masks are empty."""
        return ratio(2 * self.overlap_ml, self.true_ml + self.found_ml)

    @property
    def jaccard(self) -> float | None:
        """Overlap over union; None where both masks are empty."""
        return ratio(self.overlap_ml, self.true_ml + self.found_ml - self.overlap_ml)

    @property
    def volume_overlap_error(self) -> float | None:
        """One minus the Jaccard coefficient."""
        return None if self.jaccard is None else 1 - self.jaccard

    @property
    def relative_volume_difference(self) -> float | None:
        """Found minus true volume over true volume; None where the true mask is empty."""
        return ratio(self.found_ml - self.true_ml, self.true_ml)

    def plus(self, other: "Overlap") -> "Overlap":
        """Add volumes, as if the masks of two cases were one."""
        return Overlap(
            true_ml=self.true_ml + other.true_ml,
            found_ml=self.found_ml + other.found_ml,
            overlap_ml=self.overlap_ml + other.overlap_ml,
        )


@dataclass(frozen=True, kw_only=True)
class StructureScore(Overlap):
    """How well one structure of one case came out."""

    assd_mm: float | None
    """Average symmetric surface distance; None where a mask is empty."""
    hd95_mm: float | None
    """Larger of the two 95th percentiles of the surface distances; None where a mask is empty."""
    surface_dice: float | None
    """Share of both surfaces within the tolerance; 0 where one mask is empty, None where both."""
    slice_dice: float | None
    """Mean Dice of the slices that hold the structure, each by itself; None where none does."""

    @classmethod
    def empty(cls) -> Self:
        """Give the score of two empty masks."""
        return cls(
            true_ml=0.0,
            found_ml=0.0,
            overlap_ml=0.0,
            assd_mm=None,
            hd95_mm=None,
            surface_dice=None,
            slice_dice=None,
        )


def score_structure(
    truth: BoolArray, found: BoolArray, spacing_mm: Spacing, tolerance_mm: float = TOLERANCE_MM
) -> StructureScore:
    """Compare two masks.

    The surface of a mask is made of its voxels that have a neighbor outside it, through a face;
    each of them counts the same, and its distance is that to the nearest center of a surface voxel
    of the other mask. The average symmetric surface distance is the mean over the voxels of both
    surfaces (Heimann et al., IEEE Trans Med Imaging 28 (2009) 1251), the surface Dice the share of
    them that lie within the tolerance (Nikolov et al., J Med Internet Res 23 (2021) e26151, with
    voxels instead of areas as in Seidlitz et al., Med Image Anal 80 (2022) 102488).

    Parameters
    ----------
    truth, found:
        (slices, rows, columns).
    spacing_mm:
        Distance of slices, rows and columns.
    tolerance_mm:
        Surfaces this close agree.

    Raises
    ------
    ValueError
        The masks differ in shape.
    """
    _check_shapes(truth, found)
    box = bounding_box(truth | found)
    if box is None:
        return StructureScore.empty()
    # Neither erosion nor distances look beyond the box of both masks: outside is background.
    # Copies, since torch, within MONAI, takes no flipped views.
    truth, found = truth[box].copy(), found[box].copy()
    voxel_ml = float(np.prod(spacing_mm)) / MM3_PER_ML
    true_ml, found_ml, overlap_ml = (
        int(np.count_nonzero(mask)) * voxel_ml for mask in (truth, found, truth & found)
    )
    assd_mm, hd95_mm, surface_dice = _compare_surfaces(truth, found, spacing_mm, tolerance_mm)
    return StructureScore(
        true_ml=true_ml,
        found_ml=found_ml,
        overlap_ml=overlap_ml,
        assd_mm=assd_mm,
        hd95_mm=hd95_mm,
        surface_dice=surface_dice,
        slice_dice=_mean_slice_dice(truth, found),
    )


def _mean_slice_dice(truth: BoolArray, found: BoolArray) -> float | None:
    true, marked, shared = (
        np.count_nonzero(mask, axis=(1, 2)) for mask in (truth, found, truth & found)
    )
    holds = true > 0
    if not holds.any():
        return None
    return float(np.mean(2 * shared[holds] / (true[holds] + marked[holds])))


def _compare_surfaces(
    truth: BoolArray, found: BoolArray, spacing_mm: Spacing, tolerance_mm: float
) -> tuple[float | None, float | None, float]:
    """Give average distance, 95th percentile and surface Dice of masks of which one is filled."""
    if not truth.any() or not found.any():
        return None, None, 0.0
    # Found once for all three measures; the functions of MONAI for each would do it three times.
    surfaces = get_mask_edges(truth, found)
    distances_mm = [
        np.asarray(get_surface_distance(one, other, spacing=spacing_mm), np.float64)
        for one, other in (surfaces, surfaces[::-1])
    ]
    both = np.concatenate(distances_mm)
    hd95_mm = max(float(np.percentile(part, _HD_PERCENTILE)) for part in distances_mm)
    return float(both.mean()), hd95_mm, float(np.mean(both <= tolerance_mm))


def bounding_box(mask: BoolArray) -> tuple[slice, slice, slice] | None:
    """Give the smallest box around a mask; None for an empty one."""
    boxes = ndimage.find_objects(mask.view(np.uint8))
    return boxes[0] if boxes else None


def count_confusion(truth: LabelArray, found: LabelArray, *, tumors_known: bool) -> Confusion:
    """Count the voxels of each pair of true and found class.

    Parameters
    ----------
    truth, found:
        (slices, rows, columns), values of `Label`.
    tumors_known:
        Where not, liver and tumor are one class.

    Returns
    -------
    Confusion
        Rows true, columns found: background, liver, tumor, or background and organ.

    Raises
    ------
    ValueError
        The arrays differ in shape.
    """
    _check_shapes(truth, found)
    classes = 3 if tumors_known else 2
    counts = np.zeros(classes * classes, dtype=np.int64)
    # Slice by slice: bincount widens its input to 8 bytes a voxel.
    for true_plane, found_plane in zip(truth, found, strict=True):
        true_class, found_class = (
            np.minimum(plane, classes - 1) for plane in (true_plane, found_plane)
        )
        pairs = (classes * true_class + found_class).ravel()
        counts += np.bincount(pairs, minlength=classes * classes)
    return tuple(tuple(row) for row in counts.reshape(classes, classes).tolist())


def tumor_burden(labels: LabelArray) -> float:
    """Give the share of tumor in the liver with its tumors, 0 to 1; 0 where there is no liver."""
    tumor, organ = (int(np.count_nonzero(labels >= least)) for least in (Label.TUMOR, Label.LIVER))
    return ratio(tumor, organ) or 0.0


def _check_shapes(truth: NDArray[np.generic], found: NDArray[np.generic]) -> None:
    if truth.shape != found.shape:
        raise ValueError(f"the truth has the shape {truth.shape}, the result {found.shape}")

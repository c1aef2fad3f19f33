import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray

pytest.importorskip("monai", reason="monai comes with the extra 'train'")

from training.metrics import count_confusion, score_structure, tumor_burden

SPACING_MM = (3.0, 1.0, 1.0)


def cube(corner: tuple[int, int, int], edge: int = 4, size: int = 12) -> NDArray[np.bool_]:
    mask = np.zeros((size, size, size), dtype=bool)
    mask[tuple(slice(at, at + edge) for at in corner)] = True
    return mask


def ball(radius_mm: float, spacing_mm: tuple[float, float, float]) -> NDArray[np.bool_]:
    axes = [np.arange(-30, 30 + mm / 2, mm) for mm in spacing_mm]
    return sum(np.square(axis) for axis in np.meshgrid(*axes, indexing="ij")) <= radius_mm**2


# A cube of 4 voxels has 56 on its surface. Shifted by one voxel, its leading face of 16 is off by
# that voxel; of its last face 12 lie on the other's surface, the 4 inner ones 1 mm beside it.
SHIFTED_CUBES = {
    "along the thick axis": ((1, 0, 0), (16 * 3 + 4) / 56, 3.0, 40 / 56),
    "along a thin axis": ((0, 1, 0), 20 / 56, 1.0, 1.0),
    "along the other": ((0, 0, 1), 20 / 56, 1.0, 1.0),
    "not at all": ((0, 0, 0), 0.0, 0.0, 1.0),
}


@pytest.mark.parametrize("name", SHIFTED_CUBES)
def test_shifted_cubes(name: str) -> None:
    shift, assd_mm, hd95_mm, surface_dice = SHIFTED_CUBES[name]
    corner = (2 + shift[0], 2 + shift[1], 2 + shift[2])
    score = score_structure(cube((2, 2, 2)), cube(corner), SPACING_MM)
    shared = 0.75 if any(shift) else 1.0
    assert score.true_ml == score.found_ml == pytest.approx(64 * 3 / 1000)
    assert score.dice == pytest.approx(shared)
    assert score.jaccard == pytest.approx(shared / (2 - shared))
    assert score.volume_overlap_error == pytest.approx(1 - shared / (2 - shared))
    assert score.relative_volume_difference == 0
    assert score.assd_mm == pytest.approx(assd_mm)
    assert score.hd95_mm == pytest.approx(hd95_mm)
    assert score.surface_dice == pytest.approx(surface_dice)


@pytest.mark.parametrize("spacing_mm", [(1.0, 1.0, 1.0), (2.0, 0.75, 0.75)])
def test_a_ball_in_a_larger_one(spacing_mm: tuple[float, float, float]) -> None:
    """Distances are right to half a voxel: they go from center to center."""
    small, large = (ball(radius, spacing_mm) for radius in (20.0, 24.0))
    score = score_structure(small, large, spacing_mm)
    shared, union = 20.0**3, 24.0**3
    assert score.true_ml == pytest.approx(4 / 3 * math.pi * shared / 1000, rel=0.01)
    assert score.dice == pytest.approx(2 * shared / (shared + union), abs=0.005)
    assert score.jaccard == pytest.approx(shared / union, abs=0.005)
    assert score.relative_volume_difference == pytest.approx(union / shared - 1, abs=0.02)
    assert score.assd_mm == pytest.approx(4.0, abs=spacing_mm[0] / 4)
    assert score.hd95_mm == pytest.approx(4.0, abs=spacing_mm[0] / 2)
    assert score.surface_dice == 0.0
    assert score_structure(small, large, spacing_mm, tolerance_mm=5.0).surface_dice == 1.0


def test_slices_that_hold_the_structure_are_judged_one_by_one() -> None:
    """Shifted along the slices, a cube shares three of its four; the free one does not count."""
    along = score_structure(cube((2, 2, 2)), cube((3, 2, 2)), SPACING_MM)
    across = score_structure(cube((2, 2, 2)), cube((2, 3, 2)), SPACING_MM)
    assert (along.slice_dice, across.slice_dice) == pytest.approx((0.75, 0.75))
    partly = cube((2, 2, 2))
    partly[2, 2:4] = False
    assert score_structure(cube((2, 2, 2)), partly, SPACING_MM).slice_dice == pytest.approx(
        (3 + 2 * 8 / 24) / 4
    )
    assert score_structure(EMPTY, FULL, SPACING_MM).slice_dice is None


def test_one_voxel_from_another() -> None:
    score = score_structure(cube((0, 0, 0), edge=1), cube((1, 2, 4), edge=1), (2.0, 1.0, 0.5))
    assert (score.dice, score.relative_volume_difference, score.surface_dice) == (0.0, 0.0, 0.0)
    assert score.assd_mm == score.hd95_mm == pytest.approx(math.sqrt(12))


def test_the_95th_percentile_lies_between_the_surface_voxels() -> None:
    truth, found = np.zeros((2, 1, 1, 30), dtype=bool)
    truth[..., :10] = found[..., :10] = True
    found[..., 19] = True
    score = score_structure(truth, found, (1.0, 1.0, 1.0))
    assert score.assd_mm == pytest.approx(10 / 21)
    assert score.hd95_mm == pytest.approx(5.0)
    assert score.surface_dice == pytest.approx(20 / 21)


EMPTY = np.zeros((12, 12, 12), dtype=bool)
FULL = cube((2, 2, 2))
EMPTY_MASKS = {
    "truth": (EMPTY, FULL, (0.0, 0.0, 1.0, None, 0.0)),
    "result": (FULL, EMPTY, (0.0, 0.0, 1.0, -1.0, 0.0)),
    "both": (EMPTY, EMPTY, (None, None, None, None, None)),
}


@pytest.mark.parametrize("name", EMPTY_MASKS)
def test_an_empty_mask_has_no_distance(name: str) -> None:
    truth, found, expected = EMPTY_MASKS[name]
    score = score_structure(truth, found, SPACING_MM)
    assert (
        score.dice,
        score.jaccard,
        score.volume_overlap_error,
        score.relative_volume_difference,
        score.surface_dice,
    ) == expected
    assert score.assd_mm is score.hd95_mm is None


def test_the_edge_of_the_scan_is_a_surface_like_any_other() -> None:
    truth, found = cube((0, 0, 0)), cube((0, 0, 1))
    padded = [np.pad(mask, 5) for mask in (truth, found)]
    assert score_structure(truth, found, SPACING_MM) == score_structure(*padded, SPACING_MM)


def test_masks_of_different_shapes_are_refused() -> None:
    with pytest.raises(ValueError, match=r"\(12, 12, 12\), the result \(12, 12, 11\)"):
        score_structure(FULL, FULL[..., 1:], SPACING_MM)


masks = arrays(bool, (3, 4, 5))


@settings(max_examples=40, deadline=None)
@given(truth=masks, found=masks)
def test_measures_agree_with_each_other(truth: NDArray[np.bool_], found: NDArray[np.bool_]) -> None:
    score, swapped = (
        score_structure(*pair, SPACING_MM) for pair in ((truth, found), (found, truth))
    )
    turned = score_structure(truth.T[::-1], found.T[::-1], SPACING_MM[::-1])
    for name in ("dice", "jaccard", "assd_mm", "hd95_mm", "surface_dice"):
        value = getattr(score, name)
        expected = None if value is None else pytest.approx(value)
        assert getattr(swapped, name) == expected
        assert getattr(turned, name) == expected
    if score.dice is not None and score.jaccard is not None and score.surface_dice is not None:
        assert score.dice == pytest.approx(2 * score.jaccard / (1 + score.jaccard))
        assert 0 <= score.jaccard <= score.dice <= 1
        assert 0 <= score.surface_dice <= 1
    if score.assd_mm is not None and score.hd95_mm is not None:
        assert 0 <= score.assd_mm <= math.hypot(6, 3, 4)
        assert 0 <= score.hd95_mm <= math.hypot(6, 3, 4)


TRUTH = np.array([[[0, 0, 1, 1], [1, 2, 2, 2]]], dtype=np.uint8)
RESULT = np.array([[[0, 1, 1, 2], [0, 2, 2, 1]]], dtype=np.uint8)


def test_the_confusion_counts_voxels() -> None:
    known = count_confusion(TRUTH, RESULT, tumors_known=True)
    assert known == ((1, 1, 0), (1, 1, 1), (0, 1, 2))
    assert count_confusion(TRUTH, RESULT, tumors_known=False) == ((1, 1), (1, 5))


@settings(max_examples=20, deadline=None)
@given(labels=arrays(np.uint8, (2, 3, 4), elements=st.integers(0, 2)))
def test_what_agrees_lies_on_the_diagonal(labels: NDArray[np.uint8]) -> None:
    confusion = np.array(count_confusion(labels, labels, tumors_known=True))
    assert np.array_equal(confusion, np.diag(np.bincount(labels.ravel(), minlength=3)))


def test_tumor_burden() -> None:
    assert tumor_burden(TRUTH) == pytest.approx(3 / 6)
    assert tumor_burden(np.zeros_like(TRUTH)) == 0.0

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray

pytest.importorskip("monai", reason="monai comes with the extra 'train'")

from training.detection import Detection, LesionScore, score_lesions

SPACING_MM = (1.0, 1.0, 1.0)

# Lesions on a line: truth, result, then true, detected, found and correct ones at any overlap and
# at half overlap.
LINES = {
    "each found": ("##..##", "##..##", (2, 2, 2, 2), (2, 2, 2, 2)),
    "one found over two true": ("##..##", "######", (2, 2, 1, 1), (2, 2, 1, 1)),
    "one found over two true and too much": ("##....##", "########", (2, 2, 1, 1), (2, 0, 1, 0)),
    "two found over one true": ("########", "###..###", (1, 1, 2, 2), (1, 1, 2, 2)),
    "side by side": ("####....", "....####", (1, 0, 1, 0), (1, 0, 1, 0)),
    "one third": ("####..", "..####", (1, 1, 1, 1), (1, 0, 1, 0)),
    "two true, each half covered": ("####.####", "..#####..", (2, 2, 1, 1), (2, 0, 1, 0)),
    # The first found lesion goes to the first true one; the second covers half of the other.
    "contested": ("####.####", "######.##", (2, 2, 2, 2), (2, 1, 2, 1)),
    "a false alarm beside": ("###...", "###.##", (1, 1, 2, 1), (1, 1, 2, 1)),
    "no truth": ("....", ".##.", (0, 0, 1, 0), (0, 0, 1, 0)),
    "no result": (".##.", "....", (1, 0, 0, 0), (1, 0, 0, 0)),
    "neither": ("....", "....", (0, 0, 0, 0), (0, 0, 0, 0)),
}


def line(text: str) -> NDArray[np.bool_]:
    return np.array([[[letter == "#" for letter in text]]])


def counts(detection: Detection) -> tuple[int, int, int, int]:
    return detection.true, detection.detected, detection.found, detection.correct


@pytest.mark.parametrize("name", LINES)
def test_lesions_on_a_line(name: str) -> None:
    truth, found, any_overlap, half_overlap = LINES[name]
    score = score_lesions(line(truth), line(found), SPACING_MM)
    assert counts(score.any_overlap) == any_overlap
    assert counts(score.half_overlap) == half_overlap
    assert counts(score.large_any_overlap) == counts(score.large_half_overlap) == (0, 0, 0, 0)


@pytest.mark.parametrize(
    ("numbers", "recall", "precision", "f1"),
    [
        ((4, 3, 6, 3), 0.75, 0.5, 0.6),
        ((4, 0, 6, 0), 0.0, 0.0, 0.0),
        ((0, 0, 6, 0), None, 0.0, 0.0),
        ((4, 0, 0, 0), 0.0, None, 0.0),
        ((0, 0, 0, 0), None, None, None),
    ],
)
def test_shares(
    numbers: tuple[int, int, int, int],
    recall: float | None,
    precision: float | None,
    f1: float | None,
) -> None:
    true, detected, found, correct = numbers
    detection = Detection(true=true, detected=detected, found=found, correct=correct)
    assert (detection.recall, detection.precision) == (recall, precision)
    assert detection.f1 == (None if f1 is None else pytest.approx(f1))


def test_voxels_that_share_a_corner_are_one_lesion() -> None:
    truth = np.zeros((3, 3, 3), dtype=bool)
    truth[0, 0, 0] = truth[1, 1, 1] = True
    assert score_lesions(truth, truth, SPACING_MM).any_overlap.true == 1


@pytest.mark.parametrize(("slices_mm", "is_large"), [(523.5, False), (523.7, True)])
def test_size_is_that_of_the_sphere_of_the_same_volume(slices_mm: float, is_large: bool) -> None:
    """A sphere of 10 mm has 523.6 mm3."""
    score = score_lesions(line("#.."), line("#.#"), (slices_mm, 1.0, 1.0))
    assert counts(score.any_overlap) == (1, 1, 2, 1)
    assert counts(score.large_any_overlap) == ((1, 1, 2, 1) if is_large else (0, 0, 0, 0))


def test_a_large_true_lesion_may_be_found_by_a_small_one() -> None:
    score = score_lesions(line("######"), line("#....."), (100.0, 1.0, 1.0))
    assert counts(score.large_any_overlap) == (1, 1, 0, 0)


@settings(max_examples=60, deadline=None)
@given(truth=arrays(bool, (3, 4, 6)), found=arrays(bool, (3, 4, 6)))
def test_what_counts_at_half_overlap_counts_at_any(
    truth: NDArray[np.bool_], found: NDArray[np.bool_]
) -> None:
    score = score_lesions(truth, found, SPACING_MM)
    touched, matched = score.any_overlap, score.half_overlap
    assert 0 <= matched.detected <= touched.detected <= touched.true == matched.true
    assert 0 <= matched.correct <= touched.correct <= touched.found == matched.found
    assert (touched.detected == 0) == (touched.correct == 0) == (not (truth & found).any())
    assert (matched.detected == 0) == (matched.correct == 0)
    same = score_lesions(truth, truth, SPACING_MM).half_overlap
    assert counts(same) == (touched.true,) * 4


def test_cases_add_up() -> None:
    first = score_lesions(line("##..##"), line("######"), SPACING_MM)
    both = first.plus(score_lesions(line("##"), line(".."), SPACING_MM)).plus(LesionScore())
    assert counts(both.any_overlap) == (3, 2, 1, 1)

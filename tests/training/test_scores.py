import numpy as np
import pytest

pytest.importorskip("monai", reason="monai comes with the extra 'train'")

from inference.volume import Volume
from training.scans import LabeledScan
from training.scores import CaseScore, Summary, pool, score_labels

SPACING_MM = (10.0, 10.0, 10.0)


def score(truth: str, found: str, *, tumors_known: bool = True) -> CaseScore:
    """Compare labels on a line of voxels of 1 ml; a letter a voxel."""
    labels, result = (
        np.array([[[".lt".index(letter) for letter in text]]], dtype=np.uint8)
        for text in (truth, found)
    )
    volume = Volume(
        array=np.zeros(labels.shape, np.int16),
        affine=np.diag([*SPACING_MM, 1.0]),
        coordinate_system="PATIENT",
    )
    scan = LabeledScan(
        case_id=truth,
        patient_id="p",
        volume=volume,
        labels=labels,
        tumors_known=tumors_known,
        fold=3,
    )
    return score_labels(scan, result)


def test_the_liver_is_liver_and_tumor_together() -> None:
    case = score("..llllttttt.", "...llllllttt")
    assert case.liver.true_ml == case.liver.found_ml == pytest.approx(9.0)
    assert case.liver.dice == pytest.approx(16 / 18)
    assert case.tumor is not None
    assert case.tumor.dice == pytest.approx(2 * 2 / (5 + 3))
    assert case.true_burden == pytest.approx(5 / 9)
    assert case.found_burden == pytest.approx(3 / 9)
    assert case.burden_error == pytest.approx(-2 / 9)
    assert case.false_tumor_ml is None
    assert case.found_tumor_ml == pytest.approx(3.0)
    assert (case.has_tumor, case.fold, case.voxel_ml) == (True, 3, 1.0)
    assert case.confusion == ((2, 0, 1), (1, 3, 0), (0, 3, 2))


def test_false_tumor_counts_where_there_is_none() -> None:
    case = score("llllll", "llltll")
    assert case.false_tumor_ml == pytest.approx(1.0)
    assert case.tumor is not None
    assert case.tumor.dice == 0.0
    assert not case.has_tumor
    assert score("llllll", "llllll").false_tumor_ml == 0.0


def test_unknown_tumors_are_not_judged() -> None:
    case = score("llllll", "lltt..", tumors_known=False)
    assert case.liver.dice == pytest.approx(8 / 10)
    assert case.tumor is case.lesions is case.false_tumor_ml is None
    assert case.true_burden is case.found_burden is case.burden_error is None
    assert case.confusion == ((0, 0), (2, 4))
    assert case.found_tumor_ml == pytest.approx(2.0)


def test_pooling() -> None:
    cases = [
        score("llttttttt", "llttttttt"),  # 7 ml of tumor, all of it found
        score("lllltt...", "llll.....", tumors_known=True),  # 2 ml, none
        score("lllllllll", "lllllltll"),  # none, 1 ml found
        score("lllllllll", "ttttttttt", tumors_known=False),
        score("lllllllll", ".........", tumors_known=False),
    ]
    pooled = pool(cases)
    assert pooled.cases == 5
    assert pooled.liver.dice == Summary(cases=5, mean=0.76, median=1.0, min=0.0, max=1.0)
    assert pooled.liver.global_dice == pytest.approx(2 * 31 / (42 + 31))
    assert pooled.liver.global_jaccard == pytest.approx(31 / 42)
    assert pooled.liver.assd_mm is not None
    assert pooled.liver.assd_mm.cases == 4
    assert pooled.tumor.dice == Summary(cases=2, mean=0.5, median=0.5, min=0.0, max=1.0)
    assert pooled.tumor.global_dice == pytest.approx(2 * 7 / (9 + 8))
    assert pooled.large_tumor_dice == Summary(cases=1, mean=1.0, median=1.0, min=1.0, max=1.0)
    assert pooled.false_tumor_ml == Summary(cases=1, mean=1.0, median=1.0, min=1.0, max=1.0)
    assert pooled.lesions.any_overlap.recall == pytest.approx(1 / 2)
    assert pooled.lesions.any_overlap.precision == pytest.approx(1 / 2)
    errors = [0, 2 / 6, 1 / 9]
    assert pooled.burden_rmse == pytest.approx(np.sqrt(np.mean(np.square(errors))))
    assert pooled.burden_max_error == pytest.approx(2 / 6)
    assert np.allclose(pooled.confusion_ml, [(3, 0, 0), (0, 14, 1), (2, 0, 7)])


def test_nothing_is_pooled_of_no_case() -> None:
    pooled = pool([])
    assert pooled.liver.dice is pooled.tumor.dice is pooled.false_tumor_ml is None
    assert pooled.liver.global_dice is pooled.burden_rmse is pooled.confusion_ml is None
    assert pooled.organ_reliability is pooled.lesions.any_overlap.f1 is None


def test_a_result_on_another_grid_is_refused() -> None:
    with pytest.raises(ValueError, match="shape"):
        score("llll", "lll")

from itertools import permutations, product

import numpy as np
import pytest

pytest.importorskip("monai", reason="monai comes with the extra 'train'")

from inference.labels import Label
from inference.resample import AxisGrid
from inference.segment import BoxProbabilities
from inference.volume import Volume
from training.calibration import measure_calibration, measure_reliability
from training.scans import LabeledScan

LABELS = (Label.BACKGROUND, Label.LIVER, Label.TUMOR)
SPACING_MM = (2.5, 1.5, 1.0)


def test_reliability_by_hand() -> None:
    probability = np.array([0.0, 0.05, 0.25, 0.25, 0.95, 1.0], dtype=np.float32)
    truth = np.array([False, False, True, False, True, True])
    found = measure_reliability(probability, truth)
    assert found.counts == (2, 0, 2, 0, 0, 0, 0, 0, 0, 2)
    assert found.true_counts == (0, 0, 1, 0, 0, 0, 0, 0, 0, 2)
    assert found.mean_probabilities[2:4] == (0.25, None)
    assert found.true_shares[2:4] == (0.5, None)
    # Two voxels off by 0.025, two by 0.25, two by 0.025.
    assert found.expected_calibration_error == pytest.approx((0.025 + 0.25 + 0.025) / 3)


def test_cases_add_up() -> None:
    high = measure_reliability(np.full(30, 0.75, np.float32), np.ones(30, bool))
    low = measure_reliability(np.full(10, 0.75, np.float32), np.zeros(10, bool))
    assert high.expected_calibration_error == low.expected_calibration_error / 3 == 0.25
    assert high.plus(low).expected_calibration_error == 0.0


def test_nothing_has_no_error() -> None:
    nothing = measure_reliability(np.zeros(0, np.float32), np.zeros(0, bool))
    assert nothing.expected_calibration_error is None


def labeled_scan(*, tumors_known: bool = True) -> LabeledScan:
    """A small scan without any symmetry, in canonical order."""
    labels = np.zeros((6, 7, 8), dtype=np.uint8)
    labels[1:4, 2:6, 1:5] = Label.LIVER
    labels[2, 3:5, 2] = Label.TUMOR
    affine = np.zeros((4, 4))
    affine[2, 0], affine[1, 1], affine[0, 2], affine[3, 3] = *SPACING_MM, 1.0
    array = np.zeros(labels.shape, dtype=np.int16)
    volume = Volume(array=array, affine=affine, coordinate_system="PATIENT")
    return LabeledScan(
        case_id="a", patient_id="a", volume=volume, labels=labels, tumors_known=tumors_known
    )


def sure_probabilities(labels: np.ndarray) -> BoxProbabilities:
    """Probabilities that are right in the scan, and nonsense in two voxels around it."""
    values = np.full((3, *(size + 4 for size in labels.shape)), 1 / 3, dtype=np.float32)
    values[:, 2:-2, 2:-2, 2:-2] = [labels == value for value in LABELS]
    slices, rows, columns = (
        AxisGrid(start_mm=-2 * mm, spacing_mm=mm, size=size + 4)
        for mm, size in zip(SPACING_MM, labels.shape, strict=True)
    )
    image = np.zeros(values.shape[1:], dtype=np.float32)
    axes = (slices, rows, columns)
    return BoxProbabilities(values=values, image=image, axes=axes, label_values=LABELS)


@pytest.mark.parametrize(
    ("permutation", "flips"),
    [*product(permutations(range(3)), [(False, True, False), (True, False, True)])],
)
def test_probabilities_meet_the_truth_in_every_orientation(
    permutation: tuple[int, int, int], flips: tuple[bool, bool, bool]
) -> None:
    straight = labeled_scan()
    axes = [axis for axis in range(3) if flips[axis]]
    turned = LabeledScan(
        case_id="a",
        patient_id="a",
        volume=straight.volume.permute_spatial_axes(permutation).flip_spatial(axes),
        labels=np.flip(straight.labels.transpose(permutation), axes),
        tumors_known=True,
    )
    organ, tumor = measure_calibration(turned, sure_probabilities(straight.labels))
    assert tumor is not None
    assert (sum(organ.counts), organ.true_counts[-1]) == (6 * 7 * 8, 3 * 4 * 4)
    assert (sum(tumor.counts), tumor.true_counts[-1]) == (3 * 4 * 4, 2)
    assert organ.expected_calibration_error == tumor.expected_calibration_error == 0.0


def test_unknown_tumors_are_not_judged() -> None:
    scan = labeled_scan(tumors_known=False)
    organ, tumor = measure_calibration(scan, sure_probabilities(scan.labels))
    assert organ.expected_calibration_error == 0.0
    assert tumor is None

"""Results that no liver is like, and those that one is."""

import numpy as np
import pytest

from config.results import PlausibilitySettings
from inference.findings import DoubtCode
from inference.labels import Label
from inference.measure import measure
from inference.plausibility import with_doubts
from inference.volume import Volume

ROOM = (30, 60, 60)
LIVER = np.s_[5:25, 10:50, 10:50]
"""1,280 ml in voxels of 40 mm3."""
LESION = np.s_[10:14, 20:30, 20:30]


def doubts_of(*labeled: tuple[Label, tuple[slice, ...]], **limits: float) -> dict[DoubtCode, str]:
    """Label boxes one after the other in voxels of 5 x 2 x 4 mm, and give what is doubtful."""
    array = np.zeros(ROOM, np.uint8)
    for label, box in labeled:
        array[box] = label
    affine = np.diag([4.0, 2.0, 5.0, 1.0])[:, [2, 1, 0, 3]]
    labels = Volume(array, affine, coordinate_system="PATIENT")
    volume = labels.with_array(np.full(ROOM, 60, np.int16))
    settings = PlausibilitySettings(**limits)
    found = with_doubts(measure(volume, labels), labels, settings)
    return {doubt.code: doubt.sentence for doubt in found.doubts}


def test_a_liver_is_believed():
    assert doubts_of((Label.LIVER, LIVER), (Label.TUMOR, LESION)) == {}


@pytest.mark.parametrize(
    ("labeled", "limits", "code", "sentence"),
    [
        (
            [(Label.LIVER, LIVER)],
            {"min_liver_ml": 1281.0},
            DoubtCode.SMALL_LIVER,
            "The liver has 1280 ml, less than 1281 ml.",
        ),
        (
            [(Label.LIVER, LIVER), (Label.TUMOR, LESION)],
            {"max_liver_ml": 1279.0},
            DoubtCode.LARGE_LIVER,
            "The liver has 1280 ml, more than 1279 ml.",
        ),
        (
            [(Label.LIVER, LIVER), (Label.TUMOR, np.s_[5:20, 10:50, 10:50])],
            {},
            DoubtCode.HIGH_TUMOR_BURDEN,
            "Lesions are 75 % of the liver, more than 50 %.",
        ),
        (
            [(Label.LIVER, np.s_[:20, 10:50, 10:50])],
            {},
            DoubtCode.PARTIAL_LIVER,
            "The scan ends inside the liver: 128 cm2 are cut.",
        ),
        (
            [(Label.LIVER, np.s_[10:, 10:50, 10:50])],
            {},
            DoubtCode.PARTIAL_LIVER,
            "The scan ends inside the liver: 128 cm2 are cut.",
        ),
        (
            [(Label.LIVER, np.s_[5:25, 10:50, 20:])],
            {},
            DoubtCode.PARTIAL_LIVER,
            "The scan ends inside the liver: 80 cm2 are cut.",
        ),
        (
            [(Label.LIVER, LIVER), (Label.LIVER, np.s_[5:10, 55:58, 10:50])],
            {"max_scattered": 0.01},
            DoubtCode.SCATTERED_LIVER,
            "2 % of the liver lies apart from its largest part.",
        ),
        (
            [(Label.LIVER, LIVER), (Label.TUMOR, LESION), (Label.TUMOR, np.s_[5:6, 55:56, 5:6])],
            {},
            DoubtCode.OUTSIDE_LESION,
            "Lesions that do not touch the liver: 2.",
        ),
    ],
)
def test_what_is_unlike_a_liver_is_doubted(labeled, limits, code: DoubtCode, sentence: str):
    assert doubts_of(*labeled, **limits) == {code: sentence}


def test_a_little_liver_at_the_border_is_no_doubt():
    """A scan often begins within the dome of the diaphragm."""
    dome = (Label.LIVER, np.s_[:5, 28:32, 28:32])
    assert doubts_of((Label.LIVER, LIVER), dome) == {}


def test_limits_are_ordered():
    with pytest.raises(ValueError, match="min_liver_ml must be below"):
        PlausibilitySettings(min_liver_ml=5000)

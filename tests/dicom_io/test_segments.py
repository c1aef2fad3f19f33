import numpy as np
import pytest

from config.settings import ResultSettings
from dicom_io.segments import SegmentKind, plan_segments
from inference.labels import Label
from inference.measure import measure


@pytest.fixture
def plan(results):
    """Plan the segments of an array of labels."""
    volume = results.volume()

    def make(labels, max_lesion_segments=20, content_key="key"):
        labels = volume.with_array(labels)
        findings = measure(volume, labels)
        settings = ResultSettings(max_lesion_segments=max_lesion_segments)
        return plan_segments(labels, findings, settings, content_key=content_key)

    return make


@pytest.mark.parametrize(
    ("lesion_count", "own_segments", "expected"),
    [
        (0, 20, [("Liver", ())]),
        (1, 20, [("Liver", ()), ("Liver lesion 1", (1,))]),
        (3, 3, [("Liver", ()), *((f"Liver lesion {n}", (n,)) for n in (1, 2, 3))]),
        (3, 1, [("Liver", ()), ("Liver lesion 1", (1,)), ("Other liver lesions", (2, 3))]),
    ],
)
def test_largest_lesions_have_segments_and_the_rest_is_pooled(
    results, plan, lesion_count, own_segments, expected
):
    planned = plan(results.labels(results.lesions[:lesion_count]), own_segments)
    assert [(s.label, s.lesion_numbers) for s in planned.segments] == expected
    assert [s.number for s in planned.segments] == list(range(1, len(expected) + 1))
    assert planned.segments[0].kind is SegmentKind.LIVER


def test_every_voxel_is_in_the_one_segment_of_its_finding(results, plan):
    numbers = plan(results.labels(), 1).numbers.array
    expected = (results.labels() == Label.LIVER).astype(np.uint8)
    for lesion, segment in zip(results.lesions, (2, 3, 3), strict=True):
        expected[lesion] = segment
    assert numbers.dtype == np.uint8
    np.testing.assert_array_equal(numbers, expected)


def test_more_segments_than_a_byte_can_number(results, plan):
    labels = np.full(results.shape, Label.LIVER, np.uint8)
    labels[::2, ::3, ::3] = Label.TUMOR
    count = int(np.count_nonzero(labels == Label.TUMOR))
    planned = plan(labels, 400)
    assert planned.numbers.array.dtype == np.uint16
    assert planned.numbers.array.max() == len(planned.segments) == 402
    assert len(planned.segments[-1].lesion_numbers) == count - 400


def test_tracking_uids_name_content_and_lesion(results, plan):
    labels = results.labels()

    def uids(**arguments):
        return [segment.tracking_uid for segment in plan(labels, **arguments).segments]

    assert len(set(uids())) == 4
    assert uids() == uids()
    assert uids()[:2] == uids(max_lesion_segments=1)[:2], "pooling renames nothing else"
    assert not set(uids()) & set(uids(content_key="another"))


def test_labels_that_contradict_the_lesions_are_refused(results, case):
    labels = case.segmentation.labels
    other = labels.with_array(results.labels(results.lesions[:1]))
    with pytest.raises(ValueError, match="tumor voxels"):
        plan_segments(other, case.findings, ResultSettings(), content_key="key")

"""Measurements against shapes of known size and against brute force."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from inference.findings import Diameter, Findings
from inference.labels import Label
from inference.measure import dice, measure
from inference.volume import Volume

SPACING_MM = (2.0, 0.75, 0.5)


def make_volume(array, spacing_mm=SPACING_MM, origin_mm=(-100.0, 50.0, 30.0)):
    affine = np.zeros((4, 4))
    for axis, spacing in enumerate(spacing_mm):
        affine[2 - axis, axis] = spacing
    affine[:3, 3] = origin_mm
    affine[3, 3] = 1
    return Volume(array, affine, coordinate_system="PATIENT")


def measure_labels(labels, hu=None, **geometry) -> Findings:
    """Measure, with a liver voxel in the last corner."""
    labels = labels.astype(np.uint8)
    labels[-1, -1, -1] = Label.LIVER
    hu = np.zeros(labels.shape, np.int16) if hu is None else hu
    return measure(make_volume(hu, **geometry), make_volume(labels, **geometry))


def ellipsoid(shape, center, radii_mm, spacing_mm=SPACING_MM):
    index = np.indices(shape)
    return (
        sum(
            ((index[axis] - center[axis]) * spacing_mm[axis] / radii_mm[axis]) ** 2
            for axis in range(3)
        )
        <= 1
    )


@pytest.mark.parametrize(
    ("radii_mm", "long_mm", "short_mm"),
    [((10, 9, 9), 18, 18), ((12, 15, 7), 30, 14), ((6, 6, 12), 24, 12), ((14, 4, 11), 22, 8)],
)
def test_ellipsoid_has_its_diameters_and_volume(radii_mm, long_mm, short_mm):
    labels = ellipsoid((24, 60, 80), (11, 30, 40), radii_mm) * Label.TUMOR
    (lesion,) = measure_labels(labels).lesions
    assert lesion.long_axis.length_mm == pytest.approx(long_mm, abs=0.8)
    assert lesion.short_axis.length_mm == pytest.approx(short_mm, abs=1.6)
    assert lesion.volume_ml == pytest.approx(4 / 3 * math.pi * math.prod(radii_mm) / 1000, rel=0.05)
    assert lesion.centroid_mm == pytest.approx((-100 + 40 * 0.5, 50 + 30 * 0.75, 30 + 11 * 2.0))
    assert lesion.long_axis.slice_index == lesion.short_axis.slice_index


def test_density_is_that_of_the_mask():
    labels = np.zeros((3, 4, 5))
    labels[1, 1, 1:5] = Label.TUMOR
    hu = np.full(labels.shape, 1000, np.int16)
    hu[1, 1, 1:5] = [-40, 20, 60, 80]
    (lesion,) = measure_labels(labels, hu).lesions
    assert (lesion.voxel_count, lesion.mean_hu, lesion.min_hu, lesion.max_hu) == (4, 30, -40, 80)
    assert lesion.sd_hu == pytest.approx(np.std([-40, 20, 60, 80]))


def test_lesions_are_numbered_by_size_and_touch_by_corners():
    labels = np.zeros((6, 8, 20))
    labels[0, 0, 0] = labels[1, 1, 1] = labels[2, 2, 2] = Label.TUMOR
    labels[2:4, 4:7, 10:15] = Label.TUMOR
    labels[5, 0, 17] = Label.TUMOR
    findings = measure_labels(labels)
    assert [lesion.voxel_count for lesion in findings.lesions] == [30, 3, 1]
    assert [lesion.number for lesion in findings.lesions] == [1, 2, 3]
    marked = findings.lesion_map.array
    assert marked[0, 0, 0] == marked[2, 2, 2] == 2
    assert marked[3, 5, 12] == 1
    assert marked[5, 0, 17] == 3
    assert marked.dtype == np.uint16
    assert findings.liver.voxel_count == 1


def test_volumes_add_up():
    labels = np.full((5, 6, 7), Label.LIVER)
    labels[2:4, 2:4, 2:5] = Label.TUMOR
    findings = measure_labels(labels)
    voxel_ml = math.prod(SPACING_MM) / 1000
    assert findings.organ_volume_ml == pytest.approx(5 * 6 * 7 * voxel_ml)
    assert findings.tumor_volume_ml == pytest.approx(12 * voxel_ml)
    assert findings.tumor_burden == pytest.approx(12 / 210)


def test_single_voxel_has_a_long_axis_of_no_length():
    labels = np.zeros((3, 4, 5))
    labels[1, 2, 3] = Label.TUMOR
    (lesion,) = measure_labels(labels).lesions
    assert lesion.long_axis == Diameter(
        slice_index=1, start=(2.0, 3.0), end=(2.0, 3.0), length_mm=0.0
    )
    assert lesion.short_axis is None


@pytest.mark.parametrize("step", [(0, 1), (1, 0), (1, 1), (1, -1)])
def test_line_of_voxels_has_no_short_axis(step):
    labels = np.zeros((2, 12, 12))
    for i in range(5):
        labels[0, 5 + i * step[0], 5 + i * step[1]] = Label.TUMOR
    (lesion,) = measure_labels(labels).lesions
    length = math.hypot(4 * step[0] * SPACING_MM[1], 4 * step[1] * SPACING_MM[2])
    assert lesion.long_axis.length_mm == pytest.approx(length)
    assert lesion.short_axis is None


def test_no_tumor_gives_no_lesion():
    findings = measure_labels(np.zeros((2, 3, 4)))
    assert findings.lesions == ()
    assert findings.tumor_volume_ml == 0
    assert not findings.lesion_map.array.any()


def test_no_liver_is_refused():
    volume = make_volume(np.zeros((2, 3, 4), np.int16))
    with pytest.raises(ValueError, match="no voxel is labeled as liver"):
        measure(volume, volume.with_array(np.zeros((2, 3, 4), np.uint8)))


@pytest.mark.parametrize("other", [{"shape": (2, 3, 5)}, {"origin_mm": (0.0, 0.0, 0.0)}])
def test_other_grid_is_refused(other):
    volume = make_volume(np.zeros((2, 3, 4), np.int16))
    labels = np.ones(other.pop("shape", (2, 3, 4)), np.uint8)
    with pytest.raises(ValueError, match="do not lie on the grid"):
        measure(volume, make_volume(labels, **other))


def _length(first, second, spacing_mm):
    return math.dist(np.multiply(first, spacing_mm), np.multiply(second, spacing_mm))


def _is_outline(mask, row, column):
    around = [(row - 1, column), (row + 1, column), (row, column - 1), (row, column + 1)]
    padded = np.pad(mask, 1)
    return not all(padded[r + 1, c + 1] for r, c in around)


@settings(max_examples=60, deadline=None)
@given(
    mask=arrays(bool, (2, 7, 8), elements=st.booleans()).filter(np.any),
    spacing_mm=st.tuples(st.just(3.0), st.sampled_from([0.5, 0.8]), st.sampled_from([0.5, 1.3])),
)
def test_axes_equal_brute_force(mask, spacing_mm):
    pixel_mm = spacing_mm[1:]
    labels = np.zeros((3, 7, 8), np.uint8)
    labels[:2] = mask * Label.TUMOR
    for lesion in measure_labels(labels, spacing_mm=spacing_mm).lesions:
        own = measure_labels(labels, spacing_mm=spacing_mm).lesion_map.array == lesion.number
        slices = [np.argwhere(part).tolist() for part in own]
        longest = max(
            _length(a, b, pixel_mm)
            for points in slices
            for a, b in itertools.product(points, repeat=2)
        )
        axis = lesion.long_axis
        assert axis.length_mm == pytest.approx(longest)
        assert axis.length_mm == pytest.approx(_length(axis.start, axis.end, pixel_mm))
        assert own[axis.slice_index][tuple(map(int, axis.start))]
        assert own[axis.slice_index][tuple(map(int, axis.end))]
        assert_short_axis(own[axis.slice_index], lesion, pixel_mm)


def assert_short_axis(mask, lesion, pixel_mm):
    axis = lesion.long_axis
    outline = [point for point in np.argwhere(mask).tolist() if _is_outline(mask, *point)]
    direction = np.subtract(axis.end, axis.start) * pixel_mm / max(axis.length_mm, 1e-9)
    widest = 0.0
    for a, b in itertools.combinations(outline, 2):
        length = _length(a, b, pixel_mm)
        skew = abs(float(np.subtract(b, a) * pixel_mm @ direction))
        if skew <= max(length * math.sin(math.radians(5)), min(pixel_mm) / 2):
            widest = max(widest, length)
    found = lesion.short_axis.length_mm if lesion.short_axis else 0.0
    assert found == pytest.approx(widest)


@settings(max_examples=60, deadline=None)
@given(
    labels=arrays(np.uint8, (4, 5, 6), elements=st.sampled_from(list(Label))),
    spacing_mm=st.tuples(st.just(3.0), st.sampled_from([0.5, 0.8]), st.sampled_from([0.5, 1.3])),
)
def test_surface_distance_equals_brute_force(labels, spacing_mm):
    findings = measure_labels(labels, spacing_mm=spacing_mm)
    labels[-1, -1, -1] = Label.LIVER
    organ = {tuple(voxel) for voxel in np.argwhere(labels > 0).tolist()}
    steps = [(1, 0, 0), (-1, 0, 0), (0, 1, 0), (0, -1, 0), (0, 0, 1), (0, 0, -1)]
    inside = {tuple(voxel) for voxel in np.argwhere(labels == 0).tolist()}
    surface = [one for one in organ if {tuple(np.add(one, step)) for step in steps} & inside]
    for lesion in findings.lesions:
        own = np.argwhere(findings.lesion_map.array == lesion.number).tolist()
        distances_mm = [_length(a, b, spacing_mm) for a in own for b in surface]
        expected = pytest.approx(min(distances_mm)) if surface else None
        assert lesion.surface_distance_mm == expected


@pytest.mark.parametrize(
    ("spacing_mm", "pixels", "measurable"),
    [
        ((5.0, 1.0, 1.0), 11, True),
        ((5.0, 1.0, 1.0), 10, False),
        ((6.0, 1.0, 1.0), 12, False),
        ((6.0, 1.0, 1.0), 13, True),
    ],
)
def test_what_recist_would_measure(spacing_mm, pixels, measurable):
    """A row of pixels is as long as from the center of the first to that of the last."""
    labels = np.zeros((3, 20, 20), np.uint8)
    labels[1, 10, :pixels] = Label.TUMOR
    (lesion,) = measure_labels(labels, spacing_mm=spacing_mm).lesions
    assert lesion.is_measurable is measurable


def test_recist_is_about_axial_slices():
    labels = np.zeros((3, 20, 20), np.uint8)
    labels[1, 10, :15], labels[0] = Label.TUMOR, Label.LIVER
    coronal = np.array([[0, 0, 1, 0], [2, 0, 0, 0], [0, -1, 0, 0], [0, 0, 0, 1.0]])
    scan = Volume(labels, coronal, coordinate_system="PATIENT")
    (lesion,) = measure(scan.with_array(labels.astype(np.int16)), scan).lesions
    assert lesion.is_measurable is None


def test_dice():
    first = np.array([1, 1, 1, 0], bool)
    assert dice(first, first) == 1.0
    assert dice(first, np.array([0, 1, 1, 1], bool)) == pytest.approx(2 / 3)
    assert dice(first, np.zeros(4, bool)) == 0.0
    assert dice(np.zeros(4, bool), np.zeros(4, bool)) == 1.0

"""Pictures of slices: which slices, and what may and may not be covered in them."""

import time

import numpy as np
import pytest

from inference.labels import Label
from inference.measure import measure
from inference.phantom import PhantomSettings, make_phantom
from inference.preview_planes import apply_window
from inference.slice_pictures import choose_slices, draw_slices
from inference.volume import Volume

LIVER_COLOR = (72, 214, 138)
TUMOR_COLOR = (255, 106, 61)
NOTICE_COLOR = (240, 184, 64)
TEXT_COLOR = (226, 230, 236)


@pytest.fixture(scope="module")
def phantom():
    return make_phantom(PhantomSettings(shape=(40, 256, 256), spacing_mm=(7.0, 1.4, 1.4)))


@pytest.fixture(scope="module")
def findings(phantom):
    return measure(phantom.volume, phantom.labels)


def names_of(volume):
    return [str(index + 1) for index in range(volume.shape[0])]


def near(picture, color):
    return np.abs(picture.astype(int) - color).max(axis=2) < 40


def small(shape, spacing_mm, lesions=()):
    """A scan with a liver at its left, in which boxes are lesions."""
    labels = np.zeros(shape, np.uint8)
    rows, columns = shape[1:]
    labels[1:-1, rows // 4 : -rows // 4, columns // 6 : columns // 2] = Label.LIVER
    for box in lesions:
        labels[box] = Label.TUMOR
    affine = np.zeros((4, 4))
    affine[[2, 1, 0], [0, 1, 2]] = spacing_mm
    affine[3, 3] = 1
    hu = np.array([-900, 60, 20], np.int16)[labels]
    volume = Volume(hu, affine, coordinate_system="PATIENT")
    truth = volume.with_array(labels)
    return volume, truth, measure(volume, truth)


def test_slices_are_apart_and_have_the_largest_diameters(phantom, findings):
    chosen = choose_slices(phantom.labels, findings, 20.0, 3)
    keys = {lesion.long_axis.slice_index for lesion in findings.lesions[:3]}
    assert keys <= set(chosen)
    inside = set(np.flatnonzero(phantom.labels.array.any(axis=(1, 2))).tolist())
    assert set(chosen) <= inside
    for index in set(chosen) - keys:
        assert min(abs(index - other) * 7.0 for other in chosen if other != index) >= 20.0
    for index in inside:
        assert min(abs(index - other) * 7.0 for other in chosen) < 20.0
    assert set(choose_slices(phantom.labels, findings, 0.0, 3)) == inside
    assert set(choose_slices(phantom.labels, findings, 7.0, 3)) == inside


@pytest.mark.parametrize(
    ("orientation", "first"),
    [("HPL", "H"), ("FPL", "H"), ("AHL", "A"), ("PHL", "A"), ("LHP", "R"), ("RHP", "R")],
)
def test_slices_are_in_the_order_of_reading(phantom, orientation, first):
    labels = phantom.labels.to_patient_orientation(orientation)
    volume = phantom.volume.to_patient_orientation(orientation)
    chosen = choose_slices(labels, measure(volume, labels), 30.0, 3)
    ends = np.array([(chosen[0], 0, 0), (chosen[-1], 0, 0)], float)
    start, end = labels.map_indices_to_reference(ends)
    axis, sign = {"H": (2, -1), "A": (1, 1), "R": (0, 1)}[first]
    assert sign * (end - start)[axis] > 0


def test_the_scan_is_unchanged_where_nothing_is_drawn(phantom, findings):
    index = findings.lesions[0].long_axis.slice_index
    names = names_of(phantom.volume)
    [picture] = draw_slices(phantom.volume, phantom.labels, findings, [index], names)
    gray = apply_window(phantom.volume.array[index].astype(np.float32))
    assert picture.shape == (256, 256, 3)
    assert picture.dtype == np.uint8
    assert np.mean((picture == gray[..., None]).all(axis=2)) > 0.93
    assert near(picture, LIVER_COLOR).sum() > 200
    assert near(picture, TUMOR_COLOR).sum() > 40
    assert near(picture, NOTICE_COLOR).sum() > 60


def test_diameters_are_drawn_where_they_were_measured(phantom, findings):
    axis = findings.lesions[0].long_axis
    names = names_of(phantom.volume)
    slices = [axis.slice_index, axis.slice_index + 1]
    here, beside = draw_slices(phantom.volume, phantom.labels, findings, slices, names)
    shares = np.linspace(0.2, 0.4, 20)[:, None]
    points = np.array(axis.start) * (1 - shares) + np.array(axis.end) * shares
    rows, columns = np.rint(points).astype(int).T
    assert here[rows, columns].mean() > beside[rows, columns].mean() + 30


@pytest.mark.parametrize("spacing_mm", [(3, 0.8, 0.8), (3, 1.6, 0.8), (3, 0.7, 2.1)])
@pytest.mark.parametrize("shape", [(6, 512, 512), (6, 256, 256), (6, 128, 128), (6, 180, 240)])
def test_the_notice_is_there_and_hides_no_liver(shape, spacing_mm):
    volume, labels, findings = small(shape, spacing_mm)
    names = names_of(volume)
    for picture in draw_slices(volume, labels, findings, [1, 3], names):
        notice = near(picture, NOTICE_COLOR)
        assert notice.sum() > 60
        rows, columns = np.nonzero(notice)
        assert np.ptp(columns) > 3 * np.ptp(rows) * min(1.0, spacing_mm[1] / spacing_mm[2])
        covered = notice | near(picture, TEXT_COLOR)
        assert not (covered & (labels.array[3] > 0)).any()


def test_letters_are_in_proportion_where_pixels_are_not_square():
    extents = []
    for shape, spacing_mm in (((4, 256, 256), (3, 1, 1)), ((4, 512, 256), (3, 0.5, 1))):
        volume, labels, findings = small(shape, spacing_mm)
        [picture] = draw_slices(volume, labels, findings, [2], names_of(volume))
        rows, columns = np.nonzero(near(picture, NOTICE_COLOR))
        extents.append((np.ptp(rows) * spacing_mm[1], np.ptp(columns) * spacing_mm[2]))
    assert extents[0] == pytest.approx(extents[1], rel=0.25)


@pytest.mark.parametrize("shape", [(4, 8, 8), (4, 20, 60), (4, 60, 20), (4, 12, 400)])
def test_tiny_grids_are_drawn_too(shape):
    volume, labels, findings = small(shape, (3, 1, 1))
    for picture in draw_slices(volume, labels, findings, [1, 2], names_of(volume)):
        assert picture.shape == (*shape[1:], 3)
        assert (picture[..., 1].astype(int) - picture[..., 0] > 20).any()


def test_each_of_many_lesions_has_its_number(phantom):
    boxes = [
        np.s_[2:4, row : row + 8, column : column + 9 + row % 3]
        for row in range(140, 360, 40)
        for column in (90, 120, 150, 180, 210)
    ]
    volume, labels, findings = small((6, 512, 512), (3, 0.8, 0.8), boxes)
    assert len(findings.lesions) == 30
    [picture] = draw_slices(volume, labels, findings, [2], names_of(volume))
    orange = near(picture, TUMOR_COLOR)
    for box in boxes:
        _, rows, columns = box
        beside = orange[rows.start - 14 : rows.start, columns.stop - 2 : columns.stop + 18]
        assert beside.sum() > 5


def test_speed_of_a_large_series():
    """100 slices of 512 x 512 take less than a second; the limit allows for a busy machine."""
    lesion = np.s_[20:60, 200:240, 120:170]
    volume, labels, findings = small((102, 512, 512), (1, 0.8, 0.8), [lesion])
    slices = choose_slices(labels, findings, 0.0, 20)
    started = time.process_time()
    count = sum(1 for _ in draw_slices(volume, labels, findings, slices, names_of(volume)))
    assert count == 100
    assert time.process_time() - started < 4.0

"""The picture: conventional orientation, contours where the labels are, nothing breaks it."""

import numpy as np
import pytest
from PIL import Image

from inference.labels import Label
from inference.measure import measure
from inference.phantom import PhantomSettings, make_phantom
from inference.preview import draw_preview
from inference.preview_planes import PLANES, arrange
from inference.volume import Volume

LIVER_COLOR = (72, 214, 138)
TUMOR_COLOR = (255, 106, 61)
AXIAL, CORONAL, SAGITTAL = PLANES


@pytest.fixture(scope="module")
def phantom():
    return make_phantom(PhantomSettings(shape=(50, 110, 110), spacing_mm=(6.0, 3.2, 3.2)))


@pytest.fixture(scope="module")
def findings(phantom):
    return measure(phantom.volume, phantom.labels)


def read_picture(path):
    with Image.open(path) as image:
        assert image.format == "PNG"
        return np.asarray(image.convert("RGB"), np.int32)


def count_near(picture, color):
    return np.count_nonzero(np.abs(picture - color).max(axis=2) < 40)


def test_picture_shows_liver_and_tumor_in_their_colors(phantom, findings, tmp_path):
    path = tmp_path / "preview.png"
    draw_preview(phantom.volume, phantom.labels, path, title="Phantom", findings=findings)
    picture = read_picture(path)
    assert picture.shape[1] == 1440
    assert count_near(picture, LIVER_COLOR) > 1000
    assert count_near(picture, TUMOR_COLOR) > 300


def test_planes_are_shown_as_radiologists_expect(phantom, findings):
    """The liver is at the left of the picture and the spine below; lungs are up."""
    scene = arrange(phantom.volume, phantom.labels, findings)
    for plane in (AXIAL, CORONAL):
        liver = scene.cut(plane, scene.labels) > 0
        assert np.argwhere(liver)[:, 1].mean() < liver.shape[1] / 2
    bone = scene.cut(AXIAL, scene.volume)[:, 50:60] > 350
    assert np.argwhere(bone)[:, 0].mean() > bone.shape[0] / 2
    for plane in (CORONAL, SAGITTAL):
        hu = scene.cut(plane, scene.volume)
        top, bottom = np.array_split(hu, 2)
        assert np.count_nonzero(top < -700) > np.count_nonzero(bottom < -700)
    assert AXIAL.edges == ("R", "L", "A", "P")
    assert CORONAL.edges == ("R", "L", "H", "F")
    assert SAGITTAL.edges == ("A", "P", "H", "F")


@pytest.mark.parametrize("orientation", ["FPL", "ALH", "RHA", "LFP"])
def test_every_orientation_gives_the_same_picture(phantom, tmp_path, orientation):
    pictures = []
    for name, turn in (("plain", "HPL"), ("turned", orientation)):
        volume = phantom.volume.to_patient_orientation(turn)
        labels = phantom.labels.to_patient_orientation(turn)
        draw_preview(volume, labels, tmp_path / name, title="Phantom")
        pictures.append(read_picture(tmp_path / name))
    assert np.array_equal(*pictures)


def test_diameters_lie_in_the_lesion_of_the_plane_they_were_measured_in(phantom):
    volume = phantom.volume.to_patient_orientation("PHL")
    labels = phantom.labels.to_patient_orientation("PHL")
    findings = measure(volume, labels)
    scene = arrange(volume, labels, findings)
    largest = scene.cut(CORONAL, scene.lesion_map) == 1
    lines = scene.lines(CORONAL)
    assert len(lines) == 2
    for x, y in (end for line in lines for end in line):
        assert largest[int(y * largest.shape[0]), int(x * largest.shape[1])]


def box_labels(shape, label):
    labels = np.zeros(shape, np.uint8)
    labels[2:-2, 5:-5, 5:-5] = label
    return labels


@pytest.mark.parametrize("label", [0, Label.LIVER])
@pytest.mark.parametrize("hu", [-1000, 60])
def test_unusual_content_is_drawn_too(tmp_path, label, hu):
    affine = np.diag([1.5, 1.5, 20.0, 1.0])[:, [2, 1, 0, 3]]
    volume = Volume(np.full((8, 30, 40), hu, np.int16), affine, coordinate_system="PATIENT")
    labels = volume.with_array(box_labels(volume.shape, label))
    findings = measure(volume, labels) if label else None
    draw_preview(volume, labels, tmp_path / "a.png", title="Plain", findings=findings)
    assert (count_near(read_picture(tmp_path / "a.png"), LIVER_COLOR) > 600) == bool(label)


def test_many_lesions_are_cut_short_in_the_table(tmp_path):
    labels = np.full((10, 60, 60), Label.LIVER, np.uint8)
    labels[2:8:3, 5:55:6, 5:55:6] = Label.TUMOR
    affine = np.diag([2.0, 2.0, 5.0, 1.0])[:, [2, 1, 0, 3]]
    volume = Volume(np.full(labels.shape, 60, np.int16), affine, coordinate_system="PATIENT")
    truth = volume.with_array(labels)
    findings = measure(volume, truth)
    assert len(findings.lesions) > 100
    draw_preview(volume, truth, tmp_path / "a.png", title="Many", findings=findings)
    assert count_near(read_picture(tmp_path / "a.png"), TUMOR_COLOR) > 100

"""The montage: every cell shows the liver, in every orientation of the scan."""

import numpy as np
import pytest
from PIL import Image

from inference.measure import measure
from inference.montage import draw_montage
from inference.phantom import PhantomSettings, make_phantom

LIVER_COLOR = (72, 214, 138)
TUMOR_COLOR = (255, 106, 61)


@pytest.fixture(scope="module")
def phantom():
    return make_phantom(PhantomSettings(shape=(50, 110, 110), spacing_mm=(6.0, 3.2, 3.2)))


@pytest.fixture(scope="module")
def findings(phantom):
    return measure(phantom.volume, phantom.labels)


def count_near(picture, color):
    return np.count_nonzero(np.abs(picture.astype(int) - color).max(axis=2) < 40)


@pytest.fixture
def montage(tmp_path):
    def draw(volume, labels, findings):
        draw_montage(volume, labels, tmp_path / "m.png", title="Phantom", findings=findings)
        with Image.open(tmp_path / "m.png") as image:
            assert image.format == "PNG"
            return np.asarray(image.convert("RGB"))

    return draw


def test_montage_has_slices_with_contours_in_every_cell(phantom, findings, montage):
    picture = montage(phantom.volume, phantom.labels, findings)
    assert picture.shape[1] == 1600
    cells = picture[72:-48]
    for band in np.array_split(cells, 4):
        for cell in np.array_split(band, 5, axis=1):
            assert count_near(cell, LIVER_COLOR) > 20
    assert count_near(picture, TUMOR_COLOR) > 300


@pytest.mark.parametrize("orientation", ["FPL", "ALH", "LFP"])
def test_montage_is_the_same_in_every_orientation(phantom, montage, orientation):
    pictures = []
    for turn in ("HPL", orientation):
        volume = phantom.volume.to_patient_orientation(turn)
        labels = phantom.labels.to_patient_orientation(turn)
        pictures.append(montage(volume, labels, measure(volume, labels)))
    same = (pictures[0] == pictures[1]).all(axis=2)
    assert same.mean() > 0.999  # lesions of equal size may have other numbers


def test_montage_of_few_slices(phantom, montage):
    volume, labels = phantom.volume[20:23], phantom.labels[20:23]
    assert montage(volume, labels, measure(volume, labels)).shape[0] < 400

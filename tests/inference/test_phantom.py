"""The phantom: known truth, plausible density and shape, the same for the same seed."""

import dataclasses

import numpy as np
import pytest

from inference.labels import Label
from inference.measure import measure
from inference.phantom import (
    ContrastPhase,
    LesionKind,
    LesionSettings,
    PhantomSettings,
    make_phantom,
)

SMALL = PhantomSettings(shape=(60, 128, 128), spacing_mm=(5.0, 2.75, 2.75))
FINE = PhantomSettings(
    shape=(110, 200, 200),
    spacing_mm=(2.5, 1.7, 1.7),
    lesions=(
        LesionSettings(diameter_mm=16.0, kind=LesionKind.HYPERDENSE),
        LesionSettings(diameter_mm=45.0),
        LesionSettings(diameter_mm=28.0, kind=LesionKind.RIM),
    ),
)


@pytest.fixture(scope="module")
def fine():
    return make_phantom(FINE)


@pytest.fixture(scope="module")
def small():
    return make_phantom(SMALL)


def test_lesions_have_the_configured_sizes_and_places(fine):
    findings = measure(fine.volume, fine.labels)
    by_size = sorted(fine.lesions, key=lambda lesion: -np.prod(lesion.radii_mm))
    assert [lesion.radii_mm[0] * 2 for lesion in fine.lesions] == [16.0, 45.0, 28.0]
    for found, placed in zip(findings.lesions, by_size, strict=True):
        volume_ml = 4 / 3 * np.pi * np.prod(placed.radii_mm) / 1000
        assert found.centroid_mm == pytest.approx(placed.center_mm, abs=1.0)
        assert found.volume_ml == pytest.approx(volume_ml, rel=0.08)
        assert found.long_axis.length_mm == pytest.approx(2 * placed.radii_mm[0], abs=1.7)
        assert found.short_axis.length_mm == pytest.approx(2 * placed.radii_mm[1], abs=3.4)


def test_lesion_density_follows_its_kind(fine):
    findings = measure(fine.volume, fine.labels)
    large, rim, bright = findings.lesions
    liver_hu = findings.liver.mean_hu
    assert large.mean_hu < liver_hu - 25
    assert bright.mean_hu > liver_hu + 20
    inside = findings.lesion_map.array == rim.number
    hu = fine.volume.array[inside]
    from_center = np.linalg.norm(
        np.argwhere(inside) @ fine.volume.affine[:3, :3].T
        + fine.volume.affine[:3, 3]
        - rim.centroid_mm,
        axis=1,
    )
    assert hu[from_center > 11].mean() > hu[from_center < 6].mean() + 30


@pytest.mark.parametrize("phase", ContrastPhase)
def test_volumes_add_up_and_are_those_of_an_adult(phase):
    phantom = make_phantom(dataclasses.replace(SMALL, phase=phase, seed=7))
    findings = measure(phantom.volume, phantom.labels)
    voxel_ml = np.prod(SMALL.spacing_mm) / 1000
    labels = phantom.labels.array
    assert findings.organ_volume_ml == pytest.approx(np.count_nonzero(labels) * voxel_ml)
    assert 1300 < findings.organ_volume_ml < 1900
    assert len(findings.lesions) == len(SMALL.lesions)
    assert set(np.unique(labels)) == set(Label)


def test_liver_enhances_with_the_phase():
    means = {}
    for phase in ContrastPhase:
        phantom = make_phantom(dataclasses.replace(SMALL, phase=phase, lesions=()))
        means[phase] = phantom.volume.array[phantom.labels.array == Label.LIVER].mean()
    assert 50 < means[ContrastPhase.NATIVE] < means[ContrastPhase.ARTERIAL] - 5
    assert means[ContrastPhase.ARTERIAL] < means[ContrastPhase.PORTAL_VENOUS] - 25


def test_liver_lies_on_the_right_below_the_lung(small):
    volume = small.volume
    indices = np.argwhere(small.labels.array > 0)
    places = indices @ volume.affine[:3, :3].T + volume.affine[:3, 3]
    x, y, _ = (places - volume.center_position).T
    assert "".join(o.value for o in volume.get_closest_patient_orientation()) == "HPL"
    assert x.mean() < -40
    assert y.mean() < 0
    assert x.max() > 40
    lung = np.argwhere(volume.array[:, 20:100, 20:100] < -700)
    assert lung[:, 0].mean() > indices[:, 0].mean() + 6


def test_no_flip_looks_like_the_phantom(small):
    body = small.volume.array > -300
    agreement = {axis: np.mean(body == np.flip(body, axis)) for axis in range(3)}
    assert max(agreement.values()) < 0.97
    liver = small.labels.array > 0
    for axis in range(3):
        flipped = np.flip(liver, axis)
        assert np.count_nonzero(liver & flipped) < 0.75 * np.count_nonzero(liver)


def test_tissue_has_the_texture_of_a_scan(fine):
    """Noise as set, and neighbors that resemble each other as after a soft kernel."""
    liver = fine.labels.array == Label.LIVER
    inner = liver & np.roll(liver, 1, axis=2)
    hu = fine.volume.array.astype(float)
    here, beside = hu[inner], np.roll(hu, 1, axis=2)[inner]
    assert 11 < np.median(np.abs(here - np.median(here))) * 1.4826 < 16
    assert np.corrcoef(here, beside)[0, 1] > 0.3


def test_same_seed_same_phantom_other_seed_other_phantom(small):
    again, other = make_phantom(SMALL), make_phantom(dataclasses.replace(SMALL, seed=1))
    assert np.array_equal(again.volume.array, small.volume.array)
    assert np.array_equal(again.labels.array, small.labels.array)
    assert again.lesions == small.lesions
    assert not np.array_equal(other.labels.array, small.labels.array)


def test_too_large_a_lesion_is_refused():
    settings = dataclasses.replace(SMALL, lesions=(LesionSettings(diameter_mm=200.0),))
    with pytest.raises(ValueError, match="no room for a lesion of 200"):
        make_phantom(settings)

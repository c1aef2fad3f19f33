"""Phases of contrast, moved by breathing, come back to the grid of the first."""

import numpy as np
import pytest
from scipy import ndimage

from inference.errors import RegistrationError
from inference.registration import Motion, register
from inference.volume import Volume

SHAPE, SPACING_MM = (24, 56, 60), (4.0, 3.0, 3.0)


def tissue(points_mm: np.ndarray) -> np.ndarray:
    """Give tissue, 0 to 3, at points (3, ...): a body with a liver, a vessel and a spine."""
    z, y, x = points_mm
    kind = np.zeros(points_mm.shape[1:], dtype=np.int64)
    kind[(y / 70) ** 2 + (x / 80) ** 2 < 1] = 1
    kind[(z / 32) ** 2 + ((y + 10) / 35) ** 2 + ((x + 25) / 40) ** 2 < 1] = 2
    kind[(y - 20) ** 2 + (x - 8) ** 2 < 9**2] = 3
    kind[((z - 10) / 14) ** 2 + ((y + 25) / 14) ** 2 + ((x - 40) / 14) ** 2 < 1] = 3
    return kind


def scan(
    hu: tuple[int, int, int, int], motion: np.ndarray, seed: int, frame: str | None = "2.25.1"
) -> Volume:
    """Give a scan of the tissue moved by a matrix (4, 4) of z, y, x in mm."""
    index = np.indices(SHAPE, dtype=float)
    middle = (np.array(SHAPE) - 1)[:, None, None, None] / 2
    points = (index - middle) * np.array(SPACING_MM)[:, None, None, None]
    flat = np.vstack([points.reshape(3, -1), np.ones(points[0].size)])
    moved = (motion @ flat)[:3].reshape(points.shape)
    array = np.array(hu)[tissue(moved)] + np.random.default_rng(seed).normal(0, 8, SHAPE)
    smooth = ndimage.gaussian_filter(array, 0.6)
    affine = np.zeros((4, 4))
    affine[2, 0], affine[1, 1], affine[0, 2] = SPACING_MM
    affine[:, 3] = (-20.0, 35.0, -400.0, 1.0)
    return Volume(
        array=np.rint(smooth).astype(np.int16),
        affine=affine,
        coordinate_system="PATIENT",
        frame_of_reference_uid=frame,
    )


ARTERIAL, PORTAL = (-1000, 40, 70, 250), (-1000, 45, 115, 160)
STILL = np.eye(4)


def turned(degrees: float, shift_mm: tuple[float, float, float]) -> np.ndarray:
    matrix = np.eye(4)
    cosine, sine = np.cos(np.deg2rad(degrees)), np.sin(np.deg2rad(degrees))
    matrix[1:3, 1:3] = [[cosine, -sine], [sine, cosine]]
    matrix[:3, 3] = shift_mm
    return matrix


STRETCHED = np.diag([1.1, 1.12, 0.9, 1.0])


@pytest.mark.parametrize(
    ("motion", "moved_by", "worst_hu"),
    [
        (Motion.NONE, STILL, 6.0),
        (Motion.RIGID, turned(4, (9.0, -5.0, 7.0)), 12.0),
        (Motion.AFFINE, STRETCHED, 14.0),
    ],
)
def test_a_phase_comes_back(motion: Motion, moved_by: np.ndarray, worst_hu: float) -> None:
    """What is expected is a scan of the patient at rest, in the contrast of the moved phase."""
    fixed, moving = scan(ARTERIAL, STILL, 1), scan(PORTAL, moved_by, 2)
    expected = scan(PORTAL, STILL, 3)
    found = register(moving, fixed, motion)
    assert found.geometry_equal(fixed)
    assert found.array.dtype == np.int16
    inner = np.s_[4:-4, 6:-6, 6:-6]
    error = np.abs(found.array[inner] - expected.array[inner]).mean()
    before = np.abs(moving.array[inner] - expected.array[inner]).mean()
    assert error < worst_hu
    if motion is not Motion.NONE:
        assert error < before / 4


def test_a_repeat_gives_the_same_voxels() -> None:
    fixed, moving = scan(ARTERIAL, STILL, 1), scan(PORTAL, turned(2, (3.0, 0.0, 0.0)), 2)
    first, second = (register(moving, fixed, Motion.RIGID).array for _ in range(2))
    assert np.array_equal(first, second)


def test_another_frame_of_reference_begins_with_the_middles_in_one_place() -> None:
    fixed = scan(ARTERIAL, STILL, 1)
    elsewhere = scan(PORTAL, STILL, 2, frame="2.25.2")
    affine = np.array(elsewhere.affine)
    affine[:3, 3] += (900.0, -700.0, 1500.0)
    moving = Volume(
        array=elsewhere.array,
        affine=affine,
        coordinate_system="PATIENT",
        frame_of_reference_uid="2.25.2",
    )
    found = register(moving, fixed, Motion.RIGID).array
    inner = np.s_[4:-4, 6:-6, 6:-6]
    assert np.abs(found[inner] - elsewhere.array[inner]).mean() < 12


def test_scans_that_do_not_overlap_are_refused() -> None:
    fixed = scan(ARTERIAL, STILL, 1)
    affine = np.array(fixed.affine)
    affine[:3, 3] += 5000.0
    moving = Volume(
        array=fixed.array,
        affine=affine,
        coordinate_system="PATIENT",
        frame_of_reference_uid="2.25.1",
    )
    with pytest.raises(RegistrationError, match="the same part of the same patient"):
        register(moving, fixed, Motion.RIGID)

import numpy as np
import pytest

from inference.manifest import Bilateral, GrayCurve, View, Window
from inference.view import apply_view

WINDOW = Window(low_hu=-160.0, high_hu=240.0)


def image_of(*hu: float) -> np.ndarray:
    """Give an image of one slice and one row."""
    return ((np.array(hu, dtype=np.float32) + 160) / 400)[None, None]


CURVES = {
    "the window 150/30": ((-45.0, 105.0), (-160, -45, 30, 105, 240), (0, 0, 0.5, 1, 1)),
    "the whole window": ((-160.0, 240.0), (-160, 40, 240), (0, 0.5, 1)),
    "steps of unlike width": ((-100.0, 0.0, 10.0, 200.0), (-50, 0, 5, 10, 105), (1, 2, 3, 4, 5)),
}


@pytest.mark.parametrize("name", CURVES)
def test_a_gray_curve(name: str) -> None:
    breaks_hu, hu, expected = CURVES[name]
    if name == "steps of unlike width":
        expected = tuple(value / 6 for value in expected)
    view = View(curves=(GrayCurve(breaks_hu=breaks_hu),))
    seen = apply_view(image_of(*hu), WINDOW, view)
    assert seen.dtype == np.float32
    assert seen.ravel().tolist() == pytest.approx(expected, abs=1e-5)


def test_each_curve_is_a_channel_of_all_slices() -> None:
    image = np.random.default_rng(0).random((4, 5, 6), dtype=np.float32)
    curves = tuple(GrayCurve(breaks_hu=(0.0, high)) for high in (50.0, 100.0))
    seen = apply_view(image, WINDOW, View(curves=curves))
    assert seen.shape == (2, 4, 5, 6)
    for channel, curve in zip(seen, curves, strict=True):
        alone = apply_view(image, WINDOW, View(curves=(curve,)))
        np.testing.assert_array_equal(channel, alone[0])
    assert (seen[0] >= seen[1]).all()


def test_nothing_is_copied_without_a_view() -> None:
    image = image_of(0, 50)
    assert np.shares_memory(apply_view(image, WINDOW, View()), image)


def test_the_bilateral_filter_takes_noise_and_leaves_edges() -> None:
    rng = np.random.default_rng(0)
    clean = np.where(np.arange(40) < 20, 60.0, 180.0)[None, None] + np.zeros((3, 30, 1))
    noisy = clean + rng.normal(0, 10, clean.shape)
    image = ((noisy + 160) / 400).astype(np.float32)
    view = View(bilateral=Bilateral(spatial_sd_px=1.5, gray_sd_hu=30.0))
    (seen,) = apply_view(image, WINDOW, view)
    assert seen.shape == image.shape
    error_hu = seen * 400 - 160 - clean
    assert error_hu.std() < 5
    assert abs(error_hu[..., 19:21].mean(axis=(0, 1))).max() < 4
    one = apply_view(image[1], WINDOW, view)
    np.testing.assert_array_equal(one[0], seen[1], err_msg="slices are smoothed by themselves")

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="torch comes with the extra 'train'")

from training.augment import change_intensity, draw_nodes, sample_array, spread_nodes
from training.config import AugmentConfig

STILL = {
    "min_scale": 1.0,
    "max_scale": 1.0,
    "rotation_sd_deg": 0.0,
    "elastic_sd_mm": 0.0,
    "gain_share": 0.0,
    "noise_share": 0.0,
    "blur_share": 0.0,
    "phase_share": 0.0,
    "thick_share": 0.0,
}


def ramps(*shape: int) -> np.ndarray:
    """For each axis, the index along it."""
    return np.stack(np.meshgrid(*[np.arange(n) for n in shape], indexing="ij")).astype(np.float32)


def draw(shape: tuple[int, ...], patch: tuple[int, ...], **changes: float) -> np.ndarray:
    """Give where the elements of a patch around the middle come from."""
    config = AugmentConfig.model_validate(STILL | changes)
    center = (np.array(shape) - 1) / 2
    spacing_mm = (2.0, 1.0, 1.0)[-len(shape) :]
    nodes = draw_nodes(np.random.default_rng(1), config, spacing_mm, center, patch)
    positions = spread_nodes(nodes, shape, patch)
    return np.asarray(sample_array(ramps(*shape), positions).numpy())


@pytest.mark.parametrize(
    ("shape", "patch"), [((40, 50), (16, 16)), ((24, 40, 50), (8, 16, 16))], ids=["2D", "3D"]
)
def test_a_patch_without_changes_is_cut_out_but_for_its_proportions(
    shape: tuple[int, ...], patch: tuple[int, ...]
) -> None:
    found = draw(shape, patch)
    for axis, values in enumerate(found):
        steps = np.diff(values, axis=axis)
        assert 0.93 <= steps.min() <= steps.max() <= 1.07
        assert values.mean() == pytest.approx((shape[axis] - 1) / 2, abs=1e-3)


def test_a_patch_is_scaled_turned_and_bent() -> None:
    shape, patch = (40, 60, 60), (8, 24, 24)
    larger = draw(shape, patch, min_scale=1.5, max_scale=1.5)
    assert 1.35 < np.diff(larger[1], axis=1).mean() < 1.65
    turned = draw(shape, patch, rotation_sd_deg=20.0)
    assert np.abs(np.diff(turned[1], axis=2)).mean() > 0.02
    bent = np.diff(draw(shape, patch, elastic_sd_mm=3.0)[1], axis=1)
    assert bent.std() > 0.1


def test_outside_of_the_array_there_is_air() -> None:
    config = AugmentConfig.model_validate(STILL)
    center = np.array([-40.0, -40.0])
    nodes = draw_nodes(np.random.default_rng(0), config, (1.0, 1.0), center, (16, 16))
    positions = spread_nodes(nodes, (20, 20), (16, 16))
    assert not sample_array(np.ones((1, 20, 20), dtype=np.float32), positions).any()


def changed(image: np.ndarray, **changes: float) -> np.ndarray:
    config = AugmentConfig.model_validate(STILL | changes)
    rng = np.random.default_rng(0)
    return np.asarray(change_intensity(rng, config, torch.from_numpy(image)).numpy())


def test_another_phase_moves_what_is_enhanced_and_nothing_else() -> None:
    muscle, vessel = 0.52, 0.85
    image = np.full((1, 3, 4, 4), muscle, dtype=np.float32)
    image[..., :2] = vessel
    found = changed(image, phase_share=1.0)
    assert np.allclose(found[..., 2:], muscle)
    assert not np.allclose(found[..., :2], vessel)
    assert found[..., :2].min() > muscle


@pytest.mark.parametrize(
    ("name", "axis"), [("thick_share", 1), ("blur_share", 2)], ids=["slices", "rows"]
)
def test_sharpness_is_lost_along_the_right_axis(name: str, axis: int) -> None:
    shape = [1, 9, 9, 9]
    line = np.zeros(9, dtype=np.float32)
    line[4] = 0.9
    image = np.broadcast_to(
        line.reshape([9 if other == axis else 1 for other in range(4)]), shape
    ).copy()
    found = changed(image, **{name: 1.0})
    profile = found.mean(axis=tuple(other for other in range(4) if other != axis))
    assert profile[3:6] == pytest.approx([0.3, 0.3, 0.3], abs=1e-6)
    assert not np.array_equal(found, image)


def test_noise_and_gain_stay_in_the_window() -> None:
    image = np.linspace(0, 1, 200, dtype=np.float32).reshape(1, 2, 10, 10)
    found = changed(image, noise_share=1.0, gain_share=1.0)
    assert 0 <= found.min() < found.max() <= 1
    assert not np.array_equal(found, image)

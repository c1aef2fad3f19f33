import numpy as np
import pytest
from scipy import ndimage

from training.masses import Mass, Scene, paint_cyst, paint_lesion, paint_look_alike

LIVER, FAT = 0.65, 0.35
SEEDS = range(25)


def scene(*, vessel_px: int = 0, noise: float = 0.0) -> Scene:
    """A box of liver in fat, perhaps with a bright vessel through its middle."""
    organ = np.zeros((30, 70, 80), dtype=bool)
    organ[5:25, 10:60, 10:70] = True
    image = np.where(organ, np.float32(LIVER), np.float32(FAT))
    middle = slice(35 - vessel_px // 2, 35 + (vessel_px + 1) // 2)
    image[5:25, middle, 10:70] = 0.8
    image += noise * np.random.default_rng(0).standard_normal(image.shape, dtype=np.float32)
    return Scene(image=image, organ=organ, spacing_mm=(2.0, 1.0, 1.0), liver_level=LIVER)


def changed(painted: Scene) -> np.ndarray:
    return np.asarray(painted.image != scene().image)


@pytest.mark.parametrize("paint", [paint_lesion, paint_cyst])
def test_what_is_painted_into_the_liver_changes_nothing_outside(paint) -> None:
    for seed in SEEDS:
        painted = scene()
        mass = paint(np.random.default_rng(seed), painted, (2.0, 15.0), 8.0)
        assert mass is not None
        assert changed(painted).any()
        assert not changed(painted)[~painted.organ].any()


def test_lesions_are_mostly_darker_and_sometimes_brighter() -> None:
    difference = []
    for seed in SEEDS:
        painted = scene()
        mass = paint_lesion(np.random.default_rng(seed), painted, (6.0, 15.0), 0.0)
        assert mass is not None
        core = painted.image[mass.window][mass.depth < 0.7]
        difference.append(400 * (np.median(core) - LIVER))
    assert 0.6 < np.mean(np.array(difference) < 0) < 1
    assert min(difference) > -150


def test_cysts_are_as_dense_as_water_and_even() -> None:
    for seed in SEEDS:
        painted = scene()
        mass = paint_cyst(np.random.default_rng(seed), painted, (6.0, 15.0), 0.0)
        assert mass is not None
        core = painted.image[mass.window][(mass.depth < 0.6) & painted.organ[mass.window]]
        hu = 400 * core - 160
        assert -10 < hu.mean() < 25
        assert hu.std() < 8


def test_look_alikes_lie_outside_the_liver_and_mostly_touch_it() -> None:
    touching = 0
    for seed in SEEDS:
        painted = scene()
        mass = paint_look_alike(np.random.default_rng(seed), painted, (8.0, 15.0))
        if mass is None:
            continue
        assert not changed(painted)[painted.organ].any()
        touching += changed(painted)[ndimage.binary_dilation(painted.organ, iterations=2)].any()
    assert touching > len(SEEDS) / 2


def sizes_mm(radii: tuple[float, float]) -> list[float]:
    masses = [paint_lesion(np.random.default_rng(s), scene(), radii, 0.0) for s in SEEDS]
    return [mass.radius_mm for mass in masses if mass is not None]


def test_sizes_reach_from_the_least_to_the_largest() -> None:
    found = sizes_mm((1.5, 40.0))
    assert min(found) < 4
    assert max(found) > 25
    assert min(found) > 1.0
    assert max(found) < 55


def test_no_lesion_lies_where_a_vessel_of_its_size_runs() -> None:
    for seed in SEEDS:
        vessel = scene(vessel_px=11)
        mass = paint_lesion(np.random.default_rng(seed), vessel, (2.0, 4.0), 0.0)
        assert mass is not None
        covered = mass.inside & vessel.organ[mass.window]
        rows = np.argwhere(covered)[:, 1] + mass.window[1].start
        assert np.mean(np.abs(rows - 35) <= 4) < 0.4


def test_the_noise_of_the_scan_stays_in_a_lesion() -> None:
    painted = scene(noise=0.03)
    mass = paint_lesion(np.random.default_rng(3), painted, (12.0, 14.0), 0.0)
    assert mass is not None
    core = painted.image[mass.window][(mass.depth < 0.5) & painted.organ[mass.window]]
    assert 0.015 < core.std() < 0.08


def test_tissue_around_a_lesion_is_pushed_aside() -> None:
    """Somewhere around some lesions, a thin vessel is no longer where it was."""
    moved = 0
    for seed in SEEDS:
        painted, before = scene(vessel_px=2), scene(vessel_px=2)
        mass = paint_lesion(np.random.default_rng(seed), painted, (8.0, 10.0), 0.0)
        assert mass is not None
        around = (mass.depth > 1.35) & painted.organ[mass.window]
        moved += not np.array_equal(
            painted.image[mass.window][around], before.image[mass.window][around]
        )
    assert 0 < moved < len(SEEDS)


def test_without_liver_there_is_nothing_to_paint() -> None:
    empty = scene()
    empty.organ[:] = False
    rng = np.random.default_rng(0)
    masses: list[Mass | None] = [
        paint_lesion(rng, empty, (2.0, 15.0), 8.0),
        paint_cyst(rng, empty, (2.0, 15.0), 8.0),
        paint_look_alike(rng, empty, (2.0, 15.0)),
    ]
    assert masses == [None, None, None]


def test_the_same_seed_paints_the_same_lesion() -> None:
    first, second = scene(), scene()
    for painted in (first, second):
        paint_lesion(np.random.default_rng(5), painted, (2.0, 15.0), 8.0)
    assert np.array_equal(first.image, second.image)

from itertools import permutations, product

import numpy as np
import pytest

from inference.manifest import Grid, StackStage, VolumeStage, Window
from inference.preprocess import (
    AxisOrder,
    box_grid,
    find_axis_order,
    orient,
    sample_scan,
    whole_grid,
)
from inference.volume import Volume

PAPERS = {"file": "any.onnx", "sha256": "0" * 64, "labels": ("background", "liver")}
FINE = StackStage(
    kind="stack",
    grid=Grid(in_plane_mm=1.0, slice_mm=1.5, native_from_mm=1.25),
    context_slices=5,
    context_distance_mm=2.0,
    **PAPERS,
)
COARSE = FINE.model_copy(update={"grid": Grid(in_plane_mm=3.0, slice_mm=3.0), "multiple_px": 16})
VOLUME = VolumeStage(kind="volume", grid=Grid(in_plane_mm=4.0, slice_mm=4.0), **PAPERS)
WINDOW = Window(low_hu=-160.0, high_hu=240.0)


def make_volume(
    shape: tuple[int, int, int] = (10, 20, 30),
    spacing_mm: tuple[float, float, float] = (5.0, 0.7, 0.7),
) -> Volume:
    """Give a canonical stack: slices to the head, rows to posterior, columns to the left."""
    affine = np.zeros((4, 4))
    affine[2, 0], affine[1, 1], affine[0, 2] = spacing_mm
    affine[:, 3] = (-100.0, -80.0, 50.0, 1.0)
    array = np.arange(np.prod(shape), dtype=np.int16).reshape(shape)
    return Volume(array=array, affine=affine, coordinate_system="PATIENT")


ORIENTATIONS = list(product(permutations(range(3)), product((False, True), repeat=3)))


@pytest.mark.parametrize(("permutation", "flips"), ORIENTATIONS)
def test_every_orientation_comes_into_canonical_order_and_back(
    permutation: tuple[int, int, int], flips: tuple[bool, bool, bool]
) -> None:
    canonical = make_volume()
    volume = canonical.permute_spatial_axes(permutation)
    volume = volume.flip_spatial([axis for axis in range(3) if flips[axis]])
    scan = orient(volume)
    assert np.array_equal(scan.array, canonical.array)
    assert scan.spacing_mm == pytest.approx(canonical.spacing)
    assert np.array_equal(scan.order.undo(scan.array), volume.array)


@pytest.mark.parametrize("degrees", [-40, -20, 10, 30, 44])
def test_an_oblique_stack_takes_the_nearest_order(degrees: float) -> None:
    canonical = make_volume()
    cosine, sine = np.cos(np.deg2rad(degrees)), np.sin(np.deg2rad(degrees))
    turn = np.array([[1, 0, 0, 0], [0, cosine, -sine, 0], [0, sine, cosine, 0], [0, 0, 0, 1]])
    volume = Volume(
        array=canonical.array, affine=turn @ canonical.affine, coordinate_system="PATIENT"
    )
    assert find_axis_order(volume) == AxisOrder(permutation=(0, 1, 2), flipped=())


def test_the_whole_grid_covers_the_scan_in_multiples() -> None:
    scan = orient(make_volume((129, 100, 90), (1.6, 0.57, 0.57)))
    slices, rows, columns = whole_grid(scan, COARSE)
    assert (slices.size, slices.spacing_mm) == (69, 3.0)
    assert (rows.size, columns.size) == (32, 32)
    assert rows.positions_mm.mean() == pytest.approx(99 * 0.57 / 2, abs=1.5)


def test_the_grid_of_a_volume_network_is_not_grown() -> None:
    scan = orient(make_volume((129, 100, 90), (1.6, 0.57, 0.57)))
    assert [axis.size for axis in whole_grid(scan, VOLUME)] == [52, 14, 13]
    axes = box_grid(scan, VOLUME, ((10.0, 90.0), (5.0, 25.0), (5.0, 25.0)))
    assert [axis.size for axis in axes] == [21, 6, 6]


@pytest.mark.parametrize(
    ("slice_mm", "expected_mm", "expected_start_mm"),
    [(0.8, 1.5, 3.75), (1.25, 1.25, 3.75), (5.0, 5.0, 0.0)],
)
def test_thick_slices_stay_and_thin_ones_are_resampled(
    slice_mm: float, expected_mm: float, expected_start_mm: float
) -> None:
    scan = orient(make_volume((30, 40, 40), (slice_mm, 1.0, 1.0)))
    slices, rows, _columns = box_grid(scan, FINE, ((4.0, 17.0), (5.0, 30.0), (5.0, 30.0)))
    assert slices.spacing_mm == expected_mm
    assert slices.start_mm == pytest.approx(expected_start_mm)
    assert slices.positions_mm[-1] >= 17.0
    assert rows.size == 32


def test_a_box_beyond_the_scan_is_cut_and_the_edge_repeated() -> None:
    volume = make_volume((10, 20, 20), (2.0, 1.0, 1.0))
    scan = orient(volume.with_array(np.clip(volume.array, 0, 200)))
    axes = box_grid(scan, FINE, ((-50.0, 90.0), (-50.0, 90.0), (-50.0, 90.0)))
    assert [axis.size for axis in axes] == [10, 32, 32]
    image = sample_scan(scan, axes, WINDOW)
    expected = np.pad((scan.array + 160.0) / 400.0, ((0, 0), (6, 6), (6, 6)), mode="edge")
    assert np.allclose(image, expected, atol=1e-5)


def test_values_outside_the_window_are_clipped() -> None:
    volume = make_volume((2, 32, 32), (2.0, 1.0, 1.0))
    array = np.where(volume.array % 2, np.int16(3000), np.int16(-1024))
    scan = orient(volume.with_array(array))
    image = sample_scan(scan, whole_grid(scan, FINE), WINDOW)
    assert (image.min(), image.max()) == (0.0, 1.0)

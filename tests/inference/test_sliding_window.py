import numpy as np
import pytest
from numpy.typing import NDArray

from inference.manifest import GrayCurve, Grid, StackStage, View, VolumeStage
from inference.sliding_window import (
    context_step,
    largest_input,
    plan_tiles,
    predict,
    softmax,
    stack_indices,
)


def stage(tile_px: int = 64, slices: int = 3, batch: int = 4) -> StackStage:
    return StackStage(
        kind="stack",
        file="any.onnx",
        sha256="0" * 64,
        labels=("background", "liver"),
        grid=Grid(in_plane_mm=1.0, slice_mm=1.0),
        tile_px=tile_px,
        context_slices=slices,
        context_distance_mm=1.0,
        batch=batch,
    )


def logit_of_middle_slice(batch: NDArray[np.float32]) -> NDArray[np.float32]:
    """Give logits whose softmax is the gray value of the middle slice."""
    gray = batch[:, batch.shape[1] // 2]
    return np.stack([np.log(1 - gray), np.log(gray)], axis=1)


@pytest.mark.parametrize(
    ("shape", "tile_px"),
    [((5, 64, 64), 64), ((3, 96, 64), 64), ((7, 160, 192), 64), ((1, 65, 300), 96)],
)
def test_an_identity_network_gives_back_the_image(
    shape: tuple[int, int, int], tile_px: int
) -> None:
    image = np.random.default_rng(0).uniform(0.01, 0.99, shape).astype(np.float32)
    told: list[float] = []
    result = predict(image[None], 1.0, stage(tile_px), logit_of_middle_slice, told.append)
    assert np.allclose(result[1], image, atol=1e-5)
    assert np.allclose(result.sum(axis=0), 1, atol=1e-5)
    assert told[-1] == 1.0
    assert told == sorted(told)


@pytest.mark.parametrize("shape", [(16, 32, 48), (5, 33, 70), (1, 1, 1), (40, 64, 130)])
def test_a_volume_network_gets_multiples_and_its_padding_is_cut_off(
    shape: tuple[int, int, int],
) -> None:
    seen: list[tuple[int, ...]] = []

    def network(batch: NDArray[np.float32]) -> NDArray[np.float32]:
        seen.append(batch.shape)
        gray = np.clip(batch[:, 0], 0.01, 0.99)
        return np.stack([np.log(1 - gray), np.log(gray)], axis=1)

    stage = VolumeStage(
        kind="volume",
        file="any.onnx",
        sha256="0" * 64,
        labels=("background", "liver"),
        grid=Grid(in_plane_mm=4.0, slice_mm=4.0),
        multiple_px=16,
        tile_px=64,
        tile_slices=32,
    )
    image = np.random.default_rng(0).uniform(0.02, 0.98, shape).astype(np.float32)
    told: list[float] = []
    result = predict(image[None], 4.0, stage, network, told.append)
    assert np.allclose(result[1], image, atol=1e-5)
    assert all(size % 16 == 0 for batch in seen for size in batch[2:])
    assert all(batch[:3] <= (1, 1, 32) and max(batch[3:]) <= 64 for batch in seen)
    assert told[-1] == 1.0


def test_tiles_cover_every_pixel_and_stay_inside() -> None:
    shape = (40, 500, 389)
    tiling = plan_tiles(shape, (32, 384, 384), 0.25)
    covered = np.zeros(shape, dtype=bool)
    for window in tiling.windows:
        assert all(0 <= part.start < part.stop <= n for part, n in zip(window, shape, strict=True))
        assert [part.stop - part.start for part in window] == [32, 384, 384]
        covered[window] = True
    assert covered.all()
    assert tiling.weights.min() > 0


def test_the_network_sees_the_neighbors_and_the_ends_repeated() -> None:
    seen: list[NDArray[np.float32]] = []

    def spy(batch: NDArray[np.float32]) -> NDArray[np.float32]:
        seen.append(batch[:, :, 0, 0])
        return np.zeros((len(batch), 2, *batch.shape[2:]), dtype=np.float32)

    image = np.broadcast_to(np.arange(5, dtype=np.float32)[:, None, None], (5, 32, 32))
    predict(np.ascontiguousarray(image)[None], 1.0, stage(batch=2), spy, lambda _share: None)
    assert np.concatenate(seen).tolist() == [[0, 0, 1], [0, 1, 2], [1, 2, 3], [2, 3, 4], [3, 4, 4]]
    assert [len(batch) for batch in seen] == [2, 2, 1]


def test_channels_are_the_slices_in_one_gray_curve_after_the_other() -> None:
    seen: list[NDArray[np.float32]] = []

    def spy(batch: NDArray[np.float32]) -> NDArray[np.float32]:
        seen.append(batch[:, :, 0, 0])
        return np.zeros((len(batch), 2, *batch.shape[2:]), dtype=np.float32)

    curve = GrayCurve(breaks_hu=(0.0, 1.0))
    two_curves = stage(batch=2).model_copy(update={"view": View(curves=(curve, curve))})
    image = np.zeros((2, 3, 32, 32), dtype=np.float32)
    image += np.array([[0, 1, 2], [10, 11, 12]], dtype=np.float32)[..., None, None]
    predict(image, 1.0, two_curves, spy, lambda _share: None)
    assert np.concatenate(seen).tolist() == [
        [0, 0, 1, 10, 10, 11],
        [0, 1, 2, 10, 11, 12],
        [1, 2, 2, 11, 12, 12],
    ]
    assert largest_input(two_curves) == (2, 6, 64, 64)


@pytest.mark.parametrize(
    ("slice_mm", "distance_mm", "expected"),
    [(1.0, 2.0, 2), (1.6, 2.0, 1), (5.0, 2.0, 1), (0.7, 2.0, 3)],
)
def test_context_step(slice_mm: float, distance_mm: float, expected: int) -> None:
    assert context_step(slice_mm, distance_mm) == expected


def test_stack_indices_repeat_the_ends() -> None:
    indices = stack_indices(np.array([0, 3]), count=4, step=2, slices=5)
    assert indices.tolist() == [[0, 0, 0, 2, 3], [0, 1, 3, 3, 3]]


def test_softmax_survives_large_logits() -> None:
    assert softmax(np.array([[[1e4], [0.0]]], dtype=np.float32)).ravel().tolist() == [1.0, 0.0]

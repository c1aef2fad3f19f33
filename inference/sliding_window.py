"""A network over a scan of any size.

A 2.5D network is given neighboring slices as channels and tiles in the plane, a 3D network tiles of
the volume.
"""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import product

import numpy as np
from numpy.typing import NDArray

from inference.backend import Predictor
from inference.manifest import StackStage, Stage, VolumeStage

_IMPORTANCE_SD = 1 / 8
"""Standard deviation of the weights of a tile, as a share of its edge."""


@dataclass(frozen=True, kw_only=True)
class Tiling:
    """Tiles along each axis, and how much each element of a tile counts."""

    starts: tuple[tuple[int, ...], ...]
    weights: NDArray[np.float32]
    """Shape of a tile; highest in the middle, nowhere zero."""

    @property
    def windows(self) -> list[tuple[slice, ...]]:
        """The tiles."""
        return [
            tuple(slice(at, at + size) for at, size in zip(corner, self.weights.shape, strict=True))
            for corner in product(*self.starts)
        ]


def plan_tiles(shape: tuple[int, ...], tile: tuple[int, ...], overlap: float) -> Tiling:
    """Cover an image with overlapping tiles, or with one where it is small enough."""
    sizes = [min(size, edge) for size, edge in zip(shape, tile, strict=True)]
    weights = np.ones(sizes, dtype=np.float32)
    for axis, size in enumerate(sizes):
        weights *= _importance(size).reshape(
            [-1 if other == axis else 1 for other in range(len(sizes))]
        )
    starts = tuple(_starts(size, edge, overlap) for size, edge in zip(shape, sizes, strict=True))
    return Tiling(starts=starts, weights=weights)


def _starts(size: int, tile: int, overlap: float) -> tuple[int, ...]:
    step = tile * (1 - overlap)
    count = int(np.ceil((size - tile) / step)) + 1
    return tuple(round(start) for start in np.linspace(0, size - tile, count))


def _importance(size: int) -> NDArray[np.float32]:
    """Give a Gaussian over a tile, as nnU-Net (Isensee et al., Nature Methods 18 (2021) 203) does.

    At the edge of a tile the network sees less, so that its middle counts more.
    """
    distance = (np.arange(size) - (size - 1) / 2) / (size * _IMPORTANCE_SD)
    return np.asarray(np.exp(-0.5 * distance**2), dtype=np.float32)


def context_step(slice_mm: float, distance_mm: float) -> int:
    """Give how many slices apart the channels of a 2.5D network are."""
    return max(1, round(distance_mm / slice_mm))


def stack_indices(middle: NDArray[np.intp], count: int, step: int, slices: int) -> NDArray[np.intp]:
    """Give the slices around each middle slice, the outermost repeated at the ends.

    Returns
    -------
    NDArray
        (middle slices, slices of the stack).
    """
    offsets = step * (np.arange(slices) - slices // 2)
    return np.asarray(np.clip(middle[:, None] + offsets, 0, count - 1), dtype=np.intp)


def softmax(logits: NDArray[np.float32]) -> NDArray[np.float32]:
    """Turn logits (batch, classes, ...) into probabilities."""
    shifted = np.exp(logits - logits.max(axis=1, keepdims=True))
    return np.asarray(shifted / shifted.sum(axis=1, keepdims=True), dtype=np.float32)


def largest_input(stage: Stage) -> tuple[int, ...]:
    """Give the shape of the largest batch that a network is given."""
    if stage.kind == "volume":
        return 1, stage.view.channels, stage.tile_slices, stage.tile_px, stage.tile_px
    channels = stage.view.channels * stage.context_slices
    return stage.batch, channels, stage.tile_px, stage.tile_px


def predict(
    image: NDArray[np.float32],
    slice_mm: float,
    stage: Stage,
    predictor: Predictor,
    progress: Callable[[float], None],
) -> NDArray[np.float32]:
    """Compute class probabilities for every voxel.

    Parameters
    ----------
    image:
        (channels, slices, rows, columns), 0 to 1, of `inference.view.apply_view`; for a 2.5D
        network rows and columns are multiples of what it needs, for a 3D network anything.
    slice_mm:
        Distance of the slices.
    stage:
        Kind of the network, context, tile and batch size.
    predictor:
        The network.
    progress:
        Told the share that is done.

    Returns
    -------
    NDArray
        (classes, slices, rows, columns) float32.
    """
    if stage.kind == "volume":
        return _predict_volume(image, stage, predictor, progress)
    return _predict_stack(image, slice_mm, stage, predictor, progress)


def _predict_stack(
    image: NDArray[np.float32],
    slice_mm: float,
    stage: StackStage,
    predictor: Predictor,
    progress: Callable[[float], None],
) -> NDArray[np.float32]:
    _channels, count, rows, columns = image.shape
    tiling = plan_tiles((rows, columns), (stage.tile_px, stage.tile_px), stage.tile_overlap)
    step = context_step(slice_mm, stage.context_distance_mm)
    classes = len(stage.labels)
    result = np.empty((classes, count, rows, columns), dtype=np.float32)
    for first in range(0, count, stage.batch):
        middle = np.arange(first, min(first + stage.batch, count))
        stacks = image[:, stack_indices(middle, count, step, stage.context_slices)]
        batch = stacks.swapaxes(0, 1).reshape(len(middle), -1, rows, columns)
        part = _predict_tiles(batch, tiling, predictor, classes, lambda _share: None)
        result[:, middle] = part.swapaxes(0, 1)
        progress((middle[-1] + 1) / count)
    return result


def _predict_volume(
    image: NDArray[np.float32],
    stage: VolumeStage,
    predictor: Predictor,
    progress: Callable[[float], None],
) -> NDArray[np.float32]:
    """Pad with air, as in training, compute, and cut the padding off."""
    padding = [(missing // 2, missing - missing // 2) for missing in _missing(image, stage)]
    padded = np.pad(image, [(0, 0), *padding])
    tiling = plan_tiles(
        padded.shape[1:], (stage.tile_slices, stage.tile_px, stage.tile_px), stage.tile_overlap
    )
    result = _predict_tiles(padded[None], tiling, predictor, len(stage.labels), progress)
    inner = (
        slice(first, first + size)
        for (first, _), size in zip(padding, image.shape[1:], strict=True)
    )
    return np.asarray(result[0][slice(None), *inner])


def _missing(image: NDArray[np.float32], stage: VolumeStage) -> list[int]:
    return [-size % stage.multiple_px for size in image.shape[1:]]


def _predict_tiles(
    batch: NDArray[np.float32],
    tiling: Tiling,
    predictor: Predictor,
    classes: int,
    progress: Callable[[float], None],
) -> NDArray[np.float32]:
    """Give probabilities (batch, classes, ...), averaged where tiles overlap."""
    windows = tiling.windows
    if len(windows) == 1:
        result = softmax(predictor(batch))
        progress(1.0)
        return result
    total = np.zeros((len(batch), classes, *batch.shape[2:]), dtype=np.float32)
    weight = np.zeros(batch.shape[2:], dtype=np.float32)
    for done, window in enumerate(windows, start=1):
        whole = (slice(None), slice(None), *window)
        part = softmax(predictor(np.ascontiguousarray(batch[whole])))
        total[whole] += part * tiling.weights
        weight[window] += tiling.weights
        progress(done / len(windows))
    return np.asarray(total / weight, dtype=np.float32)

"""A 2.5D network over a stack of any size: neighboring slices as channels, tiles in the plane."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from inference.backend import Predictor
from inference.manifest import Stage

_OVERLAP = 0.25


@dataclass(frozen=True, kw_only=True)
class Tiling:
    """Tiles along rows and columns, and how much each pixel of a tile counts."""

    row_starts: tuple[int, ...]
    column_starts: tuple[int, ...]
    weights: NDArray[np.float32]
    """(tile rows, tile columns), highest in the middle, nowhere zero."""


def plan_tiles(rows: int, columns: int, tile_px: int) -> Tiling:
    """Cover a slice with overlapping tiles, or with one where it is small enough."""
    height, width = min(rows, tile_px), min(columns, tile_px)
    return Tiling(
        row_starts=_starts(rows, height),
        column_starts=_starts(columns, width),
        weights=_ramp(height)[:, None] * _ramp(width)[None, :],
    )


def _starts(size: int, tile: int) -> tuple[int, ...]:
    step = tile * (1 - _OVERLAP)
    count = int(np.ceil((size - tile) / step)) + 1
    return tuple(round(start) for start in np.linspace(0, size - tile, count))


def _ramp(size: int) -> NDArray[np.float32]:
    """Rise over the overlap, flat in the middle, fall over the overlap."""
    edge = max(1, round(size * _OVERLAP))
    distance = np.minimum(np.arange(size), np.arange(size)[::-1]) + 1
    return np.minimum(1.0, distance / edge).astype(np.float32)


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


def predict_stack(
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
        (slices, rows, columns), rows and columns multiples of what the network needs.
    slice_mm:
        Distance of the slices.
    stage:
        Context, tile and batch size.
    predictor:
        The network.
    progress:
        Told the share that is done.

    Returns
    -------
    NDArray
        (classes, slices, rows, columns) float32.
    """
    count, rows, columns = image.shape
    tiling = plan_tiles(rows, columns, stage.grid.tile_px)
    step = context_step(slice_mm, stage.context_distance_mm)
    classes = len(stage.labels)
    result = np.empty((classes, *image.shape), dtype=np.float32)
    for first in range(0, count, stage.batch):
        middle = np.arange(first, min(first + stage.batch, count))
        stacks = image[stack_indices(middle, count, step, stage.context_slices)]
        result[:, middle] = _predict_tiles(stacks, tiling, predictor, classes).swapaxes(0, 1)
        progress((middle[-1] + 1) / count)
    return result


def _predict_tiles(
    stacks: NDArray[np.float32], tiling: Tiling, predictor: Predictor, classes: int
) -> NDArray[np.float32]:
    """Give probabilities (batch, classes, rows, columns), averaged where tiles overlap."""
    if len(tiling.row_starts) == len(tiling.column_starts) == 1:
        return softmax(predictor(stacks))
    height, width = tiling.weights.shape
    total = np.zeros((len(stacks), classes, *stacks.shape[2:]), dtype=np.float32)
    weight = np.zeros(stacks.shape[2:], dtype=np.float32)
    for top in tiling.row_starts:
        for left in tiling.column_starts:
            window = np.s_[..., top : top + height, left : left + width]
            part = softmax(predictor(np.ascontiguousarray(stacks[window])))
            total[window] += part * tiling.weights
            weight[window] += tiling.weights
    return np.asarray(total / weight, dtype=np.float32)

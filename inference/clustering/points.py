"""The distinct CT numbers of a liver, and how many voxels have each."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from inference.errors import ClusteringError

MOST_CHANNELS = 6
"""More channels of a 12-bit range do not fit into the 64-bit key of a voxel."""

_LARGEST_TABLE = 2**22
"""Entries of a table of all possible keys; beyond it the keys are sorted."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Points:
    """Distinct rows of CT numbers, with the voxels that have them."""

    hu: NDArray[np.int64]
    """(points, channels), clipped HU; the rows ascend."""
    weights: NDArray[np.int64]
    """(points,), voxels with that row."""
    places: NDArray[np.intp]
    """(voxels,), the row of each voxel in the order of the mask."""

    @property
    def voxel_count(self) -> int:
        """Number of voxels that were gathered."""
        return len(self.places)

    @property
    def scaled(self) -> NDArray[np.float64]:
        """The rows less the mean of the voxels, over their standard deviation, channel by channel.

        The deviation is that of the population, as in scikit-learn's ``StandardScaler``.
        """
        centered = self.hu - self.weights @ self.hu / self.voxel_count
        deviation = np.sqrt(self.weights @ centered**2 / self.voxel_count)
        return np.asarray(centered / deviation)


def gather(
    channels: Sequence[NDArray[np.integer]],
    mask: NDArray[np.bool_],
    *,
    low_hu: int,
    high_hu: int,
) -> Points:
    """Gather the CT numbers within a mask.

    Parameters
    ----------
    channels:
        Arrays of the shape of the mask, whole HU, one for each phase on the same grid.
    mask:
        The liver with its tumors.
    low_hu, high_hu:
        CT numbers beyond count as these.

    Raises
    ------
    ClusteringError
        There is nothing to cluster: no voxel, or the same number in all of them; or the arrays
        differ in shape, hold no whole numbers, or are too many.
    """
    _check(channels, mask)
    size = high_hu - low_hu + 1
    columns = tuple(
        np.clip(channel[mask], low_hu, high_hu).astype(np.int64) - low_hu for channel in channels
    )
    shape = (size,) * len(columns)
    keys, places, weights = _count(np.ravel_multi_index(columns, shape), size ** len(columns))
    hu = np.stack(np.unravel_index(keys, shape), axis=1) + low_hu
    for number, column in enumerate(hu.T, start=1):
        if column.min() == column.max():
            raise ClusteringError(
                f"all {len(places)} voxels of the liver have the same CT number, {column[0]} HU, "
                f"in channel {number} between {low_hu} and {high_hu} HU; there is nothing to "
                "tell apart: check scan, mask and the range of HU"
            )
    return Points(hu=hu, weights=weights, places=places)


def _count(
    keys: NDArray[np.int64], limit: int
) -> tuple[NDArray[np.int64], NDArray[np.intp], NDArray[np.int64]]:
    """Give the distinct keys in ascending order, where each key is among them, and their counts."""
    if limit > _LARGEST_TABLE:
        distinct, places, counts = np.unique(keys, return_inverse=True, return_counts=True)
        return distinct, places, counts
    # Many times faster than to sort millions of keys.
    table = np.bincount(keys, minlength=limit)
    distinct = np.flatnonzero(table)
    counts = table[distinct]
    table[distinct] = np.arange(len(distinct))
    return distinct, table[keys], counts


def _check(channels: Sequence[NDArray[np.integer]], mask: NDArray[np.bool_]) -> None:
    if not 1 <= len(channels) <= MOST_CHANNELS:
        raise ClusteringError(f"{len(channels)} channels were given, 1 to {MOST_CHANNELS} can be")
    for number, channel in enumerate(channels, start=1):
        if channel.shape != mask.shape:
            raise ClusteringError(
                f"channel {number} has the shape {channel.shape}, the liver mask {mask.shape}; "
                "bring both to one grid"
            )
        if not np.issubdtype(channel.dtype, np.integer):
            raise ClusteringError(
                f"channel {number} holds {channel.dtype} values, which may be no numbers at all; "
                "round it to whole HU"
            )
    if not mask.any():
        raise ClusteringError("the liver mask is empty; give a mask with the liver in it")

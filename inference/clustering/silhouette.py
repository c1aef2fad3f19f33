"""The silhouette coefficient of weighted points."""

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.distance import cdist

EXACT_POINTS = 10_000
"""More distinct points are judged by a draw of so many voxels."""
_CHUNK_BYTES = 64_000_000


def silhouette(
    points: NDArray[np.float64], weights: NDArray[np.int64], labels: NDArray[np.intp]
) -> float | None:
    """Give the mean silhouette of all voxels.

    The coefficient of a voxel is ``(b - a) / max(a, b)``, with the mean distance ``a`` to the other
    voxels of its cluster and ``b`` to those of the nearest other one; 0 in a cluster of one voxel
    (Rousseeuw, J Comput Appl Math 20 (1987) 53). The distances are those between distinct points,
    taken with their weights: the same sum as over all pairs of voxels. Beyond `EXACT_POINTS` points
    it is that of as many voxels, drawn with replacement by a fixed seed.

    Parameters
    ----------
    points:
        (points, channels), distinct.
    weights:
        (points,), voxels of each.
    labels:
        (points,), any integers; noise counts as a cluster.

    Returns
    -------
    float or None
        -1 to 1; None for a single cluster, which has no silhouette.
    """
    if len(points) > EXACT_POINTS:
        drawn = np.random.default_rng(0).choice(
            len(points), size=EXACT_POINTS, p=weights / weights.sum()
        )
        kept, weights = np.unique(drawn, return_counts=True)
        points, labels = points[kept], labels[kept]
    names, members = np.unique(labels, return_inverse=True)
    if len(names) < 2:
        return None
    shares = np.zeros((len(points), len(names)))
    shares[np.arange(len(points)), members] = weights
    return float(np.average(_coefficients(points, shares, members), weights=weights))


def _coefficients(
    points: NDArray[np.float64], shares: NDArray[np.float64], members: NDArray[np.intp]
) -> NDArray[np.float64]:
    """Give the coefficient of the voxels at each point."""
    sizes, rows = shares.sum(axis=0), np.arange(len(points))
    sums = _distance_sums(points, shares)
    within = sums[rows, members] / np.maximum(sizes[members] - 1, 1)
    means = sums / sizes
    means[rows, members] = np.inf
    between = means.min(axis=1)
    coefficients = (between - within) / np.maximum(between, within)
    coefficients[sizes[members] == 1] = 0.0
    return np.asarray(coefficients)


def _distance_sums(points: NDArray[np.float64], shares: NDArray[np.float64]) -> NDArray[np.float64]:
    """Sum the distances from each point to the voxels of each cluster, (points, clusters)."""
    step = max(1, _CHUNK_BYTES // (8 * len(points)))
    parts = [
        cdist(points[first : first + step], points) @ shares
        for first in range(0, len(points), step)
    ]
    return np.concatenate(parts)

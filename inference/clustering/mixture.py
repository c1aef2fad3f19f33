"""A mixture of Gaussians, fitted to weighted points by expectation maximization."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import solve_triangular
from scipy.special import logsumexp

from inference.errors import ClusteringError

_LEAST_VARIANCE = 1e-6
"""Added to each variance, as scikit-learn does, so that no component shrinks to a point."""
_MOST_ROUNDS = 10_000

FloatArray = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True, eq=False)
class Mixture:
    """Gaussians with full covariances."""

    shares: FloatArray
    """(components,), which sum to one."""
    means: FloatArray
    """(components, channels)."""
    covariances: FloatArray
    """(components, channels, channels)."""

    def log_densities(self, points: FloatArray) -> FloatArray:
        """Give the logarithm of share times density, (points, components)."""
        columns = []
        for share, mean, covariance in zip(self.shares, self.means, self.covariances, strict=True):
            root = np.linalg.cholesky(covariance)
            distances = solve_triangular(root, (points - mean).T, lower=True)
            norm = np.log(np.diag(root)).sum() + 0.5 * len(mean) * np.log(2 * np.pi)
            columns.append(np.log(share) - norm - 0.5 * np.square(distances).sum(axis=0))
        return np.stack(columns, axis=1)


def fit_mixture(
    points: FloatArray,
    weights: NDArray[np.int64],
    start: NDArray[np.intp],
    *,
    tolerance: float,
) -> Mixture:
    """Fit a mixture to points that stand for many voxels each.

    Each sum over voxels is a sum over distinct points times their weights, so the mixture is the
    one that the voxels have (Dempster, Laird and Rubin, J R Stat Soc B 39 (1977) 1), in the order
    of steps of scikit-learn's ``GaussianMixture``.

    Parameters
    ----------
    points:
        (points, channels), scaled.
    weights:
        (points,), voxels of each.
    start:
        (points,), the component of each, 0 and up, to begin with.
    tolerance:
        It has converged when the mean log-likelihood of a voxel changes by less.

    Raises
    ------
    ClusteringError
        It does not converge.
    """
    voxels = weights.sum()
    responsibilities = np.eye(start.max() + 1)[start]
    mixture = _maximize(points, weights, responsibilities)
    last = -np.inf
    for _ in range(_MOST_ROUNDS):
        log_densities = mixture.log_densities(points)
        totals = logsumexp(log_densities, axis=1)
        mixture = _maximize(points, weights, np.exp(log_densities - totals[:, None]))
        likelihood = float(weights @ totals / voxels)
        if abs(likelihood - last) < tolerance:
            return mixture
        last = likelihood
    raise ClusteringError(
        f"the mixture still changes after {_MOST_ROUNDS} rounds; raise the tolerance of "
        f"{tolerance:g}, or take fewer clusters"
    )


def _maximize(
    points: FloatArray, weights: NDArray[np.int64], responsibilities: FloatArray
) -> Mixture:
    """Give the mixture that is likeliest under these memberships, (points, components)."""
    members = responsibilities * weights[:, None]
    # A component that nothing belongs to any more stays finite, and empty.
    sizes = members.sum(axis=0) + 10 * np.finfo(np.float64).eps
    means = members.T @ points / sizes[:, None]
    ridge = _LEAST_VARIANCE * np.eye(points.shape[1])
    covariances = []
    for member, mean, size in zip(members.T, means, sizes, strict=True):
        centered = points - mean
        covariances.append((member * centered.T) @ centered / size + ridge)
    return Mixture(shares=sizes / sizes.sum(), means=means, covariances=np.stack(covariances))

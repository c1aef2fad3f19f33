"""The three ways to cluster weighted points, and the number of clusters by silhouette."""

import math
from collections.abc import Callable
from functools import partial

import numpy as np
from numpy.typing import NDArray

from config.inference import ClusteringSettings, TumorEngine
from inference.clustering.mixture import fit_mixture
from inference.clustering.points import Points
from inference.clustering.silhouette import silhouette
from inference.errors import ClusteringError

NOISE = -1
"""Label of the points that DBSCAN puts into no cluster."""
SILHOUETTE_CLUSTERS = range(2, 10)
"""Numbers of clusters of which the best silhouette decides."""

FloatArray = NDArray[np.float64]
Labels = NDArray[np.intp]


def kmeans(
    scaled: FloatArray,
    weights: NDArray[np.int64],
    clusters: int,
    start: FloatArray | None = None,
) -> Labels:
    """Cluster by k-means (Lloyd, IEEE Trans Inf Theory 28 (1982) 129) until nothing changes.

    Parameters
    ----------
    scaled:
        (points, channels).
    weights:
        (points,), voxels of each.
    clusters:
        Their number.
    start:
        (clusters, channels), centers to begin with; none for the best of ten draws by k-means++
        with a fixed seed.

    Raises
    ------
    ClusteringError
        There are fewer distinct points than clusters.
    """
    from sklearn.cluster import KMeans

    if len(scaled) < clusters:
        raise ClusteringError(
            f"{clusters} clusters were asked for, and the liver has {len(scaled)} distinct CT "
            "numbers; take fewer clusters, or check the mask"
        )
    begin, draws = ("k-means++", 10) if start is None else (start, 1)
    # scikit-learn's tolerance is relative to the variance without weights: only 0 means the same
    # for points as for voxels.
    method = KMeans(clusters, init=begin, n_init=draws, tol=0.0, random_state=0)
    return np.asarray(method.fit(scaled, sample_weight=weights).labels_, dtype=np.intp)


def dbscan(
    scaled: FloatArray, weights: NDArray[np.int64], *, eps_sd: float, min_samples: float
) -> Labels:
    """Cluster by density (Ester et al., KDD 1996, 226); what is too sparse is `NOISE`.

    A point with many voxels may be a core by itself. Which cluster a border point between two of
    them belongs to depends on the order of the points, which here is that of their CT numbers.

    Parameters
    ----------
    scaled:
        (points, channels).
    weights:
        (points,), voxels of each.
    eps_sd:
        Radius of a neighborhood, in standard deviations.
    min_samples:
        Voxels in the neighborhood of a core.
    """
    from sklearn.cluster import DBSCAN

    method = DBSCAN(eps=eps_sd, min_samples=math.ceil(min_samples))
    return np.asarray(method.fit(scaled, sample_weight=weights).labels_, dtype=np.intp)


def gmm(
    scaled: FloatArray, weights: NDArray[np.int64], clusters: int, *, tolerance: float
) -> Labels:
    """Cluster by a mixture of Gaussians, begun with k-means; each point goes to the likeliest.

    Parameters
    ----------
    scaled:
        (points, channels).
    weights:
        (points,), voxels of each.
    clusters:
        Number of components.
    tolerance:
        See `inference.clustering.mixture.fit_mixture`.

    Raises
    ------
    ClusteringError
        There are fewer distinct points than components, or it does not converge.
    """
    start = kmeans(scaled, weights, clusters)
    mixture = fit_mixture(scaled, weights, start, tolerance=tolerance)
    return np.asarray(mixture.log_densities(scaled).argmax(axis=1))


def find_clusters(
    points: Points, engine: TumorEngine, settings: ClusteringSettings
) -> tuple[Labels, dict[int, float]]:
    """Cluster the CT numbers of a liver.

    Parameters
    ----------
    points:
        What was gathered from it.
    engine:
        The method, not `TumorEngine.NETWORK`.
    settings:
        Its parameters.

    Returns
    -------
    labels:
        (points,), 0 and up, or `NOISE`.
    silhouettes:
        Mean silhouette for each number of clusters that was tried; empty where the number is given.

    Raises
    ------
    ClusteringError
        See the methods.
    """
    scaled, weights = points.scaled, points.weights
    if engine is TumorEngine.DBSCAN:
        least = settings.min_samples
        least *= points.voxel_count if least < 1 else 1
        return dbscan(scaled, weights, eps_sd=settings.eps_sd, min_samples=least), {}
    fit = (
        partial(kmeans, scaled, weights)
        if engine is TumorEngine.KMEANS
        else partial(gmm, scaled, weights, tolerance=settings.tolerance)
    )
    if settings.clusters != "silhouette":
        return fit(settings.clusters), {}
    return _best_silhouette(scaled, weights, fit)


def _best_silhouette(
    scaled: FloatArray, weights: NDArray[np.int64], fit: Callable[[int], Labels]
) -> tuple[Labels, dict[int, float]]:
    """Take the number of clusters whose silhouette is best, the least of equals."""
    found: dict[int, Labels] = {}
    silhouettes: dict[int, float] = {}
    for clusters in SILHOUETTE_CLUSTERS:
        if clusters > len(scaled):
            break
        labels = fit(clusters)
        value = silhouette(scaled, weights, labels)
        if value is not None:
            found[clusters], silhouettes[clusters] = labels, value
    if not silhouettes:
        raise ClusteringError(
            f"the {len(scaled)} distinct CT numbers of the liver do not fall into two clusters; "
            "check scan, mask and the range of HU"
        )
    return found[max(silhouettes, key=silhouettes.__getitem__)], silhouettes

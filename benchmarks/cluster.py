"""Distinct CT numbers with weights against scikit-learn on all voxels of a liver.

Usage: ``python -m benchmarks.cluster [CT LIVER] [--memory-gb N]``; without a scan, the liver of a
phantom. Printed are seconds and the ratio for each method on the whole liver, and whether the
labels are the same. DBSCAN keeps the neighbors of each voxel, and the silhouette looks at each pair
of voxels: what scikit-learn would need on the whole liver is predicted, and both are run on the
largest draw of voxels that the memory, or a minute, allows.
"""

import argparse
import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from sklearn.cluster import DBSCAN, KMeans
from sklearn.metrics import silhouette_score
from sklearn.mixture import GaussianMixture

from config import ClusteringSettings
from inference.clustering.methods import dbscan, gmm, kmeans
from inference.clustering.points import Points, gather
from inference.clustering.silhouette import silhouette
from inference.labels import Label
from inference.phantom import PhantomSettings, make_phantom
from node.inputs import read_volume

T = TypeVar("T")

SETTINGS = ClusteringSettings()
CLUSTERS = 2
BYTES_PER_NEIGHBOR = 8
SILHOUETTE_VOXELS = 15_000
GIB = 2**30


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("scan", nargs="?", type=Path, help="DICOM folder or NIfTI file")
    parser.add_argument("liver", nargs="?", type=Path, help="mask on its grid")
    parser.add_argument("--memory-gb", type=float, default=1.0, help="for scikit-learn's DBSCAN")
    arguments = parser.parse_args()
    hu, liver = _read(arguments.scan, arguments.liver)
    points, seconds = _time(lambda: _gather(hu, liver))
    print(
        f"{points.voxel_count} voxels of liver, {len(points.hu)} distinct CT numbers, gathered in "
        f"{seconds:.2f} s (part of each figure of ours)\n"
    )
    print("| method | voxels | scikit-learn s | ours s | times faster | same labels |")
    print("|---" * 6 + "|")
    _compare_kmeans(points, seconds)
    _compare_gmm(points, seconds)
    drawn, drawn_s = _draw(points, _affordable(points, arguments.memory_gb))
    _compare_dbscan(drawn, drawn_s)
    drawn, drawn_s = _draw(points, SILHOUETTE_VOXELS)
    pair_s = _compare_silhouette(drawn, drawn_s)
    _, ours_s = _time(lambda: _dbscan(points))
    print(
        f"\nDBSCAN on the whole liver: ours {seconds + ours_s:.2f} s; scikit-learn would keep "
        f"{_neighbor_bytes(points) / GIB:.0f} GiB of neighbors."
    )
    print(
        "Silhouette of the whole liver: scikit-learn would take about "
        f"{pair_s * points.voxel_count**2 / 3600:.0f} h."
    )


def _read(scan: Path | None, mask: Path | None) -> tuple[NDArray[np.int16], NDArray[np.bool_]]:
    if scan is None or mask is None:
        phantom = make_phantom(PhantomSettings(seed=7))
        return phantom.volume.array, phantom.labels.array != Label.BACKGROUND
    return read_volume(scan).array, read_volume(mask).array != 0


def _gather(hu: NDArray[np.int16], liver: NDArray[np.bool_]) -> Points:
    return gather([hu], liver, low_hu=SETTINGS.low_hu, high_hu=SETTINGS.high_hu)


def _draw(points: Points, voxels: int) -> tuple[Points, float]:
    """Gather so many voxels, drawn without replacement, in ascending order."""
    count = min(voxels, points.voxel_count)
    chosen = np.random.default_rng(0).choice(points.voxel_count, count, replace=False)
    hu = np.sort(points.hu[points.places[chosen], 0]).astype(np.int16).reshape(1, 1, -1)
    return _time(lambda: _gather(hu, np.ones(hu.shape, dtype=np.bool_)))


def _time(work: Callable[[], T]) -> tuple[T, float]:
    start = time.perf_counter()
    return work(), time.perf_counter() - start


def _compare_kmeans(points: Points, gather_s: float) -> None:
    """Both from the same centers, so that both do the same rounds."""
    voxels = points.scaled[points.places]
    start = np.quantile(points.scaled, [0.3, 0.7], axis=0)
    naive, naive_s = _time(
        lambda: KMeans(CLUSTERS, init=start, n_init=1, tol=0).fit(voxels).labels_
    )
    ours, ours_s = _time(lambda: kmeans(points.scaled, points.weights, CLUSTERS, start))
    _print("k-means", points, naive_s, gather_s + ours_s, _same(naive, ours[points.places]))


def _compare_gmm(points: Points, gather_s: float) -> None:
    """Both from the same clusters of k-means, which scikit-learn gets for nothing."""
    voxels, start = points.scaled[points.places], kmeans(points.scaled, points.weights, CLUSTERS)
    parts = [np.where(start == label, points.weights, 0) for label in range(CLUSTERS)]
    means = np.array([np.average(points.scaled, axis=0, weights=part) for part in parts])
    variances = [
        np.average((points.scaled - mean) ** 2, axis=0, weights=part)
        for mean, part in zip(means, parts, strict=True)
    ]
    mixture = GaussianMixture(
        CLUSTERS,
        tol=SETTINGS.tolerance,
        max_iter=1000,
        init_params="random_from_data",
        weights_init=[part.sum() / points.voxel_count for part in parts],
        means_init=means,
        precisions_init=1 / np.array(variances)[:, None],
    )
    naive, naive_s = _time(lambda: mixture.fit_predict(voxels))
    ours, ours_s = _time(
        lambda: gmm(points.scaled, points.weights, CLUSTERS, tolerance=SETTINGS.tolerance)
    )
    _print("mixture", points, naive_s, gather_s + ours_s, _same(naive, ours[points.places]))


def _compare_dbscan(points: Points, gather_s: float) -> None:
    voxels = points.scaled[points.places]
    least = math.ceil(SETTINGS.min_samples * points.voxel_count)
    naive, naive_s = _time(
        lambda: DBSCAN(eps=SETTINGS.eps_sd, min_samples=least).fit(voxels).labels_
    )
    ours, ours_s = _time(lambda: _dbscan(points))
    _print("DBSCAN", points, naive_s, gather_s + ours_s, _same(naive, ours[points.places]))


def _compare_silhouette(points: Points, gather_s: float) -> float:
    """Give scikit-learn's seconds for a pair of voxels."""
    labels = kmeans(points.scaled, points.weights, CLUSTERS)
    voxels = points.scaled[points.places]
    naive, naive_s = _time(lambda: silhouette_score(voxels, labels[points.places]))
    ours, ours_s = _time(lambda: silhouette(points.scaled, points.weights, labels))
    same = f"differs by {abs(naive - (ours or 0.0)):.0e}"
    _print("silhouette", points, naive_s, gather_s + ours_s, same)
    return naive_s / points.voxel_count**2


def _dbscan(points: Points) -> NDArray[np.intp]:
    return dbscan(
        points.scaled,
        points.weights,
        eps_sd=SETTINGS.eps_sd,
        min_samples=SETTINGS.min_samples * points.voxel_count,
    )


def _neighbor_bytes(points: Points) -> float:
    """Predict the size of the lists of neighbors of all voxels."""
    near = np.abs(points.scaled - points.scaled.T) <= SETTINGS.eps_sd
    return float(BYTES_PER_NEIGHBOR * (points.weights @ near @ points.weights))


def _affordable(points: Points, memory_gb: float) -> int:
    """Give how many voxels scikit-learn's DBSCAN can hold: its need grows with their square."""
    share = math.sqrt(memory_gb * 1e9 / _neighbor_bytes(points))
    return max(1000, int(min(1.0, share) * points.voxel_count))


def _same(naive: NDArray[np.integer], ours: NDArray[np.intp]) -> str:
    """Say on how many voxels two clusterings agree, whatever the names of their clusters."""
    pairs = np.zeros((naive.max() + 2, ours.max() + 2), dtype=np.int64)
    np.add.at(pairs, (naive + 1, ours + 1), 1)
    share = pairs.max(axis=1).sum() / len(naive)
    return "all" if share == 1 else f"{share:.4%}"


def _print(method: str, points: Points, naive_s: float, ours_s: float, same: str) -> None:
    print(
        f"| {method} | {points.voxel_count} | {naive_s:.2f} | {ours_s:.3f} "
        f"| {naive_s / ours_s:.0f} | {same} |",
        flush=True,
    )


if __name__ == "__main__":
    main()

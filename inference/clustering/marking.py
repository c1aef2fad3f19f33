"""Clusters in the liver, the choice of the one that is tumor, and its shape made clean."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from config.inference import NOISE_CHOICES, InferenceSettings, TumorCluster, TumorEngine
from inference.clustering.cleanup import BoolArray, Element, clean
from inference.clustering.methods import NOISE, Labels, find_clusters
from inference.clustering.points import Points, gather
from inference.errors import ClusteringError


@dataclass(frozen=True, kw_only=True)
class Cluster:
    """The voxels of one label."""

    label: int
    """0 and up, the darkest first; -1 for noise."""
    voxel_count: int
    mean_hu: tuple[float, ...]
    """Of each channel, with CT numbers clipped to the range of the settings."""
    sd_hu: tuple[float, ...]
    is_tumor: bool
    """Whether it is the one that was chosen; of noise, it may be only the darker part."""

    @property
    def sentence(self) -> str:
        """Its size and CT numbers in words, for people."""
        name = "noise" if self.label == NOISE else f"cluster {self.label}"
        numbers = ", ".join(
            f"{mean:.0f} ± {sd:.0f}" for mean, sd in zip(self.mean_hu, self.sd_hu, strict=True)
        )
        taken = ", taken for tumor" if self.is_tumor else ""
        return f"{name}: {self.voxel_count} voxels of {numbers} HU{taken}"


@dataclass(frozen=True, kw_only=True, eq=False)
class Marking:
    """What a method made of a liver."""

    tumor: BoolArray
    """(slices, rows, columns), cleaned."""
    points: Points
    labels: Labels
    """(points,), the cluster of each."""
    chosen: BoolArray
    """(points,), whether it counted as tumor before the cleaning."""
    clusters: tuple[Cluster, ...]
    """Noise first, then from dark to bright."""
    silhouettes: Mapping[int, float]
    """By number of clusters, where the best of them decided."""
    timings_s: Mapping[str, float]


def mark_tumor(
    channels: Sequence[NDArray[np.integer]],
    liver: BoolArray,
    spacing_mm: tuple[float, float],
    settings: InferenceSettings,
) -> Marking:
    """Mark tumor by the method of the settings; see `inference.clustering.marker.TumorMarker`."""
    options, start = settings.clustering, time.perf_counter()
    points = gather(channels, liver, low_hu=options.low_hu, high_hu=options.high_hu)
    gathered = time.perf_counter()
    found, silhouettes = find_clusters(points, settings.tumor_engine, options)
    labels = _sort_by_mean(points, found)
    chosen = _choose(points, labels, _choice_of(settings))
    clustered = time.perf_counter()
    tumor = _clean_in_box(
        chosen[points.places],
        liver,
        spacing_mm,
        (Element.parse(options.erosion), Element.parse(options.dilation)),
    )
    cleaned = time.perf_counter()
    return Marking(
        tumor=tumor,
        points=points,
        labels=labels,
        chosen=chosen,
        clusters=_describe(points, labels, chosen),
        silhouettes=silhouettes,
        timings_s={
            "gather": gathered - start,
            "cluster": clustered - gathered,
            "clean": cleaned - clustered,
        },
    )


def _choice_of(settings: InferenceSettings) -> TumorCluster:
    choice = settings.clustering.tumor_cluster
    if choice is not TumorCluster.AUTO:
        return choice
    is_dbscan = settings.tumor_engine is TumorEngine.DBSCAN
    return TumorCluster.NOISE if is_dbscan else TumorCluster.DARKEST


def _members(points: Points, labels: Labels, label: int) -> NDArray[np.int64]:
    """Give the weights of a cluster's points, and 0 for all others."""
    return np.where(labels == label, points.weights, 0)


def _mean_hu(points: Points, weights: NDArray[np.int64]) -> NDArray[np.float64]:
    return np.asarray(weights @ points.hu / weights.sum())


def _sort_by_mean(points: Points, labels: Labels) -> Labels:
    """Renumber the clusters from dark to bright by their mean in the first channel."""
    names = np.unique(labels[labels != NOISE])
    means = [_mean_hu(points, _members(points, labels, name))[0] for name in names]
    # One more entry at the end, where the label of noise, -1, points to.
    ranks = np.full(labels.max() + 2, NOISE)
    ranks[names[np.argsort(means, kind="stable")]] = np.arange(len(names))
    return np.asarray(ranks[labels])


def _choose(points: Points, labels: Labels, choice: TumorCluster) -> BoolArray:
    """Tell which points are tumor; none where there is one cluster, and so nothing to choose."""
    count = int(labels.max()) + 1
    if not count:
        raise ClusteringError(
            f"dbscan found no dense cluster among {points.voxel_count} voxels: all is noise; raise "
            "clustering.eps_sd or lower clustering.min_samples"
        )
    if choice in NOISE_CHOICES:
        noise = labels == NOISE
        if choice is TumorCluster.NOISE:
            return np.asarray(noise)
        mean_hu = _mean_hu(points, np.where(noise, 0, points.weights))[0]
        return np.asarray(noise & (points.hu[:, 0] < mean_hu))
    if count == 1:
        return np.zeros(len(labels), dtype=np.bool_)
    if choice is TumorCluster.SMALLEST:
        sizes = np.bincount(labels[labels != NOISE], points.weights[labels != NOISE])
        return np.asarray(labels == sizes.argmin())
    return np.asarray(labels == (0 if choice is TumorCluster.DARKEST else count - 1))


def _clean_in_box(
    voxels: BoolArray,
    liver: BoolArray,
    spacing_mm: tuple[float, float],
    elements: tuple[Element | None, Element | None],
) -> BoolArray:
    """Put the voxels of the liver back into their slices and clean them, in the liver's box."""
    box = ndimage.find_objects(liver.astype(np.uint8))[0]
    marked = np.zeros(liver[box].shape, dtype=np.bool_)
    marked[liver[box]] = voxels
    tumor = np.zeros(liver.shape, dtype=np.bool_)
    erosion, dilation = elements
    tumor[box] = clean(marked, liver[box], spacing_mm, erosion=erosion, dilation=dilation)
    return tumor


def _describe(points: Points, labels: Labels, chosen: BoolArray) -> tuple[Cluster, ...]:
    clusters = []
    for label in np.unique(labels):
        weights = _members(points, labels, label)
        mean = _mean_hu(points, weights)
        variance = weights @ (points.hu - mean) ** 2 / weights.sum()
        clusters.append(
            Cluster(
                label=int(label),
                voxel_count=int(weights.sum()),
                mean_hu=tuple(mean.tolist()),
                sd_hu=tuple(np.sqrt(variance).tolist()),
                is_tumor=bool(chosen[labels == label].any()),
            )
        )
    return tuple(clusters)

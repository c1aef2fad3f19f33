"""Pictures of clusters: where they lie, how they divide the CT numbers, and against the truth.

matplotlib is imported here and nowhere else in this package; it comes with the extra ``train``.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_rgba
from matplotlib.figure import Figure
from numpy.typing import NDArray

from inference.clustering.marking import Cluster, Marking

BoolArray = NDArray[np.bool_]

_DPI = 110
_MARGIN_PX = 12
_FOUND, _TRUTH = "#ff6a3d", "#35c4ff"
_OVERLAP = (("found, true", "#48d68a"), ("found, not true", _FOUND), ("true, not found", _TRUTH))
_NOISE = "#8a92a0"


@dataclass(frozen=True, kw_only=True, eq=False)
class View:
    """One slice of what was clustered, and the clusters of all of it."""

    hu: NDArray[np.int16]
    """(rows, columns), the first channel."""
    liver: BoolArray
    tumor: BoolArray
    truth: BoolArray | None
    cluster_map: NDArray[np.intp]
    """(rows, columns), the cluster of each pixel of the liver; anything elsewhere."""
    marking: Marking
    title: str


def make_view(
    marking: Marking,
    channels: Sequence[NDArray[np.int16]],
    liver: BoolArray,
    truth: BoolArray | None,
    first_slice: int,
) -> View:
    """Give the slice with most truth, or where there is none, with most tumor.

    Parameters
    ----------
    marking:
        What was made of these slices.
    channels, liver, truth:
        (slices, rows, columns), as they were clustered.
    first_slice:
        The number of the first of them in the scan.
    """
    shown = marking.tumor if truth is None or not truth.any() else truth
    shown = shown if shown.any() else liver
    index = int(np.count_nonzero(shown, axis=(1, 2)).argmax())
    before = np.count_nonzero(liver[:index])
    places = marking.points.places[before : before + np.count_nonzero(liver[index])]
    cluster_map = np.zeros(liver[index].shape, dtype=np.intp)
    cluster_map[liver[index]] = marking.labels[places]
    return View(
        hu=channels[0][index],
        liver=liver[index],
        tumor=marking.tumor[index],
        truth=None if truth is None else truth[index],
        cluster_map=cluster_map,
        marking=marking,
        title=f"slice {first_slice + index}",
    )


def draw_plots(view: View, folder: Path) -> list[Path]:
    """Draw ``clusters.png``, ``overlay.png`` and ``histogram.png``, and what else there is to show.

    ``silhouette.png`` where the number of clusters was searched, ``channels.png`` (the joint
    histogram of each pair) where there are several channels.

    Returns
    -------
    list of Path
        The files.
    """
    folder.mkdir(parents=True, exist_ok=True)
    drawings = {"clusters": _draw_clusters, "overlay": _draw_overlay, "histogram": _draw_histogram}
    if view.marking.silhouettes:
        drawings["silhouette"] = _draw_silhouettes
    if view.marking.points.hu.shape[1] > 1:
        drawings["channels"] = _draw_channels
    paths = []
    for name, draw in drawings.items():
        figure = Figure(layout="constrained")
        FigureCanvasAgg(figure)
        draw(figure, view)
        paths.append(folder / f"{name}.png")
        figure.savefig(paths[-1], dpi=_DPI)
    return paths


def _colors(clusters: Sequence[Cluster]) -> dict[int, tuple[float, ...]]:
    """Give each cluster its color, from dark to bright as their CT numbers are."""
    count = sum(cluster.label >= 0 for cluster in clusters)
    shades = colormaps["viridis"](np.linspace(0.1, 0.95, max(count, 2)))
    return {
        cluster.label: tuple(shades[cluster.label]) if cluster.label >= 0 else to_rgba(_NOISE)
        for cluster in clusters
    }


def _name(cluster: Cluster) -> str:
    name = "noise" if cluster.label < 0 else f"cluster {cluster.label}"
    taken = ", tumor" if cluster.is_tumor else ""
    return f"{name}: {cluster.mean_hu[0]:.0f} HU{taken}"


def _window(view: View) -> tuple[slice, slice]:
    """Give the rows and columns of the liver, with some room."""
    rows, columns = (
        slice(max(0, int(found[0]) - _MARGIN_PX), int(found[-1]) + _MARGIN_PX + 1)
        for found in (np.flatnonzero(view.liver.any(axis=axis)) for axis in (1, 0))
    )
    return rows, columns


def _show_ct(axes: Axes, view: View, title: str) -> None:
    axes.imshow(view.hu[_window(view)], cmap="gray", vmin=-60, vmax=200)
    axes.set_title(title, fontsize=10)
    axes.set_axis_off()


def _paint(axes: Axes, mask: BoolArray, color: object, alpha: float) -> None:
    layer = np.zeros((*mask.shape, 4))
    layer[mask] = to_rgba(color, alpha)
    axes.imshow(layer)


def _draw_clusters(figure: Figure, view: View) -> None:
    figure.set_size_inches(11, 4.6)
    left, right = figure.subplots(1, 2)
    _show_ct(left, view, f"CT, {view.title}")
    _show_ct(right, view, "clusters")
    window, clusters = _window(view), view.marking.clusters
    for cluster in clusters:
        color = _colors(clusters)[cluster.label]
        inside = view.liver & (view.cluster_map == cluster.label)
        _paint(right, inside[window], color, 1.0)
        right.plot([], [], "s", color=color, label=_name(cluster))
    right.legend(fontsize=8, loc="lower right", framealpha=0.85)


def _draw_overlay(figure: Figure, view: View) -> None:
    figure.set_size_inches(11, 4.6)
    left, right = figure.subplots(1, 2)
    window = _window(view)
    _show_ct(left, view, f"tumor that was found, {view.title}")
    masks = [(view.tumor, _FOUND)] + ([] if view.truth is None else [(view.truth, _TRUTH)])
    for mask, color in masks:
        if mask.any() and not mask.all():
            left.contour(mask[window], levels=[0.5], colors=[color], linewidths=1.2)
    truth = np.zeros_like(view.tumor) if view.truth is None else view.truth
    _show_ct(right, view, "found" if view.truth is None else "found and truth")
    parts = (view.tumor & truth, view.tumor & ~truth, truth & ~view.tumor)
    for part, (name, color) in zip(parts, _OVERLAP, strict=True):
        _paint(right, part[window], color, 0.6)
        if view.truth is not None:
            right.plot([], [], "s", color=color, label=name)
    if view.truth is not None:
        right.legend(fontsize=8, loc="lower right", framealpha=0.85)


def _draw_histogram(figure: Figure, view: View) -> None:
    """Draw how many voxels of each cluster have a CT number, a panel for each channel."""
    points, clusters = view.marking.points, view.marking.clusters
    channels = points.hu.shape[1]
    figure.set_size_inches(8, 3.4 * channels)
    panels = figure.subplots(channels, 1, squeeze=False)[:, 0]
    for channel, axes in enumerate(panels):
        low = points.hu[:, channel].min()
        bottom = np.zeros(points.hu[:, channel].max() - low + 1)
        for cluster in clusters:
            weights = np.where(view.marking.labels == cluster.label, points.weights, 0)
            counts = np.bincount(points.hu[:, channel] - low, weights, minlength=len(bottom))
            axes.bar(
                low + np.arange(len(bottom)),
                counts,
                width=1.0,
                bottom=bottom,
                color=_colors(clusters)[cluster.label],
                label=_name(cluster),
            )
            bottom += counts
        axes.set_xlabel(f"HU, channel {channel + 1}" if channels > 1 else "HU")
        axes.set_ylabel("voxels")
        axes.legend(fontsize=8)


def _draw_silhouettes(figure: Figure, view: View) -> None:
    figure.set_size_inches(6, 3.6)
    axes = figure.subplots()
    counts, values = zip(*sorted(view.marking.silhouettes.items()), strict=True)
    axes.plot(counts, values, marker="o", color="#31688e")
    best = int(np.argmax(values))
    axes.plot(counts[best], values[best], "o", markersize=11, markerfacecolor="none", color=_FOUND)
    axes.set_xlabel("clusters")
    axes.set_ylabel("mean silhouette")
    axes.grid(alpha=0.3)


def _draw_channels(figure: Figure, view: View) -> None:
    """Draw each pair of channels: how many voxels, and to which cluster most of them belong."""
    points, clusters = view.marking.points, view.marking.clusters
    pairs = list(combinations(range(points.hu.shape[1]), 2))
    figure.set_size_inches(9, 4.2 * len(pairs))
    for (across, up), (left, right) in zip(
        pairs, figure.subplots(len(pairs), 2, squeeze=False), strict=True
    ):
        x, y = points.hu[:, across], points.hu[:, up]
        left.hist2d(x, y, bins=100, weights=points.weights, norm="log", cmap="magma")
        left.set_title("voxels", fontsize=10)
        for cluster in clusters:
            members = view.marking.labels == cluster.label
            color = _colors(clusters)[cluster.label]
            right.scatter(x[members], y[members], s=2, color=color, label=_name(cluster))
        right.legend(fontsize=8, markerscale=4)
        right.set_title("clusters", fontsize=10)
        for axes in (left, right):
            axes.set_xlabel(f"HU, channel {across + 1}")
            axes.set_ylabel(f"HU, channel {up + 1}")

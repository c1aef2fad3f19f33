"""The pictures of a report: box plots, reliability curves, the worst cases."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from scipy import ndimage

from inference.preview_planes import WINDOW_LEVEL_HU, WINDOW_WIDTH_HU
from training.calibration import BINS, Reliability
from training.gallery import ErrorView, PlaneView
from training.metrics import BoolArray, StructureScore
from training.scores import CaseScore, pool

Axes: TypeAlias = Any
"""Of matplotlib, which has no types here."""

_COLORS = ("#2a7f9e", "#c8553d")
"""Of liver and tumor."""
_TRUE_COLOR, _FOUND_COLOR = "#58d68d", "#f5b041"
_FAINT, _CASE_ALPHA, _DPI = "#8a8a8a", 0.3, 110
_MEASURES = (
    ("dice", "Dice coefficient"),
    ("assd_mm", "Surface distance (ASSD), mm"),
    ("hd95_mm", "Surface distance (HD95), mm"),
)
_OUTLINE_BLUR_PX = 0.5


def draw_boxplots(path: Path, scores: Sequence[CaseScore]) -> None:
    """Draw Dice and surface distances of liver and tumor, a point per case.

    Parameters
    ----------
    path:
        PNG file.
    scores:
        The cases; those without tumor have no point for it.
    """
    figure = Figure(figsize=(10, 4.4), layout="constrained")
    livers = [score.liver for score in scores]
    tumors = [score.tumor for score in scores if score.tumor is not None and score.has_tumor]
    for axes, (measure, title) in zip(figure.subplots(1, 3), _MEASURES, strict=True):
        axes.set_title(title, fontsize=11)
        groups = {"liver": _present(livers, measure), "tumor": _present(tumors, measure)}
        for position, values in enumerate(groups.values(), start=1):
            _draw_box(axes, position, values, _COLORS[position - 1])
        axes.set_xlim(0.4, len(groups) + 0.6)
        labels = [f"{name}\n(n = {len(values)})" for name, values in groups.items()]
        axes.set_xticks(range(1, len(groups) + 1), labels)
        axes.set_ylim(bottom=0, top=1.02 if measure == "dice" else None)
        _make_plain(axes)
    figure.savefig(path, dpi=_DPI)


def _present(cases: Sequence[StructureScore], measure: str) -> list[float]:
    values = (getattr(case, measure) for case in cases)
    return [value for value in values if value is not None]


def _draw_box(axes: Axes, position: int, values: Sequence[float], color: str) -> None:
    if not values:
        place = axes.get_xaxis_transform()
        axes.text(position, 0.5, "no case", transform=place, ha="center", color=_FAINT, fontsize=9)
        return
    axes.boxplot(
        values,
        positions=[position],
        widths=0.5,
        showfliers=False,
        medianprops={"color": color, "linewidth": 2},
        **{part: {"color": color} for part in ("boxprops", "whiskerprops", "capprops")},
    )
    # Spread evenly, so that the picture is the same every time.
    spread = position + 0.16 * np.sin(2.4 * np.arange(len(values)))
    axes.plot(spread, values, "o", color=color, alpha=0.55, markersize=5, markeredgewidth=0)


def _make_plain(axes: Axes) -> None:
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="y", color="#e5e5e5", linewidth=0.8)
    axes.set_axisbelow(True)


def draw_calibration(path: Path, scores: Sequence[CaseScore]) -> None:
    """Draw the reliability of organ and tumor probability: each case, all together, voxel counts.

    Parameters
    ----------
    path:
        PNG file.
    scores:
        The cases; those without a result have no curve.
    """
    figure = Figure(figsize=(9, 5.6), layout="constrained")
    pooled = pool(scores)
    columns = (
        ("Organ", [score.organ_reliability for score in scores], pooled.organ_reliability),
        ("Tumor, in the organ", [s.tumor_reliability for s in scores], pooled.tumor_reliability),
    )
    grid = figure.subplots(2, 2, sharex=True, height_ratios=(4, 1))
    parts = zip(grid.T, columns, _COLORS, strict=True)
    for (curve, bars), (title, cases, together), color in parts:
        curve.set_title(_calibration_title(title, together), fontsize=11)
        _draw_curves(curve, [case for case in cases if case], together, color)
        _draw_counts(bars, together, color)
    grid[0, 0].set_ylabel("true share")
    grid[1, 0].set_ylabel("voxels")
    figure.legend(handles=_calibration_legend(), loc="outside lower center", ncols=3, frameon=False)
    figure.savefig(path, dpi=_DPI)


def _calibration_title(title: str, together: Reliability | None) -> str:
    if together is None or together.expected_calibration_error is None:
        return f"{title}: no case"
    return f"{title}: calibration error {together.expected_calibration_error:.4f}"


def _calibration_legend() -> list[Line2D]:
    return [
        Line2D([], [], color="black", marker="o", linewidth=2, label="all cases"),
        Line2D([], [], color="black", alpha=_CASE_ALPHA, linewidth=1, label="each case"),
        Line2D([], [], color=_FAINT, linestyle="--", linewidth=1, label="perfect"),
    ]


def _draw_curves(
    axes: Axes, cases: Sequence[Reliability], together: Reliability | None, color: str
) -> None:
    axes.plot([0, 1], [0, 1], "--", color=_FAINT, linewidth=1)
    for case in cases:
        axes.plot(*_points(case), color=color, alpha=_CASE_ALPHA, linewidth=1)
    if together is not None:
        axes.plot(*_points(together), "o-", color=color, linewidth=2)
    axes.set_xlim(-0.02, 1.02)
    axes.set_ylim(-0.02, 1.02)
    _make_plain(axes)


def _points(reliability: Reliability) -> tuple[list[float], list[float]]:
    pairs = zip(reliability.mean_probabilities, reliability.true_shares, strict=True)
    present = [(x, y) for x, y in pairs if x is not None and y is not None]
    return [x for x, _ in present], [y for _, y in present]


def _draw_counts(axes: Axes, together: Reliability | None, color: str) -> None:
    if together is not None and any(together.counts):
        middles = (np.arange(BINS) + 0.5) / BINS
        axes.bar(middles, together.counts, width=0.9 / BINS, color=color, alpha=0.6)
        axes.set_yscale("log")
    axes.set_xlabel("probability")
    _make_plain(axes)


def draw_worst(path: Path, views: Sequence[ErrorView]) -> None:
    """Draw the gallery of the worst cases: a row of three planes for each, truth and result.

    Parameters
    ----------
    path:
        PNG file.
    views:
        The cases in order, at least one.
    """
    figure = Figure(figsize=(10, 0.5 + 3.4 * len(views)), layout="constrained")
    rows = figure.subfigures(len(views), 1, squeeze=False)[:, 0]
    for row, view in zip(rows, views, strict=True):
        title = f"{view.case_id}: {view.structure} Dice {view.dice:.3f}"
        row.suptitle(title, x=0.01, ha="left", fontsize=12)
        for axes, plane in zip(row.subplots(1, len(view.planes)), view.planes, strict=True):
            _draw_plane(axes, plane)
    colors = {"truth": _TRUE_COLOR, "result": _FOUND_COLOR}
    handles = [Line2D([], [], color=color, label=name) for name, color in colors.items()]
    figure.legend(handles=handles, loc="outside upper right", ncols=2, frameon=False)
    figure.savefig(path, dpi=_DPI)


def _draw_plane(axes: Axes, plane: PlaneView) -> None:
    width_mm, height_mm = plane.size_mm
    axes.imshow(
        plane.hu,
        cmap="gray",
        vmin=WINDOW_LEVEL_HU - WINDOW_WIDTH_HU / 2,
        vmax=WINDOW_LEVEL_HU + WINDOW_WIDTH_HU / 2,
        extent=(0, width_mm, height_mm, 0),
        interpolation="bilinear",
    )
    _draw_outline(axes, plane, plane.truth, _TRUE_COLOR)
    _draw_outline(axes, plane, plane.found, _FOUND_COLOR)
    axes.set_title(plane.title, fontsize=9, color=_FAINT)
    axes.set_axis_off()


def _draw_outline(axes: Axes, plane: PlaneView, mask: BoolArray, color: str) -> None:
    width_mm, height_mm = plane.size_mm
    rows, columns = mask.shape
    pixel_mm = height_mm / rows, width_mm / columns
    smooth = ndimage.gaussian_filter(np.pad(mask.astype(np.float32), 1), _OUTLINE_BLUR_PX)
    if smooth.max() > 0.5:
        y_mm, x_mm = (
            (np.arange(count + 2) - 0.5) * mm
            for count, mm in zip((rows, columns), pixel_mm, strict=True)
        )
        axes.contour(x_mm, y_mm, smooth, levels=[0.5], colors=color, linewidths=1.3)

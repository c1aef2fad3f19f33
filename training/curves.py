"""Learning curves as a picture."""

import csv
from collections.abc import Sequence
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from training.trainer import LOSSES, VALIDATION

CURVES = "curves.png"


def draw_curves(folder: Path) -> None:
    """Draw the losses of a run, and the Dice of what it never saw, over time.

    Parameters
    ----------
    folder:
        Of the run; gets ``curves.png``.
    """
    figure = Figure(figsize=(10, 4), layout="constrained")
    FigureCanvasAgg(figure)
    left, right = figure.subplots(1, 2)
    _draw(left, folder / LOSSES, "Loss (smoothed)")
    _draw(right, folder / VALIDATION, "Dice on the held-out fold")
    right.set_ylim(0, 1)
    figure.savefig(folder / CURVES, dpi=100)


def _draw(axes: Axes, path: Path, title: str) -> None:
    axes.set_title(title)
    axes.set_xlabel("minutes")
    axes.grid(alpha=0.3)
    columns = _read_columns(path)
    minutes = columns.pop("minutes", ())
    for name, values in columns.items():
        axes.plot(minutes, values, marker=".", label=name.replace("_", " "))
    if columns:
        axes.legend()
    else:
        axes.text(0.5, 0.5, "nothing logged", ha="center", transform=axes.transAxes)


def _read_columns(path: Path) -> dict[str, Sequence[float]]:
    if not path.exists():
        return {}
    with path.open(encoding="utf-8", newline="") as file:
        header, *rows = list(csv.reader(file)) or [[]]
    # A run that was killed while it wrote leaves part of a row, to which the next one is glued.
    whole = [row for row in rows if len(row) == len(header) and all(row)]
    names = [name for name in header if name != "step"]
    return {name: [float(row[header.index(name)]) for row in whole] for name in names}

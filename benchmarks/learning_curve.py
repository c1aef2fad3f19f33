"""How much would more data help? ``python -m benchmarks.learning_curve 4=REPORT 9=REPORT ...``.

Each argument is a number of training patients and the folder of a report by `hepar evaluate`, on
the same scans, of a package that was trained on so many (`hepar train --patients`). What is missing
to a Dice of 1 is fitted by a power of the number of patients (Hestness et al., Deep learning
scaling is predictable, empirically, arXiv:1712.00409, 2017), and the fit says how many patients a
wanted Dice would take. With three points on a few scans that is a guess, no more.
"""

import argparse
import json
from collections.abc import Mapping, Sequence
from functools import reduce
from operator import getitem
from pathlib import Path

import numpy as np

MEASURES = {
    "liver": (("liver", "dice"), 0.965),
    "tumor, 5 ml and more": (("large_tumor_dice",), 0.68),
}
"""Where the pooled scores have a summary over the cases, and the mean that is wanted."""

BEYOND = 10_000
"""A fit that asks for more patients says only that more data of this kind are no way."""


def main() -> None:
    """Read, fit, print and draw."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("reports", nargs="+", type=_parse_point, metavar="PATIENTS=REPORT")
    parser.add_argument("--picture", type=Path, help="PNG file of the curve")
    arguments = parser.parse_args()
    points = sorted(arguments.reports, key=lambda point: point[0])
    curves = {name: _read_curve(name, points) for name in MEASURES}
    print(_make_table([patients for patients, _ in points], curves))
    if arguments.picture is not None:
        _draw(arguments.picture, [patients for patients, _ in points], curves)


def _parse_point(text: str) -> tuple[int, Path]:
    patients, _, folder = text.partition("=")
    return int(patients), Path(folder)


def _read_curve(name: str, points: Sequence[tuple[int, Path]]) -> list[float]:
    """Give the mean Dice over the cases, point by point."""
    keys, _ = MEASURES[name]
    found = []
    for _, folder in points:
        scores = json.loads((folder / "scores.json").read_text(encoding="utf-8"))
        found.append(float(reduce(getitem, keys, scores["pooled"])["mean"]))
    return found


def _fit(patients: Sequence[int], dice: Sequence[float]) -> tuple[float, float]:
    """Give factor and exponent of what is missing to 1, by least squares of the logarithms."""
    missing = np.log(1 - np.array(dice))
    exponent, level = np.polyfit(np.log(patients), missing, 1)
    return float(np.exp(level)), float(exponent)


def _make_table(patients: Sequence[int], curves: Mapping[str, Sequence[float]]) -> str:
    header = ["Dice", *(f"{count} patients" for count in patients), "wanted", "by the fit, with"]
    rows = [header, ["---"] * len(header)]
    for name, dice in curves.items():
        wanted = MEASURES[name][1]
        rows.append(
            [
                name,
                *(f"{value:.3f}" for value in dice),
                f"{wanted}",
                _needed(patients, dice, wanted),
            ]
        )
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def _needed(patients: Sequence[int], dice: Sequence[float], wanted: float) -> str:
    if max(dice) >= wanted:
        return "reached"
    factor, exponent = _fit(patients, dice)
    if exponent >= 0:
        return "no number: more patients did not help"
    needed = ((1 - wanted) / factor) ** (1 / exponent)
    return f"{needed:.0f} patients" if needed <= BEYOND else f"more than {BEYOND} patients"


def _draw(path: Path, patients: Sequence[int], curves: Mapping[str, Sequence[float]]) -> None:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 3.6), layout="constrained")
    ahead = np.geomspace(min(patients), 100, 60)
    for axes, (name, dice) in zip(figure.subplots(1, len(curves)), curves.items(), strict=True):
        factor, exponent = _fit(patients, dice)
        if exponent < 0:
            axes.plot(ahead, 1 - factor * ahead**exponent, "--", color="gray", label="power law")
        axes.plot(patients, dice, "o", label="measured")
        axes.axhline(MEASURES[name][1], color="green", linewidth=1, label="wanted")
        axes.set_xscale("log")
        axes.set_title(f"Dice of {name}")
        axes.set_xlabel("training patients")
        axes.legend(frameon=False)
    figure.savefig(path, dpi=100)


if __name__ == "__main__":
    main()

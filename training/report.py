"""Writes what was measured into a folder: JSON, CSV, Markdown and pictures."""

import csv
import json
from collections.abc import Sequence
from dataclasses import fields, is_dataclass
from pathlib import Path

from training.detection import Detection, LesionScore
from training.figures import draw_boxplots, draw_calibration, draw_worst
from training.gallery import ErrorView
from training.metrics import StructureScore
from training.report_text import Report, compose_report
from training.scores import CaseScore, Pooled, pool
from training.targets import list_targets

_DIGITS = 6
_CASE_COLUMNS = (
    *("case_id", "fold", "tumors_known", "found_tumor_ml", "false_tumor_ml"),
    *("true_burden", "found_burden", "burden_error"),
)


def write_report(folder: Path, report: Report, worst: Sequence[ErrorView] = ()) -> None:
    """Write ``scores.json``, ``scores.csv``, ``report.md`` and the pictures that it shows.

    Parameters
    ----------
    folder:
        Made where it is missing; files of an earlier report are replaced.
    report:
        What was measured.
    worst:
        Cuts through the worst cases.

    Raises
    ------
    OSError
        The folder cannot be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    pooled = pool(report.cases)
    pictures = _draw(folder, report, worst)
    _write_json(folder / "scores.json", report, pooled)
    _write_csv(folder / "scores.csv", report.cases)
    text = compose_report(report, pooled, pictures)
    (folder / "report.md").write_text(text, encoding="utf-8")


def _draw(folder: Path, report: Report, worst: Sequence[ErrorView]) -> dict[str, str]:
    """Draw the pictures for which there is something to draw; gives title and file name."""
    pictures = {}
    if report.cases:
        draw_boxplots(folder / "boxplots.png", report.cases)
        pictures["Distribution over the cases"] = "boxplots.png"
    if any(case.organ_reliability for case in report.cases):
        draw_calibration(folder / "calibration.png", report.cases)
        pictures["Probability and truth"] = "calibration.png"
    if worst:
        draw_worst(folder / "worst.png", worst)
        pictures["Worst cases, cut through the largest error"] = "worst.png"
    return pictures


def _write_json(path: Path, report: Report, pooled: Pooled) -> None:
    content = {
        "models": _plain(report.models),
        "targets": _plain(list_targets(pooled)),
        "pooled": _plain(pooled),
        "cases": _plain(report.cases),
        "boxes": _plain(report.boxes),
    }
    # A NaN would be a defect of the measures: it is refused here, not written.
    path.write_text(json.dumps(content, indent=2, allow_nan=False), encoding="utf-8")


def _plain(value: object) -> object:
    """Turn dataclasses, with their properties, into dictionaries, and round numbers."""
    if isinstance(value, float):
        return round(value, _DIGITS)
    if isinstance(value, (tuple, list)):
        return [_plain(part) for part in value]
    if is_dataclass(value):
        return {name: _plain(getattr(value, name)) for name in _names(type(value))}
    return value


def _names(kind: type) -> list[str]:
    """Give the names of the fields and properties of a dataclass."""
    properties = (
        name
        for base in reversed(kind.__mro__)
        for name, member in vars(base).items()
        if isinstance(member, property)
    )
    return [*(field.name for field in fields(kind)), *properties]


def _write_csv(path: Path, cases: Sequence[CaseScore]) -> None:
    rows = [_row(case) for case in cases]
    with path.open("w", encoding="utf-8", newline="") as file:
        table = csv.DictWriter(file, list(rows[0]) if rows else ["case_id"])
        table.writeheader()
        table.writerows(rows)


def _row(case: CaseScore) -> dict[str, object]:
    """Give a case as one line, with the same columns for every case."""
    row = {name: _plain(getattr(case, name)) for name in _CASE_COLUMNS}
    row |= _columns("liver", StructureScore, case.liver)
    row |= _columns("tumor", StructureScore, case.tumor)
    for field in fields(LesionScore):
        counts = getattr(case.lesions, field.name, None)
        row |= _columns(f"lesions_{field.name}", Detection, counts)
    for name in ("organ_reliability", "tumor_reliability"):
        error = getattr(getattr(case, name), "expected_calibration_error", None)
        row[name.replace("reliability", "calibration_error")] = _plain(error)
    return row | {"seconds": _plain(case.seconds), "note": case.note}


def _columns(prefix: str, kind: type, value: object) -> dict[str, object]:
    """Give a dataclass as columns, empty ones for None."""
    return {f"{prefix}_{name}": _plain(getattr(value, name, None)) for name in _names(kind)}

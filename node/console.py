"""What the command line prints: tables, progress, JSON, errors."""

import json
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from typing import TYPE_CHECKING, Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.padding import Padding
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

from node.progress import Progress as ProgressCallback
from storage.states import JobState

if TYPE_CHECKING:
    from storage.records import JobRecord

# Square brackets are text, not markup: paths, reasons and settings have them.
out = Console(highlight=False, markup=False)
err = Console(stderr=True, highlight=False, markup=False)


def print_json(value: object) -> None:
    """Print a value as JSON, times in ISO form."""
    sys.stdout.write(json.dumps(value, indent=2, default=_jsonable) + "\n")


def _jsonable(value: object) -> object:
    if isinstance(value, datetime):
        return value.isoformat()
    return str(value)


def print_table(title: str, columns: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Print a table; an empty one says so."""
    out.print(make_table(title, columns, rows))


def _cell(value: object) -> Text:
    if isinstance(value, datetime):
        return Text(f"{value:%Y-%m-%d %H:%M:%S}")
    return Text("" if value is None else str(value))


def print_pairs(title: str, pairs: Sequence[tuple[str, object]]) -> None:
    """Print names and values, one below the other; what is empty is left out."""
    table = Table.grid(padding=(0, 2))
    for name, value in pairs:
        if value not in (None, ""):
            table.add_row(name, _cell(value))
    out.print(title, style="italic")
    out.print(Padding(table, (0, 0, 1, 1)))


def make_table(
    title: str, columns: Sequence[str], rows: Sequence[Sequence[object]]
) -> Table | Text:
    """Make a table to be printed; an empty one says so."""
    if not rows:
        return Text(f"{title}: none")
    table = Table(title=title, title_justify="left", header_style="bold", box=SIMPLE_HEAD)
    for column in columns:
        table.add_column(column, overflow="fold")
    for row in rows:
        table.add_row(*map(_cell, row))
    return table


def describe_state(job: "JobRecord") -> str:
    """Give the state of a job, and of a running one what it does and how far it is."""
    if job.state is not JobState.RUNNING or not job.step:
        return job.state.value
    return f"{job.state.value}: {job.step} {job.step_share:.0%}"


@contextmanager
def progress_bar(title: str) -> Iterator[ProgressCallback]:
    """Give a progress callback: a bar on a terminal, a plain line for each step elsewhere."""
    if not err.is_terminal:
        yield _plain_lines(title)
        return
    columns = (TextColumn(f"{title}: {{task.description}}"), BarColumn(), TimeElapsedColumn())
    with Progress(*columns, console=err, transient=True) as progress:
        task = progress.add_task("starting", total=1.0)

        def show(step: str, fraction: float) -> None:
            progress.update(task, description=step, completed=fraction)

        yield show


def _plain_lines(title: str) -> ProgressCallback:
    start = time.monotonic()
    last = ""

    def show(step: str, fraction: float) -> None:
        nonlocal last
        if step != last:
            seconds = time.monotonic() - start
            err.print(f"{title}: {step} ({fraction:.0%}, {seconds:.1f} s)")
            last = step

    return show


def print_measurements(report: dict[str, Any]) -> None:
    """Print the liver and lesion table of a report."""
    liver = report["liver"]
    rows: list[list[object]] = [
        [
            "liver without lesions",
            f"{liver['volume_ml']:.1f}",
            "",
            "",
            "",
            f"{liver['mean_hu']:.0f}",
        ]
    ]
    rows += [
        [
            f"lesion {lesion['number']}",
            f"{lesion['volume_ml']:.2f}",
            _diameters(lesion),
            lesion["long_axis"]["slice_index"] + 1,
            _millimeters(lesion.get("surface_distance_mm")),
            f"{lesion['mean_hu']:.0f}",
        ]
        for lesion in report["lesions"]
    ]
    columns = ["finding", "ml", "diameters mm", "slice", "depth mm", "mean HU"]
    print_table("Measurements (AI result, not reviewed)", columns, rows)
    out.print(report["summary"]["sentence"])
    for doubt in report.get("doubts", ()):
        out.print(f"Doubtful: {doubt['sentence']}", style="yellow")


def print_checks(report: dict[str, Any]) -> None:
    """Print what was compared of each written object before it could be sent."""
    rows = [
        [check["file"], ", ".join(check["checked"]), f"{check['seconds']:.2f}", "good"]
        for check in report.get("checks", ())
    ]
    print_table("Checks before sending", ["file", "compared", "seconds", "outcome"], rows)


def _diameters(lesion: dict[str, Any]) -> str:
    """Give the long axis and, where there is one, the short axis."""
    axes = (lesion["long_axis"], lesion["short_axis"])
    return " x ".join(f"{axis['length_mm']:.1f}" for axis in axes if axis is not None)


def _millimeters(distance_mm: float | None) -> str:
    return "" if distance_mm is None else f"{distance_mm:.1f}"

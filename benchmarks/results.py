"""The result objects of a large study, by profile: ``python -m benchmarks.results``.

Usage: ``python -m benchmarks.results [--profile NAME...] [--slices N] [--size N] [--rounds N]
[--page PAGE]``

A synthetic CT with ten lesions (512 x 512 x 300, unless said otherwise) is read from files; then
the objects of each profile are built, written and checked in fresh folders, after a first time that
does not count. Where dcmqi can write the same SEG and the same groups of measurements, it does so
in the same rounds. It begins with the files of the CT, so the ratio counts reading them for both;
it reads nothing that it wrote again.
"""

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TypeVar

import numpy as np
from pydicom import dcmread
from scipy import ndimage

from benchmarks.dcmqi import Dcmqi, can_write
from benchmarks.page import put_table
from config.results import (
    DEFAULT_PROFILE,
    LesionForm,
    ProfileSettings,
    ResultRole,
    ResultSettings,
    SegmentationForm,
    ready_made_profiles,
)
from dicom_io.ct import write_ct_series
from dicom_io.page_source import describe_series
from dicom_io.results import ResultContext, WrittenResults, write_results
from dicom_io.segments import plan_segments
from dicom_io.series import SourceSeries, read_series
from inference.findings import FULL_PROBABILITY, Findings, RunRecord, Segmentation
from inference.labels import Label
from inference.manifest import ModelIdentity
from inference.measure import measure
from inference.montage import draw_montage
from inference.phantom import LesionSettings, PhantomSettings, make_phantom
from inference.preview import draw_preview
from inference.volume import Volume
from node.pages import TITLE, write_pages

COMMAND = "python -m benchmarks.results"
PROFILES = ready_made_profiles() | {
    "labelmap": ProfileSettings(segmentation=SegmentationForm.LABELMAP),
    "fractional": ProfileSettings(
        segmentation=SegmentationForm.FRACTIONAL, lesions=LesionForm.TOGETHER
    ),
    "together": ProfileSettings(lesions=LesionForm.TOGETHER),
    "everything": ProfileSettings(
        objects=tuple(role for role in ResultRole if role is not ResultRole.SUMMARY)
    ),
}
DIAMETERS_MM = (45.0, 36.0, 30.0, 25.0, 22.0, 18.0, 15.0, 12.0, 9.0, 7.0)
EXTENT_MM = (300.0, 384.0, 384.0)
"""Of the scan along slices, rows and columns, whatever the grid."""
SEED = 7
BLUR_VOXELS = 1.0
"""Of the probabilities at the edges."""
MODEL = ModelIdentity(name="phantom", version="1", digest="0" * 64, license="made up")
READING = "read the series"
RUN = RunRecord(device="none", backend="none", precision="none", timings_s={})


Result = TypeVar("Result")


@dataclass(frozen=True, kw_only=True)
class Stopwatch:
    """Seconds of what comes before the result objects."""

    seconds: dict[str, float] = field(default_factory=dict)

    def time(self, name: str, step: Callable[[], Result]) -> Result:
        """Do a step twice, and time the second."""
        step()
        started = time.perf_counter()
        result = step()
        self.seconds[name] = time.perf_counter() - started
        print(f"{name}: {self.seconds[name]:.2f} s", flush=True)
        return result


@dataclass(frozen=True, kw_only=True, eq=False)
class Study:
    """A study that was segmented."""

    ct: Path
    """The folder of the series."""
    source: SourceSeries
    segmentation: Segmentation
    findings: Findings
    pdf: bytes

    def write(self, folder: Path, name: str) -> WrittenResults:
        """Write the objects of a profile."""
        return write_results(
            self.source, self.segmentation, self.findings, folder, _context(name), self.pdf
        )


@dataclass(frozen=True, kw_only=True)
class Timing:
    """What was measured of a profile."""

    name: str
    seconds: float
    checking_s: float
    """The part of it that went into checks."""
    file_count: int
    byte_count: int
    dcmqi_s: float | None
    """None where dcmqi does not write the same."""


def main() -> None:
    """Print the two tables, or put them into a page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=_Raw)
    parser.add_argument("--profile", nargs="+", choices=PROFILES, default=list(PROFILES))
    parser.add_argument("--slices", type=int, default=300)
    parser.add_argument("--size", type=int, default=512, help="rows and columns")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--page", type=Path)
    arguments = parser.parse_args()
    stopwatch, timings = Stopwatch(), []
    with tempfile.TemporaryDirectory() as folder:
        shape = (arguments.slices, arguments.size, arguments.size)
        study = make_study(shape, Path(folder), stopwatch)
        for name in arguments.profile:
            timings.append(time_profile(study, name, arguments.rounds))
            print(f"{name}: {timings[-1].seconds:.2f} s", flush=True)
    print(f"load {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores", flush=True)
    table = make_tables(stopwatch, timings)
    if arguments.page is None:
        print(table)
    else:
        put_table(arguments.page, COMMAND, table)


class _Raw(argparse.RawDescriptionHelpFormatter):
    pass


def make_study(shape: tuple[int, int, int], folder: Path, stopwatch: Stopwatch) -> Study:
    """Make a scan with its truth, and do what comes before the result objects.

    Parameters
    ----------
    shape
        Slices, rows, columns.
    folder
        An empty folder.
    stopwatch
        Times what is done.
    """
    print("making the phantom", flush=True)
    slice_mm, row_mm, column_mm = (
        extent / count for extent, count in zip(EXTENT_MM, shape, strict=True)
    )
    lesions = tuple(LesionSettings(diameter_mm=diameter) for diameter in DIAMETERS_MM)
    phantom = make_phantom(
        PhantomSettings(
            seed=SEED, shape=shape, spacing_mm=(slice_mm, row_mm, column_mm), lesions=lesions
        )
    )
    paths = write_ct_series(phantom.volume, folder / "ct")
    source = stopwatch.time(READING, lambda: read_series(paths))
    labels = phantom.labels.match_geometry(source.volume)
    segmentation = Segmentation(
        labels=labels, model=MODEL, run=RUN, probabilities=_blur(labels, source.volume)
    )
    findings = stopwatch.time("measure", lambda: measure(source.volume, labels))
    if len(findings.lesions) != len(DIAMETERS_MM):
        raise SystemExit(f"{len(findings.lesions)} lesions are left on so coarse a grid")
    return Study(
        ct=folder / "ct",
        source=source,
        segmentation=segmentation,
        findings=findings,
        pdf=_draw(source, segmentation, findings, folder, stopwatch),
    )


def _blur(labels: Volume, volume: Volume) -> dict[Label, Volume]:
    """Give probabilities that fall off at the edges."""
    found = {}
    for label in (Label.LIVER, Label.TUMOR):
        mask = (labels.array == label).astype(np.float32)
        blurred = ndimage.gaussian_filter(mask, BLUR_VOXELS)
        found[label] = volume.with_array((blurred * FULL_PROBABILITY).astype(np.uint8))
    return found


def _draw(
    source: SourceSeries,
    segmentation: Segmentation,
    findings: Findings,
    folder: Path,
    stopwatch: Stopwatch,
) -> bytes:
    """Draw the pictures and the page, and give the PDF."""
    scan, labels = source.volume, segmentation.labels
    path = folder / "picture.png"
    stopwatch.time(
        "preview", lambda: draw_preview(scan, labels, path, title=TITLE, findings=findings)
    )
    stopwatch.time("montage", lambda: draw_montage(scan, labels, path, findings=findings))
    described, context = describe_series(source), _context(DEFAULT_PROFILE)
    return stopwatch.time(
        "preview, montage and report as HTML and PDF",
        lambda: write_pages(scan, segmentation, findings, folder, described, context),
    )


def _context(name: str) -> ResultContext:
    return ResultContext(
        settings=ResultSettings(),
        created_at=datetime(2026, 1, 1, tzinfo=UTC),
        software_version="benchmark",
        profiles={name: PROFILES[name]},
    )


def time_profile(study: Study, name: str, rounds: int) -> Timing:
    """Write the objects of a profile, and the same by dcmqi, in turn."""
    seconds, dcmqi_s = [], []
    with tempfile.TemporaryDirectory() as first, tempfile.TemporaryDirectory() as inputs:
        written = study.write(Path(first), name)
        dcmqi = _dcmqi(study, name, written, Path(inputs))
        for _ in range(rounds):
            with tempfile.TemporaryDirectory() as folder:
                started = time.perf_counter()
                written = study.write(Path(folder), name)
                seconds.append(time.perf_counter() - started)
                byte_count = sum(one.path.stat().st_size for one in written.files)
            if dcmqi is not None:
                with tempfile.TemporaryDirectory() as folder:
                    dcmqi_s.append(dcmqi.write(Path(folder)))
    return Timing(
        name=name,
        seconds=statistics.median(seconds),
        checking_s=sum(check.seconds for check in written.checks),
        file_count=len(written.files),
        byte_count=byte_count,
        dcmqi_s=statistics.median(dcmqi_s) if dcmqi_s else None,
    )


def _dcmqi(study: Study, name: str, written: WrittenResults, folder: Path) -> Dcmqi | None:
    """Prepare dcmqi to write what we wrote, and see that it does; none where it cannot."""
    form = PROFILES[name]
    if not can_write(form):
        return None
    planned = plan_segments(
        study.segmentation.labels, study.findings, ResultSettings(), content_key="any"
    )
    paths = {one.role: one.path for one in written.files}
    dcmqi = Dcmqi(ct=study.ct, form=form, folder=folder)
    dcmqi.prepare(planned.numbers, paths[ResultRole.SEG], paths[ResultRole.SR])
    with tempfile.TemporaryDirectory() as trial:
        dcmqi.write(Path(trial))
        ours, theirs = (
            dcmread(path, stop_before_pixels=True).NumberOfFrames
            for path in (paths[ResultRole.SEG], Path(trial) / "seg.dcm")
        )
    if ours != theirs:
        raise SystemExit(f"{name}: our SEG has {ours} frames, that of dcmqi {theirs}")
    return dcmqi


def make_tables(stopwatch: Stopwatch, timings: Sequence[Timing]) -> str:
    """Give a table of the profiles, and one of what comes before."""
    lines = [
        "| profile | s | of these, checks | files | MB | dcmqi, s | ratio |",
        "|---|---|---|---|---|---|---|",
    ]
    for timing in timings:
        dcmqi_s, ratio = "", ""
        if timing.dcmqi_s is not None:
            dcmqi_s = f"{timing.dcmqi_s:.2f}"
            ratio = f"{timing.dcmqi_s / (timing.seconds + stopwatch.seconds[READING]):.2f}"
        lines.append(
            f"| {timing.name} | {timing.seconds:.2f} | {timing.checking_s:.2f} "
            f"| {timing.file_count} | {timing.byte_count / 1e6:.1f} | {dcmqi_s} | {ratio} |"
        )
    lines += ["", "| before | s |", "|---|---|"]
    lines += [f"| {name} | {seconds:.2f} |" for name, seconds in stopwatch.seconds.items()]
    return "\n".join(lines)


if __name__ == "__main__":
    main()

"""``hepar segment``: the pipeline without a network or a database."""

import json
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from config import Settings
from dicom_io.nifti import read_nifti, write_nifti
from dicom_io.report import build_report
from dicom_io.results import Profiles
from inference.measure import measure
from inference.plausibility import with_doubts
from inference.report_page import PageSource
from inference.segment import Segmenter
from node.inputs import choose_series, is_nifti
from node.pages import write_pages
from node.pipeline import make_context, run_pipeline
from node.progress import Progress, StepTimer, no_progress


@dataclass(frozen=True, kw_only=True)
class OfflineResult:
    """What ``hepar segment`` wrote and found."""

    folder: Path
    report: dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Choice:
    """What of a folder is wanted."""

    series_uid: str | None = None
    """None where it holds one."""
    profiles: Profiles | None = None
    """None for what the destinations of the settings get."""


EVERYTHING = Choice()


def segment_path(
    source: Path,
    folder: Path,
    *,
    settings: Settings,
    segmenter: Segmenter,
    choice: Choice = EVERYTHING,
    progress: Progress = no_progress,
) -> OfflineResult:
    """Segment a DICOM folder or a NIfTI file into a folder.

    Writes ``labels.nii.gz`` (source grid; 0 background, 1 liver, 2 tumor), ``report.json``, what
    `write_pages` writes, and for DICOM input the objects of the profiles.

    Parameters
    ----------
    source
        The folder or file.
    folder
        Gets the results; is made where it is missing.
    settings
        The node's.
    segmenter
        The loaded model.
    choice
        Which series, and which objects.
    progress
        Told about each step.

    Raises
    ------
    UnusableInput
        When there is no such path, no CT series in it, or a choice of several.
    """
    from_nifti = is_nifti(source)
    folder.mkdir(parents=True, exist_ok=True)
    start = time.perf_counter()
    if from_nifti:
        report = _segment_nifti(source, folder, settings, segmenter, progress)
    else:
        paths = choose_series(source, choice.series_uid)
        produced = run_pipeline(
            paths,
            folder,
            settings=settings,
            segmenter=segmenter,
            context=make_context(settings, datetime.now(UTC), profiles=choice.profiles),
            progress=progress,
        )
        write_nifti(produced.segmentation.labels, folder / "labels.nii.gz")
        report = produced.report
    report["total_s"] = round(time.perf_counter() - start, 3)
    (folder / "report.json").write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    return OfflineResult(folder=folder, report=report)


def _segment_nifti(
    source: Path, folder: Path, settings: Settings, segmenter: Segmenter, progress: Progress
) -> dict[str, Any]:
    timer = StepTimer(progress=progress)
    with timer.step("read", 0.0):
        volume = read_nifti(source)
    with timer.step("segment", 0.1):
        segmentation = segmenter.segment(
            volume, lambda step, fraction: progress(step, 0.1 + 0.7 * fraction)
        )
    with timer.step("measure", 0.8):
        measured = measure(volume, segmentation.labels)
        findings = with_doubts(measured, segmentation.labels, settings.results.plausibility)
    with timer.step("write", 0.85):
        write_nifti(segmentation.labels, folder / "labels.nii.gz")
    with timer.step("draw", 0.95):
        context = make_context(settings, datetime.now(UTC))
        write_pages(volume, segmentation, findings, folder, PageSource(), context)
    report = build_report(None, segmentation, findings)
    report["steps_s"] = timer.seconds
    progress("done", 1.0)
    return report

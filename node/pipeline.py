"""The steps of one job, one line each."""

import json
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from config import Settings
from dicom_io.page_source import describe_series
from dicom_io.provenance import NOTHING_KNOWN, SeriesHistory
from dicom_io.report import build_report
from dicom_io.results import Profiles, ResultContext, ResultFile, write_results
from dicom_io.series import SourceSeries, read_series
from inference.findings import Findings, Segmentation
from inference.measure import measure
from inference.plausibility import with_doubts
from inference.segment import Segmenter
from node.pages import write_pages
from node.progress import Progress, StepTimer, no_progress
from node.version import SOFTWARE_VERSION


@dataclass(frozen=True, kw_only=True, eq=False)
class Produced:
    """All that came out of one series."""

    source: SourceSeries
    segmentation: Segmentation
    findings: Findings
    results: list[ResultFile]
    report: dict[str, Any]


def make_context(
    settings: Settings,
    created_at: datetime,
    history: SeriesHistory = NOTHING_KNOWN,
    profiles: Profiles | None = None,
) -> ResultContext:
    """Say what the result objects tell of their making.

    Parameters
    ----------
    settings
        The result section and our AE title are used.
    created_at
        Time that the objects carry; fixed for a job, so that a repeat makes the same objects.
    history
        What the report says of the way that the series came.
    profiles
        What is wanted; none means what the destinations get.
    """
    return ResultContext(
        settings=settings.results,
        created_at=created_at,
        software_version=SOFTWARE_VERSION,
        ae_title=settings.node.ae_title,
        history=history,
        profiles=settings.delivered_profiles if profiles is None else profiles,
    )


def run_pipeline(
    paths: list[Path],
    folder: Path,
    *,
    settings: Settings,
    segmenter: Segmenter,
    context: ResultContext,
    progress: Progress = no_progress,
) -> Produced:
    """Turn the instances of one series into checked result files.

    Parameters
    ----------
    paths
        Part-10 files of one series.
    folder
        An existing folder that gets the result objects, ``report.json``, and what `write_pages`
        writes.
    settings
        The inference section is used.
    segmenter
        The loaded model.
    context
        As `make_context` gives it.
    progress
        Told about each step.

    Raises
    ------
    dicom_io.errors.UnsuitableSeries
        The series cannot be used.
    inference.errors.LiverNotFound
        There is no liver in it.
    dicom_io.errors.ResultMismatch
        What was written is not what was meant.
    """
    timer = StepTimer(progress=progress)
    with timer.step("read", 0.0):
        source = read_series(paths, min_slices=settings.inference.min_slices)
    with timer.step("segment", 0.1):
        segmentation = segmenter.segment(
            source.volume, lambda step, fraction: progress(step, 0.1 + 0.7 * fraction)
        )
    with timer.step("measure", 0.8):
        measured = measure(source.volume, segmentation.labels)
        findings = with_doubts(measured, segmentation.labels, settings.results.plausibility)
    with timer.step("draw", 0.85):
        described = describe_series(source, context.history.remark)
        pdf = write_pages(source.volume, segmentation, findings, folder, described, context)
    with timer.step("encode and check", 0.9):
        written = write_results(source, segmentation, findings, folder, context, pdf)
    report = build_report(source, segmentation, findings)
    report["checks"] = [asdict(check) for check in written.checks]
    report["steps_s"] = timer.seconds
    (folder / "report.json").write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    progress("done", 1.0)
    return Produced(
        source=source,
        segmentation=segmentation,
        findings=findings,
        results=written.files,
        report=report,
    )

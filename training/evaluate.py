"""Judge packages: the whole pipeline runs on labeled scans, and a report says how well."""

import logging
import time
from collections.abc import Callable, Iterable, Iterator, Sequence, Sized
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, TypeVar

import numpy as np
from rich.console import Console
from rich.progress import track

from config.inference import InferenceSettings
from inference.errors import LiverNotFound
from inference.preprocess import orient
from inference.segment import BoxProbabilities, Segmenter, load_segmenter
from inference.volume import Volume
from training.calibration import measure_calibration
from training.errors import DataSetError
from training.gallery import Gallery
from training.metrics import MM3_PER_ML, LabelArray, ratio
from training.readers import ScanEntry
from training.readers.compact import CompactEntry
from training.report import write_report
from training.report_text import Report
from training.scans import LabeledScan
from training.scores import BoxScore, CaseScore, score_labels

logger = logging.getLogger(__name__)

_T = TypeVar("_T")


@dataclass(frozen=True, kw_only=True, eq=False)
class _Outcome:
    """What the model made of one scan."""

    labels: LabelArray
    seconds: float
    probabilities: BoxProbabilities | None = None
    note: str = ""


def evaluate(
    segmenter: Segmenter,
    scans: Iterable[LabeledScan],
    *,
    gallery: Gallery | None = None,
    console: Console | None = None,
) -> list[CaseScore]:
    """Run the whole pipeline on scans, and compare with their truth.

    Where it finds no liver, or fails, the case counts as one in which nothing was found, its score
    says why, and the run goes on. The networks are computed twice: for the labels, and for the
    probabilities whose calibration is measured.

    Parameters
    ----------
    segmenter:
        The model.
    scans:
        Read one by one.
    gallery:
        Shown each case, so that it can keep the worst.
    console:
        Where the progress bar is drawn, if it is a terminal; standard error by default.

    Raises
    ------
    ValueError
        The labels of a scan do not lie on its grid.
    """
    scores = []
    for scan in _with_bar(scans, console or Console(stderr=True)):
        outcome = _run(segmenter, scan)
        score = _score(scan, outcome)
        logger.info("%s", _line(score))
        if gallery is not None:
            gallery.show(scan, outcome.labels, score)
        scores.append(score)
    return scores


def _with_bar(scans: Iterable[LabeledScan], console: Console) -> Iterable[LabeledScan]:
    return track(
        scans,
        description="evaluating",
        total=len(scans) if isinstance(scans, Sized) else None,
        console=console,
        transient=True,
        disable=not console.is_terminal,
    )


def _run(segmenter: Segmenter, scan: LabeledScan) -> _Outcome:
    """Segment a scan; whatever goes wrong ends in an empty result and a note."""
    started = time.perf_counter()
    outcome, note = _attempt(scan.case_id, lambda: _segment(segmenter, scan.volume))
    if outcome is not None:
        return outcome
    nothing = np.zeros(scan.labels.shape, dtype=np.uint8)
    return _Outcome(labels=nothing, seconds=time.perf_counter() - started, note=note)


def _segment(segmenter: Segmenter, volume: Volume) -> _Outcome:
    started = time.perf_counter()
    labels = segmenter.segment(volume).labels.array
    seconds = time.perf_counter() - started
    return _Outcome(labels=labels, seconds=seconds, probabilities=segmenter.probabilities(volume))


def _attempt(case_id: str, work: Callable[[], _T]) -> tuple[_T | None, str]:
    """Give what some work gives, or None and what went wrong."""
    try:
        return work(), ""
    except LiverNotFound as error:
        return None, str(error)
    except Exception as error:
        logger.exception("%s: failed", case_id)
        return None, f"{type(error).__name__}: {error}"


def _score(scan: LabeledScan, outcome: _Outcome) -> CaseScore:
    score = score_labels(scan, outcome.labels)
    if outcome.probabilities is not None:
        organ, tumor = measure_calibration(scan, outcome.probabilities)
        score = replace(score, organ_reliability=organ, tumor_reliability=tumor)
    return replace(score, seconds=outcome.seconds, note=outcome.note)


def _line(score: CaseScore) -> str:
    """Say the most important of a case in one line."""
    words = [f"{score.case_id}: liver Dice {score.liver.dice or 0:.3f}"]
    if score.tumor is not None and score.tumor.dice is not None:
        words.append(f"tumor Dice {score.tumor.dice:.3f}")
    if score.lesions is not None:
        lesions = score.lesions.any_overlap
        words.append(f"{lesions.detected} of {lesions.true} lesions")
    words.append(f"{score.seconds:.1f} s")
    return ", ".join([*words, score.note] if score.note else words)


def score_box(segmenter: Segmenter, scan: LabeledScan) -> BoxScore:
    """Run the locator on a whole scan."""
    box, note = _attempt(scan.case_id, lambda: segmenter.locate(scan.volume))
    if box is None:
        return BoxScore(case_id=scan.case_id, note=note)
    canonical = orient(scan.volume.with_array(scan.labels))
    inside = np.ix_(
        *(
            (axis.positions_mm >= first_mm) & (axis.positions_mm <= last_mm)
            for axis, (first_mm, last_mm) in zip(canonical.axes, box, strict=True)
        )
    )
    box_mm3 = float(np.prod([last_mm - first_mm for first_mm, last_mm in box]))
    in_box, organ = (
        int(np.count_nonzero(array)) for array in (canonical.array[inside], canonical.array)
    )
    return BoxScore(
        case_id=scan.case_id,
        liver_in_box=ratio(in_box, organ),
        box_ml=box_mm3 / MM3_PER_ML,
    )


@dataclass(frozen=True, kw_only=True)
class _Scans:
    """Scans that are read one by one."""

    entries: Sequence[ScanEntry]

    def __len__(self) -> int:
        return len(self.entries)

    def __iter__(self) -> Iterator[LabeledScan]:
        return (entry.read() for entry in self.entries)


def evaluate_packages(
    packages: Sequence[str],
    entries: Sequence[ScanEntry],
    out: Path,
    *,
    fold: int | None = None,
    precision: Literal["auto", "fp32", "bf16", "fp16"] = "auto",
    console: Console | None = None,
) -> Report:
    """Judge packages on labeled scans, and write a report.

    Parameters
    ----------
    packages:
        Names or folders. Each is judged on the fold that it was not trained on, as its manifest
        says; where it names none, on everything. Those of a cross-validation together give a
        report over all cases.
    entries:
        The scans. Those of the compact set are judged on their fine crops; how the locator does on
        the whole scans is a table of its own.
    out:
        Folder of the report.
    fold:
        Fold to judge on instead.
    precision:
        Arithmetic of the networks.
    console:
        Where progress is shown; standard error by default.

    Raises
    ------
    DataSetError
        A scan cannot be read, or none lies in the fold.
    ModelPackageError
        A package is missing or damaged.
    """
    gallery = Gallery()
    models, scores, boxes = [], [], []
    for name in packages:
        segmenter = load_segmenter(InferenceSettings(model=name, precision=precision))
        wanted = fold if fold is not None else segmenter.package.manifest.held_out_fold
        chosen = [entry for entry in entries if wanted is None or entry.fold == wanted]
        if not chosen:
            raise DataSetError(f"no case lies in fold {wanted}")
        scans = _Scans(entries=[entry for entry in chosen if _is_judged(entry)])
        scores += evaluate(segmenter, scans, gallery=gallery, console=console)
        boxes += [score_box(segmenter, _whole(entry).read()) for entry in chosen]
        models.append(segmenter.identity)
    report = Report(models=tuple(models), cases=tuple(scores), boxes=tuple(boxes))
    write_report(out, report, gallery.worst)
    return report


def _is_judged(entry: ScanEntry) -> bool:
    """Whether the labels are fine enough to judge the border of a segmentation."""
    return not isinstance(entry, CompactEntry) or "fine" in entry.grids


def _whole(entry: ScanEntry) -> ScanEntry:
    """Give the scan as far as it was taken, not only the crop around the liver."""
    if isinstance(entry, CompactEntry) and "coarse" in entry.grids:
        return entry.on_grid("coarse")
    return entry

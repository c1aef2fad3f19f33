"""Judge a package: ``python -m training.evaluate PACKAGE --data DIR --fold 4 --out FOLDER``.

The whole pipeline runs on the fine crops of a fold, or of all folds (locator, segmenter,
post-processing, labels on the grid of the crop); the locator alone runs on the whole scans of the
coarse grid. The folder then holds a report with tables and pictures.
"""

import argparse
import logging
import time
from collections.abc import Callable, Iterable, Sized
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

import numpy as np
from rich.console import Console
from rich.logging import RichHandler
from rich.progress import track

from config.settings import InferenceSettings
from inference.errors import LiverNotFound
from inference.preprocess import orient
from inference.segment import BoxProbabilities, Segmenter, load_segmenter
from inference.volume import Volume
from training.calibration import measure_calibration
from training.dataset import Case, read_cases
from training.gallery import Gallery
from training.metrics import MM3_PER_ML, LabelArray, ratio
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


def to_volume(case: Case) -> Volume:
    """Give a case as a volume in patient coordinates."""
    slices_mm, rows_mm, columns_mm = case.spacing_mm
    affine = np.zeros((4, 4))
    affine[2, 0], affine[1, 1], affine[0, 2], affine[3, 3] = slices_mm, rows_mm, columns_mm, 1.0
    array = np.rint(case.hu).astype(np.int16)
    return Volume(array=array, affine=affine, coordinate_system="PATIENT")


def to_scan(case: Case) -> LabeledScan:
    """Give a case of the compact data set as a labeled scan.

    Its table is not asked for the patient, who does not matter here: the folds are there already.
    """
    return LabeledScan(
        case_id=case.case_id,
        patient_id=case.case_id,
        volume=to_volume(case),
        labels=case.labels,
        tumors_known=case.tumors_known,
        fold=case.fold,
    )


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


def main() -> None:
    """Run the program."""
    arguments = _parse_arguments()
    console = Console(stderr=True)
    # On a terminal through the same console as the bar, which it would break otherwise.
    handlers = [RichHandler(console=console, show_path=False)] if console.is_terminal else None
    logging.basicConfig(level=logging.INFO, format="%(message)s", handlers=handlers)
    segmenter = load_segmenter(
        InferenceSettings(model=arguments.package, precision=arguments.precision)
    )
    gallery = Gallery()
    fine, coarse = (
        [case for case in read_cases(arguments.data, grid) if arguments.fold in (None, case.fold)]
        for grid in ("fine", "coarse")
    )
    scores = evaluate(segmenter, [to_scan(case) for case in fine], gallery=gallery, console=console)
    boxes = [score_box(segmenter, to_scan(case)) for case in coarse]
    report = Report(model=segmenter.identity, cases=tuple(scores), boxes=tuple(boxes))
    write_report(arguments.out, report, gallery.worst)
    logger.info("%s", arguments.out / "report.md")


def _parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Judge a model package.")
    parser.add_argument("package", help="name of a shipped package, or a folder")
    parser.add_argument("--data", type=Path, required=True, help="folder with cases.csv")
    parser.add_argument("--fold", type=int, help="fold to judge on; all without it")
    parser.add_argument("--precision", choices=("auto", "fp32", "bf16"), default="auto")
    parser.add_argument(
        "--out", type=Path, default=Path("runs/evaluation"), help="folder of the report"
    )
    return parser.parse_args()


if __name__ == "__main__":
    main()

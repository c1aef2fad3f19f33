"""Judge a package: ``python -m training.evaluate PACKAGE --data DIR --fold 4 --out report.json``.

The whole pipeline runs on the fine crops of a fold (locator, segmenter, post-processing, labels on
the grid of the crop); the locator alone runs on the whole scans of the coarse grid.
"""

import argparse
import json
import logging
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from config.settings import InferenceSettings
from inference.errors import LiverNotFound
from inference.labels import Label
from inference.measure import dice
from inference.segment import Segmenter, load_segmenter
from inference.volume import Volume
from training.dataset import Case, read_cases

logger = logging.getLogger(__name__)

_MM3_PER_ML = 1000.0


@dataclass(frozen=True, kw_only=True)
class CaseScore:
    """How well one case came out."""

    case_id: str
    liver_dice: float
    """Of liver and tumor together."""
    tumor_dice: float | None
    """None where tumors were not annotated, or where there are none."""
    true_tumor_ml: float | None
    found_tumor_ml: float
    seconds: float


@dataclass(frozen=True, kw_only=True)
class BoxScore:
    """How well the locator found the liver of one whole scan."""

    case_id: str
    liver_in_box: float
    """Share of the liver inside the box that the segmenter is given."""
    box_ml: float


_Score = TypeVar("_Score", CaseScore, BoxScore)


def to_volume(case: Case) -> Volume:
    """Give a case as a volume in patient coordinates."""
    slices_mm, rows_mm, columns_mm = case.spacing_mm
    affine = np.zeros((4, 4))
    affine[2, 0], affine[1, 1], affine[0, 2], affine[3, 3] = slices_mm, rows_mm, columns_mm, 1.0
    array = np.rint(case.hu).astype(np.int16)
    return Volume(array=array, affine=affine, coordinate_system="PATIENT")


def score_case(segmenter: Segmenter, case: Case) -> CaseScore:
    """Run the whole pipeline on a case."""
    started = time.perf_counter()
    try:
        found = segmenter.segment(to_volume(case)).labels.array
    except LiverNotFound:
        found = np.zeros_like(case.labels)
    return CaseScore(
        case_id=case.case_id,
        liver_dice=round(float(dice(found > 0, case.labels > 0)), 4),
        tumor_dice=_tumor_dice(found, case),
        true_tumor_ml=_tumor_ml(case.labels, case) if case.tumors_known else None,
        found_tumor_ml=_tumor_ml(found, case),
        seconds=round(time.perf_counter() - started, 2),
    )


def _tumor_dice(found: NDArray[np.uint8], case: Case) -> float | None:
    truth = case.labels == Label.TUMOR
    if not case.tumors_known or not truth.any():
        return None
    return round(float(dice(found == Label.TUMOR, truth)), 4)


def _tumor_ml(labels: NDArray[np.uint8], case: Case) -> float:
    voxel_mm3 = float(np.prod(case.spacing_mm))
    return round(int((labels == Label.TUMOR).sum()) * voxel_mm3 / _MM3_PER_ML, 2)


def score_box(segmenter: Segmenter, case: Case) -> BoxScore:
    """Run the locator on a whole scan."""
    organ = case.labels > 0
    box = segmenter.locate(to_volume(case))
    inside = np.ones(organ.shape, dtype=bool)
    length_mm = []
    for axis, (first_mm, last_mm) in enumerate(box):
        positions = np.arange(organ.shape[axis]) * case.spacing_mm[axis]
        shape = [-1 if other == axis else 1 for other in range(3)]
        inside &= ((positions >= first_mm) & (positions <= last_mm)).reshape(shape)
        length_mm.append(last_mm - first_mm)
    return BoxScore(
        case_id=case.case_id,
        liver_in_box=round(float((organ & inside).sum() / organ.sum()), 4),
        box_ml=round(float(np.prod(length_mm)) / _MM3_PER_ML, 0),
    )


def main() -> None:
    """Run the program."""
    parser = argparse.ArgumentParser(description="Judge a model package on one fold.")
    parser.add_argument("package", help="name of a shipped package, or a folder")
    parser.add_argument("--data", type=Path, required=True, help="folder with cases.csv")
    parser.add_argument("--fold", type=int, required=True, help="fold to judge on")
    parser.add_argument("--precision", choices=("auto", "fp32", "bf16"), default="auto")
    parser.add_argument("--out", type=Path, help="JSON file for the scores")
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    segmenter = load_segmenter(
        InferenceSettings(model=arguments.package, precision=arguments.precision)
    )
    fine, coarse = (
        [case for case in read_cases(arguments.data, grid) if case.fold == arguments.fold]
        for grid in ("fine", "coarse")
    )
    scores: dict[str, list[CaseScore] | list[BoxScore]] = {
        "fine": [_told(score_case(segmenter, case)) for case in fine],
        "coarse": [_told(score_box(segmenter, case)) for case in coarse],
    }
    if arguments.out is not None:
        content = {grid: [asdict(score) for score in rows] for grid, rows in scores.items()}
        arguments.out.write_text(json.dumps(content, indent=2), encoding="utf-8")


def _told(score: _Score) -> _Score:
    logger.info("%s", score)
    return score


if __name__ == "__main__":
    main()

"""Does bf16 label as fp32 does? ``python -m benchmarks.precision --data DIR [MODEL...]``.

Every scan of the data is segmented in both, and the Dice coefficients between the two results are
printed. Each model takes the fold that it was not trained on, or all scans where it names none.
"""

import argparse
import time
from collections.abc import Iterator
from pathlib import Path

from config import InferenceSettings
from inference.errors import LiverNotFound
from inference.findings import Segmentation
from inference.labels import Label
from inference.manifest import find_package
from inference.measure import dice
from inference.segment import Segmenter, load_segmenter
from inference.volume import Volume
from training.dataset import list_entries
from training.readers import ScanEntry

PRECISIONS = ("fp32", "bf16")


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("models", nargs="*", default=["hepar-liver-ct"])
    parser.add_argument("--data", type=Path, required=True, help="folder of a data set")
    arguments = parser.parse_args()
    print("| case | liver Dice | tumor Dice | fp32 s | bf16 s |")
    print("|---|---|---|---|---|")
    for model in arguments.models:
        for row in _compare(model, list_entries([arguments.data])):
            print(row, flush=True)


def _compare(model: str, entries: list[ScanEntry]) -> Iterator[str]:
    segmenters = [
        load_segmenter(InferenceSettings(model=model, device="cpu", precision=precision))
        for precision in PRECISIONS
    ]
    fold = find_package(model).manifest.held_out_fold
    for entry in entries:
        if fold is None or entry.fold == fold:
            volume = entry.read().volume
            yield _row(entry.case_id, [_segment(segmenter, volume) for segmenter in segmenters])


def _segment(segmenter: Segmenter, volume: Volume) -> tuple[Segmentation | None, float]:
    started = time.perf_counter()
    try:
        result = segmenter.segment(volume)
    except LiverNotFound:
        result = None
    return result, time.perf_counter() - started


def _row(case_id: str, results: list[tuple[Segmentation | None, float]]) -> str:
    (first, first_s), (second, second_s) = results
    if first is None or second is None:
        agreement = "both find none" if first is second else "**one finds none**"
        return f"| {case_id} | {agreement} | | {first_s:.1f} | {second_s:.1f} |"
    a, b = first.labels.array, second.labels.array
    liver, tumor = dice(a > 0, b > 0), dice(a == Label.TUMOR, b == Label.TUMOR)
    return f"| {case_id} | {liver:.4f} | {tumor:.4f} | {first_s:.1f} | {second_s:.1f} |"


if __name__ == "__main__":
    main()

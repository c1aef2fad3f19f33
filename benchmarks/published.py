"""Clustering as published, and what is left of it elsewhere: ``python -m benchmarks.published``.

Usage: ``python -m benchmarks.published DATA... [--predicted]``. Each DATA is a folder of a data set
as `hepar train` reads it; 3D-IRCADb-01 must be among them. Four tables are printed:

published
    Patient 1 of 3D-IRCADb-01, axial slice 60, in the given liver: the published figures, ours, and
    ours with one thing changed at a time.
boundaries
    The same slice with all taken for tumor that is as dark as a boundary, or darker: which boundary
    a figure stands for.
elements
    The same slice with each pair of a disk or a square to erode and one to dilate: the best pair,
    and the one that comes nearest to what is published.
elsewhere
    The same methods on all slices of each scan whose tumors are known, each slice by itself and all
    at once, in the given liver, and with ``--predicted`` in the one that the model finds.
"""

import argparse
from collections.abc import Iterator, Sequence
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from config import ClusteringSettings, InferenceSettings
from inference.clustering.cleanup import Element, clean
from inference.clustering.marker import TumorMarker
from inference.labels import Label
from inference.measure import dice
from inference.preprocess import orient
from inference.segment import Segmenter, load_segmenter
from node.clustering import Subject, build_cluster_report, choose_slices, run_marker
from node.progress import no_progress
from training.dataset import list_entries
from training.readers.entries import ScanEntry
from training.scans import LabeledScan

SLICE = 60
PUBLISHED_CASE = "ircadb-1"
PUBLISHED = {"kmeans": (0.8747, 0.9332), "dbscan": (0.8127, 0.8967), "gmm": (0.8201, 0.9012)}
"""IoU and Dice, to four digits."""
BOUNDARIES_HU = (72, 74, 76, 77, 78, 79, 80, 82, 84, 88, 91, 94, 98, 101, 102, 104)
ELEMENTS = (
    "none",
    *(f"disk {radius} px" for radius in range(1, 9)),
    *(f"square {radius} px" for radius in range(1, 8)),
)
Options = dict[str, Any]
STOPPED: Options = {"tolerance": 1e-3}
VARIANTS: tuple[tuple[str, str, Options], ...] = (
    ("kmeans", "as set", {}),
    ("kmeans", "no erosion, no dilation", {"erosion": "none", "dilation": "none"}),
    ("kmeans", "HU clipped to 0..200", {"low_hu": 0, "high_hu": 200}),
    ("gmm", "as set, EM to its end", {}),
    ("gmm", "EM stopped at 1e-4", {"tolerance": 1e-4}),
    ("gmm", "EM stopped at 1e-3, scikit-learn's default", STOPPED),
    ("gmm", "the same, HU clipped to 40..400", {**STOPPED, "low_hu": 40, "high_hu": 400}),
    ("dbscan", "as set, 950 voxels a core", {"min_samples": 950}),
    ("dbscan", "HU clipped to 0..150", {"min_samples": 950, "low_hu": 0, "high_hu": 150}),
    ("dbscan", "only dark noise", {"min_samples": 950, "tumor_cluster": "dark-noise"}),
)
ELSEWHERE: tuple[tuple[str, Options], ...] = (
    ("kmeans", {}),
    ("gmm", {}),
    ("dbscan", {"tumor_cluster": "noise"}),
    ("dbscan", {"tumor_cluster": "dark-noise"}),
)


def main() -> None:
    """Compute and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", nargs="+", type=Path)
    parser.add_argument("--predicted", action="store_true", help="also in the model's liver")
    arguments = parser.parse_args()
    entries = [entry for entry in list_entries(arguments.data, ()) if entry.tumors_known]
    [published] = [entry for entry in entries if entry.case_id == PUBLISHED_CASE]
    subject = _subject(published.read())
    _print_published(subject)
    only = subject.part(slice(SLICE, SLICE + 1))
    _print_boundaries(only)
    _print_elements(only)
    segmenter = load_segmenter(InferenceSettings()) if arguments.predicted else None
    _print_elsewhere(entries, segmenter)


def _print_published(subject: Subject) -> None:
    print("| method | how | IoU published | IoU | Dice published | Dice |\n" + "|---" * 6 + "|")
    for method, words, options in VARIANTS:
        iou, overlap = PUBLISHED[method]
        found = _agreement(subject, method, options, number=SLICE)
        print(
            f"| {method} | {words} | {iou} | {found['iou']:.4f} | {overlap} | {found['dice']:.4f} |"
        )


def _print_boundaries(subject: Subject) -> None:
    options = ClusteringSettings()
    print("\n| boundary HU | IoU |\n|---|---|")
    for boundary_hu in BOUNDARIES_HU:
        dark = (subject.channels[0] <= boundary_hu) & subject.liver
        print(f"| {boundary_hu} | {_iou(subject, dark, options.erosion, options.dilation):.4f} |")


def _print_elements(subject: Subject) -> None:
    print("\n| method | pairs | best | IoU | nearest to published | IoU | published |")
    print("|---" * 7 + "|")
    for method, (published, _) in PUBLISHED.items():
        raw = _marker(method, {"erosion": "none", "dilation": "none"}).mark(
            subject.channels, subject.liver, subject.spacing_mm[1:]
        )
        found = {
            f"{erosion}, {dilation}": _iou(subject, raw.tumor, erosion, dilation)
            for erosion, dilation in product(ELEMENTS, repeat=2)
        }
        best = max(found, key=found.__getitem__)
        near = min(found, key=lambda pair: abs(found[pair] - published))
        print(
            f"| {method} | {len(found)} | {best} | {found[best]:.4f} | {near} | {found[near]:.4f} "
            f"| {published} |",
            flush=True,
        )


def _iou(subject: Subject, mask: NDArray[np.bool_], erosion: str, dilation: str) -> float:
    """Clean a mask up and compare it with the truth."""
    tumor = clean(
        mask,
        subject.liver,
        subject.spacing_mm[1:],
        erosion=Element.parse(erosion),
        dilation=Element.parse(dilation),
    )
    overlap = dice(tumor, np.asarray(subject.truth))
    return overlap / (2 - overlap)


def _print_elsewhere(entries: Sequence[ScanEntry], segmenter: Segmenter | None) -> None:
    print("\n| case | tumor ml | liver | method | Dice, each slice | Dice, all at once |")
    print("|---" * 6 + "|")
    for entry in entries:
        scan = entry.read()
        tumor_ml = float((scan.labels == Label.TUMOR).sum() * scan.volume.voxel_volume / 1000)
        if not tumor_ml:
            continue
        for liver, subject in _subjects(scan, segmenter):
            for method, options in ELSEWHERE:
                each, whole = (
                    _agreement(subject, method, options, each=each)["dice"]
                    for each in (True, False)
                )
                name = " ".join((method, *options.values()))
                print(
                    f"| {entry.case_id} | {tumor_ml:.1f} | {liver} | {name} "
                    f"| {each:.3f} | {whole:.3f} |",
                    flush=True,
                )


def _subjects(scan: LabeledScan, segmenter: Segmenter | None) -> Iterator[tuple[str, Subject]]:
    yield "given", _subject(scan)
    if segmenter is not None:
        found = segmenter.segment(scan.volume).labels.array != 0
        given = _subject(scan)
        liver = orient(scan.volume).order.apply(found)
        yield (
            "predicted",
            Subject(
                channels=given.channels,
                liver=liver,
                truth=given.truth,
                spacing_mm=given.spacing_mm,
            ),
        )


def _subject(scan: LabeledScan) -> Subject:
    oriented = orient(scan.volume)
    labels = oriented.order.apply(scan.labels)
    return Subject(
        channels=(oriented.array,),
        liver=labels != Label.BACKGROUND,
        truth=labels == Label.TUMOR,
        spacing_mm=oriented.spacing_mm,
    )


def _agreement(
    subject: Subject,
    method: str,
    options: Options,
    *,
    number: int | None = None,
    each: bool = False,
) -> dict[str, Any]:
    marker = _marker(method, options)
    parts = choose_slices(subject, number, each=each)
    runs = run_marker(marker, subject, parts, no_progress)
    found: dict[str, Any] = build_cluster_report(marker, subject, runs)["agreement"]
    return found


def _marker(method: str, options: Options) -> TumorMarker:
    settings = {"tumor_engine": method, "clustering": options}
    return TumorMarker(settings=InferenceSettings.model_validate(settings))


if __name__ == "__main__":
    main()

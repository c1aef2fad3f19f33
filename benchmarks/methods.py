"""Every method on the same scans, in one table: ``python -m benchmarks.methods``.

Usage: ``python -m benchmarks.methods --data DATA [--fold N] [--model MODEL...] [--page PAGE]
[--picture PNG]``. MODEL is a package by name or folder, or a folder that `hepar train` wrote; its
training is then told, too. Clustering runs in the given liver and in that of the first model.

Each method runs in a process of its own on the scans of one fold, which no model may have seen, and
on a phantom, to warm up and for the picture. Where PAGE is given, the table takes the place of what
stands there between the two comments that name this command; else it is printed.
"""

import argparse
import csv
import multiprocessing
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from benchmarks.page import put_table
from config import InferenceSettings
from inference.clustering.marker import TumorMarker
from inference.errors import LiverNotFound
from inference.labels import Label
from inference.manifest import Stage, find_package
from inference.phantom import PhantomSettings, make_phantom
from inference.preprocess import orient
from inference.preview_planes import WINDOW_LEVEL_HU, WINDOW_WIDTH_HU
from inference.segment import load_segmenter
from training.dataset import list_entries
from training.readers import ScanEntry
from training.scans import LabeledScan

if TYPE_CHECKING:
    from training.scores import Pooled

Labels: TypeAlias = NDArray[np.uint8]

MODEL = "hepar-liver-ct"
PHANTOM_SEED = 7
"""Of no phantom that a network was trained on."""
CLUSTERING: tuple[tuple[str, dict[str, Any]], ...] = (
    ("kmeans", {}),
    ("gmm", {}),
    ("dbscan", {"tumor_cluster": "noise"}),
    ("dbscan", {"tumor_cluster": "dark-noise"}),
)
ON_SLICES = "0.85 to 0.89, slices with tumor"
PUBLISHED = {
    "kmeans": "0.933, one slice",
    "gmm": "0.901, one slice",
    "dbscan": "0.897, one slice",
    "unet-2d": ON_SLICES,
    "unet-resnet34": ON_SLICES,
    "unet-resnet34-dice-focal": ON_SLICES,
    MODEL: "0.674 (2017) and 0.739 (2018), best of LiTS",
}
"""Dice of tumor; by clustering method or name of a package."""
HEADER = (
    *("Method", "Sees", "Trained", "Liver Dice", "Tumor Dice, slices", "Tumor Dice, scans", "IoU"),
    *("Sensitivity", "Specificity", "Lesions found", "Marks right", "s a scan", "GB", "Published"),
)
COMMAND = "python -m benchmarks.methods"


@dataclass(frozen=True, kw_only=True)
class Method:
    """One row of the table."""

    name: str
    published: str
    sees: str
    model: str | None = None
    """Where the liver is from, and tumor unless it is clustered; None for the given liver."""
    settings: dict[str, Any] = field(default_factory=dict)
    """Of the section `inference`, beside the model."""
    trained: str = "-"

    def open(self) -> Callable[[LabeledScan], Labels]:
        """Give what labels a scan; only the given liver is taken from its truth."""
        if self.model is None:
            return self._open_marker()
        settings = InferenceSettings.model_validate({"model": self.model, **self.settings})
        segmenter = load_segmenter(settings)
        return lambda scan: np.asarray(segmenter.segment(scan.volume).labels.array)

    def _open_marker(self) -> Callable[[LabeledScan], Labels]:
        marker = TumorMarker(settings=InferenceSettings.model_validate(self.settings))

        def run(scan: LabeledScan) -> Labels:
            oriented = orient(scan.volume)
            liver = oriented.order.apply(scan.labels) != Label.BACKGROUND
            found = marker.mark((oriented.array,), liver, oriented.spacing_mm[1:]).tumor
            labels = np.where(found, Label.TUMOR, np.where(liver, Label.LIVER, Label.BACKGROUND))
            return np.asarray(oriented.order.undo(labels.astype(np.uint8)))

        return run


@dataclass(frozen=True, kw_only=True, eq=False)
class Run:
    """What a method made of the phantom and of the scans."""

    phantom: Labels
    labels: tuple[Labels, ...]
    seconds: tuple[float, ...]
    """Of each scan."""
    memory_gb: float
    """What the process needed at most beyond the interpreter, the imports and the scans."""


def main() -> None:
    """Measure, and print or write."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", nargs="+", type=Path, required=True, help="as `hepar train`")
    parser.add_argument("--fold", type=int, default=4, help="fold that no model has seen")
    parser.add_argument("--model", nargs="+", default=[MODEL], help="packages, or training runs")
    parser.add_argument("--page", type=Path, help="Markdown file that gets the table")
    parser.add_argument("--picture", type=Path, help="PNG file: each method on a phantom")
    arguments = parser.parse_args()
    entries = [entry for entry in list_entries(arguments.data) if entry.fold == arguments.fold]
    if not entries:
        parser.error(f"no case lies in fold {arguments.fold}")
    methods = _list_methods(arguments.model, arguments.fold)
    runs = [_run_apart(method, entries) for method in methods]
    table = _make_table(methods, runs, entries)
    if arguments.page is None:
        print(table)
    else:
        put_table(arguments.page, COMMAND, table)
    if arguments.picture is not None:
        _draw(arguments.picture, methods, runs)


def _list_methods(models: Sequence[str], fold: int) -> list[Method]:
    networks = [method for model in models for method in _describe_network(model, fold)]
    livers = {"given liver": None, "liver of the first model": networks[0].model}
    clusters = [
        Method(
            name=", ".join([engine, *options.values(), place]),
            published=PUBLISHED[engine],
            sees="voxels",
            model=model,
            settings={"tumor_engine": engine, "clustering": options},
        )
        for place, model in livers.items()
        for engine, options in CLUSTERING
    ]
    return [*clusters, *networks]


def _describe_network(model: str, fold: int) -> Iterator[Method]:
    """Give a row for a package, and one without its filter if it has one."""
    folder = Path(model) / "package"
    package = find_package(str(folder) if folder.is_dir() else model)
    manifest = package.manifest
    if manifest.held_out_fold != fold:
        raise SystemExit(f"{model} was not trained with --hold-out {fold}")
    method = Method(
        name=f"{manifest.name} {manifest.version}",
        published=PUBLISHED.get(manifest.name, "-"),
        sees=_describe_input(manifest.segmenter),
        model=str(package.folder),
        trained=_describe_training(Path(model) / "segmenter" / "losses.csv"),
    )
    yield method
    if manifest.candidates is not None:
        yield replace(
            method, name=f"{method.name}, unfiltered", settings={"candidate_filter": False}
        )


def _describe_input(stage: Stage) -> str:
    if stage.kind == "volume":
        return "volumes"
    return f"{stage.context_slices} slice{'s' if stage.context_slices > 1 else ''}"


def _describe_training(losses: Path) -> str:
    if not losses.is_file():
        return "see its card"
    with losses.open(encoding="utf-8", newline="") as file:
        last = list(csv.DictReader(file))[-1]
    return f"{int(last['step'])} steps, {float(last['minutes']):.0f} min"


def _run_apart(method: Method, entries: Sequence[ScanEntry]) -> Run:
    """Run a method in a process of its own, so that its memory can be told."""
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=context) as process:
        run = process.submit(run_method, method, entries).result()
    print(f"{method.name}: {statistics.median(run.seconds):.1f} s a scan", flush=True)
    return run


def run_method(method: Method, entries: Sequence[ScanEntry]) -> Run:
    """Label the phantom, which also warms up, and the scans."""
    scans = [_phantom(), *(entry.read() for entry in entries)]
    before_gb = _forget_peak()
    label = method.open()
    found, seconds = [], []
    for scan in scans:
        started = time.perf_counter()
        try:
            found.append(label(scan))
        except LiverNotFound:
            found.append(np.zeros_like(scan.labels))
        seconds.append(time.perf_counter() - started)
    return Run(
        phantom=found[0],
        labels=tuple(found[1:]),
        seconds=tuple(seconds[1:]),
        memory_gb=_peak_gb() - before_gb,
    )


def _forget_peak() -> float:
    """Let the peak of the memory begin anew (proc(5), clear_refs), and give what is held now."""
    Path("/proc/self/clear_refs").write_text("5")
    return _peak_gb()


def _peak_gb() -> float:
    [line] = [
        line
        for line in Path("/proc/self/status").read_text().splitlines()
        if line.startswith("VmHWM:")
    ]
    return int(line.split()[1]) / 1e6


def _phantom() -> LabeledScan:
    phantom = make_phantom(PhantomSettings(seed=PHANTOM_SEED))
    return LabeledScan(
        case_id="phantom",
        patient_id="phantom",
        volume=phantom.volume,
        labels=np.asarray(phantom.labels.array),
        tumors_known=True,
    )


def _make_table(
    methods: Sequence[Method], runs: Sequence[Run], entries: Sequence[ScanEntry]
) -> str:
    # Imported here because it brings torch along, which would count as memory of each method.
    from training.scores import pool, score_labels

    scans = [entry.read() for entry in entries]
    rows = [
        _row(
            method, run, pool([score_labels(*pair) for pair in zip(scans, run.labels, strict=True)])
        )
        for method, run in zip(methods, runs, strict=True)
    ]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (HEADER, ["---"] * len(HEADER), *rows))


def _row(method: Method, run: Run, pooled: "Pooled") -> tuple[str, ...]:
    lesions, tumor = pooled.lesions.large_any_overlap, pooled.tumor
    means = [
        None if summary is None else summary.mean
        for summary in (tumor.slice_dice, tumor.dice, tumor.jaccard)
    ]
    liver = None if method.model is None or pooled.liver.dice is None else pooled.liver.dice.mean
    return (
        *(method.name, method.sees, method.trained),
        *(_number(value) for value in (liver, *means, *_voxel_rates(pooled))),
        f"{lesions.detected} of {lesions.true}",
        f"{lesions.correct} of {lesions.found}",
        f"{statistics.median(run.seconds):.1f}",
        f"{run.memory_gb:.2f}",
        method.published,
    )


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def _voxel_rates(pooled: "Pooled") -> tuple[float | None, float | None]:
    """Give sensitivity and specificity for tumor among the voxels of the true organ."""
    if pooled.confusion_ml is None:
        return None, None
    _, liver, tumor = pooled.confusion_ml
    return (
        tumor[Label.TUMOR] / sum(tumor) if sum(tumor) else None,
        1 - liver[Label.TUMOR] / sum(liver) if sum(liver) else None,
    )


def _draw(path: Path, methods: Sequence[Method], runs: Sequence[Run]) -> None:
    """Draw the slice of the phantom with most tumor, with its truth and what each method marks."""
    from matplotlib.figure import Figure

    phantom = _phantom()
    number = int((phantom.labels == Label.TUMOR).sum(axis=(1, 2)).argmax())
    image_hu = phantom.volume.array[number]
    columns = 4
    rows = -(-len(methods) // columns)
    figure = Figure(figsize=(3.2 * columns, 2.4 * rows), layout="constrained")
    panels = figure.subplots(rows, columns, squeeze=False).ravel()
    low_hu = WINDOW_LEVEL_HU - WINDOW_WIDTH_HU / 2
    body = np.ix_(*(image_hu.max(axis=axis) > low_hu for axis in (1, 0)))
    for axes in panels:
        axes.set_axis_off()
    for axes, method, run in zip(panels, methods, runs, strict=False):
        axes.imshow(image_hu[body], cmap="gray", vmin=low_hu, vmax=low_hu + WINDOW_WIDTH_HU)
        for labels, color in ((phantom.labels, "lime"), (run.phantom, "red")):
            for least, style in ((Label.LIVER, "dotted"), (Label.TUMOR, "solid")):
                mask = labels[number][body] >= least
                if mask.any():
                    axes.contour(mask, [0.5], colors=color, linewidths=1, linestyles=style)
        axes.set_title(method.name, fontsize=8)
    figure.suptitle("Green: truth. Red: found. Solid: tumor. Dotted: liver.", fontsize=10)
    figure.savefig(path, dpi=100)


if __name__ == "__main__":
    main()

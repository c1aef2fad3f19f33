"""``hepar cluster``: a method of clustering on scans whose liver is given, and how well it does."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import zip_longest
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from config import InferenceSettings, TumorEngine
from inference.clustering.marker import TumorMarker
from inference.clustering.marking import Marking
from inference.clustering.silhouette import silhouette
from inference.errors import ClusteringError
from inference.measure import dice
from inference.preprocess import orient
from inference.registration import Motion, register
from inference.segment import load_segmenter
from inference.volume import Volume
from node.errors import UnusableInput
from node.inputs import read_volume
from node.progress import Progress

BoolArray = NDArray[np.bool_]

_GRID_TOLERANCE_MM = 1e-2


@dataclass(frozen=True, kw_only=True)
class ClusterPaths:
    """What the command was given."""

    scans: Sequence[Path]
    """DICOM folders or NIfTI files; the grid of the first one counts."""
    series_uids: Sequence[str] = ()
    """For the folders that hold several series, in the order of the scans."""
    liver: Path | None
    """A mask of the liver with its tumors, not 0 inside; none to ask the model."""
    truths: Sequence[Path] = ()
    """Masks of tumor, joined."""
    truth_value: int | None = None
    """The value that means tumor in them; none for all but 0."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Subject:
    """Scans and masks on one grid, slices from feet to head, as `inference.preprocess.orient`."""

    channels: tuple[NDArray[np.int16], ...]
    """(slices, rows, columns), HU."""
    liver: BoolArray
    truth: BoolArray | None
    spacing_mm: tuple[float, float, float]

    def part(self, slices: slice) -> "Subject":
        """Give some of the slices."""
        return Subject(
            channels=tuple(channel[slices] for channel in self.channels),
            liver=self.liver[slices],
            truth=None if self.truth is None else self.truth[slices],
            spacing_mm=self.spacing_mm,
        )

    @property
    def liver_slices(self) -> list[int]:
        """The numbers of the slices with liver, from 0 at the feet."""
        return [int(index) for index in np.flatnonzero(self.liver.any(axis=(1, 2)))]


@dataclass(frozen=True, kw_only=True, eq=False)
class Run:
    """What a method made of some slices."""

    slices: slice
    marking: Marking | None
    """None where they cannot be clustered, as the few voxels at the ends of a liver."""
    problem: str = ""
    """Why not."""


def read_subject(
    paths: ClusterPaths, settings: InferenceSettings, motion: Motion, progress: Progress
) -> Subject:
    """Read scans and masks, bring the scans to the grid of the first, and find the liver if asked.

    Raises
    ------
    UnusableInput
        A path holds no scan, or a mask lies on another grid.
    inference.errors.InferenceError
        The model finds no liver, or a scan cannot be registered.
    """
    progress("read", 0.0)
    pairs = list(zip_longest(paths.scans, paths.series_uids))
    if len(pairs) > len(paths.scans):
        raise UnusableInput("More --series than scans were given; name one for each scan.")
    first, *others = (read_volume(path, uid) for path, uid in pairs)
    channels = [first]
    for number, other in enumerate(others, start=1):
        progress(f"register scan {number + 1}", 0.1 + 0.3 * number / len(others))
        channels.append(register(other, first, motion))
    progress("find the liver" if paths.liver is None else "read masks", 0.4)
    liver = _find_liver(first, settings) if paths.liver is None else _read_mask(paths.liver, first)
    truth = None
    for path in paths.truths:
        mask = _read_mask(path, first, paths.truth_value)
        truth = mask if truth is None else truth | mask
    scan = orient(first)
    return Subject(
        channels=tuple(scan.order.apply(channel.array) for channel in channels),
        liver=scan.order.apply(liver),
        truth=None if truth is None else scan.order.apply(truth),
        spacing_mm=scan.spacing_mm,
    )


def _find_liver(volume: Volume, settings: InferenceSettings) -> BoolArray:
    network = settings.model_copy(update={"tumor_engine": TumorEngine.NETWORK})
    labels = load_segmenter(network).segment(volume).labels
    return np.asarray(labels.array != 0)


def _read_mask(path: Path, volume: Volume, value: int | None = None) -> BoolArray:
    mask = read_volume(path)
    if mask.shape != volume.shape:
        raise UnusableInput(
            f"{path} has {_size(mask)} voxels, the scan {_size(volume)}; a mask must lie on the "
            "grid of its scan."
        )
    if not np.allclose(mask.affine, volume.affine, atol=_GRID_TOLERANCE_MM):
        raise UnusableInput(
            f"The headers of {path} put it elsewhere than the scan; a mask must lie on the grid of "
            "its scan."
        )
    return np.asarray(mask.array != 0 if value is None else mask.array == value)


def _size(volume: Volume) -> str:
    return " x ".join(str(count) for count in volume.shape)


def choose_slices(subject: Subject, number: int | None, *, each: bool) -> list[slice]:
    """Give the slices that are clustered together: one, all, or each by itself.

    Raises
    ------
    UnusableInput
        There is no liver in them.
    """
    with_liver = subject.liver_slices
    if not with_liver:
        raise UnusableInput("The liver mask is empty; give a mask with the liver in it.")
    if number is not None:
        if number not in with_liver:
            raise UnusableInput(
                f"Slice {number} has no liver; it reaches from {with_liver[0]} to "
                f"{with_liver[-1]}, counted from 0 at the feet."
            )
        with_liver = [number]
    if each or number is not None:
        return [slice(index, index + 1) for index in with_liver]
    return [slice(0, len(subject.liver))]


def run_marker(
    marker: TumorMarker, subject: Subject, parts: Sequence[slice], progress: Progress
) -> list[Run]:
    """Cluster parts of a scan, each by itself.

    One of several parts may fail, which counts as no tumor found in it.

    Raises
    ------
    inference.errors.ClusteringError
        None of them can be clustered as asked.
    """
    runs = []
    for number, slices in enumerate(parts):
        progress("cluster", 0.5 + 0.5 * number / len(parts))
        part = subject.part(slices)
        try:
            marking = marker.mark(part.channels, part.liver, part.spacing_mm[1:])
        except ClusteringError as error:
            problem = error
            runs.append(Run(slices=slices, marking=None, problem=str(error)))
        else:
            runs.append(Run(slices=slices, marking=marking))
    if all(run.marking is None for run in runs):
        raise problem
    return runs


def build_cluster_report(
    marker: TumorMarker, subject: Subject, runs: Sequence[Run]
) -> dict[str, Any]:
    """Give what was found, and the agreement with the truth where there is one, for JSON.

    Returns
    -------
    dict[str, Any]
        ``parameters``; ``liver_ml``, ``tumor_ml``; ``agreement`` over all these slices; ``runs``,
        each with its slices, and clusters, silhouettes, agreement and seconds or its ``problem``.
    """
    slices = slice(runs[0].slices.start, runs[-1].slices.stop)
    whole = subject.part(slices)
    tumor = _join(runs, subject)[slices]
    voxel_ml = float(np.prod(subject.spacing_mm)) / 1000
    return {
        "parameters": marker.parameters,
        "channels": len(subject.channels),
        "liver_ml": np.count_nonzero(whole.liver) * voxel_ml,
        "tumor_ml": np.count_nonzero(tumor) * voxel_ml,
        "agreement": _agreement(tumor, whole),
        "runs": [_describe(run, subject.part(run.slices)) for run in runs],
    }


def draw_best(subject: Subject, runs: Sequence[Run], folder: Path) -> list[Path]:
    """Draw the run with most truth, or else with most tumor, at its best slice.

    Returns
    -------
    list of Path
        The pictures; see `inference.clustering.plots.draw_plots`.
    """
    from inference.clustering.plots import draw_plots, make_view

    def worth(run: tuple[Marking, slice]) -> tuple[int, int]:
        marking, slices = run
        truth = subject.part(slices).truth
        true = 0 if truth is None else np.count_nonzero(truth)
        return int(true), int(np.count_nonzero(marking.tumor))

    marked = [(run.marking, run.slices) for run in runs if run.marking is not None]
    marking, slices = max(marked, key=worth)
    part = subject.part(slices)
    view = make_view(marking, part.channels, part.liver, part.truth, slices.start)
    return draw_plots(view, folder)


def _join(runs: Sequence[Run], subject: Subject) -> BoolArray:
    """Put the tumors of all runs together."""
    tumor = np.zeros(subject.liver.shape, dtype=np.bool_)
    for run in runs:
        if run.marking is not None:
            tumor[run.slices] = run.marking.tumor
    return tumor


def _describe(run: Run, part: Subject) -> dict[str, Any]:
    slices, marking = [run.slices.start, run.slices.stop - 1], run.marking
    if marking is None:
        return {"slices": slices, "problem": run.problem}
    points = marking.points
    value = silhouette(points.scaled, points.weights, marking.labels)
    return {
        "slices": slices,
        "clusters": [asdict(cluster) for cluster in marking.clusters],
        "silhouette": value,
        "silhouettes": {str(count): found for count, found in marking.silhouettes.items()},
        "agreement": _agreement(marking.tumor, part),
        "distinct_values": len(points.hu),
        "timings_s": dict(marking.timings_s),
    }


def _agreement(found: BoolArray, part: Subject) -> dict[str, Any] | None:
    """Compare with the truth; sensitivity and specificity within the liver."""
    if part.truth is None:
        return None
    truth, liver = part.truth, part.liver
    overlap = float(dice(found, truth))
    healthy = liver & ~truth
    return {
        "dice": overlap,
        "iou": overlap / (2 - overlap),
        "sensitivity": _share(found & truth, truth),
        "specificity": _share(healthy & ~found, healthy),
        "true_voxels": int(np.count_nonzero(truth)),
        "found_voxels": int(np.count_nonzero(found)),
        "true_voxels_outside_liver": int(np.count_nonzero(truth & ~liver)),
    }


def _share(part: BoolArray, whole: BoolArray) -> float | None:
    total = np.count_nonzero(whole)
    return np.count_nonzero(part) / total if total else None

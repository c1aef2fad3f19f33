"""The cascade: find the liver in the whole scan, then label liver and tumor in its box."""

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from config.settings import InferenceSettings
from inference.backend import Engine, ResilientPredictor, open_cpu_engine, open_engine
from inference.candidate_filter import CandidateFilter
from inference.clustering.marker import TumorMarker, make_marker
from inference.errors import BackendError
from inference.findings import RunRecord, Segmentation
from inference.identity import sign
from inference.labels import Label
from inference.location import Location, Window3d, drop_far
from inference.manifest import (
    ModelIdentity,
    ModelPackage,
    Stage,
    find_package,
    verify_package,
)
from inference.postprocess import (
    check_size,
    clean_labels,
    clean_probabilities,
    largest_component,
    reached_window,
    remove_small,
    smooth_slices,
    to_source_labels,
)
from inference.preprocess import (
    Axes,
    Box,
    Scan,
    box_grid,
    orient,
    sample_scan,
    whole_grid,
)
from inference.sliding_window import largest_input, predict
from inference.view import apply_view
from inference.volume import Volume

logger = logging.getLogger(__name__)

ProgressCallback: TypeAlias = Callable[[str, float], None]
"""Told the name of the step and the fraction 0 to 1 of the whole segmentation."""

_STEP_SHARES = {
    "orient": (0.0, 0.02),
    "locate": (0.02, 0.2),
    "sample": (0.2, 0.25),
    "segment": (0.25, 0.83),
    "filter": (0.83, 0.85),
    "resample": (0.85, 0.95),
    "postprocess": (0.95, 1.0),
    "cluster": (1.0, 1.0),
}


@dataclass(kw_only=True)
class _Clock:
    """Seconds of each step, and the progress that is told."""

    progress: ProgressCallback | None
    timings_s: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def step(self, name: str) -> Iterator[Callable[[float], None]]:
        """Time a step; gives a function that is told the share of it that is done."""
        first, last = _STEP_SHARES[name]

        def tell(share: float) -> None:
            if self.progress is not None:
                self.progress(name, first + share * (last - first))

        started = time.perf_counter()
        tell(0.0)
        yield tell
        self.timings_s[name] = time.perf_counter() - started
        tell(1.0)


@dataclass(frozen=True, kw_only=True, eq=False)
class BoxProbabilities:
    """What the segmenter network says around the located liver, before anything is decided."""

    values: NDArray[np.float32]
    """(classes, slices, rows, columns), which sum to one over the classes."""
    image: NDArray[np.float32]
    """(slices, rows, columns), the scan, 0 to 1 over the HU window."""
    axes: Axes
    """The voxels, along the canonical axes of the scan."""
    label_values: tuple[Label, ...]
    """Meaning of the classes."""

    @property
    def spacing_mm(self) -> tuple[float, float, float]:
        """Distance of slices, rows and columns."""
        slices, rows, columns = (axis.spacing_mm for axis in self.axes)
        return slices, rows, columns


class Segmenter:
    """Labels liver and tumors; loads the networks once and stays warm.

    Parameters
    ----------
    package:
        The model.
    locator, segmenter:
        Its networks.
    candidate_filter:
        Drops false candidate lesions; none keeps them all.
    notes:
        Deviations while loading, repeated in every result.
    marker:
        Marks tumor in the liver that the networks find; none where they do it themselves.
    """

    keeps_probabilities = False
    """Whether segmentations have probabilities beside the labels."""

    def __init__(
        self,
        package: ModelPackage,
        locator: ResilientPredictor,
        segmenter: ResilientPredictor,
        candidate_filter: CandidateFilter | None = None,
        notes: tuple[str, ...] = (),
        marker: TumorMarker | None = None,
    ) -> None:
        self.package = package
        self._locator = locator
        self._segmenter = segmenter
        self._candidate_filter = candidate_filter
        self._notes = notes
        self._marker = marker

    @property
    def identity(self) -> ModelIdentity:
        """The papers of the model, and of what else marks tumor."""
        is_filtered = self._candidate_filter is not None
        return sign(self.package, self._marker, is_filtered=is_filtered)

    @property
    def device(self) -> str:
        """Where the networks are computed."""
        return self._segmenter.engine.device

    @property
    def backend(self) -> str:
        """The software that computes them."""
        return self._segmenter.engine.backend

    @property
    def precision(self) -> str:
        """Its arithmetic."""
        return self._segmenter.engine.precision

    def warm_up(self) -> None:
        """Compute nothing with each network, so that the first scan finds them prepared.

        Engines choose algorithms, compile kernels and take memory when they are first called.

        Raises
        ------
        BackendError
            The networks cannot be computed, not on the CPU either.
        """
        manifest = self.package.manifest
        for stage, network in (
            (manifest.locator, self._locator),
            (manifest.segmenter, self._segmenter),
        ):
            network(np.zeros(largest_input(stage), dtype=np.float32))

    def segment(self, volume: Volume, progress: ProgressCallback | None = None) -> Segmentation:
        """Label a scan.

        Parameters
        ----------
        volume:
            (slices, rows, columns) int16 HU, in any orientation.
        progress:
            Told how far it is.

        Returns
        -------
        Segmentation
            Labels on the grid of the scan.

        Raises
        ------
        LiverNotFound
            The model found no liver.
        BackendError
            The networks cannot be computed, not on the CPU either.
        ClusteringError
            The CT numbers of the liver cannot be clustered as the settings ask.
        """
        clock = _Clock(progress=progress)
        with clock.step("orient"):
            scan = orient(volume)
        with clock.step("locate") as tell:
            location = self._locate(scan, tell)
        labels, probabilities = self._label_box(scan, location, clock)
        notes = self._mark_tumor(scan, labels, clock)

        def place(array: NDArray[np.uint8]) -> Volume:
            return volume.with_array(np.ascontiguousarray(scan.order.undo(array)))

        return Segmentation(
            labels=place(labels),
            probabilities=probabilities and {k: place(v) for k, v in probabilities.items()},
            model=self.identity,
            run=RunRecord(
                device=self.device,
                backend=self.backend,
                precision=self.precision,
                timings_s=clock.timings_s,
                notes=(*self._take_notes(), *notes),
            ),
        )

    def locate(self, volume: Volume) -> Box:
        """Find the box around the liver, with its margin.

        Returns
        -------
        Box
            First and last position along slices, rows and columns in canonical order, in mm from
            the center of the first voxel; it may reach beyond the scan.

        Raises
        ------
        LiverNotFound
            The model found no liver.
        """
        location = self._locate(orient(volume), lambda _share: None)
        return location.box(self.package.manifest.postprocessing.box_margin_mm)

    def probabilities(self, volume: Volume) -> BoxProbabilities:
        """Compute the probabilities from which `segment` decides, to judge them.

        Parameters
        ----------
        volume:
            (slices, rows, columns) int16 HU, in any orientation.

        Raises
        ------
        LiverNotFound
            The model found no liver.
        BackendError
            The networks cannot be computed, not on the CPU either.
        """
        scan = orient(volume)
        axes = self._box_axes(scan, self._locate(scan, lambda _share: None))
        return self._predict_box(scan, axes, _Clock(progress=None))

    def _locate(self, scan: Scan, tell: Callable[[float], None]) -> Location:
        """Find the liver on the coarse grid."""
        manifest = self.package.manifest
        stage = manifest.locator
        axes = whole_grid(scan, stage)
        image = apply_view(sample_scan(scan, axes, manifest.window), manifest.window, stage.view)
        probabilities = predict(image, axes[0].spacing_mm, stage, self._locator, tell)
        liver = largest_component(probabilities[0] < 0.5)
        voxel_mm3 = float(np.prod([axis.spacing_mm for axis in axes]))
        check_size(int(liver.sum()), voxel_mm3, manifest.postprocessing)
        return Location(liver=liver, axes=axes)

    def _label_box(
        self, scan: Scan, location: Location, clock: _Clock
    ) -> tuple[NDArray[np.uint8], dict[Label, NDArray[np.uint8]] | None]:
        """Label liver and tumor around the located liver; canonical order, whole scan."""
        rules = self.package.manifest.postprocessing
        axes = self._box_axes(scan, location)
        window = reached_window(axes, scan.axes)
        kept = self._empty_probabilities(window)
        labels = self._raw_labels(scan, axes, clock, kept)
        with clock.step("postprocess"):
            raw = labels.copy() if kept is not None else labels
            drop_far(labels, window, scan.axes, location, rules.max_outside_mm)
            result = np.zeros(scan.array.shape, dtype=np.uint8)
            voxel_mm3 = float(np.prod(scan.spacing_mm))
            result[window] = clean_labels(labels, voxel_mm3, rules)
            if kept is None:
                return result, None
            clean_probabilities(kept, raw, result[window])
            return result, self._place_probabilities(kept, window, scan)

    def _empty_probabilities(self, window: Window3d) -> NDArray[np.uint8] | None:
        if not self.keeps_probabilities:
            return None
        return np.zeros((2, *(part.stop - part.start for part in window)), np.uint8)

    def _place_probabilities(
        self, kept: NDArray[np.uint8], window: Window3d, scan: Scan
    ) -> dict[Label, NDArray[np.uint8]]:
        placed = {}
        for label, values in zip((Label.LIVER, Label.TUMOR), kept, strict=True):
            placed[label] = np.zeros(scan.array.shape, np.uint8)
            placed[label][window] = values
        return placed

    def _mark_tumor(self, scan: Scan, labels: NDArray[np.uint8], clock: _Clock) -> tuple[str, ...]:
        """Replace, in place, the tumor of the networks by that of another method, if there is one.

        Returns
        -------
        tuple of str
            What that method found.
        """
        if self._marker is None:
            return ()
        liver = labels != Label.BACKGROUND
        voxel_mm3 = float(np.prod(scan.spacing_mm))
        min_voxels = self.package.manifest.postprocessing.min_tumor_mm3 / voxel_mm3
        with clock.step("cluster"):
            marking = self._marker.mark([scan.array], liver, scan.spacing_mm[1:])
            labels[liver] = Label.LIVER
            labels[remove_small(marking.tumor, min_voxels)] = Label.TUMOR
        return tuple(cluster.sentence for cluster in marking.clusters)

    def _raw_labels(
        self, scan: Scan, axes: Axes, clock: _Clock, kept: NDArray[np.uint8] | None
    ) -> NDArray[np.uint8]:
        """Label the source voxels that some voxels of the segmenter reach."""
        box = self._predict_box(scan, axes, clock)
        with clock.step("resample"):
            return to_source_labels(box.values, axes, scan.axes, box.label_values, kept)

    def _box_axes(self, scan: Scan, location: Location) -> Axes:
        """Give the voxels of the segmenter around the located liver."""
        manifest = self.package.manifest
        box = location.box(manifest.postprocessing.box_margin_mm)
        return box_grid(scan, manifest.segmenter, box)

    def _predict_box(self, scan: Scan, axes: Axes, clock: _Clock) -> BoxProbabilities:
        """Compute the class probabilities on the voxels of the segmenter, and filter them."""
        manifest = self.package.manifest
        stage = manifest.segmenter
        with clock.step("sample"):
            image = sample_scan(scan, axes, manifest.window)
            shown = apply_view(image, manifest.window, stage.view)
        with clock.step("segment") as tell:
            values = predict(shown, axes[0].spacing_mm, stage, self._segmenter, tell)
            smooth_slices(values, manifest.postprocessing.smooth_slices_mm / axes[0].spacing_mm)
        box = BoxProbabilities(
            values=values, image=image, axes=axes, label_values=stage.label_values
        )
        if self._candidate_filter is not None:
            with clock.step("filter"):
                self._candidate_filter.apply(values, box.label_values, image, box.spacing_mm)
        return box

    def _take_notes(self) -> tuple[str, ...]:
        locator = (f"locator: {note}" for note in self._locator.take_notes())
        segmenter = (f"segmenter: {note}" for note in self._segmenter.take_notes())
        return (*self._notes, *locator, *segmenter)


def load_segmenter(settings: InferenceSettings, *, keeps_probabilities: bool = False) -> Segmenter:
    """Check and load a model package, and the method that marks tumor where it is another.

    Where the device is left open and the GPU turns out not to work, the CPU is used, and every
    result says so.

    Parameters
    ----------
    settings
        Which model, and where it runs.
    keeps_probabilities
        As of `Segmenter`.

    Raises
    ------
    ModelPackageError
        The package is missing, damaged, or not the one that its manifest describes.
    BackendError
        What the settings ask for is not there.
    ClusteringError
        The settings of the method that marks tumor cannot be used.
    """
    package = find_package(settings.model)
    verify_package(package)
    segmenter = _load_somewhere(package, settings)
    segmenter.keeps_probabilities = keeps_probabilities
    return segmenter


def _load_somewhere(package: ModelPackage, settings: InferenceSettings) -> Segmenter:
    engine = open_engine(settings)
    try:
        return _load(package, engine, settings)
    except BackendError as error:
        if settings.device != "auto" or engine.device == "cpu":
            raise
        logger.warning("the GPU cannot be used: %s", error)
    return _load(package, open_cpu_engine(settings), settings, ("the GPU cannot be used",))


def _load(
    package: ModelPackage,
    engine: Engine,
    settings: InferenceSettings,
    notes: tuple[str, ...] = (),
) -> Segmenter:
    return Segmenter(
        package,
        _load_stage(package, package.manifest.locator, engine, settings),
        _load_stage(package, package.manifest.segmenter, engine, settings),
        _load_filter(package) if settings.candidate_filter else None,
        notes,
        make_marker(settings),
    )


def _load_filter(package: ModelPackage) -> CandidateFilter | None:
    stage = package.manifest.candidates
    return None if stage is None else CandidateFilter(stage, package.folder / stage.file)


def _load_stage(
    package: ModelPackage, stage: Stage, engine: Engine, settings: InferenceSettings
) -> ResilientPredictor:
    fallback = partial(open_cpu_engine, settings) if engine.device != "cpu" else None
    return ResilientPredictor(package.folder / stage.file, engine, fallback)

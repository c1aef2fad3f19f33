import math
from collections.abc import Callable
from itertools import permutations, product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from config.settings import InferenceSettings, TumorEngine
from inference.clustering.marker import TumorMarker
from inference.errors import LiverNotFound
from inference.identity import identify
from inference.labels import Label
from inference.measure import dice
from inference.postprocess import remove_small
from inference.segment import Segmenter, load_segmenter
from inference.volume import Volume

MakeSegmenter = Callable[..., Segmenter]

LIVER_HU, TUMOR_HU, AIR_HU = 100, 200, -1000


def truth_at(
    shape: tuple[int, int, int], spacing_mm: tuple[float, float, float]
) -> NDArray[np.uint8]:
    """Give a liver without any symmetry: a block, a smaller block on one side, one tumor."""
    z, y, x = np.meshgrid(
        *(np.arange(size) * mm for size, mm in zip(shape, spacing_mm, strict=True)), indexing="ij"
    )
    labels = np.zeros(shape, dtype=np.uint8)
    labels[(z > 10) & (z < 40) & (y > 15) & (y < 50) & (x > 12) & (x < 45)] = Label.LIVER
    labels[(z > 20) & (z < 40) & (y > 15) & (y < 30) & (x > 40) & (x < 60)] = Label.LIVER
    labels[(z - 30) ** 2 + (y - 25) ** 2 + (x - 22) ** 2 < 7**2] = Label.TUMOR
    return labels


def scan_of(
    labels: NDArray[np.uint8],
    spacing_mm: tuple[float, float, float],
    turn: NDArray[np.float64] | None = None,
) -> Volume:
    affine = np.zeros((4, 4))
    affine[2, 0], affine[1, 1], affine[0, 2] = spacing_mm
    affine[:, 3] = (-31.5, 12.25, -801.0, 1.0)
    if turn is not None:
        affine[:3, :3] = turn @ affine[:3, :3]
    array = np.array([AIR_HU, LIVER_HU, TUMOR_HU], dtype=np.int16)[labels]
    return Volume(
        array=array,
        affine=affine,
        coordinate_system="PATIENT",
        frame_of_reference_uid="2.25.1",
    )


ORIENTATIONS = list(product(permutations(range(3)), product((False, True), repeat=3)))
SPACING_MM = (2.5, 1.3, 1.1)
SHAPE = (20, 48, 64)


@pytest.fixture
def segmenter(make_threshold_segmenter: MakeSegmenter) -> Segmenter:
    return make_threshold_segmenter()


@pytest.mark.parametrize(("permutation", "flips"), ORIENTATIONS)
def test_labels_come_back_on_the_right_voxels_in_every_orientation(
    segmenter: Segmenter,
    permutation: tuple[int, int, int],
    flips: tuple[bool, bool, bool],
) -> None:
    """The same patient in another stack gives the same labels at the same places, bit for bit."""
    truth = truth_at(SHAPE, SPACING_MM)
    axes = [axis for axis in range(3) if flips[axis]]
    volume = scan_of(truth, SPACING_MM).permute_spatial_axes(permutation).flip_spatial(axes)
    expected = np.flip(truth.transpose(permutation), axes)
    labels = segmenter.segment(volume).labels
    assert labels.array.dtype == np.uint8
    assert labels.array.shape == volume.array.shape
    assert np.array_equal(labels.affine, volume.affine)
    assert labels.frame_of_reference_uid == "2.25.1"
    assert dice(labels.array > 0, expected > 0) > 0.97
    assert dice(labels.array == Label.TUMOR, expected == Label.TUMOR) > 0.9
    straight = segmenter.segment(scan_of(truth, SPACING_MM)).labels.array
    assert np.array_equal(labels.array, np.flip(straight.transpose(permutation), axes))


@pytest.mark.parametrize(
    "spacing_mm",
    [
        (0.6, 0.55, 0.55),
        (0.8, 0.977, 0.977),
        (1.25, 0.7, 0.7),
        (1.6, 0.57, 0.57),
        (3.0, 0.9, 0.6),
        (5.0, 0.68, 0.68),
        (7.5, 1.2, 1.2),
        (0.75, 4.0, 0.75),
    ],
)
def test_odd_spacings(segmenter: Segmenter, spacing_mm: tuple[float, float, float]) -> None:
    slices, rows, columns = (math.ceil(70 / mm) for mm in spacing_mm)
    truth = truth_at((slices, rows, columns), spacing_mm)
    labels = segmenter.segment(scan_of(truth, spacing_mm)).labels.array
    assert dice(labels > 0, truth > 0) > 0.96
    assert dice(labels == Label.TUMOR, truth == Label.TUMOR) > 0.85
    for value in (Label.LIVER, Label.TUMOR):
        found, expected = (
            np.argwhere(array == value).mean(axis=0) * spacing_mm for array in (labels, truth)
        )
        assert np.abs(found - expected).max() < 0.5


def test_a_2d_network_is_shown_its_gray_curves(
    make_threshold_segmenter: MakeSegmenter, package_folder: Path
) -> None:
    """The threshold looks at the channel in the middle, which is the only useful one of three."""
    truth = truth_at(SHAPE, SPACING_MM)
    expected = make_threshold_segmenter().segment(scan_of(truth, SPACING_MM)).labels.array
    path = package_folder / "manifest.toml"
    wide, narrow = "{ breaks_hu = [-160.0, 240.0] }", "{ breaks_hu = [239.0, 240.0] }"
    flat = f"context_slices = 1\nview.curves = [{narrow}, {wide}, {narrow}]"
    path.write_text(path.read_text("utf-8").replace("context_slices = 5", flat), "utf-8")
    found = make_threshold_segmenter().segment(scan_of(truth, SPACING_MM)).labels.array
    assert np.array_equal(found, expected)


def test_kept_probabilities_lie_where_the_labels_lie(segmenter: Segmenter) -> None:
    """In a turned stack, so that the way back through the canonical order is seen."""
    truth = truth_at(SHAPE, SPACING_MM)
    volume = scan_of(truth, SPACING_MM).permute_spatial_axes((2, 0, 1)).flip_spatial([0, 2])
    plain = segmenter.segment(volume)
    segmenter.keeps_probabilities = True
    found = segmenter.segment(volume)
    assert plain.probabilities is None
    assert np.array_equal(found.labels.array, plain.labels.array)
    assert found.probabilities is not None
    assert set(found.probabilities) == {Label.LIVER, Label.TUMOR}
    liver, tumor = (found.probabilities[label] for label in (Label.LIVER, Label.TUMOR))
    for probability in (liver, tumor):
        assert np.array_equal(probability.affine, volume.affine)
        assert probability.array.shape == volume.array.shape
    organ = liver.array.astype(int) + tumor.array > 127
    decided = np.where(tumor.array > liver.array, Label.TUMOR, Label.LIVER) * organ
    differing = np.count_nonzero(decided != found.labels.array)
    assert differing < 0.001 * np.count_nonzero(organ), "but for rounding and clean-up"


def test_probabilities_are_those_that_the_labels_come_from(segmenter: Segmenter) -> None:
    truth = truth_at(SHAPE, SPACING_MM)
    volume = scan_of(truth, SPACING_MM)
    found = segmenter.probabilities(volume)
    assert found.values.shape == (3, *(axis.size for axis in found.axes))
    assert found.label_values == (Label.BACKGROUND, Label.LIVER, Label.TUMOR)
    assert np.allclose(found.values.sum(axis=0), 1, atol=1e-5)
    voxel_ml = math.prod(axis.spacing_mm for axis in found.axes) / 1000
    labels = segmenter.segment(volume).labels
    for index in (1, 2):
        sampled_ml = float(found.values[index].sum()) * voxel_ml
        labeled_ml = (labels.array == index).sum() * volume.voxel_volume / 1000
        assert sampled_ml == pytest.approx(labeled_ml, rel=0.05)


def test_there_are_no_probabilities_without_a_liver(segmenter: Segmenter) -> None:
    with pytest.raises(LiverNotFound):
        segmenter.probabilities(scan_of(np.zeros(SHAPE, np.uint8), SPACING_MM))


@pytest.mark.parametrize("degrees", [-30, 12, 40])
def test_an_oblique_stack_is_segmented_on_its_own_grid(
    segmenter: Segmenter, degrees: float
) -> None:
    truth = truth_at(SHAPE, SPACING_MM)
    cosine, sine = np.cos(np.deg2rad(degrees)), np.sin(np.deg2rad(degrees))
    turn = np.array([[1, 0, 0], [0, cosine, -sine], [0, sine, cosine]])
    labels = segmenter.segment(scan_of(truth, SPACING_MM, turn)).labels
    straight = segmenter.segment(scan_of(truth, SPACING_MM)).labels
    assert np.array_equal(labels.array, straight.array)


def test_a_liver_larger_than_a_tile(segmenter: Segmenter) -> None:
    """The tile of this package is 96 px; the liver spans 200 mm."""
    truth = np.zeros((12, 230, 220), dtype=np.uint8)
    truth[2:10, 10:210, 15:200] = Label.LIVER
    truth[4:8, 90:110, 80:120] = Label.TUMOR
    labels = segmenter.segment(scan_of(truth, (3.0, 1.0, 1.0))).labels.array
    assert dice(labels == Label.LIVER, truth == Label.LIVER) > 0.98
    assert dice(labels == Label.TUMOR, truth == Label.TUMOR) > 0.9


def test_a_liver_that_the_scan_cuts_off(segmenter: Segmenter) -> None:
    truth = np.full((15, 40, 40), Label.LIVER, dtype=np.uint8)
    labels = segmenter.segment(scan_of(truth, (2.0, 1.0, 1.0))).labels.array
    assert np.array_equal(labels, truth)


def test_no_liver(segmenter: Segmenter) -> None:
    empty = np.zeros((20, 40, 40), dtype=np.uint8)
    with pytest.raises(LiverNotFound, match="is the liver in the scan"):
        segmenter.segment(scan_of(empty, (2.0, 1.0, 1.0)))


def test_the_record_tells_where_how_and_how_long(segmenter: Segmenter) -> None:
    told: list[tuple[str, float]] = []
    scan = scan_of(truth_at(SHAPE, SPACING_MM), SPACING_MM)

    def progress(*news: Any) -> None:
        told.append(news)

    result = segmenter.segment(scan, progress)
    assert result.model == segmenter.identity
    assert (result.run.backend, result.run.device, result.run.precision) == (
        "thresholds",
        "cpu",
        "fp32",
    )
    steps = ["orient", "locate", "sample", "segment", "resample", "postprocess"]
    assert list(result.run.timings_s) == steps
    assert result.run.notes == ()
    fractions = [fraction for _step, fraction in told]
    assert fractions == sorted(fractions)
    assert (fractions[0], fractions[-1]) == (0.0, 1.0)


def test_warming_up_gives_each_network_the_largest_batch_that_it_will_see(
    make_threshold_segmenter: MakeSegmenter, threshold_engine: Any
) -> None:
    make_threshold_segmenter(threshold_engine).warm_up()
    assert threshold_engine.shapes == [(4, 3, 384, 384), (4, 5, 96, 96)]


def test_the_input_is_left_as_it_was(segmenter: Segmenter) -> None:
    scan = scan_of(truth_at(SHAPE, SPACING_MM), SPACING_MM)
    before = scan.array.copy()
    segmenter.segment(scan)
    assert np.array_equal(scan.array, before)


def test_another_method_marks_tumor_in_the_liver_of_the_networks(
    make_threshold_segmenter: MakeSegmenter,
) -> None:
    """In a stack that lies otherwise than the slices in which the method cleans up."""
    settings = InferenceSettings.model_validate(
        {
            "tumor_engine": "kmeans",
            "clustering": {"tumor_cluster": "brightest", "erosion": "none", "dilation": "none"},
        }
    )
    networks = make_threshold_segmenter()
    segmenter = make_threshold_segmenter(marker=TumorMarker(settings=settings))
    truth = truth_at(SHAPE, SPACING_MM)
    noise = np.random.default_rng(1).normal(0, 9, SHAPE)
    straight = scan_of(truth, SPACING_MM)
    straight = straight.with_array((straight.array + noise).astype(np.int16))
    straight.array[8, 30, 30] = 200  # too small to count as tumor
    volume = straight.permute_spatial_axes((2, 0, 1)).flip_spatial([0])
    alone, both = networks.segment(volume), segmenter.segment(volume)
    assert np.array_equal(both.labels.array > 0, alone.labels.array > 0)
    bright = (volume.array > 150) & (alone.labels.array > 0)
    assert remove_small(bright, 30.0 / volume.voxel_volume).sum() < bright.sum()
    bright = remove_small(bright, 30.0 / volume.voxel_volume)
    assert np.array_equal(both.labels.array == Label.TUMOR, bright)
    assert list(both.run.timings_s)[-1] == "cluster"
    assert both.run.notes[-1].endswith("HU, taken for tumor")
    assert alone.model == networks.identity == networks.package.identity
    assert both.model == segmenter.identity
    assert both.model.name == "test-model+kmeans"
    assert both.model.digest != alone.model.digest
    assert both.model.parameters["tumor_cluster"] == "brightest"


def test_who_queues_a_job_names_the_same_model_as_who_works_on_it() -> None:
    for engine in TumorEngine:
        settings = InferenceSettings(tumor_engine=engine, device="cpu")
        assert identify(settings) == load_segmenter(settings).identity

import numpy as np
import pytest
from numpy.typing import NDArray

from inference.errors import LiverNotFound
from inference.labels import Label
from inference.manifest import Postprocessing
from inference.postprocess import (
    clean_labels,
    clean_probabilities,
    fill_holes,
    reached_window,
    smooth_slices,
    to_source_labels,
)
from inference.preprocess import Axes
from inference.resample import AxisGrid

RULES = Postprocessing(box_margin_mm=10.0, max_outside_mm=8.0, min_liver_ml=0.1, min_tumor_mm3=8.0)
LIVER = np.s_[2:10, 2:10, 2:10]


def liver() -> NDArray[np.uint8]:
    labels = np.zeros((14, 14, 14), dtype=np.uint8)
    labels[LIVER] = Label.LIVER
    return labels


def with_value(where: tuple[slice, ...], value: Label) -> NDArray[np.uint8]:
    labels = liver()
    labels[where] = value
    return labels


CASES = {
    "a clean liver stays": (liver(), liver()),
    "a hole in the liver becomes liver": (
        with_value(np.s_[4:6, 4:6, 4:6], Label.BACKGROUND),
        liver(),
    ),
    "a notch at the surface stays": (
        with_value(np.s_[2:4, 2:4, 2:4], Label.BACKGROUND),
        with_value(np.s_[2:4, 2:4, 2:4], Label.BACKGROUND),
    ),
    "a smaller piece of liver elsewhere goes": (
        with_value(np.s_[12:14, 12:14, 12:14], Label.LIVER),
        liver(),
    ),
    "a tumor elsewhere goes": (with_value(np.s_[11:14, 11:14, 11:14], Label.TUMOR), liver()),
    "a tumor in the liver stays": (
        with_value(np.s_[4:7, 4:7, 4:7], Label.TUMOR),
        with_value(np.s_[4:7, 4:7, 4:7], Label.TUMOR),
    ),
    "a tumor that touches the liver stays": (
        with_value(np.s_[10:13, 4:7, 4:7], Label.TUMOR),
        with_value(np.s_[10:13, 4:7, 4:7], Label.TUMOR),
    ),
    "a crumb of tumor becomes liver": (with_value(np.s_[4, 4, 4:6], Label.TUMOR), liver()),
    "a tumor of just the least size stays": (
        with_value(np.s_[4:6, 4:6, 4:6], Label.TUMOR),
        with_value(np.s_[4:6, 4:6, 4:6], Label.TUMOR),
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_clean_labels(name: str) -> None:
    labels, expected = CASES[name]
    assert np.array_equal(clean_labels(labels, 1.0, RULES), expected)


@pytest.mark.parametrize("labels", [np.zeros((4, 4, 4), np.uint8), np.ones((4, 4, 4), np.uint8)])
def test_too_little_liver_is_no_liver(labels: NDArray[np.uint8]) -> None:
    with pytest.raises(LiverNotFound, match="less than the"):
        clean_labels(labels, 1.0, RULES)


def test_fill_holes_reaches_the_edges_of_the_array() -> None:
    mask = np.ones((3, 3, 3), dtype=bool)
    mask[1, 1, 1] = False
    assert fill_holes(mask).all()


def test_labels_are_decided_on_the_source_grid() -> None:
    """Organ by the sum of liver and tumor, then the likelier of the two."""
    axis = AxisGrid(start_mm=0.0, spacing_mm=1.0, size=4)
    line = AxisGrid(start_mm=0.0, spacing_mm=1.0, size=1)
    axes: Axes = (line, line, axis)
    probabilities = np.array(
        [[0.9, 0.45, 0.45, 0.1], [0.05, 0.3, 0.25, 0.2], [0.05, 0.25, 0.3, 0.7]], dtype=np.float32
    ).reshape(3, 1, 1, 4)
    values = (Label.BACKGROUND, Label.LIVER, Label.TUMOR)
    kept = np.zeros((2, 1, 1, 4), np.uint8)
    assert to_source_labels(probabilities, axes, axes, values).ravel().tolist() == [0, 1, 2, 2]
    to_source_labels(probabilities, axes, axes, values, kept)
    assert kept.reshape(2, 4).tolist() == [[13, 76, 64, 51], [13, 64, 76, 178]]


def test_probabilities_of_what_was_dropped_are_dropped() -> None:
    kept = np.array([[200, 20, 0, 250], [40, 230, 90, 5]], np.uint8).reshape(2, 1, 1, 4)
    raw = np.array([Label.LIVER, Label.TUMOR, Label.BACKGROUND, Label.LIVER], np.uint8)
    labels = np.array([Label.LIVER, Label.LIVER, Label.LIVER, Label.BACKGROUND], np.uint8)
    clean_probabilities(kept, raw.reshape(1, 1, 4), labels.reshape(1, 1, 4))
    assert kept.reshape(2, 4).tolist() == [[200, 250, 0, 0], [40, 0, 90, 0]]


def test_reached_window_leaves_out_what_lies_beyond() -> None:
    source: Axes = (
        AxisGrid(start_mm=0.0, spacing_mm=2.0, size=10),
        AxisGrid(start_mm=0.0, spacing_mm=0.7, size=10),
        AxisGrid(start_mm=0.0, spacing_mm=1.0, size=10),
    )
    stage: Axes = (
        AxisGrid(start_mm=4.0, spacing_mm=2.0, size=3),
        AxisGrid(start_mm=-9.0, spacing_mm=1.0, size=32),
        AxisGrid(start_mm=1.5, spacing_mm=1.0, size=4),
    )
    assert reached_window(stage, source) == (slice(2, 5), slice(0, 10), slice(2, 5))


def test_probabilities_are_smoothed_along_the_slices_only() -> None:
    probabilities = np.zeros((2, 9, 4, 5), dtype=np.float32)
    probabilities[0] = 1
    probabilities[:, 4, 1, 2] = (0, 1)
    untouched = probabilities.copy()
    smooth_slices(untouched, 0.0)
    assert np.array_equal(untouched, probabilities)
    smooth_slices(probabilities, 1.0)
    assert np.allclose(probabilities.sum(axis=0), 1)
    line = probabilities[1, :, 1, 2]
    assert line[4] == pytest.approx(0.4, abs=0.01)
    assert line[3] == line[5] == pytest.approx(0.24, abs=0.01)
    assert line.sum() == pytest.approx(1, abs=0.01)
    assert np.count_nonzero(probabilities[1]) == np.count_nonzero(line)
    smooth_slices(ends := untouched[:, :1], 2.0)
    assert np.array_equal(ends, untouched[:, :1])

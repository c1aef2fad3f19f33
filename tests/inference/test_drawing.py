"""Outlines lie where the masks are, to half a pixel."""

import numpy as np
import pytest
from scipy import ndimage

from inference.drawing import LIVER, TUMOR, Page, draw_outlines, outline, text_width, wrap
from inference.labels import Label


def border_midpoints(mask):
    """Midpoints of the sides of pixels between inside and outside."""
    padded = np.pad(mask, 1)
    below = np.argwhere(padded[1:] != padded[:-1]) + np.array([0.5, 0.0])
    beside = np.argwhere(padded[:, 1:] != padded[:, :-1]) + np.array([0.0, 0.5])
    return below - 1, beside - 1


def distances_to_border(points, mask):
    """Distance of points to the nearest side: a segment that runs along one of the axes."""
    below, beside = border_midpoints(mask)
    ends = np.full((len(below) + len(beside), 2), 0.0)
    ends[: len(below), 1] = 0.5
    ends[len(below) :, 0] = 0.5
    apart = np.abs(points[:, None] - np.concatenate([below, beside])) - ends
    return np.linalg.norm(np.maximum(apart, 0), axis=2).min(axis=1)


def blob(seed, sigma):
    noise = np.random.default_rng(seed).normal(size=(40, 53))
    return ndimage.gaussian_filter(noise, sigma) > 0.1 / sigma


MASKS = {
    "pixel": np.eye(1, 12, 5, dtype=bool).repeat(1, 0),
    "line": np.pad(np.ones((1, 9), bool), 3),
    "box at the edge": np.pad(np.ones((7, 9), bool), ((0, 4), (5, 0))),
    "full": np.ones((5, 6), bool),
    "smooth": blob(1, 4),
    "rough": blob(2, 0.8),
    "noise": blob(3, 0.3),
}


@pytest.mark.parametrize("name", MASKS)
def test_outlines_lie_on_the_border_to_half_a_pixel(name):
    mask = MASKS[name]
    lines = outline(mask)
    points = np.concatenate(lines)
    assert distances_to_border(points, mask).max() <= 0.5
    for line in lines:
        assert np.array_equal(line[0], line[-1])
    dense = np.concatenate([np.linspace(line[:-1], line[1:], 5).reshape(-1, 2) for line in lines])
    midpoints = np.concatenate(border_midpoints(mask))
    nearest = np.linalg.norm(midpoints[:, None] - dense, axis=2).min(axis=1)
    assert nearest.max() <= 0.5


def test_an_empty_mask_has_no_outline():
    assert outline(np.zeros((4, 5), bool)) == []


@pytest.mark.parametrize("scale", [1, 3])
def test_lines_are_drawn_where_they_lie(scale):
    labels = np.zeros((40, 50), np.uint8)
    labels[10:30, 13:44] = Label.LIVER
    page = Page.of(np.zeros((40 * scale, 50 * scale), np.uint8))
    draw_outlines(page, labels, (0, 0, 50 * scale, 40 * scale), 1.0)
    green = page.picture[..., 1].astype(float)
    middle = green[20 * scale : 21 * scale].mean(axis=0)
    places = np.arange(50 * scale) + 0.5
    left, right = np.split(middle, 2)
    assert np.average(places[: left.size], weights=left) == pytest.approx(13 * scale, abs=0.25)
    assert np.average(places[left.size :], weights=right) == pytest.approx(44 * scale, abs=0.25)
    down = green[:, 28 * scale : 29 * scale].mean(axis=1)[: 20 * scale]
    assert np.average(places[: down.size], weights=down) == pytest.approx(10 * scale, abs=0.25)


def test_outlines_change_nothing_else():
    gray = np.random.default_rng(1).integers(0, 255, (40, 50), np.uint8)
    labels = np.zeros(gray.shape, np.uint8)
    labels[10:30, 13:44] = Label.LIVER
    labels[15:20, 20:25] = Label.TUMOR
    page = Page.of(gray)
    draw_outlines(page, labels, (0, 0, 50, 40), 1.0)
    changed = (page.picture != gray[..., None]).any(axis=2)
    for mask, color in ((labels > 0, LIVER), (labels == Label.TUMOR, TUMOR)):
        assert (np.abs(page.picture.astype(int) - color).max(axis=2) < 130).any()
        changed &= ~(ndimage.binary_dilation(mask) & ~ndimage.binary_erosion(mask))
    assert not changed.any()


def test_wrapped_lines_fit_and_lose_nothing():
    text = "The scan ends inside the liver: 45 cm2 are cut. " * 3
    lines = wrap(text, 20, 300)
    assert " ".join(lines) == text.strip()
    assert all(text_width(line, 20) <= 300 for line in lines)
    assert wrap("", 20, 300) == []

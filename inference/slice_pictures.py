"""Slices of a scan with contours, on the pixels of the scan: what lies where stays true."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from inference.drawing import (
    LEGEND,
    NOTICE,
    TEXT,
    WARNING,
    Page,
    Picture,
    diameters_in,
    draw_numbers,
    draw_outlines,
    text_width,
)
from inference.findings import Findings
from inference.labels import Label
from inference.preview_planes import SKIN_HU, apply_window
from inference.volume import Volume

_SIZE_SHARE = 1 / 36
"""Of the font, in the number of rows or columns."""
_SIZE_LIMITS = (9, 32)
_SHORT_NOTICE = ("AI result,", "not reviewed")
_LINE_SHARE = 1 / 350
_MARGIN_PX = 2

BoolArray = NDArray[np.bool_]
Area = tuple[slice, slice]


def choose_slices(
    labels: Volume, findings: Findings, step_mm: float, max_lesions: int
) -> tuple[int, ...]:
    """Choose slices of the source grid that show a result.

    Those in which the diameters of the largest lesions were measured, and of the others with liver
    or lesion as many as stay that far from all that are chosen before.

    Parameters
    ----------
    labels
        Array (slices, rows, columns) with the values of `inference.labels.Label`.
    findings
        The measurements of those labels.
    step_mm
        Least distance of the others; 0 takes every slice with liver or lesion.
    max_lesions
        How many lesions are sure to be shown at their largest.

    Returns
    -------
    tuple of int
        In the order of reading: from head to feet, from anterior to posterior or from the right to
        the left of the patient, whichever is nearest.
    """
    chosen = {lesion.long_axis.slice_index for lesion in findings.lesions[:max_lesions]}
    step = step_mm / float(labels.spacing_between_slices) - 1e-6
    for index in np.flatnonzero((labels.array != Label.BACKGROUND).any(axis=(1, 2))).tolist():
        if all(abs(index - other) >= step for other in chosen):
            chosen.add(index)
    return tuple(sorted(chosen, reverse=_runs_against_reading(labels)))


def _runs_against_reading(volume: Volume) -> bool:
    normal = np.asarray(volume.affine)[:3, 0]
    axis = int(np.abs(normal).argmax())
    return bool((normal[axis] > 0) == (axis == 2))


def draw_slices(
    volume: Volume,
    labels: Volume,
    findings: Findings,
    slices: Sequence[int],
    names: Sequence[str],
) -> Iterator[Picture]:
    """Draw slices with contours, lesion numbers, diameters, legend and notice.

    Legend and notice stand where they cover no liver in any of the slices, and as little of the
    body as may be; where there is no room, the legend is left out and the notice stays.

    Parameters
    ----------
    volume
        (slices, rows, columns) HU, in any orientation.
    labels
        The same grid, values of `inference.labels.Label`.
    findings
        The measurements of those labels.
    slices
        Which slices to draw.
    names
        What each slice of the volume is called.
    """
    layout = _Layout.arrange(volume, labels, slices, names)
    for index in slices:
        yield _draw_slice(volume, labels, findings, index, layout).picture


@dataclass(frozen=True, kw_only=True)
class _Lettering:
    """Letters that look alike on all grids: as large as pixels allow, in proportion in mm."""

    size: int
    stretch: tuple[float, float]

    @classmethod
    def of(cls, volume: Volume) -> "_Lettering":
        _, rows, columns = volume.shape
        _, row_mm, column_mm = (float(distance) for distance in volume.spacing)
        stretch = max(1.0, row_mm / column_mm), max(1.0, column_mm / row_mm)
        side = min(columns / stretch[0], rows / stretch[1])
        return cls(size=int(np.clip(side * _SIZE_SHARE, *_SIZE_LIMITS)), stretch=stretch)

    def extent(self, lines: Sequence[str]) -> tuple[int, int]:
        """Give width and height of lines with their margin."""
        widest = max(text_width(line, self.size) for line in lines)
        width = int(np.ceil(widest * self.stretch[0])) + 2 * _MARGIN_PX
        return width, int(np.ceil(self.line_px * len(lines))) + 2 * _MARGIN_PX

    @property
    def line_px(self) -> float:
        """Distance of lines."""
        return 1.25 * self.size * self.stretch[1]

    def fitted(self, lines: Sequence[str], width: int) -> "_Lettering":
        """Make lines as narrow as the picture."""
        share = min(1.0, width / self.extent(lines)[0])
        across, down = self.stretch
        stretch = across * share, down * min(1.0, across * share)
        return _Lettering(size=self.size, stretch=stretch)


@dataclass(frozen=True, kw_only=True)
class _Block:
    """Lines of text at a place of their own."""

    lines: tuple[str, ...]
    letters: _Lettering
    corner: tuple[int, int]
    """Left, top."""

    def places(self) -> Iterator[tuple[str, tuple[float, float]]]:
        """Give each line and where it begins."""
        left, top = self.corner
        for row, line in enumerate(self.lines):
            yield line, (left + _MARGIN_PX, top + _MARGIN_PX + row * self.letters.line_px)


@dataclass(frozen=True, kw_only=True)
class _Layout:
    """What is the same in all slices of a series."""

    letters: _Lettering
    notice: _Block
    legend: _Block | None
    names: Sequence[str]

    @classmethod
    def arrange(
        cls, volume: Volume, labels: Volume, slices: Sequence[int], names: Sequence[str]
    ) -> "_Layout":
        letters = _Lettering.of(volume)
        organ, body = _footprints(volume, labels, slices)
        width = organ.shape[1]
        lines: tuple[str, ...] = (NOTICE,)
        if letters.extent(lines)[0] > width:
            lines = _SHORT_NOTICE
        notice = _place(lines, letters.fitted(lines, width), organ, body)
        organ[_area(notice.corner, notice.letters.extent(lines))] = True
        longest = max((names[index] for index in slices), key=len, default="")
        legend = _place((*_swatched(), f"Slice {longest}"), letters, organ, body)
        area = _area(legend.corner, letters.extent(legend.lines))
        hidden = organ[area].any() or organ[area].size < np.prod(letters.extent(legend.lines))
        return cls(letters=letters, notice=notice, legend=None if hidden else legend, names=names)


def _swatched() -> tuple[str, ...]:
    """Give the words of the legend, with room for their colors before them."""
    return tuple(f"     {name}" for name, _ in LEGEND)


def _footprints(
    volume: Volume, labels: Volume, slices: Sequence[int]
) -> tuple[BoolArray, BoolArray]:
    """Give the pixels that are liver, or body, in any of the slices."""
    organ = np.zeros(volume.shape[1:3], np.bool_)
    body = np.zeros_like(organ)
    for index in slices:
        organ |= labels.array[index] != Label.BACKGROUND
        body |= volume.array[index] > SKIN_HU
    return organ, body


def _area(corner: tuple[int, int], extent: tuple[int, int]) -> Area:
    left, top = corner
    return slice(top, top + extent[1]), slice(left, left + extent[0])


def _place(
    lines: tuple[str, ...], letters: _Lettering, organ: BoolArray, body: BoolArray
) -> _Block:
    """Choose, of the corners and the middles of top and bottom, the place that hides least."""
    width, height = letters.extent(lines)
    lefts = [max(0, organ.shape[1] - width), 0, max(0, (organ.shape[1] - width) // 2)]
    tops = [max(0, organ.shape[0] - height), 0]
    corners = [(left, top) for top in tops for left in lefts]

    def hidden(corner: tuple[int, int]) -> tuple[int, int]:
        area = _area(corner, (width, height))
        return int(organ[area].sum()), int(body[area].sum())

    return _Block(lines=lines, letters=letters, corner=min(corners, key=hidden))


def _draw_slice(
    volume: Volume, labels: Volume, findings: Findings, index: int, layout: _Layout
) -> Page:
    page = Page.of(apply_window(volume.array[index].astype(np.float32)))
    _, rows, columns = volume.shape
    place = 0, 0, columns, rows
    width = max(1.0, min(rows, columns) * _LINE_SHARE)
    _draw_notice(page, layout.notice)
    if layout.legend is not None:
        _draw_legend(page, layout.legend, f"Slice {layout.names[index]}")
    page.lines(diameters_in(findings, index), TEXT, 0.75 * width)
    letters = layout.letters
    lesions = findings.lesion_map.array[index]
    draw_numbers(page, lesions, place, size=letters.size, stretch=letters.stretch)
    draw_outlines(page, labels.array[index], place, width)  # nothing hides a contour
    return page


def _draw_notice(page: Page, notice: _Block) -> None:
    letters = notice.letters
    for line, at in notice.places():
        page.text(at, line, size=letters.size, color=WARNING, stretch=letters.stretch)


def _draw_legend(page: Page, legend: _Block, name: str) -> None:
    letters = legend.letters
    side = 0.7 * letters.size
    across, down = letters.stretch
    *rows, (_, last) = legend.places()
    for (line, (x, y)), (_, color) in zip(rows, LEGEND, strict=True):
        page.box((x, y + 0.25 * side * down, side * across, side * down), color)
        page.text((x, y), line, size=letters.size, stretch=letters.stretch)
    page.text(last, name, size=letters.size, stretch=letters.stretch)

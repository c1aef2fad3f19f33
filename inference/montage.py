"""Axial slices through the liver on one page, from head to feet."""

import math
from pathlib import Path

import numpy as np

from inference.drawing import (
    FAINT,
    LEGEND,
    NOTICE,
    RULE,
    WARNING,
    Page,
    draw_numbers,
    draw_outlines,
)
from inference.findings import Findings
from inference.labels import Label
from inference.preview_planes import PLANES, Scene, apply_window, arrange, enlarge
from inference.volume import Volume

_WIDTH_PX = 1600
_MARGIN_PX = 24
_HEADER_PX = 72
_FOOTER_PX = 48
_GAP_PX = 8
_COLUMNS = 5
_MOST_SLICES = 20
_AXIAL = PLANES[0]


def draw_montage(
    volume: Volume, labels: Volume, path: Path, *, title: str, findings: Findings
) -> None:
    """Draw a PNG of axial slices through the liver, with contours and lesion numbers.

    The slices are evenly spaced; where that would pass by a large lesion, the nearest of them gives
    way to the slice that has most of it.

    Parameters
    ----------
    volume
        (slices, rows, columns) HU, in any orientation.
    labels
        The same grid, values of `inference.labels.Label`.
    path
        The file to write.
    title
        The headline; the caller answers for its holding no patient data.
    findings
        The measurements of those labels.
    """
    scene = arrange(volume, labels, findings)
    slices = _choose(scene)
    across_mm, down_mm = scene.size_mm(_AXIAL)
    columns = min(_COLUMNS, len(slices))
    room = _WIDTH_PX - 2 * _MARGIN_PX - (_COLUMNS - 1) * _GAP_PX
    width = room // _COLUMNS
    height = max(1, round(width * down_mm / across_mm))
    rows = math.ceil(len(slices) / columns)
    bottom = _HEADER_PX + rows * (height + _GAP_PX)
    page = Page.blank(_WIDTH_PX, bottom + _FOOTER_PX)
    page.text((_MARGIN_PX, 18), title, size=23)
    for number, index in enumerate(slices):
        row, column = divmod(number, columns)
        left = _MARGIN_PX + column * (width + _GAP_PX)
        top = _HEADER_PX + row * (height + _GAP_PX)
        _draw_cell(page, scene.at(_AXIAL, index), (left, top, width, height))
    _draw_footer(page, bottom)
    page.save(path)


def _choose(scene: Scene) -> list[int]:
    """Choose slices of the canonical volume, from head to feet."""
    labels = scene.labels.array
    inside = np.flatnonzero((labels != Label.BACKGROUND).any(axis=(1, 2)))
    if not inside.size:
        inside = np.arange(len(labels))
    even = np.linspace(inside[0], inside[-1], min(_MOST_SLICES, inside.size))
    chosen = np.rint(even).astype(int)
    free = np.ones(chosen.size, np.bool_)
    for peak in _peaks(scene):
        if peak not in chosen and free.any():
            distances = np.where(free, np.abs(chosen - peak), np.inf)
            chosen[distances.argmin()] = peak
        free &= chosen != peak
    return sorted(set(chosen.tolist()), reverse=True)


def _peaks(scene: Scene) -> list[int]:
    """Give the slice with most of each of the largest lesions."""
    if scene.lesion_map is None:
        return []
    lesions = scene.lesion_map.array
    count = min(_MOST_SLICES // 2, int(lesions.max(initial=0)))
    sizes = [np.bincount(plane.ravel(), minlength=count + 1)[1 : count + 1] for plane in lesions]
    return [int(index) for index in np.argmax(sizes, axis=0)] if count else []


def _draw_cell(page: Page, scene: Scene, place: tuple[int, int, int, int]) -> None:
    left, top, width, height = place
    cut = scene.cut(_AXIAL, scene.volume)
    page.paste(apply_window(enlarge(cut, (width, height))), (left, top))
    draw_outlines(page, scene.cut(_AXIAL, scene.labels).astype(np.uint8), place, 1.25)
    if scene.lesion_map is not None:
        lesions = scene.cut(_AXIAL, scene.lesion_map).astype(np.int32)
        draw_numbers(page, lesions, place, size=14)
    right, _, _, _ = _AXIAL.edges
    page.text((left + 5, top + height / 2), right, size=13, color=WARNING, anchor="lm")
    page.text((left + 6, top + 4), _position(scene), size=13, color=FAINT)


def _position(scene: Scene) -> str:
    """Say where the middle of a slice lies along the patient."""
    _, rows, columns = scene.volume.shape
    middle = (scene.center[0], rows / 2, columns / 2, 1.0)
    return f"z {float((scene.volume.affine @ middle)[2]):.0f} mm"


def _draw_footer(page: Page, top: int) -> None:
    page.line([(_MARGIN_PX, top), (_WIDTH_PX - _MARGIN_PX, top)], RULE)
    left = _MARGIN_PX
    for name, color in LEGEND:
        page.box((left, top + 16, 14, 14), color)
        page.text((left + 24, top + 13), name)
        left += 110
    notice = f"{NOTICE} - not for diagnosis"
    page.text((_WIDTH_PX / 2, top + 13), notice, size=16, color=WARNING, anchor="ma")

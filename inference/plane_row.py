"""Three planes through a scan, side by side, as the preview and the summary page show them."""

import numpy as np

from inference.drawing import FAINT, TEXT, WARNING, Page, Place, draw_numbers, draw_outlines
from inference.preview_planes import PLANES, PlaneKind, Scene, apply_window, enlarge

_GAP_PX = 10
_SCALE_BAR_MM = 50


def row_sizes_px(scene: Scene, width: int, tallest: int) -> list[tuple[int, int]]:
    """Give the planes one scale, so that they fill the width or the greatest height."""
    sizes_mm = [scene.size_mm(plane) for plane in PLANES]
    room = width - _GAP_PX * (len(PLANES) - 1)
    scale = min(
        room / sum(across for across, _ in sizes_mm), tallest / max(down for _, down in sizes_mm)
    )
    return [(max(1, int(across * scale)), max(1, int(down * scale))) for across, down in sizes_mm]


def draw_row(
    page: Page, scene: Scene, sizes_px: list[tuple[int, int]], at: tuple[int, int]
) -> None:
    """Draw the planes with their titles above; `at` is the upper left corner of the first."""
    left, top = at
    for plane, (width, height) in zip(PLANES, sizes_px, strict=True):
        page.text((left, top - 8), plane.title, size=14, color=FAINT, anchor="ld")
        _draw_plane(page, scene, plane, (left, top, width, height))
        left += width + _GAP_PX


def _draw_plane(page: Page, scene: Scene, plane: PlaneKind, place: Place) -> None:
    left, top, width, height = place
    cut = scene.cut(plane, scene.volume)
    page.paste(apply_window(enlarge(cut, (width, height))), (left, top))
    draw_outlines(page, scene.cut(plane, scene.labels).astype(np.uint8), place)
    if scene.lesion_map is not None:
        draw_numbers(page, scene.cut(plane, scene.lesion_map).astype(np.int32), place)
    for ends in scene.lines(plane):
        page.line([(left + x * width, top + y * height) for x, y in ends], TEXT, 0.9)
    _draw_edges(page, plane, place)
    if plane.axis == 0:
        _draw_scale_bar(page, width / scene.size_mm(plane)[0], place)


def _draw_edges(page: Page, plane: PlaneKind, place: Place) -> None:
    left, top, width, height = place
    middle_x, middle_y = left + width / 2, top + height / 2
    places = (
        ((left + 8, middle_y), "lm"),
        ((left + width - 8, middle_y), "rm"),
        ((middle_x, top + 6), "ma"),
        ((middle_x, top + height - 6), "md"),
    )
    for letter, (at, anchor) in zip(plane.edges, places, strict=True):
        page.text(at, letter, size=17, color=WARNING, anchor=anchor)


def _draw_scale_bar(page: Page, px_per_mm: float, place: Place) -> None:
    left, top, width, height = place
    right, bottom, length = left + width - 12, top + height - 12, _SCALE_BAR_MM * px_per_mm
    page.line([(right - length, bottom), (right, bottom)], TEXT, 2)
    for x in (right - length, right):
        page.line([(x, bottom - 4), (x, bottom + 4)], TEXT, 1.5)
    page.text((right - length / 2, bottom - 6), f"{_SCALE_BAR_MM} mm", size=13, anchor="md")

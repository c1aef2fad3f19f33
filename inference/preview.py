"""One picture of a result: three planes with contours, and the measurements.

Nothing in it identifies a patient unless the title does.
"""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont
from scipy import ndimage
from skimage.measure import find_contours

from inference.findings import Findings, Lesion
from inference.labels import Label
from inference.preview_planes import (
    PLANES,
    WINDOW_LEVEL_HU,
    WINDOW_WIDTH_HU,
    PlaneKind,
    Scene,
    apply_window,
    arrange,
    enlarge,
)
from inference.volume import Volume

Color = tuple[int, int, int]

_BACKGROUND: Color = (13, 15, 20)
_TEXT: Color = (226, 230, 236)
_FAINT: Color = (138, 146, 160)
_RULE: Color = (48, 54, 64)
_LIVER: Color = (72, 214, 138)
_TUMOR: Color = (255, 106, 61)
_WARNING: Color = (240, 184, 64)
_FINE = 2
"""The picture is drawn this many times larger and then reduced, for smooth lines."""
_WIDTH_PX = 1440
_HEADER_PX = 84
_STRIP_PX = 172
_FOOTER_PX = 44
_MARGIN_PX = 24
_GAP_PX = 10
_TALLEST_PX = 560
_TABLE_ROWS = 5
_SCALE_BAR_MM = 50
_NOTICE = "AI result, not reviewed - not for diagnosis"


def draw_preview(
    volume: Volume,
    labels: Volume,
    path: Path,
    *,
    title: str,
    findings: Findings | None = None,
) -> None:
    """Draw a PNG of the planes through the largest lesion, or through the liver.

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
        Measurements to be listed below the planes.
    """
    scene = arrange(volume, labels, findings)
    sizes = _plane_sizes_px(scene)
    tallest = max(height for _, height in sizes)
    page = _Page(_HEADER_PX + tallest + _STRIP_PX + _FOOTER_PX)
    page.text((_MARGIN_PX, 18), title, size=23)
    left = _MARGIN_PX
    for plane, (width, height) in zip(PLANES, sizes, strict=True):
        page.text((left, _HEADER_PX - 8), plane.title, size=14, color=_FAINT, anchor="ld")
        _draw_plane(page, scene, plane, (left, _HEADER_PX, width, height))
        left += width + _GAP_PX
    _draw_strip(page, _HEADER_PX + tallest + 18, findings)
    _draw_footer(page, _HEADER_PX + tallest + _STRIP_PX)
    page.save(path)


class _Page:
    """A dark page, addressed in pixels of the finished picture."""

    def __init__(self, height: int) -> None:
        self._image = Image.new("RGB", (_WIDTH_PX * _FINE, height * _FINE), _BACKGROUND)
        self._draw = ImageDraw.Draw(self._image)

    def text(
        self,
        at: tuple[float, float],
        text: str,
        *,
        size: int = 15,
        color: Color = _TEXT,
        anchor: str = "la",
    ) -> None:
        """Write a line of text; the anchor is one of Pillow's."""
        font = ImageFont.load_default(size * _FINE)
        place = (at[0] * _FINE, at[1] * _FINE)
        self._draw.text(
            place, text, color, font, anchor, stroke_width=_FINE, stroke_fill=_BACKGROUND
        )

    def line(self, points: list[tuple[float, float]], color: Color, width: float = 1.0) -> None:
        """Draw a path."""
        fine = [(x * _FINE, y * _FINE) for x, y in points]
        self._draw.line(fine, color, max(1, round(width * _FINE)), joint="curve")

    def square(self, at: tuple[float, float], side: float, color: Color) -> None:
        """Fill a square of the legend."""
        x, y = at[0] * _FINE, at[1] * _FINE
        self._draw.rectangle((x, y, x + side * _FINE, y + side * _FINE), color)

    def paste(self, gray: NDArray[np.uint8], at: tuple[int, int]) -> None:
        """Put a picture that is already enlarged for the fine page."""
        self._image.paste(Image.fromarray(gray).convert("RGB"), (at[0] * _FINE, at[1] * _FINE))

    def save(self, path: Path) -> None:
        """Reduce the page to its size and write it."""
        self._image.reduce(_FINE).save(path, format="PNG", optimize=True)


def _plane_sizes_px(scene: Scene) -> list[tuple[int, int]]:
    """Give the planes one scale, so that they fill the width or the greatest height."""
    sizes_mm = [scene.size_mm(plane) for plane in PLANES]
    room = _WIDTH_PX - 2 * _MARGIN_PX - _GAP_PX * (len(PLANES) - 1)
    scale = min(
        room / sum(width for width, _ in sizes_mm),
        _TALLEST_PX / max(height for _, height in sizes_mm),
    )
    return [(max(1, int(width * scale)), max(1, int(height * scale))) for width, height in sizes_mm]


def _draw_plane(
    page: _Page, scene: Scene, plane: PlaneKind, place: tuple[int, int, int, int]
) -> None:
    """Draw a plane at (left, top, width, height)."""
    left, top, width, height = place
    cut = scene.cut(plane, scene.volume)
    page.paste(apply_window(enlarge(cut, (width * _FINE, height * _FINE))), (left, top))
    labels = scene.cut(plane, scene.labels)
    _draw_contours(page, labels != Label.BACKGROUND, _LIVER, place)
    _draw_contours(page, labels == Label.TUMOR, _TUMOR, place)
    if scene.lesion_map is not None:
        _draw_numbers(page, scene.cut(plane, scene.lesion_map), place)
    for ends in scene.lines(plane):
        page.line([(left + x * width, top + y * height) for x, y in ends], _TEXT, 0.9)
    _draw_edges(page, plane, place)
    if plane.axis == 0:
        _draw_scale_bar(page, width / scene.size_mm(plane)[0], place)


def _draw_contours(
    page: _Page, mask: NDArray[np.bool_], color: Color, place: tuple[int, int, int, int]
) -> None:
    left, top, width, height = place
    blur = (0.4 * height / mask.shape[0], 0.4 * width / mask.shape[1])
    smooth = ndimage.gaussian_filter(enlarge(mask.astype(np.float32), (width, height)), blur)
    smooth = np.pad(smooth, 1)
    for contour in find_contours(smooth, 0.5):
        # Minus the padding, plus half a pixel: the picture's corner is at (0, 0).
        page.line([(left + x - 0.5, top + y - 0.5) for y, x in contour], color, 1.5)


def _draw_numbers(
    page: _Page, lesions: NDArray[np.float32], place: tuple[int, int, int, int]
) -> None:
    """Write the number of each lesion at its upper right."""
    left, top, width, height = place
    for number, box in enumerate(ndimage.find_objects(lesions.astype(np.int32)), start=1):
        if box is not None:
            x = left + (0.15 * box[1].start + 0.85 * box[1].stop) * width / lesions.shape[1] + 2
            y = top + (0.85 * box[0].start + 0.15 * box[0].stop) * height / lesions.shape[0] - 1
            page.text((x, y), str(number), size=15, color=_TUMOR, anchor="ld")


def _draw_edges(page: _Page, plane: PlaneKind, place: tuple[int, int, int, int]) -> None:
    left, top, width, height = place
    middle_x, middle_y = left + width / 2, top + height / 2
    places = (
        ((left + 8, middle_y), "lm"),
        ((left + width - 8, middle_y), "rm"),
        ((middle_x, top + 6), "ma"),
        ((middle_x, top + height - 6), "md"),
    )
    for letter, (at, anchor) in zip(plane.edges, places, strict=True):
        page.text(at, letter, size=17, color=_WARNING, anchor=anchor)


def _draw_scale_bar(page: _Page, px_per_mm: float, place: tuple[int, int, int, int]) -> None:
    left, top, width, height = place
    right, bottom, length = left + width - 12, top + height - 12, _SCALE_BAR_MM * px_per_mm
    page.line([(right - length, bottom), (right, bottom)], _TEXT, 2)
    for x in (right - length, right):
        page.line([(x, bottom - 4), (x, bottom + 4)], _TEXT, 1.5)
    page.text((right - length / 2, bottom - 6), f"{_SCALE_BAR_MM} mm", size=13, anchor="md")


def _draw_strip(page: _Page, top: int, findings: Findings | None) -> None:
    """Draw what stands below the planes: legend, totals, table of lesions."""
    page.line([(_MARGIN_PX, top - 8), (_WIDTH_PX - _MARGIN_PX, top - 8)], _RULE)
    for row, (name, color) in enumerate((("Liver", _LIVER), ("Tumor", _TUMOR))):
        page.square((_MARGIN_PX, top + 10 + 26 * row), 13, color)
        page.text((_MARGIN_PX + 24, top + 7 + 26 * row), name)
    window = f"Window {WINDOW_LEVEL_HU:.0f} / {WINDOW_WIDTH_HU:.0f} HU"
    page.text((_MARGIN_PX, top + 65), window, size=13, color=_FAINT)
    if findings is not None:
        _draw_totals(page, 300, top, findings)
        _draw_table(page, 760, top, findings.lesions)


def _draw_footer(page: _Page, top: int) -> None:
    page.line([(_MARGIN_PX, top), (_WIDTH_PX - _MARGIN_PX, top)], _RULE)
    page.text((_WIDTH_PX / 2, top + 13), _NOTICE, size=16, color=_WARNING, anchor="ma")


def _draw_totals(page: _Page, left: int, top: int, findings: Findings) -> None:
    count = len(findings.lesions)
    listed = f"{count}, largest {_TABLE_ROWS} listed" if count > _TABLE_ROWS else f"{count}"
    rows = (
        ("Liver with lesions", f"{findings.organ_volume_ml:.0f} ml"),
        ("Lesions", listed),
        ("Tumor volume", f"{findings.tumor_volume_ml:.1f} ml"),
        ("Tumor burden", f"{100 * findings.tumor_burden:.1f} %"),
    )
    for row, (name, value) in enumerate(rows):
        page.text((left, top + 7 + 26 * row), name, color=_FAINT)
        page.text((left + 300, top + 7 + 26 * row), value, anchor="ra")


def _draw_table(page: _Page, left: int, top: int, lesions: tuple[Lesion, ...]) -> None:
    columns = (50, 240, 420, 600)
    header = ("Lesion", "Diameters, mm", "Volume, ml", "Mean, HU")
    rows = [header, *(_table_row(lesion) for lesion in lesions[:_TABLE_ROWS])]
    if not lesions:
        page.text((left, top + 7), "No lesion segmented")
        return
    for row, values in enumerate(rows):
        color = _TEXT if row else _FAINT
        for column, value in zip(columns, values, strict=True):
            page.text((left + column, top + 7 + 23 * row), value, color=color, anchor="ra")


def _table_row(lesion: Lesion) -> tuple[str, str, str, str]:
    diameters = f"{lesion.long_axis.length_mm:.0f}"
    if lesion.short_axis is not None:
        diameters += f" x {lesion.short_axis.length_mm:.0f}"
    return str(lesion.number), diameters, f"{lesion.volume_ml:.1f}", f"{lesion.mean_hu:.0f}"

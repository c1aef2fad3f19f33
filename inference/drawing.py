"""What all pictures of a result are drawn with: a page, outlines, numbers, colors.

Places are in pixels of the picture; its corner, not the center of its first pixel, is at (0, 0).
"""

from collections.abc import Iterable, Iterator
from functools import lru_cache
from pathlib import Path
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont
from scipy import ndimage
from skimage.measure import find_contours

from inference.findings import Findings
from inference.labels import Label

Color: TypeAlias = tuple[int, int, int]
Path2d: TypeAlias = Iterable[tuple[float, float]]
"""Points (x, y)."""
Place: TypeAlias = tuple[int, int, int, int]
"""Left, top, width, height."""
Picture: TypeAlias = NDArray[np.uint8]
"""(rows, columns, 3), RGB."""

BACKGROUND: Color = (13, 15, 20)
TEXT: Color = (226, 230, 236)
FAINT: Color = (138, 146, 160)
RULE: Color = (48, 54, 64)
LIVER: Color = (72, 214, 138)
TUMOR: Color = (255, 106, 61)
WARNING: Color = (240, 184, 64)
LEGEND = (("Liver", LIVER), ("Tumor", TUMOR))
NOTICE = "AI result, not reviewed"
_FINE = 4
"""Lines are drawn this many times larger and then reduced, which makes them smooth."""
_SMOOTHING = np.array([1.0, 4.0, 6.0, 4.0, 1.0]) / 16.0
"""Moves no point of an outline by more than half a pixel."""


@lru_cache(maxsize=32)
def _font(size: int) -> ImageFont.FreeTypeFont:
    font = ImageFont.load_default(size)
    if not isinstance(font, ImageFont.FreeTypeFont):
        raise RuntimeError("Pillow is built without FreeType")
    return font


def text_width(text: str, size: int) -> float:
    """Width of a line of text."""
    return _font(size).getlength(text)


def wrap(text: str, size: int, width: float) -> list[str]:
    """Break text into lines that are no wider than that, where it has spaces."""
    lines: list[str] = []
    for word in text.split():
        longer = f"{lines[-1]} {word}" if lines else word
        if lines and text_width(longer, size) <= width:
            lines[-1] = longer
        else:
            lines.append(word)
    return lines


class Page:
    """A picture that is being drawn."""

    def __init__(self, image: Image.Image) -> None:
        self._image = image
        self._draw = ImageDraw.Draw(image)

    @classmethod
    def blank(cls, width: int, height: int) -> "Page":
        """Begin with an empty dark page."""
        return cls(Image.new("RGB", (width, height), BACKGROUND))

    @classmethod
    def of(cls, gray: NDArray[np.uint8]) -> "Page":
        """Begin with a picture of the scan."""
        return cls(Image.fromarray(gray).convert("RGB"))

    def text(
        self,
        at: tuple[float, float],
        text: str,
        *,
        size: int = 15,
        color: Color = TEXT,
        anchor: str = "la",
        stretch: tuple[float, float] = (1.0, 1.0),
    ) -> None:
        """Write a line of text.

        Parameters
        ----------
        at
            Where its anchor lies.
        text
            The line.
        size
            Height of the font.
        color
            Of the letters; their edge is dark.
        anchor
            One of Pillow's.
        stretch
            Enlargement of width and height, for pixels that are not square.
        """
        largest = max(stretch)
        font = _font(max(1, round(size * largest)))
        edge = max(1, round(largest))
        if stretch[0] == stretch[1]:
            self._draw.text(
                at, text, color, font, anchor, stroke_width=edge, stroke_fill=BACKGROUND
            )
            return
        box = font.getbbox(text, anchor=anchor, stroke_width=edge)
        low = np.floor(box[:2])
        size_px = (np.ceil(box[2:]) - low).astype(int)
        stamp = Image.new("RGBA", tuple(size_px.tolist()))
        ImageDraw.Draw(stamp).text(
            tuple((-low).tolist()),
            text,
            color,
            font,
            anchor,
            stroke_width=edge,
            stroke_fill=BACKGROUND,
        )
        shares = np.array(stretch) / largest
        width, height = np.maximum(1, np.rint(size_px * shares)).astype(int).tolist()
        stamp = stamp.resize((width, height), Image.Resampling.BOX)
        left, top = np.rint(at + low * shares).astype(int).tolist()
        self._image.paste(stamp, (left, top), stamp)

    def lines(self, paths: Iterable[Path2d], color: Color, width: float = 1.0) -> None:
        """Draw paths."""
        fine = [np.asarray(list(path)) * _FINE for path in paths]
        if not fine:
            return
        fine_width = max(1, round(width * _FINE))
        points = np.concatenate(fine)
        limits = np.array(self._image.size)
        low = np.clip(np.floor((points.min(axis=0) - fine_width) / _FINE), 0, limits).astype(int)
        high = np.clip(np.ceil((points.max(axis=0) + fine_width) / _FINE), low, limits).astype(int)
        size = high - low
        if not size.all():
            return
        mask = Image.new("L", tuple((size * _FINE).tolist()))
        draw = ImageDraw.Draw(mask)
        for path in fine:
            draw.line((path - low * _FINE).ravel().tolist(), 255, fine_width, joint="curve")
        self._image.paste(color, tuple(low.tolist()), mask.reduce(_FINE))

    def line(self, points: Path2d, color: Color, width: float = 1.0) -> None:
        """Draw a path."""
        self.lines([points], color, width)

    def box(self, place: tuple[float, float, float, float], color: Color) -> None:
        """Fill a box (left, top, width, height)."""
        left, top, width, height = place
        self._draw.rectangle((left, top, left + width - 1, top + height - 1), color)

    def paste(self, gray: NDArray[np.uint8], at: tuple[int, int]) -> None:
        """Put a picture of the scan."""
        self._image.paste(Image.fromarray(gray).convert("RGB"), at)

    @property
    def picture(self) -> Picture:
        """What is drawn, as an array."""
        return np.asarray(self._image)

    def save(self, path: Path) -> None:
        """Write it as PNG."""
        self._image.save(path, format="PNG", optimize=True)


def outline(mask: NDArray[np.bool_]) -> list[NDArray[np.float64]]:
    """Give closed lines around a mask.

    They run along the borders of its pixels, half-way between the centers inside and outside, with
    corners cut and rounded by no more than half a pixel.

    Returns
    -------
    list
        Arrays (n, 2) of (row, column), where an integer is the center of a pixel; the first point
        comes again at the end.
    """
    [box] = ndimage.find_objects(mask.view(np.uint8)) or [None]
    if box is None:
        return []
    corner = np.array([box[0].start, box[1].start]) - 1
    inside = np.pad(mask[box], 1).astype(np.float32)
    return [_rounded(line[:-1]) + corner for line in find_contours(inside, 0.5)]


def _rounded(points: NDArray[np.float64]) -> NDArray[np.float64]:
    smooth = ndimage.convolve1d(points, _SMOOTHING, axis=0, mode="wrap")
    return np.concatenate([smooth, smooth[:1]])


def draw_outlines(
    page: Page, labels: NDArray[np.integer], place: Place, width: float = 1.5
) -> None:
    """Draw the borders of the liver with its lesions, and of the lesions, over a cut of labels."""
    left, top, wide, high = place
    scale = np.array([wide / labels.shape[1], high / labels.shape[0]])
    for mask, color in ((labels != Label.BACKGROUND, LIVER), (labels == Label.TUMOR, TUMOR)):
        paths = [(line[:, ::-1] + 0.5) * scale + (left, top) for line in outline(mask)]
        page.lines(paths, color, width)


def draw_numbers(
    page: Page,
    lesions: NDArray[np.integer],
    place: Place,
    *,
    size: int = 15,
    stretch: tuple[float, float] = (1.0, 1.0),
) -> None:
    """Write the number of each lesion at its upper right, over a cut of the lesion map."""
    left, top, wide, high = place
    for number, box in enumerate(ndimage.find_objects(lesions), start=1):
        if box is not None:
            x = left + (0.15 * box[1].start + 0.85 * box[1].stop) * wide / lesions.shape[1] + 2
            y = top + (0.85 * box[0].start + 0.15 * box[0].stop) * high / lesions.shape[0] - 1
            x = min(x, left + wide - text_width(str(number), size) * stretch[0])
            y = max(y, top + size * stretch[1])
            page.text((x, y), str(number), size=size, color=TUMOR, anchor="ld", stretch=stretch)


def diameters_in(findings: Findings, index: int) -> Iterator[Path2d]:
    """Give the diameters that were measured in a slice, as (x, y) in pixels of the source grid."""
    for lesion in findings.lesions:
        for axis in (lesion.long_axis, lesion.short_axis):
            if axis is not None and axis.slice_index == index:
                yield [(column + 0.5, row + 0.5) for row, column in (axis.start, axis.end)]

"""Erosion and dilation in each slice, by shapes of a stated size."""

import math
import re
from dataclasses import dataclass
from typing import Literal, Self

import numpy as np
from numpy.typing import NDArray

from inference.errors import ClusteringError

BoolArray = NDArray[np.bool_]
_WORDS = re.compile(r"(disk|square) (\d+(?:\.\d+)?) (mm|px)")
_ROUNDING = 1e-6
"""Spacings in headers are rounded: a pixel is within that lies this share of it beyond."""


@dataclass(frozen=True, kw_only=True)
class Element:
    """A structuring element around a pixel of a slice."""

    shape: Literal["disk", "square"]
    radius: float
    """Of the disk, or half the edge of the square, without the pixel in the middle."""
    unit: Literal["mm", "px"]

    @classmethod
    def parse(cls, text: str) -> Self | None:
        """Read an element such as ``disk 1.2 mm``; none for ``none``.

        Raises
        ------
        ClusteringError
            It is written otherwise.
        """
        if text == "none":
            return None
        found = _WORDS.fullmatch(text)
        if found is None:
            raise ClusteringError(
                f"{text!r} is no structuring element; write a shape, a radius and a unit, as in "
                "'disk 1.2 mm' or 'square 5 px', or 'none'"
            )
        shape, radius, unit = found.groups()
        return cls(
            shape="disk" if shape == "disk" else "square",
            radius=float(radius),
            unit="mm" if unit == "mm" else "px",
        )

    def dilate(
        self, mask: BoolArray, spacing_mm: tuple[float, float], *, outside: bool = False
    ) -> BoolArray:
        """Add all pixels that the element reaches from one of the mask, slice by slice.

        Parameters
        ----------
        mask:
            (slices, rows, columns).
        spacing_mm:
            Distance of rows and of columns.
        outside:
            Whether what lies beyond the array counts as mask.
        """
        _, rows, columns = mask.shape
        runs = self._runs(spacing_mm)
        side, top = runs[-1][0], max(offset for _, offset in runs)
        padded = np.pad(mask, ((0, 0), (top, top), (side, side)), constant_values=outside)
        # Each row of the element is a run of pixels. From the shortest to the longest run the mask
        # is widened along its rows, and shifted across them.
        wide = padded[:, :, side : side + columns].copy()
        result, width = np.zeros_like(mask), 0
        for half, offset in runs:
            while width < half:
                width += 1
                wide |= padded[:, :, side - width : side - width + columns]
                wide |= padded[:, :, side + width : side + width + columns]
            result |= wide[:, top + offset : top + offset + rows]
        return result

    def erode(self, mask: BoolArray, spacing_mm: tuple[float, float]) -> BoolArray:
        """Keep the pixels around which the whole element lies in the mask, slice by slice.

        What lies beyond the array counts as outside.

        Parameters
        ----------
        mask:
            (slices, rows, columns).
        spacing_mm:
            Distance of rows and of columns.
        """
        return ~self.dilate(~mask, spacing_mm, outside=True)

    def _runs(self, spacing_mm: tuple[float, float]) -> list[tuple[int, int]]:
        """Give half the length and the offset of each row of the element, the shortest first."""
        row_step, column_step = spacing_mm if self.unit == "mm" else (1.0, 1.0)
        reach = int(self.radius / row_step + _ROUNDING)
        runs = []
        for offset in range(-reach, reach + 1):
            half = self.radius
            if self.shape == "disk":
                half = math.sqrt(max(0.0, self.radius**2 - (offset * row_step) ** 2))
            runs.append((int(half / column_step + _ROUNDING), offset))
        return sorted(runs)


def clean(
    mask: BoolArray,
    liver: BoolArray,
    spacing_mm: tuple[float, float],
    *,
    erosion: Element | None,
    dilation: Element | None,
) -> BoolArray:
    """Erode a mask, dilate what is left, and keep what lies in the liver.

    Parameters
    ----------
    mask, liver:
        (slices, rows, columns).
    spacing_mm:
        Distance of rows and of columns.
    erosion, dilation:
        Elements; none to leave the step out.
    """
    if erosion is not None:
        mask = erosion.erode(mask, spacing_mm)
    if dilation is not None:
        mask = dilation.dilate(mask, spacing_mm)
    return mask & liver

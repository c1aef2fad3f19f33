"""What a report of ours says, read back from its content tree: volumes, and lines on images."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from pydicom import Dataset
from pydicom.sr.coding import Code

from dicom_io import codes
from dicom_io.errors import ResultMismatch
from dicom_io.series import SourceSeries
from dicom_io.values import first_item, read_numbers, read_text
from dicom_io.verify import is_named, walk

_PIXEL_CENTER = 0.5
"""The center of the first pixel has the coordinates 0.5, 0.5 (PS3.3 C.10.5.1.2)."""


@dataclass(frozen=True, kw_only=True)
class ReportedLine:
    """A line that a report draws on an image."""

    middle_mm: tuple[float, float, float]
    """Patient coordinates, LPS."""
    length_mm: float


@dataclass(frozen=True, kw_only=True)
class ReportedFigures:
    """Some of what a report says."""

    liver_ml: float
    """With its lesions."""
    lesion_count: int
    lines: tuple[ReportedLine, ...]
    """The longest axes of liver and lesions."""


def read_figures(sr: Dataset, source: SourceSeries) -> ReportedFigures:
    """Read volumes and lines of a report.

    Parameters
    ----------
    sr
        The report.
    source
        The series that it is about.

    Raises
    ------
    ResultMismatch
        Something of it is not there, or a line lies on another image.
    """
    return ReportedFigures(
        liver_ml=_number(sr, codes.LIVER_VOLUME_WITH_LESIONS),
        lesion_count=int(_number(sr, codes.NUMBER_OF_LESIONS)),
        lines=tuple(_lines(sr, source)),
    )


def _number(sr: Dataset, name: Code) -> float:
    for item in walk(sr):
        if is_named(item, name):
            measured = first_item(item, "MeasuredValueSequence")
            if measured is not None and (value := read_numbers(measured, "NumericValue", 1)):
                return value[0]
    raise ResultMismatch(f"SR says nothing of {name.meaning}")


def _lines(sr: Dataset, source: SourceSeries) -> Iterator[ReportedLine]:
    for item in walk(sr):
        if item.ValueType == "SCOORD":
            image = first_item(first_item(item, "ContentSequence"), "ReferencedSOPSequence")
            points = np.reshape(item.GraphicData, (-1, 2)) - _PIXEL_CENTER
            index = np.full(len(points), _slice_of(image, source))
            indices = np.stack([index, points[:, 1], points[:, 0]], axis=1)
            affine = source.volume.affine
            start, *_, end = indices @ affine[:3, :3].T + affine[:3, 3]
            x, y, z = (start + end) / 2
            yield ReportedLine(
                middle_mm=(float(x), float(y), float(z)),
                length_mm=float(np.linalg.norm(end - start)),
            )


def _slice_of(image: Dataset | None, source: SourceSeries) -> int:
    if image is not None:
        number = image.get("ReferencedFrameNumber")
        key = (
            read_text(image, "ReferencedSOPInstanceUID"),
            None if number is None else int(number),
        )
        if key in source.frame_sources:
            return source.frame_sources.index(key)
    raise ResultMismatch("SR has a line on an image that is not of the source")

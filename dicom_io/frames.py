"""One slice of a series: where it lies and how its stored values become Hounsfield units.

A single-frame image says so at its top level; a multi-frame image in functional groups, shared by
all frames or per frame (PS3.3 C.7.6.16).
"""

from collections.abc import Sequence
from dataclasses import dataclass

from pydicom.dataset import Dataset

from dicom_io.errors import RejectionReason, UnsuitableSeries
from dicom_io.hounsfield import Rescale
from dicom_io.transfer_syntaxes import MULTI_FRAME_SOP_CLASSES
from dicom_io.values import (
    first_item,
    read_count,
    read_integer,
    read_items,
    read_number,
    read_numbers,
    read_text,
    read_texts,
)

_HOUNSFIELD_TYPES = frozenset({"", "HU", "US"})
"""Rescale types taken as Hounsfield units; US is "unspecified", which CT writers use for them."""
_DIRECTIONS = (("R", "L"), ("A", "P"), ("F", "H"))
"""Letters towards lower and higher patient coordinates."""
_ALONG = 1e-3
"""Least direction cosine that is worth a letter."""


@dataclass(frozen=True, kw_only=True)
class Frame:
    """One slice of a series."""

    dataset_index: int
    frame_number: int | None
    """From 1; none in a single-frame image."""
    position_mm: tuple[float, ...]
    """Center of the first pixel, LPS (Image Position (Patient))."""
    orientation: tuple[float, ...]
    """Direction cosines of a row, then of a column (Image Orientation (Patient))."""
    pixel_spacing_mm: tuple[float, ...]
    """Distance of the rows, then of the columns (Pixel Spacing)."""
    shape: tuple[int, int]
    """Rows, columns."""
    rescale: Rescale
    stack: str
    """Stack ID; empty when there is none."""


@dataclass(frozen=True, kw_only=True)
class _Macros:
    """The data sets that hold the attributes of one frame; none where the item is missing."""

    position: Dataset | None
    orientation: Dataset | None
    measures: Dataset | None
    pixel_values: Dataset | None
    content: Dataset | None


def list_frames(datasets: Sequence[Dataset]) -> list[Frame]:
    """Return the frames of all data sets, in their order.

    Raises
    ------
    UnsuitableSeries
        NO_POSITION, NO_RESCALE, NOT_HU or UNDECODABLE_PIXELS, naming the instance.
    """
    frames = []
    for index, dataset in enumerate(datasets):
        if read_text(dataset, "SOPClassUID") in MULTI_FRAME_SOP_CLASSES:
            frames.extend(_multi_frames(dataset, index))
        else:
            macros = _Macros(
                position=dataset,
                orientation=dataset,
                measures=dataset,
                pixel_values=dataset,
                content=None,
            )
            frames.append(_make_frame(dataset, index, None, macros))
    return frames


def name_direction(direction: Sequence[float]) -> str:
    """Name a direction by the letters of Patient Orientation, the nearest first."""
    letters = [
        (abs(cosine), pair[cosine > 0])
        for cosine, pair in zip(direction, _DIRECTIONS, strict=True)
        if abs(cosine) > _ALONG
    ]
    return "".join(letter for _, letter in sorted(letters, reverse=True))


def _multi_frames(dataset: Dataset, index: int) -> list[Frame]:
    """Return the frames of one multi-frame data set."""
    shared = first_item(dataset, "SharedFunctionalGroupsSequence")
    items = read_items(dataset, "PerFrameFunctionalGroupsSequence")
    count = read_count(dataset, "NumberOfFrames")
    if not items or count != len(items):
        detail = f"{len(items)} per-frame functional groups for {count or 'unknown'} frames"
        raise UnsuitableSeries(RejectionReason.NO_POSITION, detail)

    def macro(item: Dataset, keyword: str) -> Dataset | None:
        return first_item(item, keyword) or first_item(shared, keyword)

    return [
        _make_frame(
            dataset,
            index,
            number,
            _Macros(
                position=macro(item, "PlanePositionSequence"),
                orientation=macro(item, "PlaneOrientationSequence"),
                measures=macro(item, "PixelMeasuresSequence"),
                pixel_values=macro(item, "PixelValueTransformationSequence"),
                content=macro(item, "FrameContentSequence"),
            ),
        )
        for number, item in enumerate(items, start=1)
    ]


def _make_frame(dataset: Dataset, index: int, number: int | None, macros: _Macros) -> Frame:
    where = f"instance {read_text(dataset, 'SOPInstanceUID')}"
    if number is not None:
        where += f", frame {number}"
    rows, columns = read_integer(dataset, "Rows"), read_integer(dataset, "Columns")
    if not rows or not columns:
        raise UnsuitableSeries(RejectionReason.UNDECODABLE_PIXELS, f"{where}: no Rows or Columns")
    spacing = _geometry(macros.measures, "PixelSpacing", 2, where)
    if min(spacing) <= 0:
        raise UnsuitableSeries(
            RejectionReason.NO_POSITION, f"{where}: PixelSpacing is not positive"
        )
    return Frame(
        dataset_index=index,
        frame_number=number,
        position_mm=_geometry(macros.position, "ImagePositionPatient", 3, where),
        orientation=_geometry(macros.orientation, "ImageOrientationPatient", 6, where),
        pixel_spacing_mm=spacing,
        shape=(rows, columns),
        rescale=_rescale(dataset, macros.pixel_values, where),
        stack="" if macros.content is None else read_text(macros.content, "StackID"),
    )


def _geometry(macro: Dataset | None, keyword: str, count: int, where: str) -> tuple[float, ...]:
    numbers = None if macro is None else read_numbers(macro, keyword, count)
    if numbers is None:
        detail = f"{where}: {keyword} is missing or malformed"
        raise UnsuitableSeries(RejectionReason.NO_POSITION, detail)
    return numbers


def _rescale(dataset: Dataset, macro: Dataset | None, where: str) -> Rescale:
    slope = None if macro is None else read_number(macro, "RescaleSlope")
    intercept = None if macro is None else read_number(macro, "RescaleIntercept")
    if macro is None or slope is None or intercept is None or slope == 0:
        raise UnsuitableSeries(RejectionReason.NO_RESCALE, where)
    rescale_type = "\\".join(read_texts(macro, "RescaleType")).upper()
    if rescale_type not in _HOUNSFIELD_TYPES:
        detail = f"{where}: RescaleType is {rescale_type}"
        raise UnsuitableSeries(RejectionReason.NOT_HU, detail)
    return Rescale(slope=slope, intercept=intercept, padding=_padding(dataset))


def _padding(dataset: Dataset) -> tuple[int, int] | None:
    """Return the range of stored values that mark padding (PS3.3 C.7.5.1.1.2), low and high."""
    first = read_integer(dataset, "PixelPaddingValue")
    if first is None:
        return None
    last = read_integer(dataset, "PixelPaddingRangeLimit")
    signed = read_integer(dataset, "PixelRepresentation") == 1
    ends = [_as_stored(end, signed=signed) for end in (first, first if last is None else last)]
    return min(ends), max(ends)


def _as_stored(value: int, *, signed: bool) -> int:
    """Undo a value written with the wrong one of the VRs US and SS."""
    if signed and value > 0x7FFF:
        return value - 0x10000
    if not signed and value < 0:
        return value + 0x10000
    return value

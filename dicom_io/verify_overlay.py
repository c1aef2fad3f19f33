"""Do written pictures show what they were made from? Asked of the files, not of the memory.

The drawing is not repeated here. What must be true of any right picture is asked instead: the scan
is seen through it, and both sides of the borders of the labels are in the colors of the contours.
A picture that is shifted or flipped, or shows another slice, fails one or the other.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset, dcmread
from scipy import ndimage

from dicom_io.errors import ResultMismatch
from dicom_io.frames import Frame
from dicom_io.identity import identity_differences
from dicom_io.series import SourceSeries
from dicom_io.source_images import list_planes
from dicom_io.values import read_numbers, read_text
from inference.labels import Label
from inference.preview_planes import WINDOW_LEVEL_HU, WINDOW_WIDTH_HU
from inference.volume import Volume

OVERLAY_CHECKS = ("patient and study", "order", "place", "pixels of the scan", "contours")
"""What `check_overlay` compares."""
SUMMARY_CHECKS = ("patient and study", "picture")
"""What it compares where there is no slice."""
_GEOMETRY_TOLERANCE = 1e-4
_TINT = 10
"""Least difference of green and red in a pixel of a contour; letters and the scan have less."""
_LEAST_BORDER = 40
"""Sides of pixels that a border must have to be judged."""
_DRAWN = 0.8
"""Share of a border that is drawn; cut corners may lack some of the color."""
_SEEN = 0.6
"""Share of the scan that is seen, in pictures where letters take little room."""
_ROOMY_PX = 128 * 128
_CONTRAST = 2
"""Pixels that differ by more from a neighbor would show a shift."""

BoolArray = NDArray[np.bool_]


def check_overlay(
    paths: Sequence[Path], source: SourceSeries, labels: Volume, slices: Sequence[int]
) -> None:
    """Compare a written series of pictures with the scan, the labels and the choice of slices.

    Parameters
    ----------
    paths
        The summary page, then one file for each slice, in order.
    source
        The series that the pictures show.
    labels
        Array (slices, rows, columns) with the values of `inference.labels.Label`.
    slices
        Which slices of the volume the pictures show.

    Raises
    ------
    ResultMismatch
        With the first difference found.
    """
    if len(paths) != len(slices) + 1:
        raise ResultMismatch(f"overlay has {len(paths)} pictures for {len(slices)} slices")
    page = dcmread(paths[0])
    _check_page(page, source.datasets[0], 1)
    planes = list_planes(source)
    for number, (path, index) in enumerate(zip(paths[1:], slices, strict=True), start=2):
        dataset = dcmread(path)
        where = f"overlay picture {number}"
        if dataset.SeriesInstanceUID != page.SeriesInstanceUID:
            raise ResultMismatch(f"{where} is of another series than the first")
        _check_page(dataset, source.datasets[0], number)
        _check_place(dataset, source, planes[index], index, where)
        _check_scan(_rgb(dataset), source.volume.array[index], where)
        _check_contours(_rgb(dataset), labels.array[index], where)


def check_refusal_page(path: Path, first: Dataset) -> None:
    """Compare a written page with an instance of the series that it is about.

    Raises
    ------
    ResultMismatch
        With the first difference found.
    """
    _check_page(dcmread(path), first, 1)


def _check_page(dataset: Dataset, first: Dataset, number: int) -> None:
    """Compare identity and order, and see that there is a picture."""
    where = f"overlay picture {number}"
    differing = ", ".join(identity_differences(dataset, first))
    if differing:
        raise ResultMismatch(f"{where} differs from the source in {differing}")
    if int(dataset.InstanceNumber) != number:
        raise ResultMismatch(f"{where} has instance number {dataset.InstanceNumber}")
    if np.ptp(_rgb(dataset)) == 0:
        raise ResultMismatch(f"{where} is empty")


def _rgb(dataset: Dataset) -> NDArray[np.int16]:
    shape = int(dataset.Rows), int(dataset.Columns), 3
    pixels = np.frombuffer(dataset.PixelData, np.uint8)
    size = int(np.prod(shape))
    if pixels.size != size + size % 2:
        raise ResultMismatch(f"overlay has {pixels.size} bytes for a picture of {size}")
    return pixels[:size].reshape(shape).astype(np.int16)


def _check_place(
    dataset: Dataset, source: SourceSeries, plane: Frame, index: int, where: str
) -> None:
    [image] = dataset.SourceImageSequence
    number = image.get("ReferencedFrameNumber")
    named = read_text(image, "ReferencedSOPInstanceUID"), None if number is None else int(number)
    if named != source.frame_sources[index]:
        raise ResultMismatch(f"{where} names another source image than the one that it shows")
    for keyword, expected in (
        ("ImagePositionPatient", plane.position_mm),
        ("ImageOrientationPatient", plane.orientation),
        ("PixelSpacing", plane.pixel_spacing_mm),
    ):
        found = read_numbers(dataset, keyword, len(expected))
        if found is None or not np.allclose(found, expected, rtol=0, atol=_GEOMETRY_TOLERANCE):
            raise ResultMismatch(f"{where} has {keyword} {found}, its source {expected}")
    if dataset.FrameOfReferenceUID != source.volume.frame_of_reference_uid:
        raise ResultMismatch(f"{where} has another frame of reference than the source")
    if (dataset.Rows, dataset.Columns) != source.volume.shape[1:3]:
        raise ResultMismatch(f"{where} has {dataset.Rows} x {dataset.Columns} pixels")


def _check_scan(rgb: NDArray[np.int16], hu: NDArray[np.int16], where: str) -> None:
    """See that the scan shows through, judged where it has an edge or grain."""
    low_hu = WINDOW_LEVEL_HU - WINDOW_WIDTH_HU / 2
    gray = np.clip((hu - low_hu) * (255 / WINDOW_WIDTH_HU), 0, 255)
    window = ndimage.generate_binary_structure(2, 1)
    spread = ndimage.maximum_filter(gray, footprint=window) - ndimage.minimum_filter(
        gray, footprint=window
    )
    telling = spread > _CONTRAST
    if not telling.any():
        return
    same = np.all(np.abs(rgb - gray[..., None]) <= 1, axis=-1)
    seen = np.count_nonzero(same & telling) / np.count_nonzero(telling)
    if seen < _SEEN * min(1.0, gray.size / _ROOMY_PX):
        raise ResultMismatch(f"{where} shows only {100 * seen:.0f} % of its slice")


def _check_contours(rgb: NDArray[np.int16], labels: NDArray[np.uint8], where: str) -> None:
    [box] = ndimage.find_objects((labels != Label.BACKGROUND).astype(np.uint8)) or [None]
    if box is None:
        return
    rows, columns = (slice(max(0, part.start - 4), part.stop + 4) for part in box)
    rgb, labels = rgb[rows, columns], labels[rows, columns]
    tumor = labels == Label.TUMOR
    near_tumor = ndimage.binary_dilation(tumor, iterations=3)
    greener = rgb[..., 1] - rgb[..., 0]
    for name, mask, drawn, hidden in (
        ("liver", labels != Label.BACKGROUND, greener >= _TINT, near_tumor),
        ("tumor", tumor, greener <= -_TINT, np.zeros_like(tumor)),
    ):
        length, colored = _border(mask, drawn, hidden | _thin(mask))
        if length >= _LEAST_BORDER and colored < _DRAWN * length:
            share = 100 * colored / length
            raise ResultMismatch(f"{where} has contours along {share:.0f} % of the {name}")


def _thin(mask: BoolArray) -> BoolArray:
    """Give the parts and the gaps that are too thin for lines on both of their sides."""
    block = np.ones((3, 3), np.bool_)
    padded = np.pad(mask, 2, mode="edge")
    solid = ndimage.binary_opening(padded, block)
    filled = ndimage.binary_closing(padded, block)
    thin: BoolArray = (padded & ~solid) | (filled & ~padded)
    return thin[2:-2, 2:-2]


def _border(mask: BoolArray, drawn: BoolArray, hidden: BoolArray) -> tuple[int, int]:
    """Count the sides of pixels between inside and outside, and those drawn on both."""
    length = colored = 0
    for before, after in (
        (np.s_[:, :-1], np.s_[:, 1:]),
        (np.s_[:-1], np.s_[1:]),
    ):
        border = (mask[before] != mask[after]) & ~hidden[before] & ~hidden[after]
        length += int(np.count_nonzero(border))
        colored += int(np.count_nonzero(border & drawn[before] & drawn[after]))
    return length, colored

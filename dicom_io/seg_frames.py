"""The frames of a SEG of ours, for those who look at one slice after the other.

The whole of a SEG is read by `dicom_io.seg_reader`; here no more than what one slice needs, and
without highdicom, so that a process that only shows pictures stays small.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset, dcmread

from dicom_io.errors import ResultMismatch
from dicom_io.stack import POSITION_TOLERANCE_MM
from dicom_io.values import first_item, read_integer, read_items, read_numbers, read_text
from inference.labels import Label

LIVER_CODE = "10200004"
"""`dicom_io.codes.LIVER`, whose module loads more than is needed here."""
_PIXEL_HEADER_BYTES = 12
"""Tag, VR and length of Pixel Data in Explicit VR (PS3.5 7.1.2)."""
_HALF = 0.5
"""Probability from which a voxel belongs to something."""


def most_probable(
    fractions: NDArray[np.floating], labels: Mapping[int, Label]
) -> NDArray[np.uint8]:
    """Label what is rather tissue than not, by the more probable kind of it.

    Parameters
    ----------
    fractions
        Array (..., segments), 0 to 1.
    labels
        What each segment is, by its number, in the order of the last axis.
    """
    probabilities = {label: np.zeros(fractions.shape[:-1]) for label in Label}
    for index, label in enumerate(labels.values()):
        probabilities[label] += fractions[..., index]
    liver, tumor = probabilities[Label.LIVER], probabilities[Label.TUMOR]
    tissue: NDArray[np.uint8] = np.where(
        tumor > liver, np.uint8(Label.TUMOR), np.uint8(Label.LIVER)
    )
    tissue[liver + tumor < _HALF] = Label.BACKGROUND
    return tissue


@dataclass(frozen=True, kw_only=True, eq=False)
class SegFrames:
    """Where the frames of a SEG are, in patient space and in the file."""

    path: Path
    form: str
    """Segmentation Type: BINARY, FRACTIONAL or LABELMAP."""
    shape: tuple[int, int]
    """Rows, columns."""
    bits: int
    """Of a pixel."""
    full: int
    """What stands for 1 in a FRACTIONAL one."""
    offset: int
    """Of the first pixel in the file."""
    labels: Mapping[int, Label]
    """What each segment is, by its number."""
    numbers: tuple[int, ...] = field(repr=False)
    """Segment of each frame; 0 where a frame holds all."""
    positions_mm: NDArray[np.float64] = field(repr=False)
    """(frames, 3), Image Position (Patient)."""

    def labels_at(self, position_mm: tuple[float, ...]) -> NDArray[np.uint8]:
        """Give the labels of the slice at a place.

        Parameters
        ----------
        position_mm
            Center of its first pixel, LPS.

        Returns
        -------
        NDArray[np.uint8]
            Array (rows, columns) with the values of `inference.labels.Label`; where the SEG holds
            probabilities, a pixel is what it probably is.

        Raises
        ------
        OSError
            The file cannot be read.
        """
        distances = np.linalg.norm(self.positions_mm - position_mm, axis=1)
        frames = np.flatnonzero(distances < POSITION_TOLERANCE_MM / 2).tolist()
        found = np.zeros(self.shape, np.uint8)
        if not frames:
            return found
        with self.path.open("rb") as file:
            planes = {frame: self._read(file.fileno(), frame) for frame in frames}
        if self.form == "LABELMAP":
            return self._table[planes[frames[0]]]
        if self.form == "FRACTIONAL":
            fractions = np.zeros((*self.shape, len(self.labels)))
            places = {number: place for place, number in enumerate(self.labels)}
            for frame, plane in planes.items():
                fractions[..., places[self.numbers[frame]]] = plane / self.full
            return most_probable(fractions, self.labels)
        for frame, plane in planes.items():
            found[plane > 0] = self.labels[self.numbers[frame]]
        return found

    @property
    def _table(self) -> NDArray[np.uint8]:
        table = np.zeros(max(self.labels) + 1, np.uint8)
        for number, label in self.labels.items():
            table[number] = label
        return table

    def _read(self, descriptor: int, frame: int) -> NDArray[np.uint8] | NDArray[np.uint16]:
        """Read one frame; those of single bits do not begin at whole bytes (PS3.5 8.1.1)."""
        count = self.shape[0] * self.shape[1]
        first, skipped = divmod(frame * count * self.bits, 8)
        size = (skipped + count * self.bits + 7) // 8
        content = _read_at(descriptor, self.offset + first, size)
        if self.bits == 1:
            bits = np.unpackbits(np.frombuffer(content, np.uint8), bitorder="little")
            return bits[skipped : skipped + count].reshape(self.shape)
        return np.frombuffer(content, "<u2" if self.bits == 16 else np.uint8).reshape(self.shape)


def open_seg(path: Path) -> SegFrames:
    """Read where the frames of a SEG of ours are; it is not compressed.

    Raises
    ------
    ResultMismatch
        It is none that we write.
    OSError
        The file cannot be read.
    """
    with path.open("rb") as file:
        dataset = dcmread(file, stop_before_pixels=True)
        offset = file.tell() + _PIXEL_HEADER_BYTES
    shared = first_item(dataset, "SharedFunctionalGroupsSequence")
    items = read_items(dataset, "PerFrameFunctionalGroupsSequence")
    places = [_position(item, shared) for item in items]
    rows, columns = read_integer(dataset, "Rows"), read_integer(dataset, "Columns")
    bits = read_integer(dataset, "BitsAllocated")
    if rows is None or columns is None or bits not in (1, 8, 16):
        raise ResultMismatch(f"{path.name} is no segmentation of ours")
    return SegFrames(
        path=path,
        form=read_text(dataset, "SegmentationType"),
        shape=(rows, columns),
        bits=bits,
        full=read_integer(dataset, "MaximumFractionalValue") or 1,
        offset=offset,
        labels={
            number: _label(item)
            for item in read_items(dataset, "SegmentSequence")
            if (number := read_integer(item, "SegmentNumber"))
        },
        numbers=tuple(_segment_number(item, shared) for item in items),
        positions_mm=np.array(places, np.float64).reshape(-1, 3),
    )


def _position(item: Dataset, shared: Dataset | None) -> tuple[float, ...]:
    plane = _macro(item, shared, "PlanePositionSequence")
    position = None if plane is None else read_numbers(plane, "ImagePositionPatient", 3)
    if position is None:
        raise ResultMismatch("a frame of the segmentation has no place")
    return position


def _segment_number(item: Dataset, shared: Dataset | None) -> int:
    named = _macro(item, shared, "SegmentIdentificationSequence")
    return (0 if named is None else read_integer(named, "ReferencedSegmentNumber")) or 0


def _macro(item: Dataset, shared: Dataset | None, keyword: str) -> Dataset | None:
    return first_item(item, keyword) or first_item(shared, keyword)


def _label(segment: Dataset) -> Label:
    code = first_item(segment, "SegmentedPropertyTypeCodeSequence")
    is_liver = code is not None and read_text(code, "CodeValue") == LIVER_CODE
    return Label.LIVER if is_liver else Label.TUMOR


def _read_at(descriptor: int, offset: int, size: int) -> bytes:
    content = os.pread(descriptor, size, offset)
    if len(content) < size:
        raise ResultMismatch("the segmentation is cut short")
    return content

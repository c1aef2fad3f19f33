"""Check that a file does not end before its data set does.

pydicom takes any end of the file for the end of the data set. Here the pixel data are measured by
their length fields, without reading them.
"""

import os
import struct
from typing import BinaryIO

from pydicom.dataelem import RawDataElement
from pydicom.dataset import FileDataset
from pydicom.uid import DeflatedExplicitVRLittleEndian, ExplicitVRBigEndian, ImplicitVRLittleEndian

from dicom_io.errors import UndecodableInstance
from dicom_io.transfer_syntaxes import STORAGE_SOP_CLASSES
from dicom_io.values import read_text

_UNDEFINED_LENGTH = 0xFFFFFFFF
_ITEM = 0xFFFEE000
_SEQUENCE_DELIMITATION_ITEM = 0xFFFEE0DD


def check_complete(file: BinaryIO, dataset: FileDataset) -> None:
    """Refuse a file that ends too early.

    Parameters
    ----------
    file
        The open file, standing where pydicom stopped: before the pixel data, or at the end.
    dataset
        What pydicom read from it.

    Raises
    ------
    UndecodableInstance
        If the file ends inside the data set, or a CT image has no pixel data, which is the same
        thing seen from here. A deflated data set was inflated as a whole, so it is not looked at.
    """
    syntax = read_text(dataset.file_meta, "TransferSyntaxUID")
    if not syntax:
        raise UndecodableInstance("the file meta information has no TransferSyntaxUID")
    if syntax == DeflatedExplicitVRLittleEndian:
        return
    size = os.fstat(file.fileno()).st_size
    if file.tell() > size or _has_short_value(dataset):
        raise UndecodableInstance("the file is cut short")
    if file.tell() < size:
        if not _pixels_end_within(file, syntax, size):
            raise UndecodableInstance("the file is cut short inside its pixel data")
    elif read_text(dataset, "SOPClassUID") in STORAGE_SOP_CLASSES:
        raise UndecodableInstance("the image has no pixel data, or the file is cut short")


def _has_short_value(dataset: FileDataset) -> bool:
    """Whether a value has fewer bytes than its length field says (the last one read may)."""
    return any(
        isinstance(element, RawDataElement)
        and element.length != _UNDEFINED_LENGTH
        and len(element.value or b"") < element.length
        for element in dataset.values()
    )


def _pixels_end_within(file: BinaryIO, syntax: str, size: int) -> bool:
    """Whether the pixel data element that begins here ends within `size` bytes."""
    big = syntax == ExplicitVRBigEndian
    length_offset = 4 if syntax == ImplicitVRLittleEndian else 8
    head = file.read(length_offset + 4)
    if len(head) < length_offset + 4:
        return False
    length = int.from_bytes(head[length_offset:], "big" if big else "little")
    if length != _UNDEFINED_LENGTH:
        return file.tell() + length <= size
    return _fragments_end_within(file, size)


def _fragments_end_within(file: BinaryIO, size: int) -> bool:
    """Walk the items of encapsulated pixel data to their delimiter (PS3.5 A.4)."""
    while file.tell() <= size and len(head := file.read(8)) == 8:
        group, element, length = struct.unpack("<HHL", head)
        tag = group << 16 | element
        if tag == _SEQUENCE_DELIMITATION_ITEM:
            return True
        if tag != _ITEM:
            return False
        file.seek(length, os.SEEK_CUR)
    return False

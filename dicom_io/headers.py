"""What cataloguing needs of an instance, read without its pixels."""

import re
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import BinaryIO

import numpy as np
from pydicom import dcmread
from pydicom.datadict import tag_for_keyword
from pydicom.dataset import Dataset, FileDataset
from pydicom.errors import InvalidDicomError
from pydicom.filereader import read_dataset, read_preamble
from pydicom.tag import BaseTag, Tag
from pydicom.uid import DeflatedExplicitVRLittleEndian

from dicom_io.completeness import check_complete
from dicom_io.errors import InvalidUid, MismatchingInstance, UndecodableInstance
from dicom_io.values import DAMAGED_FILE_ERRORS, read_count, read_numbers, read_text

_UID = re.compile(r"(?:0|[1-9][0-9]*)(?:\.(?:0|[1-9][0-9]*))+")
_UID_MAX_CHARACTERS = 64
_MAX_INFLATED_BYTES = 1 << 28
"""pydicom inflates a data set as a whole, and a small one may become a thousand times as large."""
MAX_ITEMS = 1 << 17
"""Of all sequences: 5000 frames with 26 items each. pydicom takes 1.3 kB and 30 us for an item of 8
bytes."""
_ITEM_TAGS = (b"\xfe\xff\x00\xe0", b"\xff\xfe\xe0\x00")
"""Item (PS3.5 7.5), in little and in big endian."""
_CHUNK_BYTES = 1 << 16
_HEADER_TAGS: tuple[BaseTag, ...] = tuple(
    Tag(tag)
    for keyword in (
        "SOPClassUID",
        "SOPInstanceUID",
        "StudyInstanceUID",
        "SeriesInstanceUID",
        "Modality",
        "ImagePositionPatient",
        "ImageOrientationPatient",
        "NumberOfSeriesRelatedInstances",
        "NumberOfFrames",
    )
    if (tag := tag_for_keyword(keyword)) is not None
)


@dataclass(frozen=True, kw_only=True)
class InstanceHeader:
    """Identity of one instance, and the few attributes that say when its series is whole."""

    sop_class_uid: str
    sop_instance_uid: str
    study_instance_uid: str
    series_instance_uid: str
    transfer_syntax_uid: str
    modality: str
    """Empty when the instance names none."""
    slice_position_mm: float | None
    """Image Position (Patient) along the slice normal (row cosines x column cosines, PS3.3
    C.7.6.2.1.1); none for multi-frame images and where the geometry is missing or malformed."""
    expected_instances: int | None
    """Number of Series Related Instances (0020,1209), if the sender tells. Images in Acquisition
    (0020,1002) is no such number: a series may have several acquisitions, or a part of one."""
    frame_count: int


def check_uid(uid: str) -> str:
    """Return `uid` if it is a valid UID.

    At least two components of digits, none with a leading zero, at most 64 characters (PS3.5 9.1).

    Raises
    ------
    InvalidUid
        If it is empty or otherwise malformed. No such text may become part of a path.
    """
    if not uid:
        raise InvalidUid("the UID is empty")
    if len(uid) > _UID_MAX_CHARACTERS:
        raise InvalidUid(f"the UID has {len(uid)} characters, more than {_UID_MAX_CHARACTERS}")
    if not _UID.fullmatch(uid):
        raise InvalidUid(f"not a valid UID: {uid!r}")
    return uid


def read_header(path: Path) -> InstanceHeader:
    """Read and check the identity of an instance.

    Parameters
    ----------
    path
        A file in the DICOM File Format (PS3.10).

    Raises
    ------
    UndecodableInstance
        If the file is not DICOM, is damaged or is cut short.
    MismatchingInstance
        If the data set lacks its SOP Class or Instance UID, or they are not those of the file meta
        information.
    InvalidUid
        If a UID is not valid.
    OSError
        If the file cannot be read.
    """
    with path.open("rb") as file:
        dataset = _read_without_pixels(file, _HEADER_TAGS)
    frame_count = read_count(dataset, "NumberOfFrames") or 1
    return InstanceHeader(
        sop_class_uid=_own_uid(dataset, "SOPClassUID"),
        sop_instance_uid=_own_uid(dataset, "SOPInstanceUID"),
        study_instance_uid=_valid_uid(dataset, "StudyInstanceUID"),
        series_instance_uid=_valid_uid(dataset, "SeriesInstanceUID"),
        transfer_syntax_uid=_valid_uid(dataset.file_meta, "TransferSyntaxUID"),
        modality=read_text(dataset, "Modality").strip(),
        slice_position_mm=_slice_position_mm(dataset),
        expected_instances=read_count(dataset, "NumberOfSeriesRelatedInstances"),
        frame_count=frame_count,
    )


def read_attributes(source: Path | BinaryIO) -> Dataset:
    """Read the data set of an instance without its pixels, with its file meta information.

    Parameters
    ----------
    source
        A file in the DICOM File Format (PS3.10), or one that is open at its begin.

    Raises
    ------
    UndecodableInstance
        If the file is not DICOM, is damaged or is cut short.
    OSError
        If the file cannot be read.
    """
    if not isinstance(source, Path):
        return _read_without_pixels(source, None)
    with source.open("rb") as file:
        return _read_without_pixels(file, None)


def _read_without_pixels(file: BinaryIO, tags: tuple[BaseTag, ...] | None) -> FileDataset:
    try:
        _check_size(file)
        dataset = dcmread(
            file, stop_before_pixels=True, specific_tags=None if tags is None else list(tags)
        )
        check_complete(file, dataset)
    except InvalidDicomError as error:
        raise UndecodableInstance("not a DICOM file: the prefix DICM is missing") from error
    except DAMAGED_FILE_ERRORS as error:
        raise UndecodableInstance(f"the data set is damaged: {error}") from error
    except OSError as error:
        # pydicom raises such an error of its own where a sequence has no end.
        if error.errno is not None:
            raise
        raise UndecodableInstance(f"the data set is damaged: {error}") from error
    return dataset


def _check_size(file: BinaryIO) -> None:
    """Refuse a data set that would take too much memory as objects of pydicom.

    Raises
    ------
    UndecodableInstance
        It has too many items, or is deflated (PS3.5 A.5) and too large to be inflated here.
    """
    read_preamble(file, force=False)
    meta = read_dataset(
        file, is_implicit_VR=False, is_little_endian=True, stop_when=lambda tag, *_: tag.group != 2
    )
    if meta.get("TransferSyntaxUID") == DeflatedExplicitVRLittleEndian:
        chunks = _inflate(file)
    else:
        chunks = iter(partial(file.read, _CHUNK_BYTES), b"")
    items = 0
    for chunk in chunks:
        items += sum(chunk.count(tag) for tag in _ITEM_TAGS)
        if items > MAX_ITEMS:
            raise UndecodableInstance(f"its sequences have more than {MAX_ITEMS} items")
    file.seek(0)


def _inflate(file: BinaryIO) -> Iterator[bytes]:
    inflater = zlib.decompressobj(-zlib.MAX_WBITS)
    size = 0
    while not inflater.eof and (content := inflater.unconsumed_tail or file.read(_CHUNK_BYTES)):
        chunk = inflater.decompress(content, _CHUNK_BYTES)
        size += len(chunk)
        if size > _MAX_INFLATED_BYTES:
            raise UndecodableInstance(
                f"deflated, it holds more than {_MAX_INFLATED_BYTES >> 20} MiB; send it in "
                "another transfer syntax"
            )
        yield chunk


def _own_uid(dataset: FileDataset, keyword: str) -> str:
    """Return a SOP UID of the data set, which must be that of the file meta information."""
    if not read_text(dataset, keyword):
        raise MismatchingInstance(f"the data set has no {keyword}")
    uid = _valid_uid(dataset, keyword)
    meta_uid = read_text(dataset.file_meta, f"MediaStorage{keyword}")
    if meta_uid and meta_uid != uid:
        raise MismatchingInstance(f"{keyword} differs: data set {uid}, file meta {meta_uid[:64]}")
    return uid


def _valid_uid(dataset: Dataset, keyword: str) -> str:
    try:
        return check_uid(read_text(dataset, keyword))
    except InvalidUid as error:
        raise InvalidUid(f"{keyword}: {error}") from error


def _slice_position_mm(dataset: Dataset) -> float | None:
    position = read_numbers(dataset, "ImagePositionPatient", 3)
    orientation = read_numbers(dataset, "ImageOrientationPatient", 6)
    if position is None or orientation is None:
        return None
    normal = np.cross(orientation[:3], orientation[3:])
    length = float(np.linalg.norm(normal))
    if not 0.9 < length < 1.1:
        return None
    return float(np.dot(position, normal)) / length

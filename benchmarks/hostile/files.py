"""Part-10 files that are damaged, lie, or claim more than they hold; and frames that do."""

import random
import struct
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

from pydicom import dcmread, uid
from pydicom.datadict import dictionary_VR, tag_for_keyword
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate, generate_frames

from benchmarks.hostile.wire import HOSTILE_UIDS, flip
from dicom_io.ct import write_ct_series, write_enhanced_ct
from dicom_io.headers import MAX_ITEMS
from inference.phantom import PhantomSettings, make_phantom

SLICES = 4
_PHANTOM = PhantomSettings(
    seed=1, shape=(SLICES, 32, 32), spacing_mm=(30.0, 12.0, 12.0), lesions=()
)
_PIXELS = b"\xe0\x7f\x10\x00"
_PRIVATE = struct.pack("<HH2sH", 0x7777, 0x0010, b"LO", 4) + b"Fuzz"
_SEQUENCE = struct.pack("<HH2sH", 0x7777, 0x1000, b"SQ", 0)
_UNDEFINED = b"\xff" * 4
_ITEM, _ITEM_END, _SEQUENCE_END = (
    struct.pack("<HH", 0xFFFE, element) for element in (0xE000, 0xE00D, 0xE0DD)
)
_VRS = (b"AT", b"DS", b"FD", b"IS", b"LO", b"OB", b"OW", b"PN", b"SQ", b"UI", b"UN", b"US", b"ZZ")
_COUNTS = (0, 1, 7, 255, 8192, 65535)
_NUMBERS = (
    b"",
    b"nan",
    b"1e400",
    b"-1",
    b"0",
    b"1\\2\\3\\4\\5\\6\\7",
    b"9" * 500,
    b"\0",
    b"x",
    b"1e-300",
)
_TEXTS = (b"", b"\0" * 8, b"\xff\xfe\xfd", b"\\" * 500, b"../../x", b"\x1b$B" * 9, b"a" * 60000)
NATIVE = (
    uid.ExplicitVRLittleEndian,
    uid.ImplicitVRLittleEndian,
    uid.DeflatedExplicitVRLittleEndian,
    uid.ExplicitVRBigEndian,
)
COMPRESSED = (uid.JPEGLosslessSV1, uid.JPEGLSLossless, uid.JPEG2000Lossless, uid.RLELossless)
_SIZES: Mapping[str, tuple[bytes, str, int]] = {
    uid.JPEGLosslessSV1: (b"\xff\xc3", ">H", 5),
    uid.JPEGLSLossless: (b"\xff\xf7", ">H", 5),
    uid.JPEG2000Lossless: (b"\xff\x51", ">L", 6),
}
"""Marker of the segment that says how large the frame is, and where in it and how."""


@dataclass(frozen=True, kw_only=True)
class Sample:
    """A good series, all of it in memory."""

    transfer_syntax_uid: str
    files: Sequence[bytes]

    @property
    def multi_frame(self) -> bool:
        """Whether it is one Enhanced CT."""
        return len(self.files) == 1


def make_samples(folder: Path) -> list[Sample]:
    """Write good series in several transfer syntaxes, and one Enhanced CT."""
    volume = make_phantom(_PHANTOM).volume
    samples = []
    for syntax in (*NATIVE, *COMPRESSED):
        paths = write_ct_series(volume, folder / syntax, transfer_syntax_uid=syntax)
        samples.append(
            Sample(transfer_syntax_uid=syntax, files=[path.read_bytes() for path in paths])
        )
    enhanced = folder / "enhanced.dcm"
    write_enhanced_ct(volume, enhanced)
    samples.append(
        Sample(transfer_syntax_uid=uid.ExplicitVRLittleEndian, files=[enhanced.read_bytes()])
    )
    return samples


@dataclass(frozen=True, kw_only=True)
class HostileFile:
    """A file with something wrong in it."""

    kind: str
    content: bytes


_Fault = Callable[[random.Random, bytes], bytes]


def hostile_file(rng: random.Random, sample: Sample) -> HostileFile:
    """Draw what is wrong with the first file of a sample."""
    faults = _BYTE_FAULTS
    if sample.transfer_syntax_uid == uid.ExplicitVRLittleEndian:
        faults += _ELEMENT_FAULTS
    fault = rng.choice(faults)
    return HostileFile(kind=fault.__name__.strip("_"), content=fault(rng, sample.files[0]))


def _flipped(rng: random.Random, content: bytes) -> bytes:
    """Spare the preamble, where nothing matters."""
    return content[:128] + flip(rng, content[128:])


def _cut(rng: random.Random, content: bytes) -> bytes:
    return content[: rng.randrange(len(content))]


def _spliced(rng: random.Random, content: bytes) -> bytes:
    """Repeat, move or drop a piece."""
    start, length = rng.randrange(128, len(content)), rng.choice([1, 2, 8, 60, 600])
    piece = content[start : start + length] * rng.choice([0, 2, 5])
    return content[:start] + piece + content[start + length :]


def _noisy(rng: random.Random, content: bytes) -> bytes:
    start = rng.randrange(128, len(content))
    noise = rng.choice([rng.randbytes(rng.choice([4, 40])), _UNDEFINED, bytes(8), _ITEM])
    return content[:start] + noise + content[start + len(noise) :]


def _lying(rng: random.Random, content: bytes) -> bytes:
    """Change the length of an element, of an item, or of the file meta information."""
    start = _some_element(rng, content)
    told = rng.choice([0, 1, 2, 7, 100, 0x7FFF, 0xFFFE, 0xFFFF])
    return content[: start + 6] + struct.pack("<H", told) + content[start + 8 :]


def _renamed(rng: random.Random, content: bytes) -> bytes:
    """Give an element another VR."""
    start = _some_element(rng, content)
    return content[: start + 4] + rng.choice(_VRS) + content[start + 6 :]


def _some_element(rng: random.Random, content: bytes) -> int:
    """Find an element with a length of 16 bits, wherever in the data set."""
    starts = []
    for vr in (b"UI", b"DS", b"IS", b"CS", b"US", b"LO", b"DA", b"UL"):
        start = content.find(vr, 132)
        while start > 0:
            starts.append(start - 4)
            start = content.find(vr, start + 2)
    return rng.choice(starts)


def put_before_pixels(content: bytes, elements: bytes) -> bytes:
    """Insert elements."""
    start = content.rindex(_PIXELS + b"O")
    return content[:start] + elements + content[start:]


def nested(depth: int, *, closed: bool = True) -> bytes:
    """Give sequences in sequences, of undefined length."""
    end = (_ITEM_END + bytes(4) + _SEQUENCE_END + bytes(4)) * depth if closed else b""
    return (_SEQUENCE + _UNDEFINED + _ITEM + _UNDEFINED) * depth + end


def nested_with_lengths(depth: int) -> bytes:
    """Give sequences in sequences, of defined length."""
    content = b""
    for _ in range(depth):
        content = _ITEM + struct.pack("<L", len(content)) + content
        content = _SEQUENCE + struct.pack("<L", len(content)) + content
    return content


def many_items(count: int) -> bytes:
    """Give a sequence of empty items."""
    return _SEQUENCE + _UNDEFINED + (_ITEM + bytes(4)) * count + _SEQUENCE_END + bytes(4)


def many_elements(count: int) -> bytes:
    """Give empty elements."""
    return b"".join(
        struct.pack("<HH2sH", 0x7779 + 2 * (index >> 16), index & 0xFFFF, b"LO", 0)
        for index in range(count)
    )


def _deep(rng: random.Random, content: bytes) -> bytes:
    depth = rng.choice([1, 20, 200, 400, 3000])
    how = rng.choice([nested(depth), nested(depth, closed=False), nested_with_lengths(depth)])
    return put_before_pixels(content, how)


def _crowded(rng: random.Random, content: bytes) -> bytes:
    count = rng.choice([100, 1000, 5000])
    return put_before_pixels(content, rng.choice([many_items, many_elements])(count))


def _overcrowded(_: random.Random, content: bytes) -> bytes:
    return put_before_pixels(content, many_items(2 * MAX_ITEMS))


def set_value(content: bytes, keyword: str, value: bytes) -> bytes:
    """Write any bytes as the value of an element with a length of 16 bits, where it first is."""
    tag = tag_for_keyword(keyword)
    assert tag is not None
    head = struct.pack("<HH", tag >> 16, tag & 0xFFFF) + dictionary_VR(tag).encode()
    start = content.find(head, 132)
    if start < 0:
        return content
    end = start + 8 + struct.unpack_from("<H", content, start + 6)[0]
    padded = value + b" " * (len(value) % 2)
    return content[:start] + head + struct.pack("<H", len(padded)) + padded + content[end:]


def _claiming(rng: random.Random, content: bytes) -> bytes:
    """Change what says how large the image is, and how its values are written."""
    for _ in range(rng.choice([1, 2, 3])):
        keyword = rng.choice(
            [
                "Rows",
                "Columns",
                "BitsAllocated",
                "BitsStored",
                "HighBit",
                "SamplesPerPixel",
                "PixelRepresentation",
            ]
        )
        number = rng.choice((*_COUNTS, 8, 12, 16, 32, 64))
        content = set_value(content, keyword, struct.pack("<H", number))
    if rng.random() < 0.3:
        frames = rng.choice([b"0", b"2", b"-1", b"1000000", b"2147483647", b"x"])
        content = set_value(content, "NumberOfFrames", frames)
    return content


def _misplaced(rng: random.Random, content: bytes) -> bytes:
    """Change numbers that say where the slice lies and what its values mean."""
    keywords = ("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing", "RescaleSlope")
    keyword = rng.choice((*keywords, "RescaleIntercept", "NumberOfFrames", "ImagesInAcquisition"))
    return set_value(content, keyword, rng.choice(_NUMBERS))


def _worded(rng: random.Random, content: bytes) -> bytes:
    keywords = ("ImageType", "PatientID", "PatientName", "StudyDate", "Modality", "RescaleType")
    keyword = rng.choice((*keywords, "SpecificCharacterSet", "PhotometricInterpretation"))
    return set_value(content, keyword, rng.choice(_TEXTS))


def _named(rng: random.Random, content: bytes) -> bytes:
    keyword = rng.choice(["StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID", "SOPClassUID"])
    keyword = rng.choice([keyword, "FrameOfReferenceUID", "TransferSyntaxUID"])
    return set_value(content, keyword, rng.choice(HOSTILE_UIDS))


_BYTE_FAULTS: tuple[_Fault, ...] = (_flipped, _flipped, _cut, _spliced, _noisy)
_ELEMENT_FAULTS: tuple[_Fault, ...] = (
    *(_lying, _renamed, _deep, _crowded, _overcrowded),
    *(_claiming, _claiming, _misplaced, _worded, _named),
)


@dataclass(frozen=True, kw_only=True)
class Picture:
    """One good compressed frame with its data set."""

    transfer_syntax_uid: str
    stream: bytes
    dataset: Dataset

    def write(self, path: Path, stream: bytes) -> None:
        """Write a file that has another stream instead."""
        self.dataset.PixelData = encapsulate([stream])
        self.dataset.save_as(path)


def make_pictures(samples: Sequence[Sample]) -> list[Picture]:
    """Take a frame out of each compressed sample."""
    pictures = []
    for sample in samples:
        if sample.transfer_syntax_uid in COMPRESSED:
            dataset = dcmread(BytesIO(sample.files[SLICES // 2]))
            stream = next(generate_frames(dataset.PixelData, number_of_frames=1))
            pictures.append(
                Picture(
                    transfer_syntax_uid=sample.transfer_syntax_uid, stream=stream, dataset=dataset
                )
            )
    return pictures


def claim(picture: Picture, rows: int, columns: int) -> bytes:
    """Give the stream with another size in its own header."""
    marker, code, offset = _SIZES[picture.transfer_syntax_uid]
    start = picture.stream.index(marker) + offset
    # JPEG has rows before columns, JPEG 2000 columns before rows (Xsiz, Ysiz).
    sizes = (rows, columns) if code == ">H" else (columns, rows)
    head = b"".join(struct.pack(code, size) for size in sizes)
    return picture.stream[:start] + head + picture.stream[start + len(head) :]


def hostile_stream(rng: random.Random, picture: Picture) -> bytes:
    """Draw what is wrong with a frame."""
    stream = picture.stream
    # To compute what is claimed takes a decoder seconds.
    if rng.random() < 0.01 and picture.transfer_syntax_uid in _SIZES:
        return claim(picture, rng.choice((*_COUNTS, 31, 33)), rng.choice((*_COUNTS, 31, 33)))
    if rng.random() < 0.2:
        return stream[: rng.randrange(len(stream))]
    if rng.random() < 0.2:
        start = rng.randrange(len(stream))
        return stream[:start] + rng.randbytes(rng.choice([2, 20])) + stream[start:]
    return flip(rng, stream)

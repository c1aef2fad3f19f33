"""Does a written object hold what it was made from? Asked of the file, not of the memory.

The reading here shares no code with the writing: bits are unpacked and the content tree is walked
by hand.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset, dcmread
from pydicom.sr.coding import Code

from config.results import ProfileSettings, SegmentationForm
from dicom_io import codes
from dicom_io.errors import ResultMismatch
from dicom_io.frames import Frame
from dicom_io.identity import identity_differences
from dicom_io.provenance import EVERY_VIEWER
from dicom_io.segments import PlannedSegments, SegmentPlan
from dicom_io.series import SourceSeries
from dicom_io.source_images import list_planes
from dicom_io.values import first_item, read_numbers, read_text
from inference.findings import Probabilities
from inference.labels import Label
from inference.volume import Volume

LABELS_OF_FRACTIONS = (Label.LIVER, Label.TUMOR)
"""What the segments of a FRACTIONAL SEG are, in their order."""
_BACKGROUND = 0
"""Segment Number of what is in no segment, which a LABELMAP describes too."""

SEG_CHECKS = ("patient and study", "segments", "grid", "position of each frame", "each voxel")
"""What `check_seg` compares."""
SR_CHECKS = ("patient and study", "evidence", "cited segments", "volumes", "lines")
"""What `check_sr` compares."""
POSITION_TOLERANCE_MM = 1e-4
"""Largest difference between a frame's position and that of the source frame it names."""
DIRECTION_TOLERANCE = 1e-4
SPACING_TOLERANCE_MM = 1e-4
VOLUME_TOLERANCE = 6e-4
"""Of the volume, and in ml: what rounding in the report may cost."""


def check_seg(
    path: Path,
    source: SourceSeries,
    planned: PlannedSegments,
    form: ProfileSettings = EVERY_VIEWER.form,
    probabilities: Probabilities | None = None,
) -> None:
    """Compare a written SEG with the plan voxel for voxel, and with the source plane for plane.

    Parameters
    ----------
    path
        The SEG.
    source
        The series.
    planned
        The segments that it should hold.
    form
        Its type.
    probabilities
        What it should hold if that is FRACTIONAL.

    Raises
    ------
    ResultMismatch
        With the first difference found.
    """
    seg = dcmread(path)
    check_identity(seg, source)
    _check_descriptions(seg, planned.segments)
    planes = list_planes(source)
    _check_grid(seg, planes[0], source)
    places = _FramePlaces(seg=seg, source=source, planes=planes)
    if form.segmentation is SegmentationForm.FRACTIONAL and probabilities is not None:
        for number, label in enumerate(LABELS_OF_FRACTIONS[: len(planned.segments)], start=1):
            _compare(_read_fractions(seg, places, number), probabilities[label].array)
    elif form.segmentation is SegmentationForm.LABELMAP:
        _compare(_read_labelmap(seg, places), planned.numbers.array)
    else:
        _compare(_read_bits(seg, places, planned.numbers), planned.numbers.array)


def _read_bits(seg: Dataset, places: "_FramePlaces", planned: Volume) -> NDArray[np.integer]:
    """Give each voxel the number of the segment that has its bit."""
    numbers = np.zeros(planned.shape, dtype=planned.dtype)
    for index, mask in enumerate(_unpack_frames(seg)):
        plane, number = numbers[places.slice_of(index)], places.segment_of(index)
        if not mask.any():
            continue
        if np.any(plane[mask]):
            raise ResultMismatch(f"SEG frame {index + 1} overlaps another segment")
        plane[mask] = number
    return numbers


def _read_labelmap(seg: Dataset, places: "_FramePlaces") -> NDArray[np.integer]:
    """Give each voxel the number that it has in its frame."""
    frames = _byte_frames(seg, np.dtype("<u2" if seg.BitsAllocated == 16 else "u1"))
    numbers = np.zeros((len(places.planes), *frames.shape[1:]), dtype=frames.dtype)
    for index, frame in enumerate(frames):
        numbers[places.slice_of(index)] = frame
    return numbers


def _read_fractions(seg: Dataset, places: "_FramePlaces", number: int) -> NDArray[np.integer]:
    """Give each voxel the value that it has in the frames of a segment."""
    frames = _byte_frames(seg, np.dtype("u1"))
    fractions = np.zeros((len(places.planes), *frames.shape[1:]), dtype=frames.dtype)
    for index, frame in enumerate(frames):
        if places.segment_of(index) == number:
            fractions[places.slice_of(index)] = frame
    return fractions


def _byte_frames(seg: Dataset, dtype: np.dtype[np.integer]) -> NDArray[np.integer]:
    shape = int(seg.NumberOfFrames), int(seg.Rows), int(seg.Columns)
    byte_count = int(np.prod(shape)) * dtype.itemsize
    if len(seg.PixelData) != byte_count + byte_count % 2:
        raise ResultMismatch(f"SEG has {len(seg.PixelData)} bytes of pixels for {shape[0]} frames")
    return np.frombuffer(seg.PixelData[:byte_count], dtype).reshape(shape)


def _compare(found: NDArray[np.integer], expected: NDArray[np.integer]) -> None:
    differing = [np.count_nonzero(ours != plan) for ours, plan in zip(found, expected, strict=True)]
    wrong = np.flatnonzero(differing)
    if wrong.size:
        raise ResultMismatch(
            f"SEG differs from the plan in {sum(differing)} voxels of {wrong.size} slices, "
            f"the first of index {wrong[0]}"
        )


def check_sr(path: Path, source: SourceSeries, seg: Dataset, planned: PlannedSegments) -> None:
    """Compare a written report with the SEG that it cites and with the source.

    Parameters
    ----------
    path
        The report.
    source
        The series.
    seg
        The SEG; its file is already checked.
    planned
        Its segments.

    Raises
    ------
    ResultMismatch
        With the first difference found.
    """
    sr = dcmread(path)
    check_identity(sr, source)
    _check_evidence(sr, source, seg)
    tracking_uids = {
        int(item.SegmentNumber): str(item.TrackingUID)
        for item in seg.SegmentSequence
        if item.SegmentNumber != _BACKGROUND
    }
    voxel_ml = abs(float(np.linalg.det(source.volume.affine[:3, :3]))) / 1000
    volumes_ml = _count_voxels(planned) * voxel_ml
    cited: list[int] = []
    drawn: set[str] = set()
    for group in _measurement_groups(sr):
        uid = _tracking_uid(group)
        drawn.update(uid for item in walk(group) if item.ValueType == "SCOORD")
        for item in walk(group):
            if is_named(item, codes.REFERENCED_SEGMENT):
                number = _cited_segment(item, seg)
                if tracking_uids.get(number) != uid:
                    raise ResultMismatch(f"SR tracks segment {number} under another UID than SEG")
                _check_volume(group, number, float(volumes_ml[number]))
                cited.append(number)
    if sorted(cited) != sorted(tracking_uids):
        raise ResultMismatch(f"SR has groups of segments {cited}, SEG has {sorted(tracking_uids)}")
    if drawn != planned.tracking_uids:
        raise ResultMismatch("SR has a tracked finding without a line, or a line without a finding")


def check_identity(dataset: Dataset, source: SourceSeries) -> None:
    """Compare patient and study of an object with those of its source.

    Raises
    ------
    ResultMismatch
    """
    differing = ", ".join(identity_differences(dataset, source.datasets[0]))
    if differing:
        raise ResultMismatch(f"{dataset.Modality} differs from the source in {differing}")


def _check_descriptions(seg: Dataset, segments: tuple[SegmentPlan, ...]) -> None:
    written = [
        (int(item.SegmentNumber), str(item.SegmentLabel), str(item.TrackingUID))
        for item in seg.SegmentSequence
        if item.SegmentNumber != _BACKGROUND
    ]
    planned = [(segment.number, segment.label, segment.tracking_uid) for segment in segments]
    if written != planned:
        raise ResultMismatch(f"SEG describes {len(written)} segments other than the plan")


def _check_grid(seg: Dataset, plane: Frame, source: SourceSeries) -> None:
    """Compare what all frames share with the source."""
    shared = seg.SharedFunctionalGroupsSequence[0]
    measures = shared.PixelMeasuresSequence[0]
    stated = {
        "pixel spacing": (_values(measures, "PixelSpacing", 2), plane.pixel_spacing_mm),
        "slice spacing": (
            _values(measures, "SpacingBetweenSlices", 1),
            (float(source.volume.spacing_between_slices),),
        ),
        "orientation": (
            _values(shared.PlaneOrientationSequence[0], "ImageOrientationPatient", 6),
            plane.orientation,
        ),
    }
    for name, (found, expected) in stated.items():
        tolerance = DIRECTION_TOLERANCE if name == "orientation" else SPACING_TOLERANCE_MM
        if not np.allclose(found, expected, rtol=0, atol=tolerance):
            raise ResultMismatch(f"SEG has {name} {found}, the source {expected}")
    if seg.FrameOfReferenceUID != source.volume.frame_of_reference_uid:
        raise ResultMismatch("SEG has another frame of reference than the source")
    if (seg.Rows, seg.Columns) != source.volume.shape[1:3]:
        raise ResultMismatch(f"SEG has {seg.Rows} x {seg.Columns} pixels, unlike the source")


@dataclass(frozen=True, kw_only=True, eq=False)
class _FramePlaces:
    """Finds the slice of a frame by the source it names, and checks it by its position."""

    seg: Dataset
    source: SourceSeries
    planes: tuple[Frame, ...]

    def segment_of(self, index: int) -> int:
        """Give the segment number of a frame (index from 0)."""
        identification = first_item(
            self.seg.PerFrameFunctionalGroupsSequence[index], "SegmentIdentificationSequence"
        ) or first_item(self.seg.SharedFunctionalGroupsSequence[0], "SegmentIdentificationSequence")
        if identification is None:
            raise ResultMismatch(f"SEG frame {index + 1} names no segment")
        return int(identification.ReferencedSegmentNumber)

    def slice_of(self, index: int) -> int:
        """Give the slice index of a frame (index from 0)."""
        own = self.seg.PerFrameFunctionalGroupsSequence[index]
        named = first_item(first_item(own, "DerivationImageSequence"), "SourceImageSequence")
        if named is None:
            raise ResultMismatch(f"SEG frame {index + 1} names no source image")
        slice_index = self._named_slice(named, index)
        position_mm = _values(own.PlanePositionSequence[0], "ImagePositionPatient", 3)
        expected_mm = self.planes[slice_index].position_mm
        if not np.allclose(position_mm, expected_mm, rtol=0, atol=POSITION_TOLERANCE_MM):
            raise ResultMismatch(
                f"SEG frame {index + 1} lies at {position_mm} mm, "
                f"the source image that it names at {expected_mm} mm"
            )
        return slice_index

    def _named_slice(self, named: Dataset, index: int) -> int:
        frame_number = named.get("ReferencedFrameNumber")
        key = (
            read_text(named, "ReferencedSOPInstanceUID"),
            None if frame_number is None else int(frame_number),
        )
        if key not in self.source.frame_sources:
            raise ResultMismatch(f"SEG frame {index + 1} names an image that is not of the source")
        return self.source.frame_sources.index(key)


def _unpack_frames(seg: Dataset) -> Iterator[NDArray[np.bool_]]:
    """Unpack 1-bit pixels: least significant bit first, no padding of frames (PS3.5 8.1.1)."""
    rows, columns, frames = int(seg.Rows), int(seg.Columns), int(seg.NumberOfFrames)
    pixels = rows * columns
    packed = np.frombuffer(seg.PixelData, dtype=np.uint8)
    byte_count = (pixels * frames + 7) // 8
    if packed.size != byte_count + byte_count % 2:
        raise ResultMismatch(f"SEG has {packed.size} bytes of pixels for {frames} frames")
    for frame in range(frames):
        first, last = frame * pixels, (frame + 1) * pixels
        bits = np.unpackbits(packed[first // 8 : (last + 7) // 8], bitorder="little")
        mask = bits[first % 8 : first % 8 + pixels].view(np.bool_)
        yield mask.reshape(rows, columns)


def _check_evidence(sr: Dataset, source: SourceSeries, seg: Dataset) -> None:
    """Compare what the content tree cites with the evidence, and that with source and SEG."""
    evidence = {
        str(item.ReferencedSOPInstanceUID)
        for study in sr.CurrentRequestedProcedureEvidenceSequence
        for series in study.ReferencedSeriesSequence
        for item in series.ReferencedSOPSequence
    }
    if evidence != {*source.sop_instance_uids, str(seg.SOPInstanceUID)}:
        raise ResultMismatch(f"SR lists {len(evidence)} instances other than source and SEG")
    cited = {
        str(reference.ReferencedSOPInstanceUID)
        for item in walk(sr)
        for reference in item.get("ReferencedSOPSequence", [])
    }
    if not cited <= evidence:
        raise ResultMismatch(f"SR cites {len(cited - evidence)} instances that it does not list")


def _count_voxels(planned: PlannedSegments) -> NDArray[np.intp]:
    """Count the voxels of each segment number, background first."""
    # Slice by slice: bincount widens its input to 8 bytes a voxel.
    counts = np.zeros(len(planned.segments) + 1, dtype=np.intp)
    for plane in planned.numbers.array:
        if plane.any():
            counts += np.bincount(plane.ravel(), minlength=len(counts))
    return counts


def _check_volume(group: Dataset, number: int, expected_ml: float) -> None:
    for item in group.ContentSequence:
        if is_named(item, codes.VOLUME):
            (volume_ml,) = _values(item.MeasuredValueSequence[0], "NumericValue", 1)
            if abs(volume_ml - expected_ml) > VOLUME_TOLERANCE * max(1.0, expected_ml):
                raise ResultMismatch(
                    f"SR gives segment {number} {volume_ml} ml, its voxels are {expected_ml:.4f} ml"
                )
            return
    raise ResultMismatch(f"SR gives no volume of segment {number}")


def _cited_segment(item: Dataset, seg: Dataset) -> int:
    reference = item.ReferencedSOPSequence[0]
    if reference.ReferencedSOPInstanceUID != seg.SOPInstanceUID:
        raise ResultMismatch("SR cites another segmentation than the one written with it")
    return int(reference.ReferencedSegmentNumber)


def _measurement_groups(sr: Dataset) -> list[Dataset]:
    return [item for item in walk(sr) if is_named(item, codes.MEASUREMENT_GROUP)]


def _tracking_uid(group: Dataset) -> str:
    for item in group.ContentSequence:
        if is_named(item, codes.TRACKING_UNIQUE_IDENTIFIER):
            return str(item.UID)
    raise ResultMismatch("SR has a measurement group without a tracking UID")


def walk(item: Dataset) -> Iterator[Dataset]:
    """Give all content items below an item, in the order of the tree."""
    for child in item.get("ContentSequence", []):
        yield child
        yield from walk(child)


def is_named(item: Dataset, code: Code) -> bool:
    """Whether a content item has a certain concept name."""
    name = first_item(item, "ConceptNameCodeSequence")
    return name is not None and (
        read_text(name, "CodeValue") == code.value
        and read_text(name, "CodingSchemeDesignator") == code.scheme_designator
    )


def _values(dataset: Dataset, keyword: str, count: int) -> tuple[float, ...]:
    numbers = read_numbers(dataset, keyword, count)
    if numbers is None:
        raise ResultMismatch(f"{keyword} is missing or malformed")
    return numbers

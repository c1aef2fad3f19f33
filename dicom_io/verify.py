"""Does a written object hold what it was made from? Asked of the file, not of the memory.

The reading here shares no code with the writing: bits are unpacked and the content tree is walked
by hand.
"""

from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset, dcmread
from pydicom.sr.coding import Code

from dicom_io import codes
from dicom_io.errors import ResultMismatch
from dicom_io.frames import Frame
from dicom_io.identity import identity_differences
from dicom_io.segments import PlannedSegments, SegmentPlan
from dicom_io.series import SourceSeries
from dicom_io.source_images import list_planes
from dicom_io.values import first_item, read_numbers, read_text

POSITION_TOLERANCE_MM = 1e-4
"""Largest difference between a frame's position and that of the source frame it names."""
DIRECTION_TOLERANCE = 1e-4
SPACING_TOLERANCE_MM = 1e-4
VOLUME_TOLERANCE = 6e-4
"""Of the volume, and in ml: what rounding in the report may cost."""


def check_seg(path: Path, source: SourceSeries, planned: PlannedSegments) -> dict[int, int]:
    """Compare a written SEG with the plan voxel for voxel, and with the source plane for plane.

    Returns
    -------
    dict[int, int]
        Voxels of each segment number, as counted in the file.

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
    numbers = np.zeros(planned.numbers.shape, dtype=planned.numbers.dtype)
    counts: dict[int, int] = defaultdict(int)
    for index, mask in enumerate(_unpack_frames(seg)):
        segment_number, slice_index = places.find(index)
        if np.any(numbers[slice_index][mask]):
            raise ResultMismatch(f"SEG frame {index + 1} overlaps another segment")
        numbers[slice_index][mask] = segment_number
        counts[segment_number] += int(np.count_nonzero(mask))
    wrong = np.flatnonzero(np.any(numbers != planned.numbers.array, axis=(1, 2)))
    if wrong.size:
        differing = int(np.count_nonzero(numbers[wrong] != planned.numbers.array[wrong]))
        raise ResultMismatch(
            f"SEG differs from the plan in {differing} voxels of {wrong.size} slices, "
            f"the first of index {wrong[0]}"
        )
    return dict(counts)


def check_sr(path: Path, source: SourceSeries, seg_path: Path, counts: Mapping[int, int]) -> None:
    """Compare a written report with the SEG that it cites and with the source.

    Parameters
    ----------
    path
        The report.
    source
        The series.
    seg_path
        The SEG, already checked.
    counts
        Voxels of each segment, as `check_seg` counted them.

    Raises
    ------
    ResultMismatch
        With the first difference found.
    """
    sr, seg = dcmread(path), dcmread(seg_path, stop_before_pixels=True)
    check_identity(sr, source)
    _check_evidence(sr, source, seg)
    tracking_uids = {int(item.SegmentNumber): str(item.TrackingUID) for item in seg.SegmentSequence}
    voxel_ml = abs(float(np.linalg.det(source.volume.affine[:3, :3]))) / 1000
    cited: list[int] = []
    drawn: set[str] = set()
    for group in _measurement_groups(sr):
        uid = _tracking_uid(group)
        drawn.update(uid for item in _walk(group) if item.ValueType == "SCOORD")
        for item in _walk(group):
            if is_named(item, codes.REFERENCED_SEGMENT):
                number = _cited_segment(item, seg)
                if tracking_uids.get(number) != uid:
                    raise ResultMismatch(f"SR tracks segment {number} under another UID than SEG")
                _check_volume(group, number, counts.get(number, 0) * voxel_ml)
                cited.append(number)
    if sorted(cited) != sorted(tracking_uids):
        raise ResultMismatch(f"SR has groups of segments {cited}, SEG has {sorted(tracking_uids)}")
    if drawn != set(tracking_uids.values()):
        raise ResultMismatch("SR has a tracked finding without a line, or a line without a finding")


def check_identity(dataset: Dataset, source: SourceSeries) -> None:
    """Compare patient and study of an object with the source.

    Raises
    ------
    ResultMismatch
        With all attributes that differ.
    """
    differing = ", ".join(identity_differences(dataset, source.datasets[0]))
    if differing:
        raise ResultMismatch(f"{dataset.Modality} differs from the source in {differing}")


def _check_descriptions(seg: Dataset, segments: tuple[SegmentPlan, ...]) -> None:
    written = [
        (int(item.SegmentNumber), str(item.SegmentLabel), str(item.TrackingUID))
        for item in seg.SegmentSequence
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

    def find(self, index: int) -> tuple[int, int]:
        """Give segment number and slice index of a frame (index from 0)."""
        own = self.seg.PerFrameFunctionalGroupsSequence[index]
        shared = self.seg.SharedFunctionalGroupsSequence[0]
        identification = first_item(own, "SegmentIdentificationSequence") or first_item(
            shared, "SegmentIdentificationSequence"
        )
        derivation = first_item(own, "DerivationImageSequence")
        named = first_item(derivation, "SourceImageSequence")
        if identification is None or named is None:
            raise ResultMismatch(f"SEG frame {index + 1} names no segment or no source image")
        slice_index = self._slice_of(named, index)
        position_mm = _values(own.PlanePositionSequence[0], "ImagePositionPatient", 3)
        expected_mm = self.planes[slice_index].position_mm
        if not np.allclose(position_mm, expected_mm, rtol=0, atol=POSITION_TOLERANCE_MM):
            raise ResultMismatch(
                f"SEG frame {index + 1} lies at {position_mm} mm, "
                f"the source image that it names at {expected_mm} mm"
            )
        return int(identification.ReferencedSegmentNumber), slice_index

    def _slice_of(self, named: Dataset, index: int) -> int:
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
        for item in _walk(sr)
        for reference in item.get("ReferencedSOPSequence", [])
    }
    if not cited <= evidence:
        raise ResultMismatch(f"SR cites {len(cited - evidence)} instances that it does not list")


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
    return [item for item in _walk(sr) if is_named(item, codes.MEASUREMENT_GROUP)]


def _tracking_uid(group: Dataset) -> str:
    for item in group.ContentSequence:
        if is_named(item, codes.TRACKING_UNIQUE_IDENTIFIER):
            return str(item.UID)
    raise ResultMismatch("SR has a measurement group without a tracking UID")


def _walk(item: Dataset) -> Iterator[Dataset]:
    for child in item.get("ContentSequence", []):
        yield child
        yield from _walk(child)


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

import shutil

import numpy as np
import pytest
from pydicom import dcmread

from dicom_io import codes
from dicom_io.errors import ResultMismatch
from dicom_io.segments import plan_segments
from dicom_io.uids import derive_uid
from dicom_io.verify import check_seg, check_sr


@pytest.fixture(scope="module")
def planned(case, written):
    """The plan of the written objects, with the tracking UIDs that were written."""
    seg = dcmread(written[0])
    plan = plan_segments(
        case.segmentation.labels, case.findings, case.context.settings, content_key="any"
    )
    uids = [segment.TrackingUID for segment in seg.SegmentSequence]
    segments = [
        type(segment)(**{**vars(segment), "tracking_uid": uid})
        for segment, uid in zip(plan.segments, uids, strict=True)
    ]
    return type(plan)(segments=tuple(segments), numbers=plan.numbers)


@pytest.fixture
def copies(written, tmp_path):
    """SEG and SR to be tampered with."""
    return [shutil.copy(path, tmp_path) for path in written]


def _frame(seg, index):
    return seg.PerFrameFunctionalGroupsSequence[index]


def _flip_one_bit(seg):
    pixels = bytearray(seg.PixelData)
    pixels[len(pixels) // 2] ^= 4
    seg.PixelData = bytes(pixels)


def _reverse_bit_order(seg):
    """Keeps all voxel counts."""
    bits = np.unpackbits(np.frombuffer(seg.PixelData, np.uint8), bitorder="big")
    seg.PixelData = np.packbits(bits, bitorder="little").tobytes()


def _cut_pixels(seg):
    seg.PixelData = seg.PixelData[:-2]


def _repeat_a_frame(seg):
    segment = _frame(seg, 0).SegmentIdentificationSequence[0]
    segment.ReferencedSegmentNumber = 2


def _shift_a_frame(seg):
    position = _frame(seg, 1).PlanePositionSequence[0].ImagePositionPatient
    position[2] = float(position[2]) + 0.01


def _cite_another_slice(seg):
    first, second = (_frame(seg, i).DerivationImageSequence[0] for i in (1, 2))
    first.SourceImageSequence = second.SourceImageSequence


def _cite_a_stranger(seg):
    item = _frame(seg, 1).DerivationImageSequence[0].SourceImageSequence[0]
    item.ReferencedSOPInstanceUID = derive_uid("stranger")


def _cite_nothing(seg):
    _frame(seg, 1).DerivationImageSequence = []


def _measures(seg):
    return seg.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0]


def _transpose_spacing(seg):
    _measures(seg).PixelSpacing = list(_measures(seg).PixelSpacing)[::-1]


def _stretch_slices(seg):
    _measures(seg).SpacingBetweenSlices = 3.01


def _turn(seg):
    plane = seg.SharedFunctionalGroupsSequence[0].PlaneOrientationSequence[0]
    plane.ImageOrientationPatient = [1, 0, 0, 0, -1, 0]


def _rename_a_segment(seg):
    seg.SegmentSequence[1].TrackingUID = derive_uid("another lesion")


def _change(keyword, value):
    return lambda ds: setattr(ds, keyword, value)


SEG_TAMPERINGS = {
    "one voxel": (_flip_one_bit, "in 1 voxels of 1 slices|overlaps"),
    "bit order": (_reverse_bit_order, "voxels of|overlaps"),
    "pixels cut": (_cut_pixels, "bytes of pixels"),
    "two segments in one place": (_repeat_a_frame, "voxels of|overlaps"),
    "position": (_shift_a_frame, "frame 2 lies at"),
    "reference": (_cite_another_slice, "frame 2 lies at"),
    "foreign reference": (_cite_a_stranger, "frame 2 names an image that is not of the source"),
    "no reference": (_cite_nothing, "no source image"),
    "pixel spacing": (_transpose_spacing, "pixel spacing"),
    "slice spacing": (_stretch_slices, "slice spacing"),
    "orientation": (_turn, "orientation"),
    "frame of reference": (_change("FrameOfReferenceUID", derive_uid("x")), "frame of reference"),
    "tracking": (_rename_a_segment, "segments other than the plan"),
    "patient": (_change("PatientID", "SOMEBODY-ELSE"), "PatientID"),
    "study": (_change("StudyInstanceUID", derive_uid("x")), "StudyInstanceUID"),
}


def test_written_objects_pass(case, written, planned):
    check_seg(written[0], case.source, planned)
    check_sr(written[1], case.source, dcmread(written[0]), planned)


@pytest.mark.parametrize("tampering", SEG_TAMPERINGS)
def test_a_seg_that_differs_is_caught(case, copies, planned, tampering):
    tamper, message = SEG_TAMPERINGS[tampering]
    seg = dcmread(copies[0])
    tamper(seg)
    seg.save_as(copies[0])
    with pytest.raises(ResultMismatch, match=message):
        check_seg(copies[0], case.source, planned)


def _items(item):
    for child in item.get("ContentSequence", []):
        yield child
        yield from _items(child)


def _find(sr, code, index=0):
    named = [item for item in _items(sr) if item.ConceptNameCodeSequence[0].CodeValue == code.value]
    return named[index]


def _raise_a_volume(sr):
    value = _find(sr, codes.VOLUME, 1).MeasuredValueSequence[0]
    value.NumericValue = float(value.NumericValue) + 0.01


def _cite_another_segment(sr):
    reference = _find(sr, codes.REFERENCED_SEGMENT, 1).ReferencedSOPSequence[0]
    reference.ReferencedSegmentNumber = 3


def _cite_another_seg(sr):
    reference = _find(sr, codes.REFERENCED_SEGMENT).ReferencedSOPSequence[0]
    reference.ReferencedSOPInstanceUID = (
        sr.CurrentRequestedProcedureEvidenceSequence[0]
        .ReferencedSeriesSequence[0]
        .ReferencedSOPSequence[0]
        .ReferencedSOPInstanceUID
    )


def _drop_a_group(sr):
    measurements = _find(sr, codes.codes.DCM.ImagingMeasurements)
    del measurements.ContentSequence[-2]


def _drop_a_line(sr):
    measurements = _find(sr, codes.codes.DCM.ImagingMeasurements)
    del measurements.ContentSequence[-1]


def _drop_evidence(sr):
    series = sr.CurrentRequestedProcedureEvidenceSequence[0].ReferencedSeriesSequence[0]
    del series.ReferencedSOPSequence[0]


def _drop_a_volume(sr):
    group = _find(sr, codes.MEASUREMENT_GROUP, 1)
    group.ContentSequence = [
        item
        for item in group.ContentSequence
        if item.ConceptNameCodeSequence[0].CodeValue != codes.VOLUME.value
    ]


def _drop_tracking(sr):
    group = _find(sr, codes.MEASUREMENT_GROUP)
    group.ContentSequence = list(group.ContentSequence)[2:]


SR_TAMPERINGS = {
    "volume": (_raise_a_volume, "its voxels are"),
    "no volume": (_drop_a_volume, "no volume of segment 1"),
    "segment": (_cite_another_segment, "another UID"),
    "segmentation": (_cite_another_seg, "another segmentation"),
    "group": (_drop_a_group, "groups of segments"),
    "line": (_drop_a_line, "without a line"),
    "tracking": (_drop_tracking, "without a tracking UID"),
    "evidence": (_drop_evidence, "other than source and SEG"),
    "patient": (_change("PatientName", "Somebody^Else"), "PatientName"),
}


@pytest.mark.parametrize("tampering", SR_TAMPERINGS)
def test_a_report_that_differs_is_caught(case, copies, planned, tampering):
    tamper, message = SR_TAMPERINGS[tampering]
    sr = dcmread(copies[1])
    tamper(sr)
    sr.save_as(copies[1])
    check_seg(copies[0], case.source, planned)
    with pytest.raises(ResultMismatch, match=message):
        check_sr(copies[1], case.source, dcmread(copies[0]), planned)

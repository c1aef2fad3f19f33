"""Segmentation objects (SEG, PS3.3 A.51): planned segments to one BINARY instance."""

import highdicom as hd
import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset
from pydicom.sr.coding import Code

from config.settings import ResultSettings
from dicom_io import codes
from dicom_io.identity import stamp_identity, timezone_offset
from dicom_io.provenance import (
    CONTENT_CREATOR_NAME,
    InstanceUids,
    ResultBasis,
    equipment,
    seg_algorithm_identification,
    stamp_dates,
)
from dicom_io.segments import PlannedSegments, SegmentKind, SegmentPlan
from dicom_io.source_images import SourceImages
from dicom_io.uids import derive_uid
from inference.volume import Volume

CONTENT_LABEL = "LIVER_LESIONS"
CONTENT_DESCRIPTION = "Liver and liver lesions, AI result, not reviewed"


def build_seg(basis: ResultBasis, planned: PlannedSegments, uids: InstanceUids) -> Dataset:
    """Build the SEG of a series.

    Each frame is one segment in one slice, named with the source instance (and frame) that it lies
    on, at the position which that instance states (PS3.3 C.8.20). Frames without a voxel are left
    out.

    Parameters
    ----------
    basis
        The source, the wording and the maker.
    planned
        The segments, on the grid of the source's volume.
    uids
        Series and instance UID of the SEG.

    Raises
    ------
    ValueError
        If the segments do not lie on the grid of the source.
    """
    source, settings, provenance = basis.source, basis.settings, basis.provenance
    _check_same_grid(planned.numbers, source.volume)
    seg = hd.seg.Segmentation(
        source_images=basis.images.datasets,
        pixel_array=_frames(planned.numbers.array, basis.images),
        segmentation_type=hd.seg.SegmentationTypeValues.BINARY,
        segment_descriptions=[_describe(segment, basis) for segment in planned.segments],
        series_instance_uid=uids.series_instance_uid,
        series_number=settings.seg_series_number,
        sop_instance_uid=uids.sop_instance_uid,
        instance_number=1,
        content_label=CONTENT_LABEL,
        content_description=CONTENT_DESCRIPTION,
        content_creator_name=CONTENT_CREATOR_NAME,
        series_description=settings.seg_series_description,
        **equipment(provenance),
    )
    stamp_identity(seg, source.datasets[0], (settings.seg_series_description, *provenance.texts))
    stamp_dates(seg, provenance, timezone_offset(source.datasets[0]))
    _name_dimension_organization(seg, uids)
    _zero_padding(seg)
    dataset: Dataset = seg
    return dataset


def _check_same_grid(numbers: Volume, volume: Volume) -> None:
    if numbers.shape != volume.shape or not np.allclose(numbers.affine, volume.affine, atol=1e-4):
        raise ValueError("the segments do not lie on the grid of the source series")


def _frames(numbers: NDArray[np.integer], images: SourceImages) -> NDArray[np.integer]:
    """Put the slices in the order of the source frames, as highdicom pairs them by index."""
    if images.slices == tuple(range(len(numbers))):
        return numbers
    frames = np.zeros((len(images.slices), *numbers.shape[1:]), dtype=numbers.dtype)
    for frame, index in zip(frames, images.slices, strict=True):
        if index is not None:
            frame[:] = numbers[index]
    return frames


def _describe(segment: SegmentPlan, basis: ResultBasis) -> hd.seg.SegmentDescription:
    """Describe a segment (PS3.3 C.8.20.4)."""
    is_liver = segment.kind is SegmentKind.LIVER
    return hd.seg.SegmentDescription(
        segment_number=segment.number,
        segment_label=segment.label,
        segmented_property_category=property_category(segment),
        segmented_property_type=property_type(segment, basis.settings),
        algorithm_type=hd.seg.SegmentAlgorithmTypeValues.AUTOMATIC,
        algorithm_identification=seg_algorithm_identification(basis.provenance),
        tracking_uid=segment.tracking_uid,
        tracking_id=segment.tracking_identifier,
        anatomic_regions=None if is_liver else [codes.LIVER],
        display_color=hd.color.CIELabColor.from_rgb(*segment.color),
    )


def property_category(segment: SegmentPlan) -> Code:
    """Give the Segmented Property Category (CID 7150)."""
    if segment.kind is SegmentKind.LIVER:
        return codes.ANATOMICAL_STRUCTURE
    return codes.MORPHOLOGICALLY_ABNORMAL_STRUCTURE


def property_type(segment: SegmentPlan, settings: ResultSettings) -> Code:
    """Give the Segmented Property Type (CID 7151)."""
    if segment.kind is SegmentKind.LIVER:
        return codes.LIVER
    return codes.NEOPLASM if settings.tumor_type == "neoplasm" else codes.LESION


def _name_dimension_organization(seg: Dataset, uids: InstanceUids) -> None:
    """Replace highdicom's random UID, so that a repeat gives the same object."""
    uid = derive_uid("dimension-organization", uids.sop_instance_uid)
    for item in (*seg.DimensionOrganizationSequence, *seg.DimensionIndexSequence):
        item.DimensionOrganizationUID = uid


def _zero_padding(seg: Dataset) -> None:
    """Pad Pixel Data with zero (PS3.5 8.1.1); highdicom 0.28 pads with the character "0"."""
    bits = int(seg.NumberOfFrames) * int(seg.Rows) * int(seg.Columns)
    byte_count = (bits + 7) // 8
    seg.PixelData = seg.PixelData[:byte_count] + b"\0" * (byte_count % 2)

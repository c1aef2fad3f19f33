"""Segmentation objects (SEG, PS3.3 A.51): planned segments to one instance."""

import highdicom as hd
import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset
from pydicom.sr.coding import Code

from config.settings import ProfileSettings, ResultSettings, SegmentationForm
from dicom_io import codes
from dicom_io.identity import stamp_identity, timezone_offset
from dicom_io.provenance import (
    CONTENT_CREATOR_NAME,
    EVERY_VIEWER,
    InstanceUids,
    ResultBasis,
    equipment,
    seg_algorithm_identification,
    stamp_dates,
)
from dicom_io.segments import PlannedSegments, SegmentKind, SegmentPlan
from dicom_io.source_images import SourceImages
from dicom_io.uids import derive_uid
from inference.findings import FULL_PROBABILITY, Probabilities
from inference.labels import Label
from inference.volume import Volume

CONTENT_LABEL = "LIVER_LESIONS"
CONTENT_DESCRIPTION = "Liver and liver lesions, AI result, not reviewed"


def build_seg(
    basis: ResultBasis,
    planned: PlannedSegments,
    uids: InstanceUids,
    form: ProfileSettings = EVERY_VIEWER.form,
    probabilities: Probabilities | None = None,
) -> Dataset:
    """Build the SEG of a series.

    Each frame is one segment in one slice, or all of them in one slice (LABELMAP), named with the
    source instance (and frame) that it lies on, at the position which that instance states (PS3.3
    C.8.20). Pixels are not compressed, so that every archive can take them.

    Parameters
    ----------
    basis
        The source, the wording and the maker.
    planned
        The segments, on the grid of the source's volume.
    uids
        Series and instance UID of the SEG.
    form
        Its type, and whether frames without a voxel are kept.
    probabilities
        What a FRACTIONAL SEG holds, in the order of its segments.

    Raises
    ------
    ValueError
        If the segments do not lie on the grid of the source, or a FRACTIONAL SEG is asked for
        without probabilities.
    """
    source, settings, provenance = basis.source, basis.settings, basis.provenance
    _check_same_grid(planned.numbers, source.volume)
    pixels: NDArray[np.integer] | NDArray[np.floating]
    if form.segmentation is SegmentationForm.FRACTIONAL:
        pixels = _stack(probabilities, planned, basis.images)
    else:
        pixels = _frames(planned.numbers.array, basis.images)
    seg = hd.seg.Segmentation(
        source_images=basis.images.datasets,
        pixel_array=pixels,
        segmentation_type=hd.seg.SegmentationTypeValues[form.segmentation.name],
        fractional_type=hd.seg.SegmentationFractionalTypeValues.PROBABILITY,
        max_fractional_value=FULL_PROBABILITY,
        omit_empty_frames=not form.empty_frames,
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
    if form.segmentation is SegmentationForm.BINARY:
        _zero_padding(seg)
    if form.segmentation is SegmentationForm.LABELMAP:
        _describe_background_last(seg)
    dataset: Dataset = seg
    return dataset


def _stack(
    probabilities: Probabilities | None, planned: PlannedSegments, images: SourceImages
) -> NDArray[np.float32]:
    """Put the probabilities of the segments into the last axis, 0 to 1, as highdicom takes them."""
    if probabilities is None:
        raise ValueError("a FRACTIONAL segmentation needs the probabilities of the network")
    labels = [Label.LIVER, Label.TUMOR][: len(planned.segments)]
    planes = [_frames(probabilities[label].array, images) for label in labels]
    stacked = np.empty((*planes[0].shape, len(planes)), np.float32)
    for index, plane in enumerate(planes):
        np.divide(plane, FULL_PROBABILITY, out=stacked[..., index], dtype=np.float32)
    return stacked


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
        tracking_id=segment.label,
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
    return tumor_code(settings)


def tumor_code(settings: ResultSettings) -> Code:
    """Give what a lesion is called, as the settings have it."""
    return codes.NEOPLASM if settings.tumor_type == "neoplasm" else codes.LESION


def _name_dimension_organization(seg: Dataset, uids: InstanceUids) -> None:
    """Replace highdicom's random UID, so that a repeat gives the same object."""
    uid = derive_uid("dimension-organization", uids.sop_instance_uid)
    for item in (*seg.DimensionOrganizationSequence, *seg.DimensionIndexSequence):
        item.DimensionOrganizationUID = uid


def _describe_background_last(seg: Dataset) -> None:
    """Move the item of the background, which LABELMAP must have (PS3.3 C.8.20.2.3), to the end.

    OHIF 3.13 takes the color of a segment from the item whose place is the segment's number.
    """
    background, *segments = seg.SegmentSequence
    seg.SegmentSequence = [*segments, background]


def _zero_padding(seg: Dataset) -> None:
    """Pad Pixel Data with zero (PS3.5 8.1.1); highdicom 0.28 pads with the character "0"."""
    bits = int(seg.NumberOfFrames) * int(seg.Rows) * int(seg.Columns)
    byte_count = (bits + 7) // 8
    seg.PixelData = seg.PixelData[:byte_count] + b"\0" * (byte_count % 2)

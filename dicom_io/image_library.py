"""The image library of a report (PS3.16 TID 1600): the source images, one by one.

What all images have in common stands once, in their group (row 3), and only the position in the
entry of each image, which keeps the library of a large series small.
"""

from collections.abc import Iterator, Sequence

import highdicom as hd
from pydicom import Dataset
from pydicom.sr.coding import Code

from dicom_io import codes
from dicom_io.source_images import SourceImages

_CONTAINS = hd.sr.RelationshipTypeValues.CONTAINS
_HAS_ACQ_CONTEXT = hd.sr.RelationshipTypeValues.HAS_ACQ_CONTEXT


def build_image_library(images: SourceImages) -> hd.sr.ContainerContentItem:
    """List the source images.

    Of many frames the position of none is that of the image (TID 1604), so it is left out.
    """
    group = hd.sr.ContainerContentItem(codes.IMAGE_LIBRARY_GROUP, relationship_type=_CONTAINS)
    group.ContentSequence = [
        *_common_descriptors(images.datasets[0]),
        *(_entry(image) for image in images.datasets),
    ]
    library = hd.sr.ContainerContentItem(codes.IMAGE_LIBRARY, relationship_type=_CONTAINS)
    library.ContentSequence = [group]
    return library


def _common_descriptors(image: Dataset) -> Iterator[hd.sr.ContentItem]:
    """Describe what is the same for all images of a series (TID 1602, 1604)."""
    shared = image.get("SharedFunctionalGroupsSequence")
    measures = shared[0].PixelMeasuresSequence[0] if shared else image
    orientation = shared[0].PlaneOrientationSequence[0] if shared else image
    yield hd.sr.CodeContentItem(codes.MODALITY, codes.COMPUTED_TOMOGRAPHY, _HAS_ACQ_CONTEXT)
    yield hd.sr.UIDRefContentItem(
        codes.FRAME_OF_REFERENCE_UID, image.FrameOfReferenceUID, _HAS_ACQ_CONTEXT
    )
    yield from _numbers(codes.PIXEL_DATA_SIZE, (image.Rows, image.Columns), codes.PIXELS)
    yield from _numbers(codes.PIXEL_SPACING, measures.PixelSpacing[::-1], codes.MILLIMETER)
    slice_mm = measures.SpacingBetweenSlices, measures.SliceThickness
    yield from _numbers(codes.SLICE_SPACING, slice_mm, codes.MILLIMETER)
    cosines = orientation.ImageOrientationPatient
    yield from _numbers(codes.IMAGE_ORIENTATION, cosines, codes.DIRECTION_COSINE)


def _entry(image: Dataset) -> hd.sr.ImageContentItem:
    """Name an image (TID 1601), and where it lies."""
    item = hd.sr.ImageContentItem(
        codes.SOURCE,
        referenced_sop_class_uid=image.SOPClassUID,
        referenced_sop_instance_uid=image.SOPInstanceUID,
        relationship_type=_CONTAINS,
    )
    position_mm = image.get("ImagePositionPatient")
    if position_mm is not None:
        item.ContentSequence = _numbers(codes.IMAGE_POSITION, position_mm, codes.MILLIMETER)
    return item


def _numbers(
    names: Sequence[Code], values: Sequence[float], unit: Code
) -> list[hd.sr.NumContentItem]:
    return [
        hd.sr.NumContentItem(name, value, unit, relationship_type=_HAS_ACQ_CONTEXT)
        for name, value in zip(names, values, strict=True)
    ]

"""Key Object Selections (KOS, PS3.3 A.35.4): the slices on which the lesions are largest."""

from copy import copy

import highdicom as hd
from pydicom import Dataset

from dicom_io import codes
from dicom_io.identity import IDENTITY, stamp_identity, timezone_offset
from dicom_io.provenance import (
    InstanceUids,
    ResultBasis,
    device_observer,
    equipment,
    stamp_dates,
)
from inference.findings import Findings, Lesion


def build_key_objects(basis: ResultBasis, findings: Findings, uids: InstanceUids) -> Dataset | None:
    """Build the Key Object Selection of a series (TID 2010): "Of Interest" (CID 7010).

    It cites, from the largest lesion to the smallest, the images (of a multi-frame instance: the
    frames) that hold the long axis of a lesion, each once; the description says which lesions they
    are. The observer is the device.

    Parameters
    ----------
    basis
        The source, the wording and the maker.
    findings
        The lesions.
    uids
        Series and instance UID of the document.

    Returns
    -------
    Dataset or None
        None where there is no lesion: a selection of nothing cannot be written (PS3.16 TID 2010
        needs a reference), and one of a slice without a finding would point at nothing. The report
        says that no lesion was segmented.
    """
    if not findings.lesions:
        return None
    source, settings, provenance = basis.source, basis.settings, basis.provenance
    slices = key_slices(findings)
    images = _images(basis, list(slices))
    content = hd.ko.KeyObjectSelection(
        document_title=codes.OF_INTEREST,
        referenced_objects=images,
        observer_device_context=device_observer(provenance),
        description=_describe(slices),
    )
    if source.is_multiframe:
        [reference] = content.get_references()
        frames = [source.frame_sources[index][1] for index in slices]
        reference.ReferencedSOPSequence[0].ReferencedFrameNumber = frames
    document = hd.ko.KeyObjectSelectionDocument(
        evidence=images,
        content=content,
        series_instance_uid=uids.series_instance_uid,
        series_number=settings.key_objects_series_number,
        sop_instance_uid=uids.sop_instance_uid,
        instance_number=1,
        series_description=settings.key_objects_series_description,
        **equipment(provenance),
    )
    texts = (settings.key_objects_series_description, *provenance.texts)
    stamp_identity(document, source.datasets[0], texts)
    stamp_dates(document, provenance, timezone_offset(source.datasets[0]))
    dataset: Dataset = document
    return dataset


def key_slices(findings: Findings) -> dict[int, list[Lesion]]:
    """Give each slice that holds a long axis, and whose, in the order of the lesions."""
    slices: dict[int, list[Lesion]] = {}
    for lesion in findings.lesions:
        slices.setdefault(lesion.long_axis.slice_index, []).append(lesion)
    return slices


def _images(basis: ResultBasis, slices: list[int]) -> list[Dataset]:
    """Take the images of slices, the first with room for identity, which is stamped later."""
    datasets = basis.images.datasets
    images = [copy(datasets[0 if basis.source.is_multiframe else index]) for index in slices]
    images = images[:1] if basis.source.is_multiframe else images
    for keyword in IDENTITY:
        setattr(images[0], keyword, None)
    return images


def _describe(slices: dict[int, list[Lesion]]) -> str:
    """Say which lesions the images show, in the order of the images."""
    images = (
        f"image {number}: "
        + ", ".join(
            f"lesion {lesion.number} ({lesion.long_axis.length_mm:.1f} mm)" for lesion in lesions
        )
        for number, lesions in enumerate(slices.values(), start=1)
    )
    return (
        "AI result, not reviewed. Slices with the largest diameters of liver lesions. "
        f"In the order of the selection, {'; '.join(images)}."
    )

"""The result as pictures (Secondary Capture, PS3.3 A.8.1), for viewers that know no segmentation.

One series: a page that sums up the result, then source slices with contours, each with the position
and the pixels of the slice that it shows, so that viewers link it and measure in it.
"""

from collections.abc import Iterable, Iterator, Sequence

import highdicom as hd
from pydicom import Dataset
from pydicom.valuerep import DSfloat

from config.results import ResultSettings
from dicom_io import codes
from dicom_io.frames import Frame, name_direction
from dicom_io.identity import stamp_identity, timezone_offset
from dicom_io.page_source import image_numbers
from dicom_io.provenance import (
    InstanceUids,
    Provenance,
    ResultBasis,
    equipment,
    stamp_dates,
)
from dicom_io.series import SourceSeries
from dicom_io.source_images import decimal_strings, list_planes
from dicom_io.uids import derive_uid
from dicom_io.values import read_number, read_text
from inference.drawing import Picture
from inference.findings import Findings
from inference.slice_pictures import draw_slices
from inference.summary_page import draw_refusal, draw_summary
from inference.volume import Volume
from inference.wording import NOT_REVIEWED

_CONTOURS = "Contours of liver and liver lesions on the slices of the scan. "
_SUMMARY = "Measurements of liver and liver lesions. "
_REFUSED = "Why the series could not be evaluated. "


def build_overlay(
    basis: ResultBasis,
    labels: Volume,
    findings: Findings,
    slices: Sequence[int],
    series_instance_uid: str,
) -> Iterator[Dataset]:
    """Build the summary page, then a picture of each slice; one at a time, as they are large.

    Parameters
    ----------
    basis
        The source, the wording and the maker.
    labels
        The labels, on the grid of the source's volume.
    findings
        The measurements of those labels.
    slices
        Which slices of the volume to show, in the order of their instance numbers, as
        `inference.slice_pictures.choose_slices` gives them.
    series_instance_uid
        The series; instance UIDs are derived from it.
    """
    source = basis.source
    names = _names(source)
    page = draw_summary(
        source.volume,
        labels,
        findings,
        names=names,
        model=basis.provenance.model,
        remark=basis.history.remark,
    )
    yield _summary(basis, page, series_instance_uid)
    planes = list_planes(source)
    pictures = draw_slices(source.volume, labels, findings, slices, names)
    for number, (index, picture) in enumerate(zip(slices, pictures, strict=True), start=2):
        dataset = _capture(basis, picture, _uids(series_instance_uid, number), number)
        dataset.DerivationDescription = _CONTOURS + NOT_REVIEWED
        image = source.datasets[0 if source.is_multiframe else index]
        _cite(dataset, [(image, planes[index].frame_number)])
        _place(dataset, source, planes[index], index)
        yield dataset


def build_refusal_page(
    instances: Sequence[Dataset],
    sentences: Iterable[str],
    uids: InstanceUids,
    *,
    settings: ResultSettings,
    provenance: Provenance,
) -> Dataset:
    """Build a page that says why a series could not be evaluated.

    Parameters
    ----------
    instances
        What can be read of the series, of one patient and study.
    sentences
        Why it could not be evaluated.
    uids
        Series and instance UID of the page.
    settings
        Wording.
    provenance
        The maker and the time.
    """
    page = draw_refusal(sentences, provenance.model)
    dataset = _begin(page, instances[0], uids, 1, settings=settings, provenance=provenance)
    dataset.DerivationDescription = _REFUSED + NOT_REVIEWED
    _cite(dataset, [(instance, None) for instance in instances])
    return dataset


def _names(source: SourceSeries) -> tuple[str, ...]:
    """Give what viewers call each slice; where they cannot, slices are counted from 1."""
    numbers = image_numbers(source) or range(1, len(source.frame_sources) + 1)
    return tuple(map(str, numbers))


def _uids(series_instance_uid: str, number: int) -> InstanceUids:
    return InstanceUids(
        series_instance_uid=series_instance_uid,
        sop_instance_uid=derive_uid("instance", series_instance_uid, str(number)),
    )


def _summary(basis: ResultBasis, page: Picture, series_instance_uid: str) -> Dataset:
    source = basis.source
    dataset = _capture(basis, page, _uids(series_instance_uid, 1), 1)
    dataset.DerivationDescription = _SUMMARY + NOT_REVIEWED
    _cite(dataset, [(image, None) for image in source.datasets])
    return dataset


def _capture(basis: ResultBasis, picture: Picture, uids: InstanceUids, number: int) -> Dataset:
    first, scanner = basis.source.datasets[0], basis.images.datasets[0]
    dataset = _begin(
        picture, first, uids, number, settings=basis.settings, provenance=basis.provenance
    )
    if scanner.get("Manufacturer"):
        acquired = hd.ContributingEquipment.for_image_acquisition(scanner)
        dataset.ContributingEquipmentSequence.append(acquired)
    return dataset


def _begin(
    picture: Picture,
    first: Dataset,
    uids: InstanceUids,
    number: int,
    *,
    settings: ResultSettings,
    provenance: Provenance,
) -> Dataset:
    """Build a picture without a place, in the study of an instance of its source."""
    dataset: Dataset = hd.sc.SCImage(
        pixel_array=picture,
        photometric_interpretation="RGB",
        bits_allocated=8,
        coordinate_system="PATIENT",
        patient_orientation=("L", "P"),  # highdicom asks for one; see below
        study_instance_uid=read_text(first, "StudyInstanceUID"),
        series_instance_uid=uids.series_instance_uid,
        series_number=settings.overlay_series_number,
        series_description=settings.overlay_series_description,
        sop_instance_uid=uids.sop_instance_uid,
        instance_number=number,
        **equipment(provenance),
    )
    dataset.PatientOrientation = None
    dataset.BodyPartExamined = "LIVER"
    dataset.ConversionType = "WSD"
    dataset.BurnedInAnnotation = "NO"  # nothing in it identifies the patient (PS3.3 C.7.6.1)
    dataset.RecognizableVisualFeatures = "NO"
    dataset.LossyImageCompression = "00"
    stamp_identity(dataset, first, (settings.overlay_series_description, *provenance.texts))
    stamp_dates(dataset, provenance, timezone_offset(first))
    dataset.DateOfSecondaryCapture = dataset.ContentDate
    dataset.TimeOfSecondaryCapture = dataset.ContentTime
    return dataset


def _cite(dataset: Dataset, images: Iterable[tuple[Dataset, int | None]]) -> None:
    """Name source instances, and of multi-frame ones the frame (PS3.3 C.7.6.1, C.12.2)."""
    sources: list[Dataset] = []
    series: dict[str, list[Dataset]] = {}
    for image, frame_number in images:
        source = _reference(image)
        if frame_number is not None:
            source.ReferencedFrameNumber = frame_number
        source.PurposeOfReferenceCodeSequence = [hd.sr.CodedConcept.from_code(codes.SOURCE_IMAGE)]
        sources.append(source)
        series.setdefault(read_text(image, "SeriesInstanceUID"), []).append(_reference(image))
    dataset.SourceImageSequence = sources
    dataset.ReferencedSeriesSequence = [Dataset() for _ in series]
    for item, (uid, instances) in zip(
        dataset.ReferencedSeriesSequence, series.items(), strict=True
    ):
        item.SeriesInstanceUID = uid
        item.ReferencedInstanceSequence = instances


def _reference(image: Dataset) -> Dataset:
    reference = Dataset()
    reference.ReferencedSOPClassUID = read_text(image, "SOPClassUID")
    reference.ReferencedSOPInstanceUID = read_text(image, "SOPInstanceUID")
    return reference


def _place(dataset: Dataset, source: SourceSeries, plane: Frame, index: int) -> None:
    """Give a picture the plane of its slice, as A.8.1.3 allows (PS3.3 C.7.4.1, C.7.6.2)."""
    volume = source.volume
    dataset.SourceImageSequence[0].SpatialLocationsPreserved = "YES"
    dataset.FrameOfReferenceUID = volume.frame_of_reference_uid
    dataset.PositionReferenceIndicator = None
    dataset.ImagePositionPatient = decimal_strings(plane.position_mm)
    dataset.ImageOrientationPatient = decimal_strings(plane.orientation)
    dataset.PatientOrientation = [name_direction(plane.orientation[at : at + 3]) for at in (0, 3)]
    dataset.PixelSpacing = decimal_strings(plane.pixel_spacing_mm)
    dataset.SliceThickness = DSfloat(float(volume.spacing_between_slices), auto_format=True)
    if not source.is_multiframe:
        location_mm = read_number(source.datasets[index], "SliceLocation")
        if location_mm is not None:
            dataset.SliceLocation = DSfloat(location_mm, auto_format=True)

"""RT Structure Sets (RTSTRUCT, PS3.3 A.19): contours of liver and lesions for radiotherapy.

A planning system expects the whole organ, so the ROI of the liver has its lesions in it, unlike the
liver segment of the SEG. Each lesion has an ROI of its own, however many there are, under the
number that it has in SEG and SR: the IOD has no place for tracking UIDs.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import highdicom as hd
import numpy as np
from numpy.typing import NDArray
from pydicom import DataElement, Dataset, uid
from pydicom.sr.coding import Code
from pydicom.tag import Tag
from pydicom.valuerep import DSfloat
from scipy import ndimage

from config.results import ResultRole
from dicom_io import codes
from dicom_io.contours import Points, points_in_patient, trace_mask
from dicom_io.frames import Frame
from dicom_io.identity import stamp_identity, timezone_offset
from dicom_io.provenance import (
    InstanceUids,
    ResultBasis,
    equipment,
    seg_algorithm_identification,
    stamp_dates,
)
from dicom_io.result_classes import RESULT_CLASSES
from dicom_io.seg import tumor_code
from dicom_io.segments import LESION_COLORS, LIVER_COLOR
from dicom_io.series import SourceSeries
from dicom_io.source_images import list_planes
from dicom_io.values import read_text
from inference.findings import Findings
from inference.labels import Label
from inference.volume import Volume
from inference.wording import NOT_REVIEWED, list_caveats, round_volume_ml

STRUCTURE_SET_LABEL = "AI, not reviewed"
"""What planning systems list a structure set under; 16 characters, as many as an SH may have."""
LIVER_NAME = "Liver"
LIVER_DESCRIPTION = "Whole liver with its lesions. AI result, not reviewed."
LESION_DESCRIPTION = "AI result, not reviewed; no target volume until a physician says so."
_DECIMALS = 4
"""Of coordinates in mm: no rounding moves a point by 0.1 micrometers."""
_LONGEST_EXPLICIT = 0xFFFE
"""Longest even value of VR DS in Explicit VR (PS3.5 7.1.2)."""
_LONGEST_SHORT_TEXT = 1024
"""Longest value of VR ST (PS3.5 6.2)."""
_STUDY_SOP_CLASS_UID = "1.2.840.10008.3.1.2.3.1"
"""Detached Study Management (Retired), by which the standard has studies referenced (PS3.3
C.8.8.5.4)."""
_Masks = Iterable[tuple[int, NDArray[np.bool_]]]
"""Slice index and mask (rows, columns)."""


def build_rtstruct(
    basis: ResultBasis, labels: Volume, findings: Findings, uids: InstanceUids
) -> Dataset:
    """Build the RT Structure Set of a series.

    Each contour is closed and planar, lies in the plane that a source image (or frame) states, and
    names that image; exactly the pixels whose centers are in a contour are in the ROI. Holes are
    joined by keyholes (PS3.3 C.8.8.6.3).

    The liver has the RT ROI Interpreted Type ORGAN. That of a lesion is empty, which the standard
    has for "unknown": a Gross Tumor Volume (GTV) is what a physician decides to be tumor, and no
    other defined term fits. The Approval Status is UNAPPROVED for the same reason. Codes say that
    it is a neoplasm or a lesion, as in the SEG.

    The transfer syntax is Explicit VR Little Endian, or Implicit VR where a contour is so long
    that Explicit VR could not say that it is a DS.

    Parameters
    ----------
    basis
        The source, the wording and the maker.
    labels
        Array (slices, rows, columns) with the values of `Label`, on the grid of the source.
    findings
        The lesions of those labels.
    uids
        Series and instance UID of the structure set.
    """
    source, settings, provenance = basis.source, basis.settings, basis.provenance
    kind = RESULT_CLASSES[ResultRole.RTSTRUCT]
    rois = list(_rois(basis, labels, findings))
    description = _describe(basis, findings)
    rtstruct = _StructureSet(
        source_image=basis.images.datasets[0],
        study_instance_uid=source.study_instance_uid,
        series_instance_uid=uids.series_instance_uid,
        series_number=settings.rtstruct_series_number,
        sop_instance_uid=uids.sop_instance_uid,
        sop_class_uid=kind.sop_class,
        instance_number=1,
        modality=kind.modality,
        transfer_syntax_uid=_transfer_syntax(rois),
        series_description=settings.rtstruct_series_description,
        **equipment(provenance),
    )
    rtstruct.OperatorsName = None
    rtstruct.FrameOfReferenceUID = source.volume.frame_of_reference_uid
    rtstruct.PositionReferenceIndicator = None
    rtstruct.StructureSetLabel = STRUCTURE_SET_LABEL
    rtstruct.StructureSetName = settings.rtstruct_series_description
    rtstruct.StructureSetDescription = description
    rtstruct.ReferencedFrameOfReferenceSequence = [_source_reference(source)]
    rtstruct.StructureSetROISequence = [_structure(roi, basis) for roi in rois]
    rtstruct.ROIContourSequence = [_contours(roi) for roi in rois]
    rtstruct.RTROIObservationsSequence = [_observation(roi) for roi in rois]
    rtstruct.ApprovalStatus = "UNAPPROVED"
    texts = (settings.rtstruct_series_description, description, *provenance.texts)
    stamp_identity(rtstruct, source.datasets[0], texts)
    stamp_dates(rtstruct, provenance, timezone_offset(source.datasets[0]))
    rtstruct.StructureSetDate, rtstruct.StructureSetTime = (
        rtstruct.ContentDate,
        rtstruct.ContentTime,
    )
    del rtstruct.ContentDate, rtstruct.ContentTime
    dataset: Dataset = rtstruct
    return dataset


class _StructureSet(hd.SOPClass):  # type: ignore[misc]  # highdicom is not typed
    """What all objects have in common, as those that highdicom knows."""

    def __init__(self, *, source_image: Dataset, **attributes: object) -> None:
        super().__init__(**attributes)
        self._add_contributing_equipment(source_image=source_image)


@dataclass(frozen=True, kw_only=True, eq=False)
class _Roi:
    """One region of interest."""

    number: int
    name: str
    description: str
    interpreted_type: str
    """Empty for unknown."""
    category: Code
    code: Code
    color: tuple[int, int, int]
    volume_ml: float
    contours: list[Dataset]


def _rois(basis: ResultBasis, labels: Volume, findings: Findings) -> Iterator[_Roi]:
    writer = _ContourWriter(source=basis.source, planes=list_planes(basis.source))
    yield _Roi(
        number=1,
        name=LIVER_NAME,
        description=LIVER_DESCRIPTION,
        interpreted_type="ORGAN",
        category=codes.ANATOMICAL_STRUCTURE,
        code=codes.LIVER,
        color=LIVER_COLOR,
        volume_ml=findings.organ_volume_ml,
        contours=writer.write(enumerate(labels.array != Label.BACKGROUND)),
    )
    lesion_map = findings.lesion_map.array
    boxes = ndimage.find_objects(lesion_map)
    for lesion in findings.lesions:
        slices = boxes[lesion.number - 1][0]
        masks = enumerate(lesion_map[slices] == lesion.number, start=slices.start)
        yield _Roi(
            number=1 + lesion.number,
            name=lesion_name(lesion.number),
            description=LESION_DESCRIPTION,
            interpreted_type="",
            category=codes.MORPHOLOGICALLY_ABNORMAL_STRUCTURE,
            code=tumor_code(basis.settings),
            color=LESION_COLORS[(lesion.number - 1) % len(LESION_COLORS)],
            volume_ml=lesion.volume_ml,
            contours=writer.write(masks),
        )


def lesion_name(number: int) -> str:
    """Name the ROI of a lesion: up to number 999, no longer than planning systems show."""
    return f"Liver lesion {number}"


@dataclass(frozen=True, kw_only=True, eq=False)
class _ContourWriter:
    """Writes the contours of masks on the images of the source."""

    source: SourceSeries
    planes: tuple[Frame, ...]
    """The source frame of each slice."""

    def write(self, masks: _Masks) -> list[Dataset]:
        """Give the items of a Contour Sequence."""
        return [
            self._contour(number, index, polygon)
            for number, (index, polygon) in enumerate(_polygons(masks), start=1)
        ]

    def _contour(self, number: int, index: int, polygon: Points) -> Dataset:
        contour = Dataset()
        contour.ContourImageSequence = [self._image(index)]
        contour.ContourGeometricType = "CLOSED_PLANAR"
        contour.NumberOfContourPoints = len(polygon)
        contour.ContourNumber = number
        contour.add(_contour_data(points_in_patient(polygon, self.planes[index])))
        return contour

    def _image(self, index: int) -> Dataset:
        """Name the image of a slice (PS3.3 table 10-3)."""
        image = Dataset()
        image.ReferencedSOPClassUID = read_text(self.source.datasets[0], "SOPClassUID")
        image.ReferencedSOPInstanceUID, frame_number = self.source.frame_sources[index]
        if frame_number is not None:
            image.ReferencedFrameNumber = frame_number
        return image


def _polygons(masks: _Masks) -> Iterator[tuple[int, Points]]:
    for index, mask in masks:
        for polygon in trace_mask(mask):
            yield index, polygon


def _contour_data(points_mm: NDArray[np.float64]) -> DataElement:
    """Write points as one text: pydicom takes seconds to make a million decimal strings of them.

    A number is as short as it can be: far below the 16 characters that a DS may have.
    """
    numbers = np.round(points_mm, _DECIMALS).ravel() + 0.0
    text = "\\".join(map(repr, numbers.tolist()))
    return DataElement(Tag("ContourData"), "DS", text, already_converted=True)


def _transfer_syntax(rois: Iterable[_Roi]) -> uid.UID:
    lengths = (len(contour.ContourData) for roi in rois for contour in roi.contours)
    if max(lengths, default=0) > _LONGEST_EXPLICIT:
        return uid.ImplicitVRLittleEndian
    return uid.ExplicitVRLittleEndian


def _describe(basis: ResultBasis, findings: Findings) -> str:
    """Say what a planner should know before using the contours."""
    sentences = (NOT_REVIEWED, *list_caveats(findings, basis.history.remark))
    return " ".join(sentences)[:_LONGEST_SHORT_TEXT]


def _source_reference(source: SourceSeries) -> Dataset:
    """Name the frame of reference, the study, the series and its images (PS3.3 C.8.8.5)."""
    frame_of_reference, study, series = Dataset(), Dataset(), Dataset()
    frame_of_reference.FrameOfReferenceUID = source.volume.frame_of_reference_uid
    frame_of_reference.RTReferencedStudySequence = [study]
    study.ReferencedSOPClassUID = _STUDY_SOP_CLASS_UID
    study.ReferencedSOPInstanceUID = source.study_instance_uid
    study.RTReferencedSeriesSequence = [series]
    series.SeriesInstanceUID = source.series_instance_uid
    series.ContourImageSequence = []
    for sop_instance_uid in source.sop_instance_uids:
        image = Dataset()
        image.ReferencedSOPClassUID = read_text(source.datasets[0], "SOPClassUID")
        image.ReferencedSOPInstanceUID = sop_instance_uid
        series.ContourImageSequence.append(image)
    return frame_of_reference


def _structure(roi: _Roi, basis: ResultBasis) -> Dataset:
    """Say what an ROI is and how it came about (PS3.3 C.8.8.5)."""
    item = Dataset()
    item.ROINumber = roi.number
    item.ReferencedFrameOfReferenceUID = basis.source.volume.frame_of_reference_uid
    item.ROIName = roi.name
    item.ROIDescription = roi.description
    item.ROIVolume = DSfloat(round_volume_ml(roi.volume_ml), auto_format=True)
    item.ROIGenerationAlgorithm = "AUTOMATIC"
    item.ROIDerivationAlgorithmIdentificationSequence = seg_algorithm_identification(
        basis.provenance
    )
    return item


def _contours(roi: _Roi) -> Dataset:
    """Give color and contours of an ROI (PS3.3 C.8.8.6)."""
    item = Dataset()
    item.ReferencedROINumber = roi.number
    item.ROIDisplayColor = list(roi.color)
    item.ContourSequence = roi.contours
    return item


def _observation(roi: _Roi) -> Dataset:
    """Say what an ROI shows (PS3.3 C.8.8.8)."""
    item = Dataset()
    item.ObservationNumber = item.ReferencedROINumber = roi.number
    item.SegmentedPropertyCategoryCodeSequence = [hd.sr.CodedConcept.from_code(roi.category)]
    item.RTROIIdentificationCodeSequence = [hd.sr.CodedConcept.from_code(roi.code)]
    item.RTROIInterpretedType = roi.interpreted_type
    item.ROIInterpreter = None
    return item

"""Structured reports: findings and their segments to one TID 1500 Measurement Report.

Each segment has a volumetric group (TID 1411) that cites it, and a planar group (TID 1410) with the
long axis as a line on a source image, both under the tracking UID of the segment. The organ has a
line too: viewers that draw findings fail on one without coordinates. The totals stand in a group
without a region (TID 1501) of the liver.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import highdicom as hd
import numpy as np
from highdicom.coding_schemes import CodingSchemeIdentificationItem
from pydicom import Dataset
from pydicom.sr.coding import Code

from config.results import ResultSettings
from dicom_io import codes
from dicom_io.identity import stamp_identity, timezone_offset
from dicom_io.image_library import build_image_library
from dicom_io.provenance import (
    EVERY_VIEWER,
    Audience,
    InstanceUids,
    Provenance,
    ResultBasis,
    SeriesHistory,
    equipment,
    observation_context,
    sr_algorithm_identification,
    stamp_dates,
)
from dicom_io.seg import property_category, property_type, tumor_code
from dicom_io.segments import SegmentKind, SegmentPlan
from dicom_io.source_images import SourceImages
from dicom_io.values import read_text
from inference.findings import Diameter, Findings, Lesion, Region
from inference.wording import NOT_REVIEWED, list_caveats, round_volume_ml, summary_sentence

_PIXEL_CENTER = 0.5
"""Coordinates of SCOORD begin at the corner of the first pixel (PS3.3 C.18.6.1.1)."""


@dataclass(frozen=True, kw_only=True)
class SegmentMeasurement:
    """The numbers of one segment, as they are written."""

    volume_ml: float
    mean_hu: float
    sd_hu: float
    min_hu: float
    max_hu: float
    long_axis: Diameter
    short_axis: Diameter | None
    lesion_count: int | None
    """Only for pooled lesions."""
    lesion: Lesion | None
    """Only where the segment is one."""


def measure_segment(segment: SegmentPlan, findings: Findings) -> SegmentMeasurement:
    """Look up what is measured in a segment, or put it together from the lesions in it."""
    regions: list[Region] = [findings.lesions[number - 1] for number in segment.lesion_numbers]
    if segment.kind is SegmentKind.LIVER:
        regions = [findings.liver]
    counts = np.array([region.voxel_count for region in regions], dtype=float)
    means = np.array([region.mean_hu for region in regions])
    sds = np.array([region.sd_hu for region in regions])
    mean = float(np.average(means, weights=counts))
    variance = float(np.average(sds**2 + (means - mean) ** 2, weights=counts))
    largest = regions[0]
    is_pooled = segment.kind is SegmentKind.POOLED
    lesion = largest if isinstance(largest, Lesion) and not is_pooled else None
    return SegmentMeasurement(
        volume_ml=sum(region.volume_ml for region in regions),
        mean_hu=mean,
        sd_hu=variance**0.5,
        min_hu=min(region.min_hu for region in regions),
        max_hu=max(region.max_hu for region in regions),
        long_axis=largest.long_axis,
        short_axis=None if lesion is None else lesion.short_axis,
        lesion_count=len(regions) if is_pooled else None,
        lesion=lesion,
    )


def build_sr(
    basis: ResultBasis,
    seg: Dataset,
    segments: Iterable[SegmentPlan],
    findings: Findings,
    uids: InstanceUids,
    audience: Audience = EVERY_VIEWER,
) -> Dataset:
    """Build the measurement report of a series.

    Parameters
    ----------
    basis
        The source, the wording and the maker.
    seg
        The SEG with the segments, which the report cites.
    segments
        What the SEG holds.
    findings
        What was measured.
    uids
        Series and instance UID of the report.
    audience
        Who gets it: whether the content lists the source images (TID 1600), as the evidence does
        anyhow, and which report it takes the place of.
    """
    settings, provenance = basis.settings, basis.provenance
    writer = _GroupWriter(basis=basis, seg=seg, findings=findings)
    report = hd.sr.MeasurementReport(
        observation_context=observation_context(provenance),
        procedure_reported=codes.PROCEDURE_CT,
        imaging_measurements=list(writer.groups(segments)),
        title=codes.IMAGING_MEASUREMENT_REPORT,
    )
    report[0].ContentSequence.append(_evaluations(basis, findings))
    content = ReportContent(
        root=report[0],
        evidence=[*basis.images.datasets, seg],
        previous_versions=list_predecessors(
            basis.history, basis.source.study_instance_uid, audience.profiles
        ),
    )
    first = basis.source.datasets[0]
    sr = build_document(content, first, uids, settings=settings, provenance=provenance)
    if audience.form.image_library:
        _insert_library(sr, basis.images)
    return sr


def _insert_library(sr: Dataset, images: SourceImages) -> None:
    """Put the image library before the measurements (TID 1500, rows 5 and 6).

    Into the finished document: highdicom copies and searches all that it is given several times.
    """
    value_types = [item.ValueType for item in sr.ContentSequence]
    sr.ContentSequence.insert(value_types.index("CONTAINER"), build_image_library(images))


@dataclass(frozen=True, kw_only=True, eq=False)
class ReportContent:
    """What a report says."""

    root: Dataset
    """Of the content tree."""
    evidence: Sequence[Dataset]
    """The instances that it is about."""
    previous_versions: Sequence[Dataset] | None = None
    """The reports that it takes the place of."""


def build_document(
    content: ReportContent,
    first: Dataset,
    uids: InstanceUids,
    *,
    settings: ResultSettings,
    provenance: Provenance,
) -> Dataset:
    """Build the document around its content.

    Parameters
    ----------
    content
        What it says.
    first
        An instance of the source, which gives patient and study.
    uids
        Series and instance UID of the document.
    settings, provenance
        Wording and maker.
    """
    sr = hd.sr.Comprehensive3DSR(
        evidence=content.evidence,
        content=content.root,
        series_instance_uid=uids.series_instance_uid,
        series_number=settings.sr_series_number,
        sop_instance_uid=uids.sop_instance_uid,
        instance_number=1,
        is_complete=True,
        is_final=False,
        is_verified=False,
        series_description=settings.sr_series_description,
        coding_schemes=[_private_scheme()],
        previous_versions=content.previous_versions,
        **equipment(provenance),
    )
    stamp_identity(sr, first, (settings.sr_series_description, *provenance.texts))
    stamp_dates(sr, provenance, timezone_offset(first))
    dataset: Dataset = sr
    return dataset


@dataclass(frozen=True, kw_only=True, eq=False)
class _GroupWriter:
    """Builds the groups below Imaging Measurements (TID 1500, row 6)."""

    basis: ResultBasis
    seg: Dataset
    findings: Findings

    def groups(self, segments: Iterable[SegmentPlan]) -> Iterator[hd.sr.ContentSequence]:
        """Build all groups: the totals first, then those of each segment."""
        for segment in segments:
            measured = measure_segment(segment, self.findings)
            if segment.kind is SegmentKind.LIVER:
                yield self._totals_group(segment)
            yield self._volumetric_group(segment, measured)
            yield self._planar_group(
                segment, measured, [_length(codes.LONG_AXIS, measured.long_axis)]
            )
            for lesion in segment.members:
                yield self._member_group(lesion)

    def _about(self, segment: SegmentPlan) -> dict[str, object]:
        """Give what all groups of a segment say alike."""
        return {
            "tracking_identifier": hd.sr.TrackingIdentifier(
                uid=segment.tracking_uid, identifier=segment.label
            ),
            "finding_category": property_category(segment),
            "finding_type": property_type(segment, self.basis.settings),
            "finding_sites": [hd.sr.FindingSite(codes.LIVER)],
            "algorithm_id": sr_algorithm_identification(self.basis.provenance),
        }

    def _totals_group(self, liver: SegmentPlan) -> hd.sr.ContentSequence:
        """Say what concerns the whole liver (TID 1501)."""
        findings = self.findings
        return hd.sr.MeasurementsAndQualitativeEvaluations(
            **self._about(liver),
            measurements=[
                _number(codes.NUMBER_OF_LESIONS, len(findings.lesions), codes.LESION_COUNT),
                _number(
                    codes.TOTAL_TUMOR_VOLUME,
                    round_volume_ml(findings.tumor_volume_ml),
                    codes.MILLILITER,
                ),
                _number(
                    codes.LIVER_VOLUME_WITH_LESIONS,
                    round_volume_ml(findings.organ_volume_ml),
                    codes.MILLILITER,
                ),
                _number(codes.TUMOR_BURDEN, round(100 * findings.tumor_burden, 2), codes.PERCENT),
            ],
        )

    def _volumetric_group(
        self, segment: SegmentPlan, measured: SegmentMeasurement
    ) -> hd.sr.ContentSequence:
        """Cite a segment and give its numbers (TID 1411)."""
        return hd.sr.VolumetricROIMeasurementsAndQualitativeEvaluations(
            **self._about(segment),
            referenced_segment=hd.sr.ReferencedSegment(
                sop_class_uid=self.seg.SOPClassUID,
                sop_instance_uid=self.seg.SOPInstanceUID,
                segment_number=segment.number,
                source_series=hd.sr.SourceSeriesForSegmentation(
                    self.basis.source.series_instance_uid
                ),
            ),
            measurements=list(_measurements(measured)),
            qualitative_evaluations=list(_judgements(measured)),
        )

    def _member_group(self, lesion: SegmentPlan) -> hd.sr.ContentSequence:
        """Give all numbers of a lesion that has no segment of its own with its line."""
        measured = measure_segment(lesion, self.findings)
        return self._planar_group(
            lesion, measured, list(_measurements(measured)), list(_judgements(measured))
        )

    def _planar_group(
        self,
        segment: SegmentPlan,
        measured: SegmentMeasurement,
        measurements: Sequence[hd.sr.Measurement],
        judgements: Sequence[hd.sr.QualitativeEvaluation] = (),
    ) -> hd.sr.ContentSequence:
        """Draw the long axis on its source image (TID 1410)."""
        return hd.sr.PlanarROIMeasurementsAndQualitativeEvaluations(
            **self._about(segment),
            referenced_region=self._line(measured.long_axis),
            measurements=measurements,
            qualitative_evaluations=judgements,
        )

    def _line(self, diameter: Diameter) -> hd.sr.ImageRegion:
        """Turn (row, column) indices of pixel centers into (column, row) coordinates."""
        source = self.basis.source
        sop_instance_uid, frame_number = source.frame_sources[diameter.slice_index]
        ends = np.array([diameter.start, diameter.end], dtype=float)
        return hd.sr.ImageRegion(
            graphic_type=hd.sr.GraphicTypeValues.POLYLINE,
            graphic_data=ends[:, ::-1] + _PIXEL_CENTER,
            source_image=hd.sr.SourceImageForRegion(
                referenced_sop_class_uid=read_text(source.datasets[0], "SOPClassUID"),
                referenced_sop_instance_uid=sop_instance_uid,
                referenced_frame_numbers=None if frame_number is None else [frame_number],
            ),
        )


def _measurements(measured: SegmentMeasurement) -> Iterator[hd.sr.Measurement]:
    """Give the numbers of a segment (TID 300)."""
    yield _number(codes.VOLUME, round_volume_ml(measured.volume_ml), codes.MILLILITER)
    if measured.lesion_count is not None:
        yield _number(codes.NUMBER_OF_LESIONS, measured.lesion_count, codes.LESION_COUNT)
    yield _length(codes.LONG_AXIS, measured.long_axis)
    if measured.short_axis is not None:
        yield _length(codes.SHORT_AXIS, measured.short_axis)
    if measured.lesion is not None and measured.lesion.surface_distance_mm is not None:
        distance_mm = round(measured.lesion.surface_distance_mm, 1)
        yield _number(codes.SURFACE_DISTANCE, distance_mm, codes.MILLIMETER)
    for name, derivation, value_hu in (
        (codes.ATTENUATION_COEFFICIENT, codes.MEAN, measured.mean_hu),
        (codes.SD_OF_ATTENUATION_COEFFICIENT, codes.STANDARD_DEVIATION, measured.sd_hu),
        (codes.MIN_OF_ATTENUATION_COEFFICIENT, codes.MINIMUM, measured.min_hu),
        (codes.MAX_OF_ATTENUATION_COEFFICIENT, codes.MAXIMUM, measured.max_hu),
    ):
        yield hd.sr.Measurement(
            name=name,
            value=round(value_hu, 1),
            unit=codes.HOUNSFIELD_UNIT,
            derivation=derivation,
        )


def _judgements(measured: SegmentMeasurement) -> Iterator[hd.sr.QualitativeEvaluation]:
    """Say whether a lesion may be a target lesion, where that can be said."""
    lesion = measured.lesion
    if lesion is not None and lesion.is_measurable is not None:
        value = codes.YES if lesion.is_measurable else codes.NO
        yield hd.sr.QualitativeEvaluation(name=codes.RECIST_MEASURABLE, value=value)


def _number(name: Code, value: float, unit: Code) -> hd.sr.Measurement:
    return hd.sr.Measurement(name=name, value=value, unit=unit)


def _length(name: Code, diameter: Diameter) -> hd.sr.Measurement:
    return _number(name, round(diameter.length_mm, 1), codes.MILLIMETER)


def _evaluations(basis: ResultBasis, findings: Findings) -> hd.sr.ContainerContentItem:
    """Say in a code and in words what was found."""
    coded = [(tumor_code(basis.settings), codes.PRESENT if findings.lesions else codes.ABSENT)]
    coded += [(codes.PLAUSIBILITY, codes.DOUBTS[doubt.code]) for doubt in findings.doubts]
    sentences = (
        summary_sentence(findings),
        *list_caveats(findings, basis.history.remark),
        NOT_REVIEWED,
        f"License of the model weights: {basis.provenance.model.license}",
    )
    return build_evaluations(coded, sentences)


def build_evaluations(
    coded: Iterable[tuple[Code, Code]], sentences: Iterable[str]
) -> hd.sr.ContainerContentItem:
    """Build the container of judgements about the whole series (TID 1500, rows 12 to 14).

    Parameters
    ----------
    coded
        Names and values.
    sentences
        Comments.
    """
    contains = hd.sr.RelationshipTypeValues.CONTAINS
    container = hd.sr.ContainerContentItem(
        name=codes.QUALITATIVE_EVALUATIONS, relationship_type=contains
    )
    container.ContentSequence = hd.sr.ContentSequence(
        [
            *(
                hd.sr.CodeContentItem(name=name, value=value, relationship_type=contains)
                for name, value in coded
            ),
            *(
                hd.sr.TextContentItem(
                    name=codes.COMMENT, value=sentence, relationship_type=contains
                )
                for sentence in sentences
            ),
        ]
    )
    return container


def list_predecessors(
    history: SeriesHistory, study_uid: str, profiles: Sequence[str]
) -> list[Dataset] | None:
    """Name the report of the same study that a new one takes the place of (PS3.3 C.17.2, A360).

    Parameters
    ----------
    history
        What reports there are.
    study_uid
        The study.
    profiles
        Who gets the new one.
    """
    found = [history.predecessors[name] for name in profiles if name in history.predecessors]
    items = []
    for predecessor in dict.fromkeys(found):
        item = Dataset()
        item.StudyInstanceUID = study_uid
        item.SeriesInstanceUID = predecessor.series_instance_uid
        item.SOPClassUID = predecessor.sop_class_uid
        item.SOPInstanceUID = predecessor.sop_instance_uid
        items.append(item)
    return items or None


def _private_scheme() -> CodingSchemeIdentificationItem:
    return CodingSchemeIdentificationItem(
        designator=codes.PRIVATE_SCHEME, name=codes.PRIVATE_SCHEME_NAME
    )

"""OHIF in Chromium shows what we write, and its own numbers are ours."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from highdicom.color import CIELabColor
from pydicom import Dataset, dcmread

from benchmarks.peers import DICOMWEB_PLUGIN
from benchmarks.viewers.ohif import (
    ShownFinding,
    ShownImage,
    ShownSegment,
    ohif_folder,
    open_ohif,
)
from benchmarks.viewing import (
    OVERLAY_MODALITY,
    Study,
    archive_of,
    make_rejected,
    make_study,
    show_overlay,
    show_rejected,
    show_report,
    show_segmentation,
)
from config.results import ProfileSettings, ResultRole, SegmentationForm
from dicom_io.ct import CtIdentity

_OTHER_FORMS = ProfileSettings(
    objects=(ResultRole.SEG, ResultRole.RTSTRUCT), segmentation=SegmentationForm.LABELMAP
)

pytestmark = [pytest.mark.peer, pytest.mark.timeout(600)]


@dataclass(frozen=True, kw_only=True)
class Seen:
    """What OHIF has shown."""

    study: Study
    segments: list[ShownSegment]
    findings: list[ShownFinding]
    drawn: dict[str, str]
    overlay: ShownImage
    rejected: ShownImage
    page: Dataset
    """What `rejected` should be."""
    other: Study
    """The same scan, with a LABELMAP and a structure set."""
    labelmap: list[ShownSegment]
    structures: list[ShownSegment]
    contours: dict[int, list[list[list[float]]]]


@pytest.fixture(scope="module")
def seen(tmp_path_factory, program) -> Seen:
    for name in ("Orthanc", "chromium"):
        program(name)
    if not DICOMWEB_PLUGIN.exists():
        pytest.skip("orthanc-dicomweb is not installed (docker/install-test-peers installs it)")
    if not ohif_folder().exists():
        pytest.skip("OHIF is not installed (docker/install-viewers installs it)")
    folder = tmp_path_factory.mktemp("ohif")
    study = make_study(folder / "study")
    other = make_study(folder / "other", {"other": _OTHER_FORMS}, identity=CtIdentity.from_seed(2))
    rejected_uid, rejected = make_rejected(folder / "rejected")
    with (
        archive_of(folder / "orthanc", [*study.files, *other.files, *rejected]) as archive,
        open_ohif(archive.root) as ohif,
    ):
        segments = show_segmentation(ohif, study, folder)
        findings = show_report(ohif, study, folder)
        drawn = ohif.read_drawn_texts()
        overlay = show_overlay(ohif, study, folder)
        ohif.open_study(other.source.study_instance_uid)
        background, *labelmap = ohif.show_segments("SEG")
        labelmap = [background, *ohif.measure(labelmap)]
        structures = ohif.show_segments("RTSTRUCT")
        contours = ohif.read_contours()
        return Seen(
            study=study,
            segments=segments,
            findings=findings,
            drawn=drawn,
            overlay=overlay,
            rejected=show_rejected(ohif, rejected_uid, folder),
            page=_read_page(rejected),
            other=other,
            labelmap=labelmap,
            structures=structures,
            contours=contours,
        )


def _read_page(rejected: list[Path]) -> Dataset:
    [page] = [one for one in map(dcmread, rejected) if one.Modality == OVERLAY_MODALITY]
    return page


def test_segments_have_their_names_and_colors(seen: Seen):
    _check_names_and_colors(seen.segments, seen.study.result(ResultRole.SEG).SegmentSequence)


def test_segments_of_a_labelmap_have_their_names_colors_and_voxels(seen: Seen):
    """The background is listed too; it has no color."""
    *written, _ = seen.other.result(ResultRole.SEG).SegmentSequence
    background, *segments = seen.labelmap
    assert (background.number, background.label) == (0, "Background")
    _check_names_and_colors(segments, written)
    regions = (seen.other.findings.liver, *seen.other.findings.lesions)
    for segment, region in zip(segments, regions, strict=True):
        assert segment.statistics["count"] == region.voxel_count


def _check_names_and_colors(shown: list[ShownSegment], written: Sequence[Dataset]) -> None:
    assert [segment.label for segment in shown] == [one.SegmentLabel for one in written]
    for segment, one in zip(shown, written, strict=True):
        color = CIELabColor.from_dicom_value(one.RecommendedDisplayCIELabValue).to_rgb()
        assert segment.color == pytest.approx(color, abs=1)


def test_structures_have_their_names_colors_and_contours(seen: Seen):
    rtstruct = seen.other.result(ResultRole.RTSTRUCT)
    written = zip(rtstruct.StructureSetROISequence, rtstruct.ROIContourSequence, strict=True)
    for shown, (roi, drawn) in zip(seen.structures, written, strict=True):
        assert (shown.number, shown.label) == (roi.ROINumber, roi.ROIName)
        assert shown.color == tuple(drawn.ROIDisplayColor)
        contours = [np.reshape(one.ContourData, (-1, 3)) for one in drawn.ContourSequence]
        for line, contour in zip(seen.contours[shown.number], contours, strict=True):
            np.testing.assert_allclose(line, contour.astype(float), atol=1e-4)


def test_the_numbers_that_ohif_computes_are_ours(seen: Seen):
    regions = (seen.study.findings.liver, *seen.study.findings.lesions)
    for segment, region in zip(seen.segments, regions, strict=True):
        found = segment.statistics
        assert found["count"] == region.voxel_count
        assert found["volume"] == pytest.approx(1000 * region.volume_ml, rel=1e-6)
        assert found["mean"] == pytest.approx(region.mean_hu, abs=1e-6)
        assert found["stdDev"] == pytest.approx(region.sd_hu, abs=1e-6)
        assert (found["min"], found["max"]) == (region.min_hu, region.max_hu)
        assert found["center"] == pytest.approx(region.centroid_mm, abs=0.01)


def test_the_numbers_in_its_table_are_those_in_our_report(seen: Seen):
    """To the three digits that OHIF displays."""
    report = seen.study.result(ResultRole.SR)
    for segment, uid in zip(seen.segments, _tracking_uids(seen.study), strict=True):
        ours = _numbers(report, uid)
        displayed = segment.displayed
        assert displayed["Volume"] == pytest.approx(1000 * ours["Volume"], rel=5e-3)
        for title, name in (
            ("Mean Value", "Attenuation Coefficient"),
            ("Standard Deviation", "Standard Deviation of Attenuation Coefficient"),
            ("Min Value", "Minimum of Attenuation Coefficient"),
            ("Max Value", "Maximum of Attenuation Coefficient"),
        ):
            assert displayed[title] == pytest.approx(ours[name], rel=5e-3), (segment.label, title)


def test_the_report_lists_every_number(seen: Seen):
    report = seen.study.result(ResultRole.SR)
    by_uid = {finding.tracking_uid: finding for finding in seen.findings}
    assert list(by_uid) == _tracking_uids(seen.study)
    for uid, finding in by_uid.items():
        # OHIF shows a zero as nothing.
        expected = {
            (name, f"{value:.2f} {unit}" if value else f" {unit}")
            for name, value, unit in _measurements(report, uid)
        }
        assert expected <= set(finding.labels)


def test_the_long_axes_are_drawn_where_they_were_measured(seen: Seen):
    volume = seen.study.source.volume
    regions = (seen.study.findings.liver, *seen.study.findings.lesions)
    for finding, region in zip(seen.findings, regions, strict=True):
        axis = region.long_axis
        ends = np.array([(axis.slice_index, *axis.start), (axis.slice_index, *axis.end)])
        [line] = finding.lines
        np.testing.assert_allclose(line, volume.map_indices_to_reference(ends), atol=0.01)


def test_the_numbers_of_a_line_stand_beside_it(seen: Seen):
    assert seen.drawn
    by_uid = {finding.tracking_uid: finding for finding in seen.findings}
    for uid, text in seen.drawn.items():
        (title, value), *_ = by_uid[uid].labels
        assert f"{title}: {value}" in text


def test_the_overlay_is_shown(seen: Seen):
    _check_shown(seen.overlay, seen.study.result(ResultRole.OVERLAY))


def test_why_a_series_was_rejected_is_shown(seen: Seen):
    _check_shown(seen.rejected, seen.page)


def _check_shown(shown: ShownImage, written: Dataset) -> None:
    assert shown.size == (written.Rows, written.Columns)
    assert shown.mean == pytest.approx(written.pixel_array.mean(), rel=1e-3)


def _tracking_uids(study: Study) -> list[str]:
    segments = study.result(ResultRole.SEG).SegmentSequence
    return [str(segment.TrackingUID) for segment in segments]


def _measurements(report: Dataset, tracking_uid: str) -> list[tuple[str, float, str]]:
    """Give name, value and unit of all that a report says under a tracking UID."""
    found = []
    for container in report.ContentSequence:
        for group in container.get("ContentSequence", []):
            items = group.get("ContentSequence", [])
            if any(item.get("UID") == tracking_uid for item in items):
                found += [_measurement(item) for item in items if item.ValueType == "NUM"]
    return found


def _measurement(item: Dataset) -> tuple[str, float, str]:
    [measured] = item.MeasuredValueSequence
    unit = measured.MeasurementUnitsCodeSequence[0].CodeValue
    return item.ConceptNameCodeSequence[0].CodeMeaning, float(measured.NumericValue), unit


def _numbers(report: Dataset, tracking_uid: str) -> dict[str, float]:
    return {name: value for name, value, _ in _measurements(report, tracking_uid)}

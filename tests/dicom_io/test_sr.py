import json
import subprocess
from dataclasses import replace

import highdicom as hd
import numpy as np
import pytest
from pydicom import dcmread
from pydicom.uid import Comprehensive3DSRStorage

from dicom_io import codes
from dicom_io.provenance import ReportReference, SeriesHistory
from inference.findings import Doubt, DoubtCode
from inference.wording import round_volume_ml, summary_sentence


def _named(groups, identifier):
    (group,) = [group for group in groups if group.tracking_identifier == identifier]
    return group


def _values(group):
    """Meaning of name (and derivation) to value and unit."""
    found = {}
    for measurement in group.get_measurements():
        name = measurement.name.meaning
        if measurement.derivation is not None:
            name += f", {measurement.derivation.meaning}"
        found[name] = (measurement.value, measurement.unit.value)
    return found


def _evaluations(path):
    """The code and the sentences below Qualitative Evaluations."""
    (container,) = [
        item
        for item in dcmread(path).ContentSequence
        if item.ConceptNameCodeSequence[0].CodeValue == codes.QUALITATIVE_EVALUATIONS.value
    ]
    items = container.ContentSequence
    code = items[0].ConceptNameCodeSequence[0].CodeMeaning
    value = items[0].ConceptCodeSequence[0].CodeMeaning
    return (code, value), [item.TextValue for item in items[1:]]


def test_each_segment_has_a_group_with_its_numbers(case, written):
    seg = dcmread(written[0])
    report = hd.sr.srread(written[1]).content
    groups = report.get_volumetric_roi_measurement_groups()
    for segment, region in zip(
        seg.SegmentSequence, (case.findings.liver, *case.findings.lesions), strict=True
    ):
        group = _named(groups, segment.TrackingID)
        expected = {
            "Volume": (round_volume_ml(region.volume_ml), "ml"),
            "Long axis": (round(region.long_axis.length_mm, 1), "mm"),
            "Attenuation Coefficient, Mean": (round(region.mean_hu, 1), "[hnsf'U]"),
            "Standard Deviation of Attenuation Coefficient, Standard Deviation": (
                round(region.sd_hu, 1),
                "[hnsf'U]",
            ),
            "Minimum of Attenuation Coefficient, Minimum": (region.min_hu, "[hnsf'U]"),
            "Maximum of Attenuation Coefficient, Maximum": (region.max_hu, "[hnsf'U]"),
        }
        judged = []
        if segment.SegmentNumber > 1:
            expected["Short axis"] = (round(region.short_axis.length_mm, 1), "mm")
            distance_mm = round(region.surface_distance_mm, 1)
            expected["Distance to liver surface"] = (distance_mm, "mm")
            judged = [codes.YES if region.is_measurable else codes.NO]
        assert _values(group) == expected
        found = group.get_qualitative_evaluations(codes.RECIST_MEASURABLE)
        assert [one.value for one in found] == judged
        assert group.tracking_uid == segment.TrackingUID
        reference = group.referenced_segment[0].ReferencedSOPSequence[0]
        assert reference.ReferencedSOPInstanceUID == seg.SOPInstanceUID
        assert reference.ReferencedSegmentNumber == segment.SegmentNumber
        assert group.finding_category == segment.SegmentedPropertyCategoryCodeSequence[0]
        assert group.finding_type == segment.SegmentedPropertyTypeCodeSequence[0]
        assert [site.value for site in group.finding_sites] == [codes.LIVER]


def test_volumes_are_those_of_the_voxels(results, written):
    voxel_ml = np.prod(results.spacing_mm) / 1000
    groups = hd.sr.srread(written[1]).content.get_volumetric_roi_measurement_groups()
    for number, lesion in enumerate(results.lesions, start=1):
        count = np.prod([part.stop - part.start for part in lesion])
        volume_ml, _ = _values(_named(groups, f"Liver lesion {number}"))["Volume"]
        assert volume_ml == pytest.approx(count * voxel_ml, abs=6e-4)


@pytest.mark.parametrize("enhanced", [False, True])
def test_long_axis_is_drawn_on_the_slice_it_was_measured_in(results, tmp_path, enhanced):
    case = results.case(results.source(enhanced=enhanced))
    _, path = case.write(tmp_path)
    groups = hd.sr.srread(path).content.get_planar_roi_measurement_groups()
    regions = {"Liver": case.findings.liver}
    regions |= {f"Liver lesion {lesion.number}": lesion for lesion in case.findings.lesions}
    assert {group.tracking_identifier for group in groups} == set(regions)
    for name, region in regions.items():
        axis = region.long_axis
        line = _named(groups, name).roi
        assert line.graphic_type is hd.sr.GraphicTypeValues.POLYLINE
        expected = [(column + 0.5, row + 0.5) for row, column in (axis.start, axis.end)]
        np.testing.assert_allclose(line.value, expected)
        sop_instance_uid, frame_number = case.source.frame_sources[axis.slice_index]
        image = line.ContentSequence[0].ReferencedSOPSequence[0]
        assert image.ReferencedSOPInstanceUID == sop_instance_uid
        assert image.get("ReferencedFrameNumber") == frame_number
        step = np.diff(line.value, axis=0)[0] * results.spacing_mm[:0:-1]
        assert np.linalg.norm(step) == pytest.approx(axis.length_mm, abs=1e-3)


def test_totals_stand_with_the_liver(case, written):
    report = hd.sr.srread(written[1]).content
    (group,) = report.get_image_measurement_groups()
    findings = case.findings
    assert group.tracking_uid == dcmread(written[0]).SegmentSequence[0].TrackingUID
    assert _values(group) == {
        "Number of lesions": (3, "{lesions}"),
        "Total tumor volume": (round_volume_ml(findings.tumor_volume_ml), "ml"),
        "Volume of liver with lesions": (round_volume_ml(findings.organ_volume_ml), "ml"),
        "Tumor burden of liver": (round(100 * findings.tumor_burden, 2), "%"),
    }
    code, sentences = _evaluations(written[1])
    assert code == ("Neoplasm", "Present")
    assert sentences[0].startswith("3 lesions segmented, total ")
    assert "not reviewed" in sentences[1]
    assert sentences[2].endswith("For tests only.")


def test_report_says_who_wrote_it_and_that_nobody_signed(written):
    sr = hd.sr.srread(written[1])
    assert (sr.CompletionFlag, sr.PreliminaryFlag, sr.VerificationFlag) == (
        "COMPLETE",
        "PRELIMINARY",
        "UNVERIFIED",
    )
    assert sr.SeriesDescription == "AI liver measurements, not reviewed"
    assert sr.SeriesNumber == 9101
    assert sr.ContentTemplateSequence[0].TemplateIdentifier == "1500"
    (observer,) = sr.content.get_observer_contexts()
    assert observer.observer_type == codes.DEVICE
    assert observer.observer_identifying_attributes.name == "HEPAR"
    assert observer.observer_identifying_attributes.model_name == "test-model"
    schemes = {item.CodingSchemeDesignator for item in sr.CodingSchemeIdentificationSequence}
    assert schemes == {codes.PRIVATE_SCHEME}


def test_evidence_lists_the_whole_series_and_the_seg(case, written):
    evidence = {instance for _, _, instance, _ in hd.sr.srread(written[1]).get_evidence()}
    assert evidence == {*case.source.sop_instance_uids, dcmread(written[0]).SOPInstanceUID}


def test_report_on_a_part_of_a_series_says_so_and_names_the_one_before(case, tmp_path, program):
    earlier = ReportReference(
        sop_class_uid=Comprehensive3DSRStorage,
        sop_instance_uid="2.25.1",
        series_instance_uid="2.25.2",
    )
    history = SeriesHistory(
        remark="9 of the 12 instances have come.", predecessors={"ohif": earlier}
    )
    plain = case.write(tmp_path / "plain")
    context = replace(case.context, history=history)
    partial = replace(case, context=context).write(tmp_path / "partial")
    sentences = _evaluations(partial[1])[1]
    assert "The series is incomplete: 9 of the 12 instances have come." in sentences
    sr = dcmread(partial[1])
    (study,) = sr.PredecessorDocumentsSequence
    (series,) = study.ReferencedSeriesSequence
    (named,) = series.ReferencedSOPSequence
    assert study.StudyInstanceUID == sr.StudyInstanceUID
    assert (series.SeriesInstanceUID, named.ReferencedSOPInstanceUID) == ("2.25.2", "2.25.1")
    assert named.ReferencedSOPClassUID == Comprehensive3DSRStorage
    for one, other in zip(plain, partial, strict=True):
        assert dcmread(one).SOPInstanceUID != dcmread(other).SOPInstanceUID
    done = subprocess.run(
        [program("dciodvfy"), partial[1]], check=False, capture_output=True, text=True
    )
    assert "Error" not in done.stderr


def test_doubts_stand_in_codes_and_in_words(case, tmp_path):
    doubts = tuple(Doubt(code=code, sentence=f"{code.value}.") for code in DoubtCode)
    doubted = replace(case, findings=replace(case.findings, doubts=doubts))
    (container,) = [
        item
        for item in dcmread(doubted.write(tmp_path)[1]).ContentSequence
        if item.ConceptNameCodeSequence[0].CodeValue == codes.QUALITATIVE_EVALUATIONS.value
    ]
    coded = [item for item in container.ContentSequence if item.ValueType == "CODE"]
    values = [item.ConceptCodeSequence[0] for item in coded[1:]]
    assert {item.ConceptNameCodeSequence[0].CodeValue for item in coded[1:]} == {"plausibility"}
    assert [value.CodeMeaning for value in values] == [
        codes.DOUBTS[code].meaning for code in DoubtCode
    ]
    assert {value.CodingSchemeDesignator for value in values} == {codes.PRIVATE_SCHEME}
    texts = [item.TextValue for item in container.ContentSequence if item.ValueType == "TEXT"]
    assert [text for text in texts if text.startswith("Doubtful")] == [
        f"Doubtful: {code.value}." for code in DoubtCode
    ]


def test_negative_study_says_that_nothing_was_segmented(results, tmp_path):
    case = results.case(lesions=())
    seg_path, path = case.write(tmp_path)
    assert [s.SegmentLabel for s in dcmread(seg_path).SegmentSequence] == ["Liver"]
    code, sentences = _evaluations(path)
    assert code == ("Neoplasm", "Absent")
    assert sentences[0].startswith("No lesion segmented; liver volume ")
    report = hd.sr.srread(path).content
    values = _values(report.get_image_measurement_groups()[0])
    assert values["Number of lesions"] == (0, "{lesions}")
    assert values["Tumor burden of liver"] == (0, "%")
    assert len(report.get_volumetric_roi_measurement_groups()) == 1


def test_pooled_lesions_are_counted_and_the_largest_is_drawn(case, tmp_path):
    _, path = case.with_settings(max_lesion_segments=1, tumor_type="lesion").write(tmp_path)
    report = hd.sr.srread(path).content
    group = _named(report.get_volumetric_roi_measurement_groups(), "Other liver lesions")
    pooled = case.findings.lesions[1:]
    values = _values(group)
    assert values["Number of lesions"] == (2, "{lesions}")
    assert values["Volume"][0] == pytest.approx(sum(r.volume_ml for r in pooled), abs=6e-4)
    hu = case.source.volume.array[case.findings.lesion_map.array > 1]
    assert values["Attenuation Coefficient, Mean"][0] == pytest.approx(hu.mean(), abs=0.06)
    sd_hu = values["Standard Deviation of Attenuation Coefficient, Standard Deviation"][0]
    assert sd_hu == pytest.approx(hu.std(), rel=0.02)
    line = _named(report.get_planar_roi_measurement_groups(), "Other liver lesions").roi
    axis = pooled[0].long_axis
    np.testing.assert_allclose(line.value[0], (axis.start[1] + 0.5, axis.start[0] + 0.5))
    assert _evaluations(path)[0] == ("Lesion", "Present")


@pytest.mark.parametrize(
    ("volume_ml", "rounded"),
    [(0.00449, 0.004), (9.98765, 9.988), (17.8449, 17.84), (1700.68, 1700.7)],
)
def test_volumes_are_rounded_to_what_they_mean(volume_ml, rounded):
    assert round_volume_ml(volume_ml) == rounded


def test_one_lesion_is_not_called_lesions(results):
    assert summary_sentence(results.case(lesions=results.lesions[:1]).findings).startswith(
        "1 lesion segmented, "
    )


def test_dcmqi_reads_the_same_numbers(case, written, venv_program, tmp_path):
    metadata = tmp_path / "sr.json"
    subprocess.run(
        [
            venv_program("tid1500reader"),
            *("--inputDICOM", str(written[1]), "--outputMetadata", str(metadata)),
        ],
        check=True,
        capture_output=True,
    )
    groups = [
        group
        for group in json.loads(metadata.read_text())["Measurements"]
        if group.get("ReferencedSegment") is not None
    ]
    volumes = {
        int(group["ReferencedSegment"]): float(item["value"])
        for group in groups
        for item in group["measurementItems"]
        if item["quantity"]["CodeValue"] == codes.VOLUME.value
    }
    regions = (case.findings.liver, *case.findings.lesions)
    expected = {n: round_volume_ml(r.volume_ml) for n, r in enumerate(regions, start=1)}
    assert volumes == pytest.approx(expected)


@pytest.mark.peer
def test_dsrdump_prints_the_report(written, program):
    command = [program("dsrdump"), "-q", "-Ec", str(written[1])]
    text = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    for line in (
        "Imaging Measurement Report",
        'TEXT:(,,"Station AE Title")="HEPAR"',
        'NUM:(,,"Total tumor volume")',
        'CODE:(,,"Neoplasm")=(52101004,SCT,"Present")',
    ):
        assert line in text

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
from pydicom import dcmread
from pydicom.uid import Comprehensive3DSRStorage, SegmentationStorage

from config.results import ResultRole, ResultSettings
from dicom_io.errors import ResultMismatch
from dicom_io.report import build_report
from dicom_io.results import ResultContext
from dicom_io.series import find_series, read_series
from inference.measure import measure

CONTEXT = ResultContext(
    settings=ResultSettings(), created_at=datetime(2026, 3, 1, tzinfo=UTC), software_version="1"
)


def _write(case, folder):
    folder.mkdir()
    return case.write_all(folder).files


def test_files_are_named_by_role_and_hold_what_is_said_of_them(case, tmp_path):
    files = _write(case, tmp_path / "a")
    assert [file.role for file in files] == [ResultRole.SEG, ResultRole.SR]
    assert [file.sop_class_uid for file in files] == [
        SegmentationStorage,
        Comprehensive3DSRStorage,
    ]
    for file in files:
        assert file.path == tmp_path / "a" / f"{file.role}.dcm"
        written = dcmread(file.path)
        assert written.SOPClassUID == file.sop_class_uid
        assert written.SOPInstanceUID == file.sop_instance_uid
        assert written.file_meta.MediaStorageSOPInstanceUID == file.sop_instance_uid
        assert written.SeriesInstanceUID == file.series_instance_uid
    uids = {uid for file in files for uid in (file.sop_instance_uid, file.series_instance_uid)}
    assert len(uids) == 4


def test_a_repeat_writes_the_same_bytes(case, written, tmp_path):
    for path, again in zip(written, _write(case, tmp_path / "again"), strict=True):
        assert path.read_bytes() == again.path.read_bytes()


def _with_model_digest(case):
    model = replace(case.segmentation.model, digest="cd" * 32)
    return replace(case, segmentation=replace(case.segmentation, model=model))


def _with_other_pixels(case):
    array = case.source.volume.array.copy()
    array[0, 0, 0] += 1
    volume = case.source.volume.with_array(array)
    return replace(case, source=replace(case.source, volume=volume))


def _later(case):
    later = case.context.created_at + timedelta(days=1)
    return replace(case, context=replace(case.context, created_at=later))


def _with_software(case):
    return replace(case, context=replace(case.context, software_version="0.2.0"))


@pytest.mark.parametrize(
    ("change", "is_same_object"),
    [
        (_later, True),
        (_with_model_digest, False),
        (_with_other_pixels, False),
        (_with_software, False),
        (lambda case: case.with_settings(max_lesion_segments=2), False),
        (lambda case: case.with_settings(sr_series_number=77), False),
    ],
)
def test_uids_follow_from_what_makes_the_content(case, written, tmp_path, change, is_same_object):
    known = {dcmread(path, stop_before_pixels=True).SOPInstanceUID for path in written}
    uids = {file.sop_instance_uid for file in _write(change(case), tmp_path / "other")}
    assert uids == known if is_same_object else not uids & known


def test_both_objects_name_the_method_that_marked_tumor_and_its_parameters(case, tmp_path):
    parameters = {"tumor_engine": "gmm", "clusters": "2"}
    model = replace(case.segmentation.model, name="test-model+gmm", parameters=parameters)
    changed = replace(case, segmentation=replace(case.segmentation, model=model))
    seg, sr = (dcmread(file.path) for file in _write(changed, tmp_path / "a"))
    for segment in seg.SegmentSequence:
        [algorithm] = segment.SegmentationAlgorithmIdentificationSequence
        assert algorithm.AlgorithmName == "test-model+gmm"
        assert "tumor_engine" in algorithm.AlgorithmParameters
        assert "gmm" in algorithm.AlgorithmParameters
    text = str(sr)
    assert "test-model+gmm" in text
    assert "tumor_engine=gmm" in text
    assert "clusters=2" in text
    report = build_report(changed.source, changed.segmentation, changed.findings)
    assert json.loads(json.dumps(report))["model"]["parameters"] == parameters


def test_naive_times_are_refused(case, tmp_path):
    naive = case.context.created_at.replace(tzinfo=None)
    with pytest.raises(ValueError, match="aware"):
        _write(replace(case, context=replace(case.context, created_at=naive)), tmp_path / "a")


def test_a_written_file_that_is_not_as_planned_is_an_error(case, tmp_path, monkeypatch):
    def blank(seg):
        seg.PixelData = bytes(len(seg.PixelData))

    monkeypatch.setattr("dicom_io.seg._zero_padding", blank)
    with pytest.raises(ResultMismatch, match="differs from the plan"):
        _write(case, tmp_path / "a")


@pytest.mark.parametrize("lesion_count", [0, 3])
def test_report_is_json_with_all_measurements(results, lesion_count):
    case = results.case(lesions=results.lesions[:lesion_count])
    report = build_report(case.source, case.segmentation, case.findings)
    assert json.loads(json.dumps(report)) == report
    findings = case.findings
    assert report["summary"]["lesion_count"] == len(report["lesions"]) == lesion_count
    assert report["summary"]["tumor_volume_ml"] == pytest.approx(findings.tumor_volume_ml)
    assert report["liver"]["volume_ml"] == pytest.approx(findings.liver.volume_ml)
    for entry, lesion in zip(report["lesions"], findings.lesions, strict=True):
        assert entry["number"] == lesion.number
        assert entry["volume_ml"] == pytest.approx(lesion.volume_ml)
        assert entry["long_axis"]["length_mm"] == pytest.approx(lesion.long_axis.length_mm)
    assert report["model"]["name"] == "test-model"
    assert report["model"]["license"] == "For tests only."
    assert report["run"]["timings_s"] == {"segment": 1.5}
    assert report["source"]["series_instance_uid"] == case.source.series_instance_uid
    assert report["grid"]["spacing_mm"] == pytest.approx(results.spacing_mm)


def test_report_of_a_nifti_file_has_no_source(case):
    report = build_report(None, case.segmentation, case.findings)
    assert report["source"] is None


@pytest.mark.real
@pytest.mark.parametrize(
    ("name", "folder"), [("3Dircadb1.1", "PATIENT_DICOM"), ("CRLM-CT-1004", "image")]
)
def test_real_series_give_checked_results(results, real_series, tmp_path, name, folder):
    (paths,) = find_series(real_series(name) / folder).values()
    source = read_series(paths)
    labels = np.zeros(source.volume.shape, np.uint8)
    labels[5:20, 100:300, 60:200] = 1
    labels[8:12, 150:170, 90:120] = 2
    volume = source.volume.with_array(labels)
    segmentation = replace(results.case().segmentation, labels=volume)
    case = replace(
        results.case(),
        source=source,
        segmentation=segmentation,
        findings=measure(source.volume, volume),
    )
    assert len(_write(case, tmp_path / "a")) == 2


def test_a_model_is_named_in_each_description() -> None:
    context = CONTEXT.naming("a-model", "1.2.3").settings
    assert context.seg_series_description == "AI liver segmentation, not reviewed (a-model 1.2.3)"
    assert context.pdf_series_description == "AI liver report, not reviewed (a-model 1.2.3)"
    assert context.seg_series_number == CONTEXT.settings.seg_series_number


def test_a_name_that_is_too_long_is_cut_before_the_description() -> None:
    named = CONTEXT.naming("a-model-of-many-words-that-go-on-and-on", "10.20.30").settings
    texts = [text for key, text in named if key.endswith("_description")]
    assert all(len(text) <= 64 and text.endswith(" 10.20.30)") for text in texts)
    assert named.rtstruct_series_description == (
        "AI liver contours for planning, not reviewed (a-model- 10.20.30)"
    )
    full = replace(CONTEXT, settings=ResultSettings(seg_series_description="x" * 64))
    cut = full.naming("a-model", "1.2.3").settings.seg_series_description
    assert (len(cut), cut[-16:]) == (64, " (a-model 1.2.3)")

"""The report on a series that cannot be evaluated."""

import subprocess
from dataclasses import replace
from datetime import UTC, datetime

import highdicom as hd
import pytest
from pydicom import dcmread
from pydicom.uid import Comprehensive3DSRStorage

from config.results import ProfileSettings, ResultRole, ResultSettings, ready_made_profiles
from dicom_io import codes
from dicom_io.errors import RejectionReason
from dicom_io.provenance import ReportReference, SeriesHistory
from dicom_io.refusal import Refusal, RefusedSeries, write_refusal
from dicom_io.results import ResultContext
from inference.manifest import ModelIdentity

MODEL = ModelIdentity(name="liver", version="1", digest="d", license="for tests")
CONTEXT = ResultContext(
    settings=ResultSettings(),
    created_at=datetime(2026, 11, 20, 12, 30, 15, tzinfo=UTC),
    software_version="0.1.0",
    profiles={"ohif": ProfileSettings(objects=("seg", "sr"))},
)
PDF = b"%PDF-1.4 why"
REASON = RejectionReason.MISSING_SLICE


@pytest.fixture
def paths(ct, tmp_path):
    return ct.write(ct.slices(), tmp_path / "ct")


def read(paths, context=CONTEXT):
    return RefusedSeries.read(paths, Refusal(REASON, "2 missing"), context, MODEL)


def write(paths, folder, context=CONTEXT):
    folder.mkdir()
    return write_refusal(read(paths, context), folder, PDF)


def test_it_says_in_a_code_and_in_words_what_is_wrong(paths, tmp_path, program):
    [written] = write(paths, tmp_path / "out")
    sr = hd.sr.srread(written.path)
    container = sr.ContentSequence[-1]
    code, *texts = container.ContentSequence
    assert code.ConceptNameCodeSequence[0].CodeValue == "evaluability"
    assert code.ConceptCodeSequence[0].CodeValue == "missing-slice"
    assert texts[0].TextValue == f"Not evaluable: {REASON.sentence}"
    assert texts[1].TextValue == "2 missing"
    source = dcmread(paths[0])
    assert (sr.PatientID, sr.StudyInstanceUID) == (source.PatientID, source.StudyInstanceUID)
    evidence = {uid for _, _, uid, _ in sr.get_evidence()}
    assert evidence == {dcmread(path).SOPInstanceUID for path in paths}
    for command in ("dciodvfy", "dsrdump"):
        done = subprocess.run(
            [program(command), written.path], check=False, capture_output=True, text=True
        )
        assert "Error" not in done.stderr
        assert "E: " not in done.stderr


def test_the_same_series_gives_the_same_report(paths, tmp_path):
    [first] = write(paths, tmp_path / "first")
    [second] = write(paths[::-1], tmp_path / "second")
    assert first.sop_instance_uid == second.sop_instance_uid
    [other] = write(paths[1:], tmp_path / "other")
    assert other.sop_instance_uid != first.sop_instance_uid


def test_what_cannot_be_read_is_left_out(paths, tmp_path):
    paths[0].write_bytes(paths[0].read_bytes()[:200])
    [written] = write(paths, tmp_path / "out")
    assert len(list(hd.sr.srread(written.path).get_evidence())) == len(paths) - 1
    for path in paths:
        path.write_bytes(b"nothing")
    assert read(paths).instances == []


def test_it_names_the_report_that_it_takes_the_place_of(paths, tmp_path):
    [plain] = write(paths, tmp_path / "plain")
    earlier = ReportReference(
        sop_class_uid=Comprehensive3DSRStorage,
        sop_instance_uid="2.25.1",
        series_instance_uid="2.25.2",
    )
    context = replace(CONTEXT, history=SeriesHistory(predecessors={"ohif": earlier}))
    [written] = write(paths, tmp_path / "next", context=context)
    named = dcmread(written.path).PredecessorDocumentsSequence[0].ReferencedSeriesSequence[0]
    assert named.ReferencedSOPSequence[0].ReferencedSOPInstanceUID == "2.25.1"
    assert written.sop_instance_uid != plain.sop_instance_uid


def test_of_several_patients_nobody_gets_a_report(paths, tmp_path):
    other = dcmread(paths[3])
    other.PatientID = "another"
    other.save_as(paths[3])
    assert read(paths).instances == []


def test_each_reason_has_a_code_of_its_own():
    found = {codes.refusal_code(reason).value for reason in RejectionReason}
    assert len(found) == len(RejectionReason)
    assert max(map(len, found)) <= 16


def test_each_profile_gets_what_its_readers_see(paths, tmp_path, program):
    profiles = ready_made_profiles() | {
        "paper": ProfileSettings(objects=(ResultRole.SEG, ResultRole.PDF))
    }
    written = write(paths, tmp_path / "out", replace(CONTEXT, profiles=profiles))
    by_role = {one.role.value: set(one.profiles) for one in written}
    assert by_role == {
        "sr": {"ohif", "slicer", "orthanc", "rt"},
        "summary": {"ohif", "orthanc", "sc-only"},
        "pdf": {"orthanc", "paper"},
    }
    assert len({one.sop_instance_uid for one in written}) == 3
    source = dcmread(paths[0])
    for one in written:
        found = dcmread(one.path)
        assert (found.PatientID, found.StudyInstanceUID) == ("P-1", source.StudyInstanceUID)
        done = subprocess.run([program("dciodvfy"), one.path], check=False, capture_output=True)
        assert b"Error" not in done.stderr
    assert dcmread(written[-1].path).EncapsulatedDocument.startswith(PDF)

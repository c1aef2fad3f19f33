"""The report on a series that cannot be evaluated."""

import subprocess
from datetime import UTC, datetime

import highdicom as hd
import pytest
from pydicom import dcmread

from config.settings import ResultSettings
from dicom_io import codes
from dicom_io.errors import RejectionReason
from dicom_io.refusal import Refusal, write_refusal
from dicom_io.results import ResultContext
from inference.manifest import ModelIdentity

MODEL = ModelIdentity(name="liver", version="1", digest="d", license="for tests")
CONTEXT = ResultContext(
    settings=ResultSettings(),
    created_at=datetime(2026, 11, 20, 12, 30, 15, tzinfo=UTC),
    software_version="0.1.0",
)
REASON = RejectionReason.MISSING_SLICE


@pytest.fixture
def paths(ct, tmp_path):
    return ct.write(ct.slices(), tmp_path / "ct")


def write(paths, folder, reason=REASON):
    folder.mkdir()
    return write_refusal(paths, Refusal(reason, "2 missing"), folder, CONTEXT, MODEL)


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
    assert write(paths, tmp_path / "none") == []


def test_each_reason_has_a_code_of_its_own():
    found = {codes.refusal_code(reason).value for reason in RejectionReason}
    assert len(found) == len(RejectionReason)
    assert max(map(len, found)) <= 16

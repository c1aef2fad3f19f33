import subprocess

import highdicom as hd
import numpy as np
import pytest
from pydicom import dcmread
from pydicom.uid import KeyObjectSelectionDocumentStorage

from dicom_io.errors import ResultMismatch
from dicom_io.key_objects import build_key_objects
from dicom_io.provenance import InstanceUids
from dicom_io.results import write_object
from dicom_io.uids import derive_uid
from dicom_io.verify_key_objects import check_key_objects

UIDS = InstanceUids(
    series_instance_uid=derive_uid("series", "key objects"),
    sop_instance_uid=derive_uid("instance", "key objects"),
)


def write(case, folder):
    """Write and check, as the node does."""
    dataset = build_key_objects(case.basis, case.findings, UIDS)
    path = folder / "ko.dcm"
    write_object(dataset, path)
    check_key_objects(path, case.source, case.findings)
    return path


@pytest.fixture(scope="module")
def shared(results):
    """Four lesions, of which the first and the last are largest in the same slice."""
    return results.case(lesions=(*results.lesions, np.s_[4:5, 20:21, 24:26]))


@pytest.fixture(scope="module")
def path(shared, tmp_path_factory):
    """Give the key objects of four lesions; to be read, not to be changed."""
    return write(shared, tmp_path_factory.mktemp("key-objects"))


def test_it_cites_the_slices_with_the_largest_diameters_each_once(shared, path):
    document = hd.ko.KeyObjectSelectionDocument.from_dataset(dcmread(path))
    cited = [item.referenced_sop_instance_uid for item in document.content.get_references()]
    slices = [4, 9, 6]
    assert [lesion.long_axis.slice_index for lesion in shared.findings.lesions] == [*slices, 4]
    assert cited == [shared.source.sop_instance_uids[index] for index in slices]
    for uid in cited:
        assert document.resolve_reference(uid) == (
            shared.source.study_instance_uid,
            shared.source.series_instance_uid,
            uid,
        )


def test_it_says_what_it_is(shared, path):
    document = dcmread(path)
    expected = {
        "SOPClassUID": KeyObjectSelectionDocumentStorage,
        "Modality": "KO",
        "SeriesNumber": 9105,
        "SeriesDescription": "AI liver key images, not reviewed",
        "Manufacturer": "Hepar",
        "PatientID": "HEPAR-PHANTOM-0",
        "ContentDate": document.SeriesDate,
    }
    assert {keyword: document[keyword].value for keyword in expected} == expected
    title = document.ConceptNameCodeSequence[0]
    assert (title.CodeValue, title.CodeMeaning) == ("113000", "Of Interest")
    assert document.ContentTemplateSequence[0].TemplateIdentifier == "2010"
    said = {
        item.ConceptNameCodeSequence[0].CodeMeaning: item
        for item in document.ContentSequence
        if item.ValueType != "IMAGE"
    }
    assert said["Observer Type"].ConceptCodeSequence[0].CodeMeaning == "Device"
    assert said["Station AE Title"].TextValue == "HEPAR"
    text = said["Key Object Description"].TextValue
    assert text.startswith("AI result, not reviewed.")
    first, _, _, last = shared.findings.lesions
    assert (
        f"image 1: lesion 1 ({first.long_axis.length_mm:.1f} mm), "
        f"lesion 4 ({last.long_axis.length_mm:.1f} mm); image 2: lesion 2 (" in text
    )


def test_enhanced_ct_is_cited_by_frame(results, tmp_path):
    case = results.case(results.source(enhanced=True))
    document = hd.ko.KeyObjectSelectionDocument.from_dataset(dcmread(write(case, tmp_path)))
    [item] = document.content.get_references()
    axes = [lesion.long_axis for lesion in case.findings.lesions]
    frames = [case.source.frame_sources[axis.slice_index][1] for axis in axes]
    assert item.referenced_frame_numbers == frames


def test_one_lesion_of_enhanced_ct_is_one_frame(results, tmp_path):
    write(results.case(results.source(enhanced=True), results.lesions[:1]), tmp_path)


def test_without_a_lesion_there_is_nothing_to_select(results):
    case = results.case(lesions=())
    assert build_key_objects(case.basis, case.findings, UIDS) is None


def test_a_repeat_writes_the_same_bytes(shared, path, tmp_path):
    assert write(shared, tmp_path).read_bytes() == path.read_bytes()


@pytest.mark.peer
@pytest.mark.parametrize("kind", ["single", "enhanced", "bare"])
def test_validators_and_viewers_read_it(results, shared, program, tmp_path, kind):
    def bare(ds):
        for keyword in ("PatientName", "PatientID", "Manufacturer", "StudyTime"):
            del ds[keyword]

    cases = {
        "single": lambda: shared,
        "enhanced": lambda: results.case(results.source(enhanced=True)),
        "bare": lambda: results.case(results.source(edit=bare)),
    }
    path = write(cases[kind](), tmp_path)
    validated = subprocess.run(
        [program("dciodvfy"), path], check=False, capture_output=True, text=True
    )
    output = validated.stdout + validated.stderr
    assert "KeyObjectSelectionDocument" in output
    assert not [line for line in output.splitlines() if line.startswith(("Error", "Abort"))]
    dumped = subprocess.run([program("dsrdump"), path], check=True, capture_output=True, text=True)
    assert "E: " not in dumped.stderr
    assert "Of Interest" in dumped.stdout
    assert "AI result, not reviewed." in dumped.stdout


def _images(document):
    return [item for item in document.ContentSequence if item.ValueType == "IMAGE"]


def _cite_another_slice(document):
    first, second, *_ = _images(document)
    first.ReferencedSOPSequence = second.ReferencedSOPSequence


def _forget_a_slice(document):
    document.ContentSequence.remove(_images(document)[-1])


def _list_a_stranger(document):
    series = document.CurrentRequestedProcedureEvidenceSequence[0].ReferencedSeriesSequence[0]
    series.ReferencedSOPSequence[0].ReferencedSOPInstanceUID = derive_uid("stranger")


def _forget_a_lesion(document):
    for item in document.ContentSequence:
        if item.ValueType == "TEXT":
            item.TextValue = str(item.TextValue).replace("lesion 2 ", "")


def _change_title(document):
    document.ConceptNameCodeSequence[0].CodeValue = "113001"


def _change_patient(document):
    document.PatientID = "somebody else"


@pytest.mark.parametrize(
    ("tamper", "said"),
    [
        (_cite_another_slice, "other than those of the long axes"),
        (_forget_a_slice, "other than those of the long axes"),
        (_list_a_stranger, "other than those that it cites"),
        (_forget_a_lesion, "does not describe"),
        (_change_title, "title"),
        (_change_patient, "PatientID"),
    ],
)
def test_a_file_that_is_not_as_it_should_be_is_found(shared, path, tmp_path, tamper, said):
    document = dcmread(path)
    tamper(document)
    document.save_as(tmp_path / "tampered.dcm")
    with pytest.raises(ResultMismatch, match=said):
        check_key_objects(tmp_path / "tampered.dcm", shared.source, shared.findings)

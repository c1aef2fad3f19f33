"""Identity of one instance: what is read, and what is refused."""

import warnings

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydicom import config, uid
from pydicom.datadict import tag_for_keyword
from pydicom.dataelem import DataElement, RawDataElement
from pydicom.dataset import Dataset

from benchmarks.hostile.files import many_items, nested, put_before_pixels
from dicom_io import headers
from dicom_io.errors import DicomIOError, InvalidUid, MismatchingInstance, UndecodableInstance
from dicom_io.headers import MAX_ITEMS, InstanceHeader, check_uid, read_attributes, read_header


def _raw(dataset, keyword, text):
    """Put the bytes of a value into a data set as they are, whatever the standard says."""
    tag = tag_for_keyword(keyword)
    value = text.encode("latin-1")
    vr = "UI" if keyword.endswith("UID") else "DS"
    dataset[tag] = RawDataElement(tag, vr, len(value), value, 0, False, True)


def _write(dataset, path):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        dataset.preamble = bytes(128)
        dataset.save_as(path)
    return path


@pytest.fixture
def image(ct):
    """The data set of one slice."""
    return ct.slices()[3]


@pytest.fixture
def path(tmp_path):
    return tmp_path / "instance.dcm"


def test_header_of_a_slice(ct, image, path):
    image.NumberOfSeriesRelatedInstances = 12
    assert read_header(_write(image, path)) == InstanceHeader(
        sop_class_uid=uid.CTImageStorage,
        sop_instance_uid=image.SOPInstanceUID,
        study_instance_uid=ct.study_uid,
        series_instance_uid=ct.series_uid,
        transfer_syntax_uid=uid.ExplicitVRLittleEndian,
        modality="CT",
        slice_position_mm=-300 + 3 * 2.5,
        expected_instances=12,
        frame_count=1,
    )


def test_header_of_an_enhanced_ct(ct, path):
    header = read_header(_write(ct.enhanced(), path))
    assert header.frame_count == 12
    assert header.slice_position_mm is None


def test_count_of_the_acquisition_is_none_of_the_series(image, path):
    image.ImagesInAcquisition = 12
    assert read_header(_write(image, path)).expected_instances is None


@pytest.mark.parametrize("count", ["0", "-3", "many", "", "12\\13", "1e400", "2147483648"])
def test_count_that_makes_no_sense_is_unknown(image, path, count):
    _raw(image, "NumberOfSeriesRelatedInstances", count)
    assert read_header(_write(image, path)).expected_instances is None


@pytest.mark.parametrize(
    ("keyword", "value"),
    [
        ("ImagePositionPatient", "here\\there\\-300"),
        ("ImagePositionPatient", "0\\0"),
        ("ImagePositionPatient", "0\\0\\nan"),
        ("ImagePositionPatient", ""),
        ("ImageOrientationPatient", "1\\0\\0\\1\\0\\0"),
        ("ImageOrientationPatient", "1\\0\\0"),
        ("ImageOrientationPatient", "0\\0\\0\\0\\0\\0"),
    ],
)
def test_malformed_geometry_does_not_fail_the_header(image, path, keyword, value):
    _raw(image, keyword, value)
    assert read_header(_write(image, path)).slice_position_mm is None


def test_slice_position_is_along_the_normal(image, path):
    image.ImageOrientationPatient = [1, 0, 0, 0, 0.6, -0.8]
    image.ImagePositionPatient = [5, 100, 50]
    assert read_header(_write(image, path)).slice_position_mm == pytest.approx(0.8 * 100 + 0.6 * 50)


@pytest.mark.parametrize("padding", ["\0", "\0\0", " ", " \0"])
def test_padding_of_uids_is_tolerated(ct, image, path, padding):
    _raw(image, "StudyInstanceUID", ct.study_uid + padding)
    assert read_header(_write(image, path)).study_instance_uid == ct.study_uid


@pytest.mark.parametrize("keyword", ["SOPClassUID", "SOPInstanceUID"])
@pytest.mark.parametrize("value", [None, ""])
def test_data_set_without_its_own_identity(image, path, keyword, value):
    delattr(image, keyword)
    if value is not None:
        setattr(image, keyword, value)
    with pytest.raises(MismatchingInstance, match=f"the data set has no {keyword}"):
        read_header(_write(image, path))


@pytest.mark.parametrize("keyword", ["SOPClassUID", "SOPInstanceUID"])
def test_data_set_against_file_meta(image, path, keyword):
    setattr(image, keyword, "1.2.3")
    with pytest.raises(MismatchingInstance, match=f"{keyword} differs: data set 1.2.3, file meta"):
        read_header(_write(image, path))


BAD_UIDS = [
    "",
    "1",
    "1.",
    ".1",
    "1..2",
    "1.02",
    "01.2",
    "1.2.x",
    "1.2 .3",
    " 1.2",
    "1.2\n",
    "../../etc",
    "1.2\\1.3",
    "1.\N{ARABIC-INDIC DIGIT TWO}",
    "1." + "2" * 63,
]


@pytest.mark.parametrize("text", BAD_UIDS)
def test_bad_uid(text):
    with pytest.raises(InvalidUid):
        check_uid(text)


@pytest.mark.parametrize("text", ["1.2", "0.0", "2.25.0.10", "1." + "2" * 62])
def test_good_uid(text):
    assert check_uid(text) == text


@pytest.mark.parametrize("keyword", ["StudyInstanceUID", "SeriesInstanceUID"])
@pytest.mark.parametrize("text", ["", "../../etc/passwd", "1.2\\1.3", "1.02.3", "1." + "2" * 70])
def test_invalid_uid_is_named(image, path, keyword, text):
    _raw(image, keyword, text)
    with pytest.raises(InvalidUid, match=f"^{keyword}: "):
        read_header(_write(image, path))


def test_missing_series_uid(image, path):
    del image.SeriesInstanceUID
    with pytest.raises(InvalidUid, match="SeriesInstanceUID: the UID is empty"):
        read_header(_write(image, path))


def test_invalid_sop_instance_uid(image, path):
    for dataset in (image, image.file_meta):
        keyword = "SOPInstanceUID" if dataset is image else "MediaStorageSOPInstanceUID"
        tag = tag_for_keyword(keyword)
        dataset[tag] = DataElement(tag, "UI", "1.2/../3", validation_mode=config.IGNORE)
    with pytest.raises(InvalidUid, match="SOPInstanceUID: not a valid UID"):
        read_header(_write(image, path))


def _encoded(dataset, syntax):
    if syntax == uid.RLELossless:
        dataset.compress(syntax, generate_instance_uid=False)
    dataset.file_meta.TransferSyntaxUID = syntax
    return dataset


SYNTAXES = [
    uid.ExplicitVRLittleEndian,
    uid.ImplicitVRLittleEndian,
    uid.DeflatedExplicitVRLittleEndian,
    uid.RLELossless,
]


@pytest.mark.filterwarnings("ignore")  # pydicom warns of half a UID, and of the end of the file
@pytest.mark.parametrize("syntax", SYNTAXES, ids=lambda syntax: syntax.keyword)
def test_file_cut_short_anywhere_is_refused(image, path, syntax):
    whole = _write(_encoded(image, syntax), path).read_bytes()
    read_header(path)
    padding = syntax == uid.DeflatedExplicitVRLittleEndian
    for length in range(len(whole) - 1 - padding, 0, -3):
        path.write_bytes(whole[:length])
        with pytest.raises(DicomIOError):
            read_header(path)


@pytest.mark.parametrize("read", [read_header, read_attributes])
@pytest.mark.parametrize("content", [b"", b"\0" * 132, b"garbage" * 100, bytes(128) + b"DICM"])
def test_what_is_no_dicom_file(path, content, read):
    path.write_bytes(content)
    with pytest.raises(UndecodableInstance):
        read(path)


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(position=st.integers(0, 2000), noise=st.binary(min_size=1, max_size=8), cut=st.booleans())
@pytest.mark.filterwarnings("ignore")
def test_noise_gives_a_header_or_a_refusal(image, path, position, noise, cut):
    whole = _write(image, path).read_bytes()
    position %= len(whole)
    tail = b"" if cut else whole[position + len(noise) :]
    path.write_bytes(whole[:position] + noise + tail)
    try:
        header = read_header(path)
    except DicomIOError:
        return
    assert check_uid(header.sop_instance_uid)
    assert check_uid(header.series_instance_uid)


DAMAGED = "the data set is damaged"
CROWD = many_items(2 * MAX_ITEMS)


@pytest.mark.parametrize(
    ("elements", "words"),
    [
        pytest.param(nested(5000), f"{DAMAGED}: maximum recursion depth", id="deep"),
        pytest.param(nested(100, closed=False), f"{DAMAGED}: No tag to read", id="without an end"),
        pytest.param(CROWD, f"more than {MAX_ITEMS} items", id="crowded"),
    ],
)
@pytest.mark.filterwarnings("ignore")
def test_sequences_that_would_take_all_memory_are_refused(image, path, elements, words):
    whole = _write(image, path).read_bytes()
    path.write_bytes(put_before_pixels(whole, elements))
    with pytest.raises(UndecodableInstance, match=words):
        read_attributes(path)


@pytest.mark.parametrize("syntax", SYNTAXES[1:3], ids=lambda syntax: syntax.keyword)
def test_items_are_counted_in_each_transfer_syntax(image, path, syntax, monkeypatch):
    image.ReferencedImageSequence = [Dataset() for _ in range(20)]
    _write(_encoded(image, syntax), path)
    read_header(path)
    monkeypatch.setattr(headers, "MAX_ITEMS", 19)
    with pytest.raises(UndecodableInstance, match="more than 19 items"):
        read_header(path)


def test_missing_file_is_an_os_error(path):
    with pytest.raises(FileNotFoundError):
        read_header(path)


def test_attributes_come_without_pixels(image, path):
    attributes = read_attributes(_write(image, path))
    assert attributes.SeriesDescription == "Abdomen 2.5 mm"
    assert "PixelData" not in attributes
    assert attributes.file_meta.TransferSyntaxUID == uid.ExplicitVRLittleEndian


def test_structured_report_has_a_header_too(image, path):
    """Other objects than images need no pixel data."""
    for keyword in ("PixelData", "Rows", "Columns"):
        delattr(image, keyword)
    image.SOPClassUID = image.file_meta.MediaStorageSOPClassUID = uid.EnhancedSRStorage
    assert read_header(_write(image, path)).sop_class_uid == uid.EnhancedSRStorage

"""How the one-page report names patient, study and images."""

import pytest
from pydicom import Dataset, config, dcmread
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import write_dataset

from dicom_io.page_source import describe_instance, describe_series
from inference.report_page import PageSource


def received(character_set=None, **values):
    """Give a data set as it comes from a file, with these bytes as values."""
    dataset = Dataset()
    if character_set is not None:
        dataset.SpecificCharacterSet = character_set
    with config.disable_value_validation():
        for keyword, value in values.items():
            setattr(dataset, keyword, value)
        buffer = DicomBytesIO()
        buffer.is_implicit_VR, buffer.is_little_endian = False, True
        write_dataset(buffer, dataset)
        buffer.seek(0)
        return dcmread(buffer, force=True)


@pytest.mark.parametrize(
    ("character_set", "value", "name"),
    [
        (None, "Doe^Jane", "Doe, Jane"),
        (None, "Doe^Jane^Mary Ann^Dr.^MD", "Doe, Dr. Jane Mary Ann, MD"),
        (None, "^Jane", "Jane"),
        (None, "ANONYMOUS", "ANONYMOUS"),
        (None, "", ""),
        (None, "^^^^", ""),
        ("ISO_IR 100", "Müller^Jürgen", "Müller, Jürgen"),
        ("ISO_IR 144", "Жданов^Илья", "Жданов, Илья"),
        ("ISO_IR 192", "Wang^XiaoDong=王^小东=", "Wang, XiaoDong"),
        ("ISO_IR 192", "=王^小东", "王, 小东"),
        (
            ["", "ISO 2022 IR 87"],
            "Yamada^Tarou=山田^太郎=やまだ^たろう",
            "Yamada, Tarou",
        ),
    ],
)
def test_names_are_written_as_people_write_them(character_set, value, name):
    assert describe_instance(received(character_set, PatientName=value)).patient_name == name


def test_bytes_of_another_character_set_do_not_stop_it():
    dataset = received(None, PatientID="1")
    dataset.add_new("SpecificCharacterSet", "CS", "ISO_IR 192")
    dataset.add_new("PatientName", "PN", b"M\xfcller^J")
    assert describe_instance(dataset).patient_name.endswith("ller, J")


def test_what_is_malformed_or_missing_stays_empty():
    dataset = received(
        PatientBirthDate="nonsense", PatientSex="X", StudyDate="20261119", PatientID=["A", "B"]
    )
    found = describe_instance(dataset, "3 are missing.")
    assert found == PageSource(study_date="2026-11-19", patient_id="A", remark="3 are missing.")


def test_sex_and_dates_are_words():
    found = describe_instance(received(PatientSex="F", PatientBirthDate="19570312"))
    assert (found.sex, found.birth_date) == ("female", "1957-03-12")


def test_images_have_their_instance_numbers(results):
    source = results.source()
    found = describe_series(source, "remark")
    assert found.image_numbers == tuple(int(one.InstanceNumber) for one in source.datasets)
    assert found.remark == "remark"
    same = results.source(edit=lambda dataset: setattr(dataset, "InstanceNumber", 1))
    assert describe_series(same).image_numbers == ()
    none = results.source(edit=lambda dataset: setattr(dataset, "InstanceNumber", None))
    assert describe_series(none).image_numbers == ()


def test_frames_have_their_frame_numbers(results):
    source = results.source(enhanced=True)
    assert sorted(describe_series(source).image_numbers) == list(range(1, 13))

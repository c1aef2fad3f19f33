import pytest
from pydicom import Dataset
from pydicom.dataelem import RawDataElement
from pydicom.tag import Tag

from dicom_io.identity import conformant_elements


def _raw(keyword, vr, value):
    """An element as it stands in a file, not yet looked at."""
    tag = Tag(keyword)
    dataset = Dataset()
    dataset._dict[tag] = RawDataElement(tag, vr, len(value), value, 0, False, True)
    return dataset


@pytest.mark.parametrize(
    ("keyword", "vr", "value", "copied"),
    [
        ("PatientID", "LO", b"0042 A/7 ", ["0042 A/7"]),
        ("PatientID", "LO", b"A-1\0", ["A-1"]),
        ("PatientID", "LO", b"x" * 70, ["x" * 70]),
        ("AccessionNumber", "SH", b"", [""]),
        ("PatientBirthDate", "DA", b"19600229", ["19600229"]),
        ("PatientBirthDate", "DA", b"19600230", []),
        ("PatientBirthDate", "DA", b"1960.02.29", []),
        ("StudyTime", "TM", b"083000.123 ", ["083000.123"]),
        ("StudyTime", "TM", b"8:30", []),
        ("PatientSex", "CS", b"F ", ["F"]),
        ("PatientSex", "CS", b"female", []),
        ("PatientAge", "AS", b"065Y", ["065Y"]),
        ("PatientAge", "AS", b"65", []),
        ("PatientWeight", "DS", b"71.5", ["71.5"]),
        ("PatientWeight", "DS", b"71.500000000000001", []),
        ("PatientWeight", "DS", b"much", []),
        ("TimezoneOffsetFromUTC", "SH", b"-0330 ", ["-0330"]),
        ("TimezoneOffsetFromUTC", "SH", b"CET ", []),
    ],
)
def test_text_is_copied_as_it_stands_and_what_breaks_a_grammar_is_not(keyword, vr, value, copied):
    found = conformant_elements(_raw(keyword, vr, value), (keyword,))
    assert [str(element.value or "") for element in found] == copied


def test_items_lose_what_cannot_be_read():
    item = _raw("Rows", "US", b"odd")
    item.LocalNamespaceEntityID = "ER"
    dataset = Dataset()
    dataset.IssuerOfAccessionNumberSequence = [item]
    (element,) = conformant_elements(dataset, ("IssuerOfAccessionNumberSequence",))
    assert element.value[0].dir() == ["LocalNamespaceEntityID"]

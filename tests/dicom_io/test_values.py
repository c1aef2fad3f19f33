"""Values of elements with a VR that is not theirs: they count as absent."""

import pytest
from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset
from pydicom.tag import Tag

from dicom_io.values import first_item, read_integer, read_items, read_number, read_value


def _dataset(keyword: str, vr: str, value: bytes) -> Dataset:
    dataset, tag = Dataset(), Tag(keyword)
    dataset[tag] = RawDataElement(tag, vr, len(value), value, 0, False, True)
    return dataset


@pytest.mark.parametrize(
    ("vr", "value"),
    [("FD", b"0123456789"), ("LO", b"512"), ("SQ", b"0123456789"), ("US", b"\1\0\2\0")],
)
@pytest.mark.filterwarnings("ignore")
def test_rows_that_are_no_integer(vr: str, value: bytes):
    assert read_integer(_dataset("Rows", vr, value), "Rows") is None


@pytest.mark.parametrize(("vr", "value"), [("LO", b"text"), ("FD", b"12345"), ("UN", b"\0" * 9)])
@pytest.mark.filterwarnings("ignore")
def test_a_sequence_that_is_none(vr: str, value: bytes):
    keyword = "PerFrameFunctionalGroupsSequence"
    assert not read_items(_dataset(keyword, vr, value), keyword)
    assert first_item(_dataset(keyword, vr, value), keyword) is None
    assert first_item(None, keyword) is None


def test_a_number_without_digits():
    assert read_number(_dataset("RescaleSlope", "DS", b"x"), "RescaleSlope") is None
    assert read_value(_dataset("RescaleSlope", "FD", b"x"), "RescaleSlope") is None

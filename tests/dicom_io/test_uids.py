import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom.uid import RE_VALID_UID

from dicom_io.uids import derive_uid

parts = st.lists(st.text(max_size=12), min_size=1, max_size=4)


@settings(max_examples=50)
@given(parts, parts)
def test_uids_are_equal_exactly_when_their_parts_are(first, second):
    assert (derive_uid(*first) == derive_uid(*second)) == (first == second)


@settings(max_examples=50)
@given(parts)
def test_uid_is_valid_and_marked_as_uuid(some_parts):
    uid = derive_uid(*some_parts)
    assert len(uid) <= 44
    assert re.fullmatch(RE_VALID_UID, uid)
    number = int(uid.removeprefix("2.25."))
    assert (number >> 76) & 0xF == 8
    assert (number >> 62) & 0x3 == 2


@pytest.mark.parametrize(
    ("first", "second"), [(("a", "bc"), ("ab", "c")), (("a",), ("a", "")), (("a", "b"), ("b", "a"))]
)
def test_boundaries_and_order_of_parts_count(first, second):
    assert derive_uid(*first) != derive_uid(*second)


def test_the_uid_of_given_parts_never_changes():
    """Another value would give the archives of all users a second set of results."""
    assert derive_uid("a", "bc") == "2.25.84653297567445782896943492490882286583"


def test_no_parts_are_refused():
    with pytest.raises(ValueError, match="at least one"):
        derive_uid()

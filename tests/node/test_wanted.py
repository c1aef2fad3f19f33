"""Lists of numbers in files of many shapes."""

import pytest

from node.errors import UnusableList, UnusableValue
from node.wanted import check_value, read_list
from storage.states import RetrievalKey

ACCESSION, PATIENT, STUDY = RetrievalKey


@pytest.mark.parametrize(
    "content",
    [
        b"00123\nB-2\n",
        b"\n  00123  \r\n\r\n# the second is urgent\r\nB-2",
        b"Accession Number\n00123\nB-2\n",
        "\ufeffAccessionNumber\n00123\nB-2\n".encode(),
        "accession no.\n00123\nB-2\n".encode("utf-16"),
        b"Name;Accession Number;Date\nM\xfcller;00123;1.2.2026\nMeier, A.;B-2;\n",
        b'"Name","ACCESSION"\n"Doe, J","00123"\n"Roe, ""R""","B-2"\n',
        b"MRN\tacc_no\n7\t00123\n8\tB-2\n",
        b'sep=;\nAccessionNumber;x\n="00123";1\n="B-2";2\n',
        b'"=""00123"""\nB-2\n',
        b"00123;\nB-2;;\n;;\n",
    ],
)
def test_lists_of_odd_shapes(content: bytes):
    listed = read_list(content, ACCESSION)
    assert list(listed.values) == ["00123", "B-2"]
    assert listed.bad == ()
    assert listed.repeated == ()


def test_what_is_named_twice_is_told_and_taken_once():
    listed = read_list(b"A1\nA2\n\nA1\n A1 \n", ACCESSION)
    assert list(listed.values) == ["A1", "A2"]
    assert [(line.number, line.text) for line in listed.repeated] == [(4, "A1"), (5, "A1")]
    assert listed.repeated[0].why == "it is there already, in line 1"


def test_bad_lines_are_told_by_their_number():
    listed = read_list(b"Accession\nA1\nA*\n?\nA\\B\n12345678901234567\nA\xc4\n", ACCESSION)
    assert list(listed.values) == ["A1"]
    assert [line.number for line in listed.bad] == [3, 4, 5, 6, 7]
    assert "* and ?" in listed.bad[0].why
    assert "at most 16" in listed.bad[3].why


def test_a_column_is_not_guessed():
    listed = read_list(b"A1,A2\nA3,A4\n", ACCESSION)
    assert listed.values == ()
    assert [line.number for line in listed.bad] == [1, 2]
    assert "no header 'Accession Number'" in listed.bad[0].why
    [line] = read_list(b"accession,name\n,Doe\n", ACCESSION).bad
    assert (line.number, line.why) == (2, "it is empty")


def test_a_header_of_something_else_is_no_value():
    with pytest.raises(UnusableList, match="names no accession number, but Patient ID, Name"):
        read_list(b"Patient ID,Name\n7,Doe\n", ACCESSION)
    assert read_list(b"Patient ID,Name\n7,Doe\n", PATIENT).values == ("7",)
    assert read_list(b"Study UID\n1.2.3\n", STUDY).values == ("1.2.3",)


@pytest.mark.parametrize("content", [b"PK\x03\x04rest", b"\xd0\xcf\x11\xe0", b"\0\0\1"])
def test_what_is_no_text_is_refused(content: bytes):
    with pytest.raises(UnusableList, match="save it as CSV or text"):
        read_list(content, ACCESSION)


def test_an_empty_list_is_empty():
    assert read_list(b"", ACCESSION).values == ()
    assert read_list(b"# nothing yet\n", ACCESSION).values == ()


@pytest.mark.parametrize(
    ("key", "text"),
    [
        (ACCESSION, ""),
        (ACCESSION, "  "),
        (ACCESSION, "*"),
        (ACCESSION, "A?"),
        (ACCESSION, "A1\\A2"),
        (ACCESSION, "A\n1"),
        (PATIENT, "Doe*"),
        (PATIENT, "x" * 65),
        (PATIENT, "M\u00fcller"),
        (STUDY, "1.2.*"),
        (STUDY, "1.2\\1.3"),
        (STUDY, "../x"),
        (STUDY, ""),
    ],
)
def test_no_value_matches_more_than_itself(key: RetrievalKey, text: str):
    with pytest.raises(UnusableValue, match="cannot be asked for"):
        check_value(key, text)


def test_a_line_without_end_is_no_list():
    with pytest.raises(UnusableList, match="write a number a line"):
        read_list(b"A" * 200_000, ACCESSION)

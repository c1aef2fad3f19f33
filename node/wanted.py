"""What people ask a PACS for: numbers one by one, or lists in files of many shapes."""

import csv
import re
from collections.abc import Iterable, Iterator, Sequence, Sized
from dataclasses import dataclass

from config import PullSettings
from dicom_io.errors import InvalidUid
from dicom_io.headers import check_uid
from node.errors import UnusableList, UnusableValue
from storage.states import RetrievalKey

NAMES = {
    RetrievalKey.ACCESSION: "accession number",
    RetrievalKey.PATIENT: "patient ID",
    RetrievalKey.STUDY: "study instance UID",
}
_LONGEST = {RetrievalKey.ACCESSION: 16, RetrievalKey.PATIENT: 64}
"""PS3.5 6.2, VR SH and LO."""
_HEADERS = {
    RetrievalKey.ACCESSION: {"accession", "accessionnumber", "accessionno", "accno", "acc"},
    RetrievalKey.PATIENT: {"patient", "patientid", "pid", "mrn"},
    RetrievalKey.STUDY: {"study", "studyinstanceuid", "studyuid", "uid"},
}
"""First lines that name what follows, in small letters and without signs."""
_SEPARATORS = "\t;,"
_BOMS = ((b"\xef\xbb\xbf", "utf-8-sig"), (b"\xff\xfe", "utf-16"), (b"\xfe\xff", "utf-16"))
_SPREADSHEETS = (b"PK\x03\x04", b"\xd0\xcf\x11\xe0")
"""How files of spreadsheet programs begin (ZIP, OLE)."""
_KEPT_AS_TEXT = re.compile(r'="(.*)"')
"""How spreadsheets write a number whose leading zeros are to stay."""


@dataclass(frozen=True, kw_only=True)
class ListLine:
    """A line of a list that there is something to say about."""

    number: int
    """Counted from 1."""
    text: str
    why: str


@dataclass(frozen=True, kw_only=True)
class WantedList:
    """What a list asks for."""

    values: Sequence[str]
    """Each once, in the order of the list."""
    repeated: Sequence[ListLine] = ()
    """Values that were there before."""
    bad: Sequence[ListLine] = ()
    """What cannot be asked for."""


def check_value(key: RetrievalKey, text: str) -> str:
    """Give a value as it is asked for, without outer spaces.

    Raises
    ------
    UnusableValue
        It is none that a study can have, or would match others too (PS3.4 C.2.2.2.4).
    """
    value = text.strip()
    name = NAMES[key]
    if not value:
        raise UnusableValue(text, "it is empty")
    if any(sign in value for sign in "*?"):
        raise UnusableValue(text, f"* and ? would match others too; write the whole {name}")
    if key is RetrievalKey.STUDY:
        try:
            return check_uid(value)
        except InvalidUid as error:
            raise UnusableValue(text, str(error)) from None
    if "\\" in value or not value.isascii() or not value.isprintable():
        raise UnusableValue(
            text, f"the {name} may have printable ASCII characters only, and no backslash"
        )
    if len(value) > _LONGEST[key]:
        raise UnusableValue(text, f"the {name} has at most {_LONGEST[key]} characters")
    return value


def check_length(values: Sized, settings: PullSettings) -> None:
    """Refuse a list that is empty or too long.

    Raises
    ------
    UnusableList
    """
    if not 0 < len(values) <= settings.max_rows:
        raise UnusableList(
            f"it has {len(values)} rows, and may have 1 to {settings.max_rows} (pull.max_rows)"
        )


def read_list(content: bytes, key: RetrievalKey) -> WantedList:
    """Read a list: text with a value a line, or CSV with a header that names the column.

    Blank lines and those that begin with # are left out, and so is a header. UTF-8, UTF-16 with
    its mark and Windows-1252 are understood; columns are parted by tabs, semicolons or commas.

    Parameters
    ----------
    content
        Of the file.
    key
        What its values are.

    Raises
    ------
    UnusableList
        It is no text, or a header names other things only.
    """
    return take_values(_read_cells(_decode(content), key), key)


def take_values(cells: Iterable[tuple[int, str, str]], key: RetrievalKey) -> WantedList:
    """Check values, and take each once.

    Parameters
    ----------
    cells
        Number of the line, text of the value, and what is wrong with it, if that is known.
    key
        What the values are.
    """
    first_at: dict[str, int] = {}
    repeated, bad = [], []
    for number, text, trouble in cells:
        try:
            if trouble:
                raise UnusableValue(text, trouble)
            value = check_value(key, text)
        except UnusableValue as error:
            bad.append(ListLine(number=number, text=text, why=error.why))
            continue
        before = first_at.setdefault(value, number)
        if before != number:
            why = f"it is there already, in line {before}"
            repeated.append(ListLine(number=number, text=value, why=why))
    return WantedList(values=tuple(first_at), repeated=tuple(repeated), bad=tuple(bad))


def _decode(content: bytes) -> str:
    if content.startswith(_SPREADSHEETS):
        raise UnusableList("it is a spreadsheet; save it as CSV or text first")
    encodings = [name for mark, name in _BOMS if content.startswith(mark)] or ["utf-8", "cp1252"]
    for encoding in encodings:
        try:
            text = content.decode(encoding)
        except UnicodeDecodeError:
            continue
        if "\0" not in text:
            return text
    raise UnusableList("it is no text; save it as CSV or text, in UTF-8")


def _read_cells(text: str, key: RetrievalKey) -> Iterator[tuple[int, str, str]]:
    lines = [
        (number, line)
        for number, line in enumerate(text.splitlines(), start=1)
        if line.strip(_SEPARATORS + ' "') and not line.lstrip().startswith("#")
    ]
    separator = ","
    if lines and lines[0][1].lower().startswith("sep="):
        separator = lines.pop(0)[1][4:5] or separator
    elif lines:
        separator = max(_SEPARATORS, key="\n".join(line for _, line in lines).count)
    rows = [(number, line, _split(line, separator)) for number, line in lines]
    column = _find_column(rows[0][2], key) if rows else None
    for number, line, cells in rows if column is None else rows[1:]:
        if column is not None:
            yield number, cells[column] if column < len(cells) else "", ""
        elif sum(map(bool, cells)) > 1:
            header = NAMES[key].title().replace("Id", "ID").replace("Uid", "UID")
            yield number, line, f"several columns, and no header {header!r} names the one"
        else:
            yield number, next(filter(None, cells), ""), ""


def _split(line: str, separator: str) -> list[str]:
    try:
        cells = next(csv.reader([line], delimiter=separator, skipinitialspace=True))
    except csv.Error as error:
        raise UnusableList(f"{error}; write a number a line") from None
    return [_KEPT_AS_TEXT.sub(r"\1", cell.strip()) for cell in cells]


def _find_column(first: Sequence[str], key: RetrievalKey) -> int | None:
    """Give the column that a header names; None where the first line is none."""
    plain = [re.sub(r"[^a-z]", "", cell.lower()) if _is_name(cell) else "" for cell in first]
    for column, cell in enumerate(plain):
        if cell in _HEADERS[key]:
            return column
    if any(cell in names for cell in plain for names in _HEADERS.values()):
        others = ", ".join(cell for cell in first if cell)
        raise UnusableList(f"its header names no {NAMES[key]}, but {others}")
    return None


def _is_name(cell: str) -> bool:
    return not any(sign.isdigit() for sign in cell)

"""Values of single attributes, read without trust.

pydicom checks each value that it converts and warns or raises about what it dislikes, sometimes
quoting it. Here the text is taken as it was sent, and what does not parse is simply not there.
"""

import math
import struct
import zlib
from collections.abc import Sequence
from typing import Any

from pydicom.datadict import tag_for_keyword
from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset
from pydicom.errors import BytesLengthException
from pydicom.sequence import Sequence as Items

DAMAGED_FILE_ERRORS: tuple[type[Exception], ...] = (
    AttributeError,
    BytesLengthException,
    EOFError,
    IndexError,
    KeyError,
    NotImplementedError,
    OverflowError,
    RuntimeError,
    TypeError,
    ValueError,
    struct.error,
    zlib.error,
)
"""What pydicom raises on bytes that are no data set."""
UNREADABLE_VALUE_ERRORS: tuple[type[Exception], ...] = (OSError, *DAMAGED_FILE_ERRORS)
"""What it raises on the value of an element when that is asked for; no file is open then."""
_PADDING = " \0"
_IS_MAX = 2**31 - 1
"""PS3.5 6.2: the largest value of VR IS."""


def read_text(dataset: Dataset, keyword: str) -> str:
    """Return the text of an attribute, values joined by backslashes, without its padding.

    For attributes in the default repertoire only (UI, CS, DS, IS and the like).

    Returns
    -------
    str
        Empty when the attribute is absent or empty.
    """
    tag = tag_for_keyword(keyword)
    element = None if tag is None else dataset.get_item(tag, keep_deferred=True)
    if element is None or element.value is None:
        return ""
    value = element.value
    if isinstance(element, RawDataElement):
        return bytes(value).decode("latin-1").rstrip(_PADDING)
    if isinstance(value, str) or not isinstance(value, Sequence):
        return str(value).rstrip(_PADDING)
    return "\\".join(str(part) for part in value).rstrip(_PADDING)


def read_texts(dataset: Dataset, keyword: str) -> tuple[str, ...]:
    """Return the values of an attribute, each without outer spaces; none when it is empty."""
    text = read_text(dataset, keyword)
    return tuple(part.strip(_PADDING) for part in text.split("\\")) if text else ()


def read_numbers(dataset: Dataset, keyword: str, count: int) -> tuple[float, ...] | None:
    """Return exactly `count` finite decimal numbers (VR DS, IS), or None."""
    try:
        numbers = tuple(float(text) for text in read_texts(dataset, keyword))
    except ValueError:
        return None
    if len(numbers) != count or not all(math.isfinite(number) for number in numbers):
        return None
    return numbers


def read_number(dataset: Dataset, keyword: str) -> float | None:
    """Return one finite decimal number (VR DS, IS), or None."""
    numbers = read_numbers(dataset, keyword, 1)
    return None if numbers is None else numbers[0]


def read_count(dataset: Dataset, keyword: str) -> int | None:
    """Return a whole number of at least 1 written as text (VR IS), or None."""
    number = read_number(dataset, keyword)
    if number is None or not number.is_integer() or not 1 <= number <= _IS_MAX:
        return None
    return int(number)


def read_value(dataset: Dataset, keyword: str) -> Any:
    """Return a value as pydicom reads it, or None when it cannot."""
    try:
        return dataset.get(keyword)
    except UNREADABLE_VALUE_ERRORS:
        return None


def read_integer(dataset: Dataset, keyword: str) -> int | None:
    """Return one binary integer (VR US, SS), or None."""
    value = read_value(dataset, keyword)
    return value if isinstance(value, int) else None


def read_items(dataset: Dataset | None, keyword: str) -> Sequence[Dataset]:
    """Return the items of a sequence; none when it is missing, or is no sequence."""
    items = None if dataset is None else read_value(dataset, keyword)
    return items if isinstance(items, Items) else ()


def first_item(dataset: Dataset | None, keyword: str) -> Dataset | None:
    """Return the first item of a sequence, or None when there is none."""
    items = read_items(dataset, keyword)
    return items[0] if items else None

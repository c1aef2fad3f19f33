"""Patient data are taken out of what a visitor may not see, before any template has it."""

from dataclasses import fields, replace
from typing import Any, TypeVar, cast

from pydicom.datadict import dictionary_VR, tag_for_keyword

from node.web.errors import Forbidden
from node.web.visitor import Visitor

_HIDDEN = frozenset(
    {
        "accession_number",
        "patient_id",
        "patient_name",
        "series_description",
        "study_date",
        "study_description",
    }
)
_PATIENT_GROUP = 0x0010
_TECHNICAL_VRS = frozenset({"AT", "CS", "DS", "FD", "FL", "IS", "SL", "SS", "UL", "US"})
"""Numbers and defined terms, of which those outside of the patient's group tell of the scan."""
_Record = TypeVar("_Record")


def for_visitor(record: _Record, visitor: Visitor) -> _Record:
    """Give a record as the visitor may see it: texts about the patient are empty, if hidden."""
    if visitor.sees_patients:
        return record
    names = {field.name for field in fields(cast(Any, record))} & _HIDDEN
    return cast(_Record, replace(cast(Any, record), **dict.fromkeys(names, "")))


def sees_value(keyword: str, visitor: Visitor) -> bool:
    """Say whether a visitor may see the value of an attribute; what is none of DICOM's is ours."""
    tag = tag_for_keyword(keyword)
    if visitor.sees_patients or tag is None:
        return True
    return tag >> 16 != _PATIENT_GROUP and dictionary_VR(tag) in _TECHNICAL_VRS


def check_sees_patients(visitor: Visitor) -> None:
    """Refuse what cannot be shown without patient data, as a report or a DICOM file.

    Raises
    ------
    Forbidden
    """
    if not visitor.sees_patients:
        raise Forbidden("Patient data are hidden from viewers on this node (web.hide_patients).")

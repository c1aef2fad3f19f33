"""Patient data are taken out of what a visitor may not see, before any template has it."""

from dataclasses import fields, replace
from typing import Any, TypeVar, cast

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
_Record = TypeVar("_Record")


def for_visitor(record: _Record, visitor: Visitor) -> _Record:
    """Give a record as the visitor may see it: texts about the patient are empty, if hidden."""
    if visitor.sees_patients:
        return record
    names = {field.name for field in fields(cast(Any, record))} & _HIDDEN
    return cast(_Record, replace(cast(Any, record), **dict.fromkeys(names, "")))


def check_sees_patients(visitor: Visitor) -> None:
    """Refuse what cannot be shown without patient data, as a report or a DICOM file.

    Raises
    ------
    Forbidden
    """
    if not visitor.sees_patients:
        raise Forbidden("Patient data are hidden from viewers on this node (web.hide_patients).")

"""Whose a series is, and what it shows, in a few words for people who look for it."""

from dataclasses import dataclass
from typing import Any

from pydicom import Dataset
from pydicom.multival import MultiValue
from pydicom.valuerep import DA, PersonName

from dicom_io.identity import conformant_elements


@dataclass(frozen=True, kw_only=True)
class SeriesDescription:
    """What an instance says of its series; empty where it says nothing, or something malformed."""

    patient_id: str = ""
    patient_name: str = ""
    """As `read_person_name` writes it."""
    accession_number: str = ""
    study_date: str = ""
    """As YYYY-MM-DD."""
    study_description: str = ""
    series_description: str = ""


def describe(instance: Dataset) -> SeriesDescription:
    """Describe a series by one of its instances."""
    return SeriesDescription(
        patient_id=read_plain_text(instance, "PatientID"),
        patient_name=read_person_name(instance, "PatientName"),
        accession_number=read_plain_text(instance, "AccessionNumber"),
        study_date=read_date(instance, "StudyDate"),
        study_description=read_plain_text(instance, "StudyDescription"),
        series_description=read_plain_text(instance, "SeriesDescription"),
    )


def read_plain_text(dataset: Dataset, keyword: str) -> str:
    """Give a value as text; empty where it is missing or malformed."""
    value = _value(dataset, keyword)
    return "" if value is None else str(value).strip()


def read_date(dataset: Dataset, keyword: str) -> str:
    """Give a date as YYYY-MM-DD; empty where it is missing, or none."""
    text = read_plain_text(dataset, keyword)
    return DA(text).isoformat() if text else ""


def read_person_name(dataset: Dataset, keyword: str) -> str:
    """Write the first group that is there as "Family, Prefix Given Middle, Suffix" (PS3.5 6.2.1).

    The groups are alphabetic, ideographic and phonetic, in this order.
    """
    value = _value(dataset, keyword)
    if not value:
        return ""
    groups = str(PersonName(value)).split("=")
    family, given, middle, prefix, suffix, *_ = [
        part.strip() for part in f"{next(filter(None, groups), '')}^^^^".split("^")
    ]
    forenames = " ".join(filter(None, (prefix, given, middle)))
    return ", ".join(filter(None, (family, forenames, suffix)))


def _value(dataset: Dataset, keyword: str) -> Any:
    elements = conformant_elements(dataset, (keyword,))
    value = elements[0].value if elements else None
    return value[0] if isinstance(value, MultiValue) and value else value

"""What the one-page report says of a series: whose it is, as a person would write it."""

from dataclasses import replace
from typing import Any

from pydicom import Dataset
from pydicom.multival import MultiValue
from pydicom.valuerep import DA, PersonName

from dicom_io.identity import conformant_elements
from dicom_io.series import SourceSeries
from dicom_io.values import read_number
from inference.report_page import PageSource

_SEXES = {"M": "male", "F": "female", "O": "other"}


def describe_series(source: SourceSeries, remark: str = "") -> PageSource:
    """Describe a series that was segmented; its slices have the numbers that viewers show.

    Parameters
    ----------
    source
        The series.
    remark
        On what is known to be missing of it.
    """
    return replace(
        describe_instance(source.datasets[0], remark), image_numbers=image_numbers(source)
    )


def describe_instance(first: Dataset, remark: str = "") -> PageSource:
    """Describe a series by one of its instances.

    Parameters
    ----------
    first
        The instance; what it does not say, or says in a malformed way, stays empty.
    remark
        On what is known to be missing of the series.
    """
    sex = _text(first, "PatientSex")
    return PageSource(
        patient_name=_person_name(first, "PatientName"),
        patient_id=_text(first, "PatientID"),
        birth_date=_date(first, "PatientBirthDate"),
        sex=_SEXES.get(sex, sex),
        study_date=_date(first, "StudyDate"),
        study_description=_text(first, "StudyDescription"),
        accession_number=_text(first, "AccessionNumber"),
        series_description=_text(first, "SeriesDescription"),
        remark=remark,
    )


def image_numbers(source: SourceSeries) -> tuple[int, ...]:
    """Give the number by which viewers call each slice: its instance or frame number.

    There is none where not every instance has one of its own.
    """
    if source.is_multiframe:
        return tuple(number for _, number in source.frame_sources if number is not None)
    numbers = [read_number(dataset, "InstanceNumber") for dataset in source.datasets]
    whole = tuple(int(number) for number in numbers if number is not None and number.is_integer())
    return whole if len(set(whole)) == len(numbers) else ()


def _value(dataset: Dataset, keyword: str) -> Any:
    elements = conformant_elements(dataset, (keyword,))
    value = elements[0].value if elements else None
    return value[0] if isinstance(value, MultiValue) and value else value


def _text(dataset: Dataset, keyword: str) -> str:
    value = _value(dataset, keyword)
    return "" if value is None else str(value).strip()


def _date(dataset: Dataset, keyword: str) -> str:
    text = _text(dataset, keyword)
    return DA(text).isoformat() if text else ""


def _person_name(dataset: Dataset, keyword: str) -> str:
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

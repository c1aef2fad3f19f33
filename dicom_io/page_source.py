"""What the one-page report says of a series: whose it is, as a person would write it."""

from dataclasses import asdict, replace

from pydicom import Dataset

from dicom_io.description import describe, read_date, read_plain_text
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
    sex = read_plain_text(first, "PatientSex")
    return PageSource(
        **asdict(describe(first)),
        birth_date=read_date(first, "PatientBirthDate"),
        sex=_SEXES.get(sex, sex),
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

"""Which selection rule decides on files that somebody has, and why: nothing is stored."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from pydicom.dataset import Dataset

from config.rules import RuleSettings
from dicom_io.description import SeriesDescription, describe
from dicom_io.errors import DicomIOError
from dicom_io.headers import check_uid, read_attributes
from dicom_io.rules import Decision, RuleTrial, decide, explain
from dicom_io.values import read_text
from node.errors import WrongCall
from node.services import Services
from storage.records import SeriesRecord


@dataclass(frozen=True, kw_only=True)
class SeriesTrial:
    """What the rules say of one series, and how each of them fared."""

    series_uid: str
    instances: int
    description: SeriesDescription
    decision: Decision
    rules: Sequence[RuleTrial]


@dataclass(frozen=True, kw_only=True)
class FilesTrial:
    """What the rules say of files."""

    series: Sequence[SeriesTrial]
    problems: Mapping[str, str]
    """Files that are of no use, by name, and why."""


def try_series(
    rules: Sequence[RuleSettings],
    attributes: Dataset,
    *,
    series_uid: str,
    instance_count: int,
    calling_ae_title: str = "",
) -> SeriesTrial:
    """Ask the rules about a series.

    Parameters
    ----------
    rules
        In order of precedence.
    attributes
        Data set of one of its instances.
    series_uid, instance_count
        Of the series.
    calling_ae_title
        Sender to assume; empty is none, which fulfills no condition.
    """
    facts: dict[str, Any] = {
        "calling_ae_title": calling_ae_title,
        "instance_count": instance_count,
    }
    return SeriesTrial(
        series_uid=series_uid,
        instances=instance_count,
        description=describe(attributes),
        decision=decide(rules, attributes, **facts),
        rules=explain(rules, attributes, **facts),
    )


def try_paths(
    rules: Sequence[RuleSettings], paths: Sequence[Path], calling_ae_title: str = ""
) -> list[SeriesTrial]:
    """Ask the rules about each series of files and folders.

    Raises
    ------
    dicom_io.errors.DicomIOError, OSError
        A file cannot be used; it is named.
    """
    # It brings what reads pixels; the pages do without.
    from dicom_io.series import find_series

    return [
        try_series(
            rules,
            read_attributes(files[0]),
            series_uid=series_uid,
            instance_count=len(files),
            calling_ae_title=calling_ae_title,
        )
        for path in paths
        for series_uid, files in find_series(path).items()
    ]


def try_files(
    rules: Sequence[RuleSettings],
    files: Sequence[tuple[str, BinaryIO]],
    calling_ae_title: str = "",
) -> FilesTrial:
    """Ask the rules about each series of open files; what is of no use is named and left out.

    Parameters
    ----------
    rules
        In order of precedence.
    files
        Names and contents.
    calling_ae_title
        Sender to assume.
    """
    series: dict[str, list[BinaryIO]] = {}
    problems: dict[str, str] = {}
    for name, file in files:
        try:
            series_uid = check_uid(read_text(read_attributes(file), "SeriesInstanceUID"))
        except DicomIOError as error:
            problems[name] = str(error)
        else:
            series.setdefault(series_uid, []).append(file)
    return FilesTrial(
        series=[
            _try_open(rules, series_uid, instances, calling_ae_title)
            for series_uid, instances in series.items()
        ],
        problems=problems,
    )


def _try_open(
    rules: Sequence[RuleSettings],
    series_uid: str,
    instances: Sequence[BinaryIO],
    calling_ae_title: str,
) -> SeriesTrial:
    """Read the first instance once more: data sets of all at once would take much memory."""
    instances[0].seek(0)
    return try_series(
        rules,
        read_attributes(instances[0]),
        series_uid=series_uid,
        instance_count=len(instances),
        calling_ae_title=calling_ae_title,
    )


class FilesGone(WrongCall):
    """The files of a received series are not there, so that no rule can look at them."""


def try_received(services: Services, series: SeriesRecord) -> SeriesTrial:
    """Ask the rules about a series that was received, as if it came now.

    Raises
    ------
    FilesGone
        They were removed, or cannot be read.
    """
    paths = services.catalog.instance_paths(series.series_uid)
    if not paths:
        raise FilesGone(
            "The files of this series were removed by a rule of [retention]; the rules cannot "
            "look at them any more."
        )
    try:
        attributes = read_attributes(services.files.absolute(paths[0]))
    except (DicomIOError, OSError) as error:
        raise FilesGone(
            f"A file of this series cannot be read: {error}. `hepar doctor` says whether files "
            "are missing."
        ) from error
    return try_series(
        services.settings.rules,
        attributes,
        series_uid=series.series_uid,
        instance_count=series.instance_count,
        calling_ae_title=series.calling_ae_title,
    )

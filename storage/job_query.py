"""What people look for among the jobs, and what they find; `storage.job_search` finds it."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import TYPE_CHECKING

from storage.states import JobState

if TYPE_CHECKING:
    from dicom_io.description import SeriesDescription
    from storage.records import JobRecord

COUNTED = 10_000
"""So many are counted; above that it is only said that there are more."""


class JobSort(StrEnum):
    """What jobs can be sorted by; those that are alike in it by their numbers."""

    CREATED = "created"
    UPDATED = "updated"
    """The last change of state."""
    STATE = "state"
    """By name."""
    PATIENT_ID = "patient-id"
    """Those of a patient by when their series came."""


@dataclass(frozen=True, kw_only=True)
class JobQuery:
    """What jobs are looked for, and which page of them.

    Jobs must meet all that is said; what is empty or None admits each. Case and marks of letters
    do not matter in what is told of patients.
    """

    text: str = ""
    """What begins the patient ID or the accession number, or is the UID of study or series."""
    patient_id: str = ""
    """Or what it begins with."""
    patient_name: str = ""
    """What it begins with: "Doe", "Doe^John" or "Doe, John"."""
    accession_number: str = ""
    """Or what it begins with."""
    study_uid: str = ""
    series_uid: str = ""
    states: Collection[JobState] = ()
    calling_ae_title: str = ""
    """Of whom the series came from."""
    destination: str = ""
    """One that the results go to."""
    rule: str = ""
    """The one that decided on the series."""
    since: datetime | None = None
    """When it was created at the earliest (aware)."""
    until: datetime | None = None
    """Before which it was created (aware)."""
    sort: JobSort = JobSort.CREATED
    descending: bool = True
    limit: int = 100
    """How many are on a page."""
    after: int | None = None
    """Number of a job: the page begins after it."""
    before: int | None = None
    """Number of a job: the page ends before it."""
    at_end: bool = False
    """The page is the last one."""


@dataclass(frozen=True, kw_only=True)
class JobHit:
    """A job that was found, and whose it is."""

    job: "JobRecord"
    series: "SeriesDescription"
    rule: str
    """The one that decided on the series."""


@dataclass(frozen=True, kw_only=True)
class JobPage:
    """A page of what was found."""

    hits: Sequence[JobHit]
    total: int
    """How many there are on all pages, at most `COUNTED`."""
    has_more_than_total: bool
    has_previous: bool
    """There are pages before this one."""
    has_next: bool

"""What jobs a visitor looks for: in the address of the list, all but what tells of patients.

Addresses stay in the history of browsers and in the logs of proxies, and are copied into mails. So
the search is a form that is posted; what it says of patients is kept by the node (`node.web.kept`)
under a token, and only the token is in the address. A search by anything else can be bookmarked.
"""

from datetime import UTC, date, datetime, time, timedelta
from enum import StrEnum
from typing import Annotated, Any, Self
from urllib.parse import urlencode

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, StringConstraints

from config import Settings
from storage.job_query import JobQuery, JobSort
from storage.states import JobState

_MAX_ID = 2**31 - 1
_DAY = timedelta(days=1)

Word = Annotated[
    str, StringConstraints(strip_whitespace=True, max_length=200, pattern=r"^[^\x00]*$")
]
_SomeDay = Annotated[date, Field(ge=date(1980, 1, 1), le=date(2999, 12, 31))]
Day = Annotated[_SomeDay | None, BeforeValidator(lambda told: told or None)]
JobNumber = Annotated[int | None, Field(ge=1, le=_MAX_ID)]


class Order(StrEnum):
    """Which way jobs are sorted."""

    DESCENDING = "desc"
    ASCENDING = "asc"


class PatientTerms(BaseModel):
    """What is told of patients; empty texts admit each."""

    model_config = ConfigDict(frozen=True)

    text: Word = ""
    patient: Word = ""
    name: Word = ""
    accession: Word = ""

    @property
    def said(self) -> list[str]:
        """What is not empty, by its name; no more of it stands in the audit trail."""
        return [name for name, text in self if text]


class Filters(BaseModel):
    """What else is asked for, and how it is sorted; the days are those of the node's clock."""

    model_config = ConfigDict(frozen=True)

    state: list[JobState] = Field(default=[])
    source: Word = ""
    to: Word = ""
    rule: Word = ""
    study: Word = ""
    series: Word = ""
    since: Day = None
    until: Day = None
    sort: JobSort = JobSort.CREATED
    order: Order = Order.DESCENDING

    def address(self, path: str = "/jobs", **changes: object) -> str:
        """Give the address of the list with changes of the filters."""
        changed = self.model_copy(update=changes)
        told = changed.model_dump(mode="json", exclude_defaults=True)
        query = urlencode({key: value for key, value in told.items() if value}, doseq=True)
        return f"{path}?{query}" if query else path


class Search(Filters, PatientTerms):
    """The form that is posted."""

    @property
    def terms(self) -> PatientTerms:
        """What it tells of patients."""
        return PatientTerms.model_validate(self.model_dump(include=set(PatientTerms.model_fields)))


class Asked(Filters):
    """The address of a page of the list."""

    find: Word = ""
    """Token of what is told of patients."""
    after: JobNumber = None
    before: JobNumber = None
    end: bool = False
    told: Word = ""
    """Token of what became of the jobs that were acted on."""

    @classmethod
    def of(cls, search: Search, find: str) -> Self:
        """Give the first page of what a form asks for."""
        told = search.model_dump(include=set(Filters.model_fields))
        return cls(**told, find=find)

    def first(self, **changes: object) -> str:
        """Give the address of the first page, with changes of the filters."""
        start: dict[str, Any] = {"after": None, "before": None, "end": False, "told": ""}
        return self.address(**(start | changes))

    def page(self, **place: object) -> str:
        """Give the address of another page: `after` or `before` a job, or at the `end`."""
        return self.first(**place)

    def sorted_by(self, sort: JobSort) -> str:
        """Give the address where the list is sorted so, or the other way where it is already."""
        is_time = sort in (JobSort.CREATED, JobSort.UPDATED)
        descending = self.order is Order.ASCENDING if sort is self.sort else is_time
        order = Order.DESCENDING if descending else Order.ASCENDING
        return self.first(sort=sort, order=order)

    def query(self, terms: PatientTerms, settings: Settings) -> JobQuery:
        """Give what is looked for in the job database."""
        peer = settings.peers.get(self.source)
        return JobQuery(
            text=terms.text,
            patient_id=terms.patient,
            patient_name=terms.name,
            accession_number=terms.accession,
            study_uid=self.study,
            series_uid=self.series,
            states=self.state,
            calling_ae_title=getattr(peer, "ae_title", self.source),
            destination=self.to,
            rule=self.rule,
            since=_begin(self.since),
            until=_begin(self.until and self.until + _DAY),
            sort=self.sort,
            descending=self.order is Order.DESCENDING,
            after=self.after,
            before=self.before,
            at_end=self.end,
        )


def _begin(day: date | None) -> datetime | None:
    """Give the begin of a day by the clock of the node."""
    return None if day is None else datetime.combine(day, time()).astimezone().astimezone(UTC)

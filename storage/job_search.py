"""Jobs as people look for them: by whose they are, by state, peer, rule and date, page by page.

A page is found by the job before or after it and not by its number, so that the last one takes no
longer than the first. What is looked for is counted up to a limit, and that decides how it is
found: few jobs are collected by the filter that admits the fewest, and sorted; among many the node
goes along the index of the order until the page is full.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Select,
    UnaryExpression,
    and_,
    exists,
    func,
    literal_column,
    or_,
    select,
    tuple_,
)
from sqlalchemy.orm import InstrumentedAttribute, Session
from sqlalchemy.sql.operators import custom_op

from dicom_io.description import SeriesDescription
from storage.errors import NotFound
from storage.job_query import COUNTED, JobHit, JobPage, JobQuery, JobSort
from storage.records import JobRecord
from storage.tables import DeliveryRow, JobRow, SeriesRow
from storage.transitions import record_of

_LAST_CHARACTER = "\U0010ffff"
_ONE: ColumnElement[int] = literal_column("1")
_Column = ColumnElement[Any] | InstrumentedAttribute[Any]


_KEYS: dict[JobSort, tuple[InstrumentedAttribute[Any], ...]] = {
    JobSort.CREATED: (JobRow.created_at, JobRow.id),
    JobSort.UPDATED: (JobRow.updated_at, JobRow.id),
    JobSort.STATE: (JobRow.state, JobRow.id),
    JobSort.PATIENT_ID: (SeriesRow.patient_id_key, SeriesRow.first_received_at, JobRow.id),
}
"""What each order goes by; all but the last part of the key, or all of it, is an index."""


@dataclass(frozen=True)
class _Filter:
    """What jobs must meet."""

    condition: ColumnElement[bool]
    table: Any = JobRow
    """Whose columns it looks at."""
    seek: ColumnElement[bool] | None = None
    """The same, as it is written to find all jobs that meet it, where that is different."""
    sort: JobSort | None = None
    """The order whose index it is a range of."""

    @property
    def to_seek(self) -> ColumnElement[bool]:
        """The condition as it is written to find all jobs that meet it."""
        return self.condition if self.seek is None else self.seek


def search_jobs(session: Session, query: JobQuery) -> JobPage:
    """Give a page of the jobs that a person looks for.

    Raises
    ------
    NotFound
        There is no job `query.after` or `query.before`.
    """
    filters = list(_list_filters(query))
    lead = _find_lead(session, filters)
    total = _count(session, _matching(session, filters, lead, [JobRow.id]))
    keys: Sequence[_Column] = _KEYS[query.sort]
    if total > COUNTED:
        lead = next((one for one in filters if one.sort is query.sort), None)
        if lead is None and query.sort is JobSort.PATIENT_ID:
            # Without it SQLite begins with the jobs, and sorts them all.
            lead = _Filter(SeriesRow.patient_id_key >= "", SeriesRow)
            filters.append(lead)
        matching = _matching(session, filters, lead, keys)
    else:
        found = _matching(session, filters, lead, keys).cte("found").prefix_with("MATERIALIZED")
        keys = list(found.columns)
        matching = select(*keys)
    backwards = query.at_end or query.before is not None
    ids = _take(session, query, matching, keys, backwards=backwards)
    goes_on = len(ids) > query.limit
    page = ids[: query.limit]
    return JobPage(
        hits=_read(session, page[::-1] if backwards else page),
        total=min(total, COUNTED),
        has_more_than_total=total > COUNTED,
        has_previous=goes_on if backwards else query.after is not None,
        has_next=query.before is not None if backwards else goes_on,
    )


def _list_filters(query: JobQuery) -> Iterator[_Filter]:
    yield from _of_patient(query)
    values = {
        SeriesRow.study_uid: query.study_uid,
        JobRow.series_uid: query.series_uid,
        JobRow.calling_ae_title: query.calling_ae_title,
        SeriesRow.rule: query.rule,
    }
    for column, value in values.items():
        if value:
            yield _Filter(column == value, column.class_)
    if query.states:
        yield _Filter(JobRow.state.in_(query.states))
    if query.destination:
        yield _goes_to(query.destination)
    if query.since is not None:
        yield _Filter(JobRow.created_at >= query.since, sort=JobSort.CREATED)
    if query.until is not None:
        yield _Filter(JobRow.created_at < query.until, sort=JobSort.CREATED)


def _of_patient(query: JobQuery) -> Iterator[_Filter]:
    if query.text:
        yield _Filter(_matches_text(query.text), SeriesRow)
    if query.patient_id:
        begins = _begins_with(SeriesRow.patient_id_key, query.patient_id)
        yield _Filter(begins, SeriesRow, sort=JobSort.PATIENT_ID)
    if query.patient_name:
        name = query.patient_name.replace(", ", "^").replace(",", "^")
        yield _Filter(_begins_with(SeriesRow.patient_name_key, name), SeriesRow)
    if query.accession_number:
        begins = _begins_with(SeriesRow.accession_number_key, query.accession_number)
        yield _Filter(begins, SeriesRow)


def _matches_text(text: str) -> ColumnElement[bool]:
    uid = text.strip()
    return or_(
        _begins_with(SeriesRow.patient_id_key, text),
        _begins_with(SeriesRow.accession_number_key, text),
        SeriesRow.study_uid == uid,
        SeriesRow.series_uid == uid,
    )


def _begins_with(column: InstrumentedAttribute[str], prefix: str) -> ColumnElement[bool]:
    return and_(column >= prefix, column < prefix.strip() + _LAST_CHARACTER)


def _goes_to(destination: str) -> _Filter:
    chosen = DeliveryRow.destination == destination
    return _Filter(
        exists().where(DeliveryRow.job_id == JobRow.id, chosen),
        seek=JobRow.id.in_(select(DeliveryRow.job_id).where(chosen)),
    )


def _find_lead(session: Session, filters: Sequence[_Filter]) -> _Filter | None:
    """Give the filter that admits the fewest, or None where there is none."""
    if len(filters) < 2:
        return next(iter(filters), None)

    def count(one: _Filter) -> int:
        return _count(session, select(_ONE).select_from(one.table).where(one.to_seek))

    return min(filters, key=count)


def _matching(
    session: Session,
    filters: Sequence[_Filter],
    lead: _Filter | None,
    columns: Sequence[_Column],
) -> Select[Any]:
    """Select columns of the jobs that meet all filters, which are found by one of them."""
    statement = select(*columns).select_from(JobRow)
    tables = {one.table for one in filters} | {column.table.name for column in columns}
    if SeriesRow in tables or SeriesRow.__tablename__ in tables:
        statement = statement.join(SeriesRow, SeriesRow.series_uid == JobRow.series_uid)
    for one in filters:
        condition = one.to_seek if one is lead else _looked_at(session, one.condition)
        statement = statement.where(condition)
    return statement


def _looked_at(session: Session, condition: ColumnElement[bool]) -> ColumnElement[bool]:
    """Keep SQLite from going by the index of a condition: it knows not how many rows meet it.

    PostgreSQL knows that, and decides by itself.
    """
    if session.get_bind().dialect.name != "sqlite":
        return condition
    # https://www.sqlite.org/optoverview.html, "Disqualifying WHERE Clause Terms Using Unary-+"
    return UnaryExpression(condition.self_group(), operator=custom_op("+"), type_=condition.type)


def _count(session: Session, statement: Select[Any]) -> int:
    """Count rows; beyond `COUNTED` it gives one more than that."""
    first = statement.limit(COUNTED + 1).subquery()
    return session.scalar(select(func.count()).select_from(first)) or 0


def _take(
    session: Session,
    query: JobQuery,
    matching: Select[Any],
    keys: Sequence[_Column],
    *,
    backwards: bool,
) -> list[int]:
    """Give the numbers of the jobs of a page, and of one more if there is; the nearest first."""
    descending = query.descending is not backwards
    anchor = query.before if query.before is not None else query.after
    if anchor is not None:
        place = _place(session, query.sort, anchor)
        matching = matching.where(_is_beyond(keys, place, descending=descending))
        # The part that is an index of a table, so that the way begins there.
        matching = matching.where(_is_not_before(keys[:-1], place[:-1], descending=descending))
    order = [key.desc() if descending else key.asc() for key in keys]
    statement = matching.order_by(*order).limit(query.limit + 1)
    return [row[-1] for row in session.execute(statement)]


def _place(session: Session, sort: JobSort, job_id: int) -> tuple[Any, ...]:
    """Give where in an order a job is."""
    keys = _KEYS[sort]
    statement = (
        select(*keys)
        .select_from(JobRow)
        .join(SeriesRow, SeriesRow.series_uid == JobRow.series_uid)
        .where(JobRow.id == job_id)
    )
    row = session.execute(statement).one_or_none()
    if row is None:
        raise NotFound("job", job_id)
    return tuple(row)


def _is_beyond(
    keys: Sequence[_Column], place: tuple[Any, ...], *, descending: bool
) -> ColumnElement[bool]:
    return tuple_(*keys) < place if descending else tuple_(*keys) > place


def _is_not_before(
    keys: Sequence[_Column], place: tuple[Any, ...], *, descending: bool
) -> ColumnElement[bool]:
    return tuple_(*keys) <= place if descending else tuple_(*keys) >= place


def _read(session: Session, ids: Sequence[int]) -> list[JobHit]:
    statement = (
        select(JobRow, SeriesRow)
        .join(SeriesRow, SeriesRow.series_uid == JobRow.series_uid)
        .where(JobRow.id.in_(ids))
    )
    found = {job.id: _hit(job, series) for job, series in session.execute(statement)}
    return [found[one] for one in ids]


def _hit(job: JobRow, series: SeriesRow) -> JobHit:
    described = {name.name: getattr(series, name.name) for name in fields(SeriesDescription)}
    return JobHit(
        job=record_of(JobRecord, job), series=SeriesDescription(**described), rule=series.rule
    )

"""Read what `storage.retention_rules` judges: three queries, however many series there are."""

from itertools import groupby
from operator import attrgetter

from sqlalchemy import ColumnElement, and_, exists, or_, select
from sqlalchemy.orm import Session

from storage.retention_rules import DeliveryFacts, JobFacts, SeriesFacts
from storage.tables import DeliveryRow, JobRow, ProofRow, ResultRow, SeriesRow


def load_facts(session: Session, series_uid: str | None = None) -> list[SeriesFacts]:
    """Read what is known of one series, or of each that has files."""
    with_results = select(JobRow.series_uid).where(_has_results())
    held = (
        or_(SeriesRow.size_bytes > 0, SeriesRow.series_uid.in_(with_results))
        if series_uid is None
        else SeriesRow.series_uid == series_uid
    )
    own = JobRow.series_uid.in_(select(SeriesRow.series_uid).where(held))
    deliveries = _load_deliveries(session, own)
    jobs = _load_jobs(session, own, deliveries)
    columns = (
        SeriesRow.series_uid,
        SeriesRow.settled,
        SeriesRow.content_digest,
        SeriesRow.size_bytes,
        SeriesRow.last_received_at,
    )
    return [
        SeriesFacts(**row._mapping, jobs=jobs.get(row.series_uid, ()))
        for row in session.execute(select(*columns).where(held).order_by(SeriesRow.series_uid))
    ]


def _load_jobs(
    session: Session, which: ColumnElement[bool], deliveries: dict[int, list[DeliveryFacts]]
) -> dict[str, list[JobFacts]]:
    columns = (
        JobRow.series_uid,
        JobRow.id,
        JobRow.content_digest,
        JobRow.state,
        JobRow.finished_at,
        _has_results().label("has_results"),
    )
    rows = session.execute(select(*columns).where(which).order_by(JobRow.series_uid, JobRow.id))
    return {
        series_uid: [
            JobFacts(
                id=row.id,
                content_digest=row.content_digest,
                state=row.state,
                finished_at=row.finished_at,
                has_results=row.has_results,
                deliveries=deliveries.get(row.id, ()),
            )
            for row in group
        ]
        for series_uid, group in groupby(rows, attrgetter("series_uid"))
    }


def _load_deliveries(
    session: Session, which: ColumnElement[bool]
) -> dict[int, list[DeliveryFacts]]:
    rows = session.execute(
        select(DeliveryRow.job_id, DeliveryRow.destination, DeliveryRow.state, ProofRow.state)
        .join(JobRow)
        .outerjoin(ProofRow, ProofRow.delivery_id == DeliveryRow.id)
        .where(which)
        .order_by(DeliveryRow.job_id, DeliveryRow.destination)
    )
    return {
        job_id: [DeliveryFacts(destination=row[1], state=row[2], proof=row[3]) for row in group]
        for job_id, group in groupby(rows, attrgetter("job_id"))
    }


def _has_results() -> ColumnElement[bool]:
    """Give the condition that a job has files of results."""
    return and_(JobRow.results_removed_at.is_(None), exists().where(ResultRow.job_id == JobRow.id))

"""A list of jobs as CSV (RFC 4180), for spreadsheets."""

import csv
import io
from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import datetime

from storage.job_query import JobHit, JobQuery
from storage.jobs import Jobs

_AT_ONCE = 1000
_COLUMNS = (
    "job",
    "state",
    "reason code",
    "reason",
    "patient ID",
    "patient name",
    "accession number",
    "study date",
    "study description",
    "series description",
    "from",
    "rule",
    "model",
    "attempts",
    "created (UTC)",
    "changed (UTC)",
    "ended (UTC)",
    "study UID",
    "series UID",
)
_FORMULA = ("=", "+", "-", "@", "\t", "\r")
_BYTE_ORDER_MARK = "\ufeff"
"""By which spreadsheets know UTF-8."""


def export_jobs(jobs: Jobs, query: JobQuery) -> Iterator[str]:
    """Give all jobs that are found, piece by piece."""
    query = replace(query, limit=_AT_ONCE, after=None, before=None, at_end=False)
    yield _BYTE_ORDER_MARK + _write([_COLUMNS])
    while True:
        page = jobs.search(query)
        yield _write([_row(hit) for hit in page.hits])
        if not page.has_next:
            return
        query = replace(query, after=page.hits[-1].job.id)


def _row(hit: JobHit) -> Sequence[object]:
    job, series = hit.job, hit.series
    texts = (
        job.reason_code or "",
        job.reason,
        series.patient_id,
        series.patient_name,
        series.accession_number,
        series.study_date,
        series.study_description,
        series.series_description,
        job.calling_ae_title,
        hit.rule,
        f"{job.model_name} {job.model_version}",
    )
    times = map(_time, (job.created_at, job.updated_at, job.finished_at))
    uids = (job.study_uid, job.series_uid)
    return (job.id, job.state.value, *map(_plain, texts), job.attempts, *times, *uids)


def _plain(text: str) -> str:
    """Keep spreadsheets from taking a text of a sender for a formula."""
    return f"'{text}" if text.startswith(_FORMULA) else text


def _time(at: datetime | None) -> str:
    return "" if at is None else f"{at:%Y-%m-%d %H:%M:%S}"


def _write(rows: Sequence[Sequence[object]]) -> str:
    text = io.StringIO()
    csv.writer(text).writerows(rows)
    return text.getvalue()

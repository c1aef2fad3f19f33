"""Remove what may go, and nothing else.

The rows say first what is removed, in a transaction that judges once more; then the files go. A
process killed in between leaves rows that say so, and `Retention.finish` does the rest. A file goes
only inside a transaction that has locked its series and found the row still saying so: whoever
stores the instance again at that moment comes before it, and the file stays, or after it, and finds
the file gone (`node.ingest`).
"""

from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from functools import partial
from itertools import groupby

from sqlalchemy import ColumnElement, and_, select, update
from sqlalchemy.orm import Session

from config.settings import RetentionSettings
from storage.audit import tell
from storage.audit_lines import files_removed
from storage.database import Database
from storage.errors import FileStoreError
from storage.files import FileStore
from storage.retention_facts import load_facts
from storage.retention_rules import Judge, SeriesFacts, Verdict
from storage.tables import InstanceRow, JobRow, SeriesRow
from storage.transitions import Step, job_transaction, lock_job, lock_series, note, note_series

ACTOR = "retention"
BYTES_PER_GB = 1e9
_FILES_AT_ONCE = 100
"""Receivers wait while so many files are removed."""
_KEYS_AT_ONCE = 500


class HoldingKind(StrEnum):
    """What kind of files."""

    INSTANCES = "instances"
    """Of a series, conflicts included."""
    RESULTS = "results"
    """Of a job."""


@dataclass(frozen=True, kw_only=True)
class Holding:
    """Files that stay or go together."""

    kind: HoldingKind
    series_uid: str
    job_id: int | None
    """None for instances."""
    size_bytes: int
    verdict: Verdict


@dataclass(frozen=True, kw_only=True)
class Removal:
    """Files that may go, and why."""

    holding: Holding
    rule: str
    by_quota: bool
    """It goes before its time, because of `max_gb`."""


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What would go now, and what would stay."""

    removals: list[Removal]
    kept: list[Holding]
    excess_bytes: int
    """By which more than `max_gb` stays; 0 if none does."""


@dataclass(frozen=True, kw_only=True)
class Kept:
    """Holdings that stay for the same reason."""

    kind: HoldingKind
    why: str
    count: int
    size_bytes: int
    first_due_at: datetime | None
    """None where none of them has a time."""
    job_ids: tuple[int, ...]
    """The jobs that decide, where jobs do."""


def group_kept(kept: Iterable[Holding]) -> Iterator[Kept]:
    """Group what stays by the reason."""

    def reason(holding: Holding) -> tuple[HoldingKind, str]:
        return holding.kind, holding.verdict.why

    for (kind, why), group in groupby(sorted(kept, key=reason), reason):
        same = list(group)
        verdicts = [one.verdict for one in same]
        yield Kept(
            kind=kind,
            why=why,
            count=len(same),
            size_bytes=sum(one.size_bytes for one in same),
            first_due_at=min((v.due_at for v in verdicts if v.due_at is not None), default=None),
            job_ids=tuple(sorted({v.job_id for v in verdicts if v.job_id is not None})),
        )


class Retention:
    """Removes received instances and results by rule.

    Parameters
    ----------
    database, files
        The stores.
    settings
        How long things are kept.
    proving
        The destinations that are asked for proof.
    """

    def __init__(
        self,
        database: Database,
        files: FileStore,
        settings: RetentionSettings,
        proving: Collection[str],
    ) -> None:
        self._database = database
        self._files = files
        self._max_gb = settings.max_gb
        self._judge = Judge(settings=settings, proving=proving)

    def plan(self, now: datetime) -> Plan:
        """Say what would go now: what is due, then the oldest that the quota may take."""
        with self._database.read() as session:
            known = load_facts(session)
        holdings = [one for series in known for one in self._holdings(series)]
        removals = [
            Removal(holding=one, rule=one.verdict.why, by_quota=False)
            for one in holdings
            if _has_come(one.verdict.due_at, now)
        ]
        kept = [one for one in holdings if not _has_come(one.verdict.due_at, now)]
        if self._max_gb is None:
            return Plan(removals=removals, kept=kept, excess_bytes=0)
        excess = sum(one.size_bytes for one in kept) - int(self._max_gb * BYTES_PER_GB)
        for one in sorted(kept, key=lambda one: one.verdict.over_at or now):
            if excess > 0 and _has_come(one.verdict.over_at, now):
                removals.append(
                    Removal(holding=one, rule=f"max_gb = {self._max_gb:g}", by_quota=True)
                )
                excess -= one.size_bytes
        taken = {id(removal.holding) for removal in removals}
        kept = [one for one in kept if id(one) not in taken]
        return Plan(removals=removals, kept=kept, excess_bytes=max(excess, 0))

    def remove(self, removal: Removal, now: datetime) -> bool:
        """Remove files, if that is still right; say whether it was.

        Raises
        ------
        storage.errors.FileStoreError
            A file cannot be removed; `finish` tries again.
        """
        wanted = removal.holding
        with job_transaction(self._database) as session:
            lock_series(session, wanted.series_uid)
            jobs = select(JobRow).filter_by(series_uid=wanted.series_uid).order_by(JobRow.id)
            rows = {job.id: job for job in session.scalars(jobs.with_for_update())}
            holding = self._find(session, wanted)
            if holding is None or not _has_come(_time(holding, removal), now):
                return False
            if holding.job_id is None:
                _give_up_instances(session, holding, rows.values(), removal.rule, now)
            else:
                _give_up_results(session, holding, rows[holding.job_id], removal.rule, now)
        if holding.job_id is None:
            self._remove_instances(holding.series_uid)
        else:
            self._remove_results(holding.job_id)
        return True

    def finish(self) -> list[FileStoreError]:
        """Remove the files whose rows say that they are removed, as after a crash.

        Returns
        -------
        list of FileStoreError
            What could not be removed.
        """
        with self._database.read() as session:
            leaving = select(InstanceRow.series_uid).where(_leaving()).distinct()
            series_uids = session.scalars(leaving).all()
            job_ids = list(_removed_jobs(session, self._files.result_ids()))
        steps = [partial(self._remove_instances, series_uid) for series_uid in series_uids]
        steps += [partial(self._remove_results, job_id) for job_id in job_ids]
        problems = []
        for step in steps:
            try:
                step()
            except FileStoreError as error:
                problems.append(error)
        return problems

    def _find(self, session: Session, wanted: Holding) -> Holding | None:
        """Judge a holding once more; None if it is no more."""
        for series in load_facts(session, wanted.series_uid):
            for one in self._holdings(series):
                if (one.kind, one.job_id) == (wanted.kind, wanted.job_id):
                    return one
        return None

    def _holdings(self, series: SeriesFacts) -> Iterator[Holding]:
        if series.size_bytes:
            yield Holding(
                kind=HoldingKind.INSTANCES,
                series_uid=series.series_uid,
                job_id=None,
                size_bytes=series.size_bytes,
                verdict=self._judge.judge_instances(series),
            )
        for job in series.jobs:
            if job.has_results:
                yield Holding(
                    kind=HoldingKind.RESULTS,
                    series_uid=series.series_uid,
                    job_id=job.id,
                    size_bytes=self._files.results_size_bytes(job.id),
                    verdict=self._judge.judge_results(job),
                )

    def _remove_instances(self, series_uid: str) -> None:
        while self._remove_some_instances(series_uid):
            pass

    def _remove_some_instances(self, series_uid: str) -> bool:
        """Remove a few files of a series; say whether there may be more."""
        own = InstanceRow.series_uid == series_uid
        with self._database.write() as session:
            lock_series(session, series_uid)
            rows = session.scalars(
                select(InstanceRow).where(own, _leaving()).limit(_FILES_AT_ONCE)
            ).all()
            staying = set(
                session.scalars(
                    select(InstanceRow.path).where(own, InstanceRow.removed_at.is_(None))
                )
            )
            # Other bytes may have got the name of a file that a killed process had removed.
            self._files.remove_instances({row.path for row in rows} - staying)
            for row in rows:
                row.path = ""
        return len(rows) == _FILES_AT_ONCE

    def _remove_results(self, job_id: int) -> None:
        with self._database.write() as session:
            if lock_job(session, job_id).results_removed_at is not None:
                self._files.discard_results(job_id)


def _give_up_instances(
    session: Session, holding: Holding, jobs: Iterable[JobRow], rule: str, now: datetime
) -> None:
    """Say in the rows of a series that its files are removed."""
    statement = (
        update(InstanceRow)
        .where(InstanceRow.series_uid == holding.series_uid, InstanceRow.removed_at.is_(None))
        .values(removed_at=now)
        .returning(InstanceRow.id)
        .execution_options(synchronize_session=False)
    )
    count = len(session.scalars(statement).all())
    series = session.get_one(SeriesRow, holding.series_uid)
    series.instance_count = series.size_bytes = series.missing_files = 0
    series.removed_at = now
    detail = f"{count} instances removed, {_amount(holding.size_bytes)}: {rule}"
    note_series(session, holding.series_uid, ACTOR, detail, now)
    for job in jobs:
        note(session, job, Step(to=job.state, actor=ACTOR, now=now, detail=detail), job.state)
    removed = {"files": holding.kind.value, "instances": count, "rule": rule}
    tell(session, files_removed(session, ACTOR, holding.series_uid, **removed), now)


def _give_up_results(
    session: Session, holding: Holding, job: JobRow, rule: str, now: datetime
) -> None:
    """Say in the row of a job that the files of its results are removed."""
    job.results_removed_at = now
    detail = f"results removed, {_amount(holding.size_bytes)}: {rule}"
    note(session, job, Step(to=job.state, actor=ACTOR, now=now, detail=detail), job.state)
    note_series(session, job.series_uid, ACTOR, f"job {job.id}: {detail}", now)
    removed = {"files": holding.kind.value, "job": job.id, "rule": rule}
    tell(session, files_removed(session, ACTOR, job.series_uid, **removed), now)


def _leaving() -> ColumnElement[bool]:
    """Give the condition that the file of an instance is still to be removed."""
    return and_(InstanceRow.removed_at.is_not(None), InstanceRow.path != "")


def _removed_jobs(session: Session, job_ids: list[int]) -> Iterator[int]:
    """Pick the jobs whose results are removed."""
    for start in range(0, len(job_ids), _KEYS_AT_ONCE):
        yield from session.scalars(
            select(JobRow.id).where(
                JobRow.id.in_(job_ids[start : start + _KEYS_AT_ONCE]),
                JobRow.results_removed_at.is_not(None),
            )
        )


def _time(holding: Holding, removal: Removal) -> datetime | None:
    """Give the moment from which on a holding may be removed like this."""
    return holding.verdict.over_at if removal.by_quota else holding.verdict.due_at


def _has_come(moment: datetime | None, now: datetime) -> bool:
    return moment is not None and moment <= now


def _amount(size_bytes: int) -> str:
    return f"{size_bytes / 1e6:.1f} MB"

"""What the node has of a study, for people who look at what a PACS lists or sends of it."""

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import func, select

from config import RuleAction
from storage.database import Database
from storage.states import JobState
from storage.tables import JobRow, SeriesRow

_AT_ONCE = 1000
"""Databases limit how many values a question may have."""


@dataclass(frozen=True, kw_only=True)
class HeldStudy:
    """What the node has of one study."""

    series_count: int
    instance_count: int
    """Whose files are here."""
    jobs: tuple[tuple[int, JobState], ...]
    """Number and state of each job, the newest first."""


@dataclass(frozen=True, kw_only=True)
class HeldSeries:
    """What became of one series."""

    series_uid: str
    decision: RuleAction | None
    """None until it is settled."""
    reason: str
    jobs: tuple[tuple[int, JobState], ...]
    """Number and state of each job, the newest first."""


class HeldStudies:
    """The studies of a node."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def look_up(self, study_uid: str) -> HeldStudy:
        """Say what is here of a study; of one that never came, nothing is."""
        counted = select(func.count(), func.sum(SeriesRow.instance_count)).filter_by(
            study_uid=study_uid
        )
        # By series, which have an index by study.
        jobs = (
            select(JobRow.id, JobRow.state)
            .join(SeriesRow)
            .where(SeriesRow.study_uid == study_uid)
            .order_by(JobRow.id.desc())
        )
        with self._database.read() as session:
            series_count, instance_count = session.execute(counted).one()
            return HeldStudy(
                series_count=series_count,
                instance_count=instance_count or 0,
                jobs=tuple((job_id, state) for job_id, state in session.execute(jobs)),
            )

    def look_up_series(self, series_uids: Sequence[str]) -> list[HeldSeries]:
        """Say what became of series, in this order; of those that never came, nothing is said."""
        found: dict[str, HeldSeries] = {}
        for begin in range(0, len(series_uids), _AT_ONCE):
            found |= self._look_up_some(series_uids[begin : begin + _AT_ONCE])
        return [found[uid] for uid in series_uids if uid in found]

    def _look_up_some(self, series_uids: Sequence[str]) -> dict[str, HeldSeries]:
        told = (SeriesRow.series_uid, SeriesRow.decision, SeriesRow.reason)
        series = select(*told).where(SeriesRow.series_uid.in_(series_uids))
        of_these = JobRow.series_uid.in_(series_uids)
        jobs = select(JobRow.series_uid, JobRow.id, JobRow.state).where(of_these)
        by_series: dict[str, list[tuple[int, JobState]]] = {uid: [] for uid in series_uids}
        with self._database.read() as session:
            for uid, job_id, state in session.execute(jobs.order_by(JobRow.id.desc())):
                by_series[uid].append((job_id, state))
            return {
                uid: HeldSeries(
                    series_uid=uid, decision=decision, reason=reason, jobs=tuple(by_series[uid])
                )
                for uid, decision, reason in session.execute(series)
            }

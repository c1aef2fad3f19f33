"""What the node has of a study, for people who look at what a PACS lists of it."""

from dataclasses import dataclass

from sqlalchemy import func, select

from storage.database import Database
from storage.states import JobState
from storage.tables import JobRow, SeriesRow


@dataclass(frozen=True, kw_only=True)
class HeldStudy:
    """What the node has of one study."""

    series_count: int
    instance_count: int
    """Whose files are here."""
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

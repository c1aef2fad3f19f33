"""What peers and rules have had to do so far: figures over all rows, in few statements."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import case, func, or_, select
from sqlalchemy.orm import Session

from storage.database import Database
from storage.records import SeriesRecord
from storage.states import DeliveryState
from storage.tables import DeliveryRow, JobRow, SeriesRow
from storage.transitions import record_of


@dataclass(frozen=True, kw_only=True)
class SenderActivity:
    """What has come under one calling AE title."""

    series: int = 0
    instances: int = 0
    """Of these series, as far as their files are not removed."""
    jobs: int = 0
    last_received_at: datetime | None = None


@dataclass(frozen=True, kw_only=True)
class DestinationActivity:
    """What has gone to one destination."""

    counts: Mapping[DeliveryState, int]
    """Jobs whose results are delivered, wait for it, were given up or canceled."""
    last_accepted_at: datetime | None
    last_failed_at: datetime | None
    """Of what has not been accepted since."""
    last_error: str

    def count(self, state: DeliveryState) -> int:
        """Count the deliveries in a state."""
        return self.counts.get(state, 0)


@dataclass(frozen=True, kw_only=True)
class RuleActivity:
    """What one rule has decided; the empty name stands for series that no rule matched."""

    total: int
    recent: int
    """Of the series that have come since a time."""
    last_decided_at: datetime | None
    """Among these."""


class Activity:
    """Figures for people who look after a node.

    Parameters
    ----------
    database
        The job database.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    def of_senders(self) -> dict[str, SenderActivity]:
        """Give what has come, by the calling AE title that began the series."""
        title = SeriesRow.calling_ae_title
        received = select(
            title,
            func.count(),
            func.sum(SeriesRow.instance_count),
            func.max(SeriesRow.last_received_at),
        ).group_by(title)
        made = select(JobRow.calling_ae_title, func.count()).group_by(JobRow.calling_ae_title)
        with self._database.read() as session:
            jobs = {row[0]: row[1] for row in session.execute(made)}
            return {
                row[0]: SenderActivity(
                    series=row[1],
                    instances=row[2],
                    last_received_at=row[3],
                    jobs=jobs.get(row[0], 0),
                )
                for row in session.execute(received)
            }

    def of_destinations(self) -> dict[str, DestinationActivity]:
        """Give what has become of the deliveries, by destination."""
        key = (DeliveryRow.destination, DeliveryRow.state)
        statement = select(*key, func.count(), func.max(DeliveryRow.updated_at)).group_by(*key)
        counts: dict[str, dict[DeliveryState, int]] = {}
        accepted: dict[str, datetime] = {}
        with self._database.read() as session:
            for destination, state, count, last in session.execute(statement):
                counts.setdefault(destination, {})[state] = count
                if state is DeliveryState.DELIVERED:
                    accepted[destination] = last
            failed = {name: _last_failure(session, name) for name in counts}
        return {
            name: DestinationActivity(
                counts=own,
                last_accepted_at=accepted.get(name),
                last_failed_at=failed[name][0],
                last_error=failed[name][1],
            )
            for name, own in counts.items()
        }

    def of_rules(self, since: datetime) -> dict[str, RuleActivity]:
        """Give how many series each rule has decided, in all and of those received since a time."""
        is_decided = or_(SeriesRow.rule != "", SeriesRow.settled)
        is_recent = SeriesRow.first_received_at >= since
        statement = (
            select(
                SeriesRow.rule,
                func.count(),
                func.count(case((is_recent, 1))),
                func.max(case((is_recent, SeriesRow.settled_at))),
            )
            .where(is_decided)
            .group_by(SeriesRow.rule)
        )
        with self._database.read() as session:
            return {
                row[0]: RuleActivity(total=row[1], recent=row[2], last_decided_at=row[3])
                for row in session.execute(statement)
            }

    def find_series(self, text: str, *, by_patient: bool, limit: int) -> list[SeriesRecord]:
        """Find series by a UID of series or study, the newest first.

        Parameters
        ----------
        text
            Exactly so.
        by_patient
            Also by patient ID and accession number.
        limit
            So many at most.
        """
        keys = [SeriesRow.series_uid, SeriesRow.study_uid]
        if by_patient:
            keys += [SeriesRow.patient_id, SeriesRow.accession_number]
        statement = (
            select(SeriesRow)
            .where(or_(*(key == text for key in keys)))
            .order_by(SeriesRow.first_received_at.desc())
            .limit(limit)
        )
        with self._database.read() as session:
            return [record_of(SeriesRecord, row) for row in session.scalars(statement)]

    def held_bytes(self) -> int:
        """Give the size of all received files."""
        statement = select(func.sum(SeriesRow.size_bytes)).where(SeriesRow.size_bytes > 0)
        with self._database.read() as session:
            return int(session.scalar(statement) or 0)


def _last_failure(session: Session, destination: str) -> tuple[datetime | None, str]:
    """Give when and why the last attempt failed at what has not been accepted."""
    statement = (
        select(DeliveryRow.updated_at, DeliveryRow.last_error)
        .where(
            DeliveryRow.destination == destination,
            DeliveryRow.state.in_((DeliveryState.PENDING, DeliveryState.FAILED)),
            DeliveryRow.last_error != "",
        )
        .order_by(DeliveryRow.updated_at.desc())
        .limit(1)
    )
    found = session.execute(statement).one_or_none()
    return (None, "") if found is None else (found[0], found[1])

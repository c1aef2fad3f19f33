"""The received instances and series, and what is decided about them."""

from dataclasses import asdict
from datetime import datetime
from typing import Any

from sqlalchemy import case, func, select, true, update
from sqlalchemy.orm import Session

from dicom_io.description import SeriesDescription
from dicom_io.headers import InstanceHeader
from dicom_io.rules import Decision
from storage.audit import tell
from storage.audit_lines import series_received
from storage.database import Database
from storage.errors import NotFound
from storage.records import (
    InstanceRecord,
    JobRecord,
    NewJob,
    Sender,
    SeriesEvent,
    SeriesRecord,
    StoredFile,
)
from storage.settling import (
    close_series,
    content_digest,
    count_removed,
    enqueue_job,
    supersede_jobs,
)
from storage.states import AddOutcome, JobState
from storage.tables import InstanceRow, SeriesEventRow, SeriesRow
from storage.transitions import (
    Step,
    insert_new,
    job_transaction,
    lock_series,
    note_series,
    record_of,
    with_prefix,
)

_ACTOR = "scheduler"


class Catalog:
    """What has been received.

    Parameters
    ----------
    database
        The job database.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    def add_instance(
        self,
        header: InstanceHeader,
        stored: StoredFile,
        sender: Sender,
        now: datetime,
    ) -> AddOutcome:
        """Add a received instance whose file is in its place.

        A new instance opens its series again if that is settled, and so does one whose file was
        removed. One that is there already only says that the sender is still at work, so it keeps
        an open series open. Files are removed while their row says so only: once this has
        returned, a file that is in its place stays there.

        Parameters
        ----------
        header
            What it says of itself.
        stored
            As `FileStore.commit_instance` gives it.
        sender
            Whom it is from.
        now
            When it came.
        """
        sha256, size_bytes = stored.sha256, stored.size_bytes
        values = _instance_values(header, sender.ae_title, now)
        values |= {"path": stored.relative_path, "sha256": sha256, "size_bytes": size_bytes}
        with self._database.write() as session:
            insert_new(session, SeriesRow, _series_values(header, sender, now))
            # Whoever removes files of the series waits for us, and we for them.
            lock_series(session, header.series_instance_uid)
            if insert_new(session, InstanceRow, values):
                _count_instance(session, header, size_bytes, now)
                return AddOutcome.ADDED
            if _first_sha256(session, header.sop_instance_uid) == sha256:
                if _restore(session, values):
                    _count_instance(session, header, size_bytes, now)
                    return AddOutcome.RESTORED
                _touch(session, header.series_instance_uid, now)
                return AddOutcome.DUPLICATE
            is_new = insert_new(session, InstanceRow, values | {"is_conflict": True})
            added_bytes = size_bytes if is_new or _restore(session, values) else 0
            _flag_conflict(session, header.series_instance_uid, added_bytes, now)
            return AddOutcome.CONFLICT

    def find_instance(self, sop_instance_uid: str) -> InstanceRecord | None:
        """Find an instance whose file is there; bytes in conflict with it are not looked at."""
        statement = select(InstanceRow).where(
            InstanceRow.sop_instance_uid == sop_instance_uid,
            InstanceRow.is_conflict.is_(False),
            InstanceRow.removed_at.is_(None),
        )
        with self._database.read() as session:
            row = session.scalars(statement).one_or_none()
            return None if row is None else record_of(InstanceRecord, row)

    def instance_paths(self, series_uid: str) -> list[str]:
        """Give the paths of a series, relative to the data folder; conflicts are left out."""
        statement = select(InstanceRow.path).where(
            InstanceRow.series_uid == series_uid,
            InstanceRow.is_conflict.is_(False),
            InstanceRow.removed_at.is_(None),
        )
        with self._database.read() as session:
            return sorted(session.scalars(statement))

    def all_paths(self, series_uid: str) -> set[str]:
        """Give the paths of a series and of the bytes in conflict with it."""
        with self._database.read() as session:
            return set(session.scalars(select(InstanceRow.path).filter_by(series_uid=series_uid)))

    def last_received(self) -> dict[str, datetime]:
        """Give when the last instance came, by the calling AE title that began its series."""
        statement = select(
            SeriesRow.calling_ae_title, func.max(SeriesRow.last_received_at)
        ).group_by(SeriesRow.calling_ae_title)
        with self._database.read() as session:
            return {row[0]: row[1] for row in session.execute(statement)}

    def content_digest(self, series_uid: str) -> str:
        """Give the digest of what the series holds now, as `JobRecord.content_digest` has it."""
        with self._database.read() as session:
            return content_digest(session, series_uid)

    def count_removed(self, series_uid: str) -> int:
        """Count the instances of a series whose files were removed and have not come again."""
        with self._database.read() as session:
            return count_removed(session, series_uid)

    def series_events(self, series_uid: str) -> list[SeriesEvent]:
        """List what became of the files of a series, the oldest first."""
        statement = (
            select(SeriesEventRow).filter_by(series_uid=series_uid).order_by(SeriesEventRow.id)
        )
        with self._database.read() as session:
            return [record_of(SeriesEvent, row) for row in session.scalars(statement)]

    def incomplete_series(self) -> list[SeriesRecord]:
        """List the series of which files were missing when they were last looked for."""
        statement = (
            select(SeriesRow).where(SeriesRow.missing_files > 0).order_by(SeriesRow.series_uid)
        )
        with self._database.read() as session:
            return [record_of(SeriesRecord, row) for row in session.scalars(statement)]

    def get_series(self, series_uid: str) -> SeriesRecord:
        """Get a series.

        Raises
        ------
        NotFound
        """
        with self._database.read() as session:
            row = session.get(SeriesRow, series_uid)
            if row is None:
                raise NotFound("series", series_uid)
            return record_of(SeriesRecord, row)

    def list_series(
        self,
        *,
        settled: bool | None = None,
        series_uid_prefix: str = "",
        limit: int = 100,
        offset: int = 0,
    ) -> list[SeriesRecord]:
        """List series, the newest first."""
        statement = (
            select(SeriesRow)
            .order_by(SeriesRow.first_received_at.desc(), SeriesRow.series_uid)
            .limit(limit)
            .offset(offset)
        )
        if settled is not None:
            statement = statement.where(SeriesRow.settled.is_(settled))
        with self._database.read() as session:
            rows = session.scalars(with_prefix(statement, SeriesRow, series_uid_prefix))
            return [record_of(SeriesRecord, row) for row in rows]

    def settle(
        self,
        series: SeriesRecord,
        decision: Decision,
        *,
        job: NewJob | None,
        now: datetime,
        described: SeriesDescription | None = None,
    ) -> JobRecord | None:
        """Settle a series with a decision, queue its job and tell who sent it, in one transaction.

        Jobs made for other content of the series, or for another model where a new job is made,
        become SUPERSEDED unless they have ended otherwise. They stay as they are while instances of
        the series are removed, because no newer job can stand for it then.

        Parameters
        ----------
        series
            As it was when the decision was made.
        decision
            What the rules said.
        job
            None when the series is skipped.
        described
            Whose it is; None leaves what is known.

        Returns
        -------
        JobRecord or None
            The new job. None when there is none to make: the series is skipped; this model
            version has a job for this content already; or the series has changed since `series`
            was read, and then it stays open.
        """
        with job_transaction(self._database) as session:
            if not close_series(session, series, decision, now):
                return None
            row = session.get_one(SeriesRow, series.series_uid, populate_existing=True)
            row.content_digest = content_digest(session, series.series_uid)
            if described is not None:
                _describe(row, described)
            step = Step(to=JobState.QUEUED, actor=_ACTOR, now=now, detail=f"rule: {row.rule}")
            made = None if job is None else enqueue_job(session, row, job, step)
            if not count_removed(session, series.series_uid):
                if row.removed_at is not None:
                    row.removed_at = None
                    note_series(session, row.series_uid, _ACTOR, "its files have come again", now)
                supersede_jobs(session, row, made, _ACTOR, now)
            tell(session, series_received(session, row), now)
            return None if made is None else record_of(JobRecord, made)


def _describe(row: SeriesRow, described: SeriesDescription) -> None:
    for name, text in asdict(described).items():
        setattr(row, name, text)
    row.patient_id_key = described.patient_id
    row.patient_name_key = described.patient_name
    row.accession_number_key = described.accession_number


def _series_values(header: InstanceHeader, sender: Sender, now: datetime) -> dict[str, object]:
    return {
        "series_uid": header.series_instance_uid,
        "study_uid": header.study_instance_uid,
        "modality": header.modality,
        "calling_ae_title": sender.ae_title,
        "calling_address": sender.address,
        "expected_instances": header.expected_instances,
        "first_received_at": now,
        "last_received_at": now,
    }


def _instance_values(
    header: InstanceHeader, calling_ae_title: str, now: datetime
) -> dict[str, Any]:
    return {
        "sop_instance_uid": header.sop_instance_uid,
        "sop_class_uid": header.sop_class_uid,
        "study_uid": header.study_instance_uid,
        "series_uid": header.series_instance_uid,
        "transfer_syntax_uid": header.transfer_syntax_uid,
        "frame_count": header.frame_count,
        "slice_position_mm": header.slice_position_mm,
        "calling_ae_title": calling_ae_title,
        "received_at": now,
    }


def _first_sha256(session: Session, sop_instance_uid: str) -> str:
    statement = select(InstanceRow.sha256).where(
        InstanceRow.sop_instance_uid == sop_instance_uid, InstanceRow.is_conflict.is_(False)
    )
    return session.scalars(statement).one()


def _restore(session: Session, values: dict[str, Any]) -> bool:
    """Take up an instance again whose file was removed; say whether it is one."""
    key = {name: values[name] for name in ("sop_instance_uid", "sha256")}
    anew = ("path", "size_bytes", "calling_ae_title", "received_at")
    statement = (
        update(InstanceRow)
        .filter_by(**key)
        .where(InstanceRow.removed_at.is_not(None))
        .values({name: values[name] for name in anew} | {"removed_at": None})
        .returning(InstanceRow.id)
        .execution_options(synchronize_session=False)
    )
    return session.scalars(statement).one_or_none() is not None


def _count_instance(
    session: Session, header: InstanceHeader, size_bytes: int, now: datetime
) -> None:
    """Count a new instance of a series and open the series again."""
    expected = SeriesRow.expected_instances
    announced = header.expected_instances or 0
    statement = (
        update(SeriesRow)
        .where(SeriesRow.series_uid == header.series_instance_uid)
        .values(
            instance_count=SeriesRow.instance_count + 1,
            size_bytes=SeriesRow.size_bytes + size_bytes,
            last_received_at=now,
            expected_instances=case(
                (func.coalesce(expected, 0) < announced, announced), else_=expected
            ),
            settled=False,
            settled_at=None,
            waits_for="",
            decision=None,
            rule="",
            reason="",
            content_digest=None,
        )
        .execution_options(synchronize_session=False)
    )
    session.execute(statement)


def _touch(session: Session, series_uid: str, now: datetime) -> None:
    """Keep an open series open, and the files of any series from being removed."""
    statement = (
        update(SeriesRow)
        .where(SeriesRow.series_uid == series_uid)
        .values(last_received_at=now)
        .execution_options(synchronize_session=False)
    )
    session.execute(statement)


def _flag_conflict(session: Session, series_uid: str, size_bytes: int, now: datetime) -> None:
    statement = (
        update(SeriesRow)
        .where(SeriesRow.series_uid == series_uid)
        .values(
            has_conflicts=true(), size_bytes=SeriesRow.size_bytes + size_bytes, last_received_at=now
        )
        .execution_options(synchronize_session=False)
    )
    session.execute(statement)

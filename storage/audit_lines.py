"""What the audit trail says of received series, runs of models, results and removed files."""

from collections.abc import Mapping
from typing import Any

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from storage.records import Addressee, AuditEntry
from storage.states import AuditEvent, AuditOutcome
from storage.tables import DeliveryRow, InstanceRow, JobRow, ResultRow, SeriesRow

SCHEDULER = "scheduler"
WORKER = "worker"


def series_received(session: Session, series: SeriesRow) -> AuditEntry:
    """Say who sent the instances of a settled series, and how many of which kind are here."""
    senders = (InstanceRow.calling_ae_title, InstanceRow.sop_class_uid)
    statement = (
        select(*senders, func.count())
        .where(
            InstanceRow.series_uid == series.series_uid,
            InstanceRow.is_conflict.is_(False),
            InstanceRow.removed_at.is_(None),
        )
        .group_by(*senders)
        .order_by(*senders)
    )
    counts: dict[str, dict[str, int]] = {}
    for ae_title, sop_class_uid, count in session.execute(statement):
        counts.setdefault(ae_title, {})[sop_class_uid] = count
    return AuditEntry(
        event=AuditEvent.INSTANCES_RECEIVED,
        actor=f"ae:{series.calling_ae_title}",
        address=series.calling_address,
        patient_id=series.patient_id,
        study_uid=series.study_uid,
        detail={
            "series": series.series_uid,
            "instances": series.instance_count,
            "senders": counts,
            "decision": None if series.decision is None else series.decision.value,
        },
    )


def model_run(
    session: Session,
    job: JobRow,
    became: str,
    outcome: AuditOutcome = AuditOutcome.SUCCESS,
    **more: Any,
) -> AuditEntry:
    """Say which model ran on what, and what came of it."""
    return AuditEntry(
        event=AuditEvent.MODEL_RUN,
        actor=WORKER,
        outcome=outcome,
        patient_id=_patient_of(session, job),
        study_uid=job.study_uid,
        detail={
            "job": job.id,
            "series": job.series_uid,
            "model": job.model_name,
            "version": job.model_version,
            "digest": job.model_digest,
            "worker": job.worker,
            "attempt": job.attempts,
            "became": became,
            **more,
        },
    )


def results_line(
    session: Session,
    event: AuditEvent,
    delivery: DeliveryRow,
    addressees: Mapping[str, Addressee],
    **more: Any,
) -> AuditEntry:
    """Say what goes, went or is kept where; with an `error` in `more` it does not."""
    job = session.get_one(JobRow, delivery.job_id)
    statement = select(ResultRow).filter_by(job_id=job.id).order_by(ResultRow.id)
    objects: dict[str, list[str]] = {}
    for result in session.scalars(statement):
        if delivery.profile in result.profiles:
            objects.setdefault(result.sop_class_uid, []).append(result.sop_instance_uid)
    addressee = addressees.get(delivery.destination)
    return AuditEntry(
        event=event,
        actor=SCHEDULER,
        outcome=AuditOutcome.SERIOUS_FAILURE if more.get("error") else AuditOutcome.SUCCESS,
        patient_id=_patient_of(session, job),
        study_uid=job.study_uid,
        detail={
            "job": job.id,
            "destination": delivery.destination,
            "peer": "" if addressee is None else addressee.ae_title,
            "peer_address": "" if addressee is None else addressee.address,
            "objects": objects,
            **more,
        },
    )


def files_removed(session: Session, actor: str, series_uid: str, **more: Any) -> AuditEntry:
    """Say whose files were given up, and why."""
    series = session.get_one(SeriesRow, series_uid)
    return AuditEntry(
        event=AuditEvent.FILES_REMOVED,
        actor=actor,
        patient_id=series.patient_id,
        study_uid=series.study_uid,
        detail={"series": series_uid, **more},
    )


def _patient_of(session: Session, job: JobRow) -> str:
    return session.get_one(SeriesRow, job.series_uid).patient_id

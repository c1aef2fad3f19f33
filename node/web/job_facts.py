"""What the page of a job says: plain values from the records, in the words of its readers."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import Any

from config import Settings
from config.results import ResultRole
from dicom_io.result_classes import name_class
from node.models import survey_models
from storage.records import (
    DeliveryRecord,
    JobEvent,
    JobRecord,
    ProofRecord,
    ResultRecord,
    SeriesRecord,
)
from storage.states import (
    FINAL_STATES,
    JOB_TRANSITIONS,
    RETRYABLE_STATES,
    DeliveryState,
    FailureCode,
    JobState,
    ProofState,
)

_ROLES = {
    ResultRole.SEG: "Segmentation",
    ResultRole.SR: "Measurement report",
    ResultRole.SUMMARY: "Summary picture",
    ResultRole.OVERLAY: "Pictures with contours",
    ResultRole.RTSTRUCT: "Structure set",
    ResultRole.PDF: "Report for people",
    ResultRole.KEY_OBJECTS: "Key images",
}
_STANDINGS = {
    JobState.QUEUED: "It waits for a worker.",
    JobState.RUNNING: "A worker is at it.",
    JobState.PRODUCED: "The results are made; the first delivery is about to begin.",
    JobState.DELIVERING: "The results are on their way to the destinations.",
    JobState.DELIVERED: "Every destination has accepted every result.",
    JobState.CONFIRMED: "The destinations have proven that they keep the results.",
    JobState.REJECTED: "The series cannot be evaluated as it is. Send what is missing or a better "
    "series; retry if the settings have changed since.",
    JobState.FAILED: "The log of the node says more. Retry once the cause is gone.",
    JobState.CANCELED: "A person stopped it. Retry to take it up again.",
    JobState.SUPERSEDED: "The series has changed since; a newer job stands for it.",
}
_FAILURES = {
    FailureCode.DELIVERY_GIVEN_UP: "The results are here and good. See below which destination did "
    "not take them and why; then retry, which only delivers.",
    FailureCode.CHECK_FAILED: "What was written did not hold what it was made from, so nothing was "
    "sent. Retry; if it happens again, report it with the log.",
}


@dataclass(frozen=True, kw_only=True)
class Actions:
    """What an operator can do with a job now."""

    retry: str
    """What a retry would do; empty where there is nothing to retry."""
    cancel: bool
    destinations: Sequence[str]
    """To which the results can be sent again."""
    hindrance: str
    """Why there is not more to do; may be empty."""


@dataclass(frozen=True, kw_only=True)
class TimelineRow:
    """An event, and how long after the one before."""

    event: JobEvent
    after: str


@dataclass(frozen=True, kw_only=True)
class ResultRow:
    """A series of result objects; most have one."""

    role: str
    sop_class: str
    series_uid: str
    profiles: str
    count: int
    size_bytes: int | None
    """None where a file is gone."""
    path: str
    """To its download, from the page of the job."""
    name: str
    """Of the file, or of the folder of many."""


@dataclass(frozen=True, kw_only=True)
class DeliveryRow:
    """What became of the results at one destination."""

    delivery: DeliveryRecord
    proof: ProofRecord | None
    waits: bool
    """Whether its next attempt has a time."""
    proof_waits: bool


@dataclass(frozen=True, kw_only=True)
class StepRow:
    """A step of the work and its share of the longest."""

    name: str
    seconds: float
    share: float


def is_live(job: JobRecord, deliveries: Sequence[DeliveryRecord]) -> bool:
    """Say whether something about a job goes on by itself."""
    sending = any(one.state is DeliveryState.PENDING for one in deliveries)
    return job.state not in FINAL_STATES or (job.state is JobState.REJECTED and sending)


def explain_standing(job: JobRecord) -> str:
    """Say where a job stands, and what can be done now."""
    if job.state is JobState.FAILED and job.reason_code in _FAILURES:
        return _FAILURES[FailureCode(job.reason_code)]
    return _STANDINGS[job.state]


def has_changed(job: JobRecord, series: SeriesRecord) -> bool:
    """Say whether the series holds something else than what the job was made for."""
    return series.content_digest != job.content_digest


def explain_missing(
    job: JobRecord, series: SeriesRecord, *, removed: int, shown: int
) -> Iterator[str]:
    """Say why slices are not those that the job was made for, or not there."""
    if removed:
        on = f" on {series.removed_at:%Y-%m-%d}" if series.removed_at else ""
        count = "All files" if shown == 0 else f"{removed} files"
        yield (
            f"{count} of the series were removed{on}, as the settings under [retention] say. "
            "Send the series to this node again to see it here."
        )
    elif shown == 0:
        yield "No image of the series can be shown."
    if has_changed(job, series):
        yield "The series has got other instances since this job; what is shown is the series now."


def list_actions(
    job: JobRecord,
    series: SeriesRecord,
    results: Sequence[ResultRecord],
    deliveries: Mapping[str, str],
) -> Actions:
    """Find out what can be done with a job.

    Parameters
    ----------
    job, series, results
        The job, its series and what it made.
    deliveries
        Each configured destination, and the profile of what it gets.
    """
    removed = job.results_removed_at is not None
    made = {profile for one in results for profile in one.profiles}
    can_send = (
        bool(made)
        and not removed
        and (
            job.state in (JobState.PRODUCED, JobState.DELIVERING, JobState.REJECTED)
            or (job.state, JobState.DELIVERING) in JOB_TRANSITIONS
        )
    )
    actions = Actions(
        retry=_explain_retry(job, has_results=bool(results), removed=removed),
        cancel=(job.state, JobState.CANCELED) in JOB_TRANSITIONS,
        destinations=[n for n, profile in deliveries.items() if can_send and profile in made],
        hindrance="",
    )
    if has_changed(job, series) and not actions.cancel:
        hindrance = "The series has changed since, so there is nothing to do for this job."
        return replace(actions, retry="", destinations=(), hindrance=hindrance)
    return actions


def list_other_models(job: JobRecord, settings: Settings) -> list[str]:
    """List the models that the node has besides the one that the job was made for."""
    return [
        model.package.reference
        for model in survey_models(settings).usable
        if model.package.identity.digest != job.model_digest
    ]


def _explain_retry(job: JobRecord, *, has_results: bool, removed: bool) -> str:
    if (job.state, JobState.QUEUED) not in JOB_TRANSITIONS or not (
        removed or job.state in RETRYABLE_STATES
    ):
        return ""
    if removed:
        return "make the results again, as they were removed, and deliver them"
    if has_results and job.state is not JobState.REJECTED:
        return "deliver the results to the destinations that do not have them"
    return "process the series again from the start"


def list_timeline(events: Sequence[JobEvent]) -> list[TimelineRow]:
    """Give the events with the time between them."""
    earlier = [None, *events]
    return [
        TimelineRow(event=event, after="" if last is None else _duration(event.at - last.at))
        for last, event in zip(earlier, events, strict=False)
    ]


def _duration(time: timedelta) -> str:
    """Say a duration as people do."""
    seconds = time.total_seconds()
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours < 48 else f"{hours // 24} d {hours % 24} h"


def list_results(results: Sequence[ResultRecord], folder: Path) -> list[ResultRow]:
    """Give a row for each series of results, in the order in which they are sent."""
    by_series: dict[str, list[ResultRecord]] = {}
    for result in results:
        by_series.setdefault(result.series_instance_uid, []).append(result)
    return [_result_row(series, folder) for series in by_series.values()]


def _result_row(series: Sequence[ResultRecord], folder: Path) -> ResultRow:
    first, path = series[0], Path(series[0].path)
    sizes = [_size(folder / one.path) for one in series]
    is_one = len(series) == 1
    return ResultRow(
        role=_ROLES.get(ResultRole(first.role), first.role),
        sop_class=name_class(first.sop_class_uid),
        series_uid=first.series_instance_uid,
        profiles=", ".join(first.profiles),
        count=len(series),
        size_bytes=None if None in sizes else sum(size or 0 for size in sizes),
        path=f"results/{first.id}" if is_one else f"results.zip?series={first.series_instance_uid}",
        name=path.name if is_one else path.parent.name,
    )


def _size(path: Path) -> int | None:
    try:
        return path.stat().st_size
    except OSError:
        return None


def list_deliveries(
    deliveries: Sequence[DeliveryRecord], proofs: Sequence[tuple[DeliveryRecord, ProofRecord]]
) -> list[DeliveryRow]:
    """Give each delivery with its proof."""
    by_id = {delivery.id: proof for delivery, proof in proofs}
    return [
        DeliveryRow(
            delivery=one,
            proof=(proof := by_id.get(one.id)),
            waits=one.state is DeliveryState.PENDING,
            proof_waits=proof is not None and proof.state is ProofState.WAITING,
        )
        for one in deliveries
    ]


def list_steps(summary: Mapping[str, Any]) -> list[StepRow]:
    """Give the steps of the work with their times."""
    steps: Mapping[str, float] = summary.get("steps_s", {})
    longest = max(steps.values(), default=0.0) or 1.0
    return [
        StepRow(name=name, seconds=seconds, share=seconds / longest)
        for name, seconds in steps.items()
    ]

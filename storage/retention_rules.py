"""What of a series may be removed, since when, and by which rule: pure functions of what is known.

Nothing goes that the node may still need: a job that has not ended, a delivery that is not done, a
destination that has not proven what it is asked to prove.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from config.settings import RetentionSettings
from storage.states import FINAL_STATES, DeliveryState, JobState, ProofState

_SENT = frozenset({JobState.DELIVERED, JobState.CONFIRMED})
_UNUSED = frozenset({JobState.REJECTED, JobState.CANCELED})


@dataclass(frozen=True, kw_only=True)
class DeliveryFacts:
    """What is known of a delivery."""

    destination: str
    state: DeliveryState
    proof: ProofState | None
    """None where no proof was asked for."""


@dataclass(frozen=True, kw_only=True)
class JobFacts:
    """What is known of a job."""

    id: int
    content_digest: str
    state: JobState
    finished_at: datetime | None
    has_results: bool
    """Whether there are files of results."""
    deliveries: Sequence[DeliveryFacts]


@dataclass(frozen=True, kw_only=True)
class SeriesFacts:
    """What is known of a series."""

    series_uid: str
    settled: bool
    content_digest: str | None
    size_bytes: int
    last_received_at: datetime
    jobs: Sequence[JobFacts]


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """Whether files may go."""

    over_at: datetime | None
    """Since when nothing needs them, so that the quota may take them; None where something does."""
    due_at: datetime | None
    """When their time is up; None where they are kept."""
    why: str
    """The rule, or what keeps them."""
    job_id: int | None = None
    """The job that decides; None where none does."""


@dataclass(frozen=True, kw_only=True)
class Judge:
    """Judges what may go.

    Parameters
    ----------
    settings
        How long things are kept.
    proving
        The destinations that are asked for proof.
    """

    settings: RetentionSettings
    proving: Collection[str]

    def judge_instances(self, series: SeriesFacts) -> Verdict:
        """Judge the instances of a series by all its jobs; the strictest of them counts."""
        if not series.settled:
            return _kept("it is being received")
        for job in series.jobs:
            if need := self._need(job):
                return _kept(need, job)
        current = [
            job
            for job in series.jobs
            if job.content_digest == series.content_digest and job.state is not JobState.SUPERSEDED
        ]
        if not current:
            return self._by_key("unused_days", series.last_received_at)
        verdicts = [
            self._by_state(job, "instances_days", _later(job.finished_at, series.last_received_at))
            for job in current
        ]
        return max(verdicts, key=_strictness)

    def judge_results(self, job: JobFacts) -> Verdict:
        """Judge the results of a job."""
        if need := self._need(job):
            return _kept(need, job)
        arrived = [one for one in job.deliveries if one.state is DeliveryState.DELIVERED]
        if job.state in _SENT and not arrived:
            return _kept("sent nowhere", job)
        if job.finished_at is None:
            return _kept("its end is not known", job)
        return self._by_state(job, "results_days", job.finished_at)

    def _need(self, job: JobFacts) -> str:
        """Say what the node may still need the files of a job for; empty if for nothing."""
        if job.state not in FINAL_STATES:
            return job.state.value
        for one in job.deliveries:
            if one.state is DeliveryState.PENDING or one.proof is ProofState.WAITING:
                return f"waits for {one.destination}"
            asked = one.destination in self.proving or one.proof is not None
            if job.state is JobState.DELIVERED and asked and one.proof is not ProofState.PROVEN:
                return f"not confirmed by {one.destination}"
        return ""

    def _by_state(self, job: JobFacts, key_of_sent: str, since: datetime) -> Verdict:
        if job.state in _UNUSED:
            return self._by_key("unused_days", since, job)
        if job.state is not JobState.FAILED:
            return self._by_key(key_of_sent, since, job)
        verdict = self._by_key("failed_days", since, job)
        # Its files may be needed to find out why, so the quota has to wait too.
        return replace(verdict, over_at=verdict.due_at)

    def _by_key(self, key: str, since: datetime, job: JobFacts | None = None) -> Verdict:
        days = getattr(self.settings, key)
        what = "no job" if job is None else job.state.value
        return Verdict(
            over_at=since,
            due_at=None if days is None else since + timedelta(days=days),
            why=f"{what}, {key} is not set" if days is None else f"{what}, {key} = {days:g}",
            job_id=None if job is None else job.id,
        )


def _kept(why: str, job: JobFacts | None = None) -> Verdict:
    return Verdict(over_at=None, due_at=None, why=why, job_id=None if job is None else job.id)


def _later(first: datetime | None, second: datetime) -> datetime:
    return second if first is None else max(first, second)


def _strictness(verdict: Verdict) -> tuple[bool, bool, float]:
    """Order verdicts: what the quota may not take, what has no time, what is due last."""
    due_s = 0.0 if verdict.due_at is None else verdict.due_at.timestamp()
    return (verdict.over_at is None, verdict.due_at is None, due_s)

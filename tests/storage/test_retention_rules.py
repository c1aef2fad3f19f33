from datetime import timedelta
from typing import Any

import pytest

from config.settings import RetentionSettings
from storage.retention_rules import DeliveryFacts, JobFacts, Judge, SeriesFacts, Verdict
from storage.states import FINAL_STATES, DeliveryState, JobState, ProofState

DAY = timedelta(days=1)
ALL_KEYS = {"instances_days": 10, "results_days": 20, "unused_days": 3, "failed_days": 40}


def delivery(
    state: DeliveryState = DeliveryState.DELIVERED, proof: ProofState | None = None
) -> DeliveryFacts:
    return DeliveryFacts(destination="pacs", state=state, proof=proof)


@pytest.fixture
def job(moment: Any) -> Any:
    def make(state: JobState = JobState.DELIVERED, *deliveries: DeliveryFacts, **more: Any) -> Any:
        values = {
            "id": 1,
            "content_digest": "d",
            "state": state,
            "finished_at": moment(0) if state in FINAL_STATES else None,
            "has_results": True,
            "deliveries": deliveries or (delivery(),),
        }
        return JobFacts(**(values | more))

    return make


@pytest.fixture
def series(moment: Any) -> Any:
    def make(*jobs: JobFacts, **more: Any) -> SeriesFacts:
        values = {
            "series_uid": "1.2",
            "settled": True,
            "content_digest": "d",
            "size_bytes": 1,
            "last_received_at": moment(-100),
            "jobs": jobs,
        }
        return SeriesFacts(**(values | more))

    return make


def both(facts: SeriesFacts, proving: tuple[str, ...] = (), **keys: Any) -> tuple[Verdict, Verdict]:
    """Judge the instances, and the results of the last job."""
    judge = Judge(settings=RetentionSettings(**(keys or ALL_KEYS)), proving=proving)
    return judge.judge_instances(facts), judge.judge_results(facts.jobs[-1])


@pytest.mark.parametrize("state", sorted(set(JobState) - FINAL_STATES))
def test_what_has_not_ended_is_kept(job: Any, series: Any, state: JobState) -> None:
    for verdict in both(series(job(state))):
        assert (verdict.over_at, verdict.due_at, verdict.why) == (None, None, state.value)


@pytest.mark.parametrize("state", sorted(FINAL_STATES))
@pytest.mark.parametrize(
    "waiting",
    [delivery(DeliveryState.PENDING), delivery(proof=ProofState.WAITING)],
    ids=["delivery", "proof"],
)
def test_what_a_destination_may_still_ask_for_is_kept(
    job: Any, series: Any, state: JobState, waiting: DeliveryFacts
) -> None:
    for verdict in both(series(job(state, delivery(), waiting))):
        assert (verdict.over_at, verdict.why) == (None, "waits for pacs")


@pytest.mark.parametrize(
    ("state", "instances", "results"),
    [
        (JobState.DELIVERED, 10, 20),
        (JobState.CONFIRMED, 10, 20),
        (JobState.REJECTED, 3, 3),
        (JobState.CANCELED, 3, 3),
        (JobState.FAILED, 40, 40),
        (JobState.SUPERSEDED, None, 20),
    ],
)
def test_each_state_has_its_time(
    job: Any, series: Any, moment: Any, state: JobState, instances: int | None, results: int
) -> None:
    of_instances, of_results = both(series(job(state)))
    assert of_results.due_at == moment(0) + results * DAY
    assert of_results.job_id == 1
    if instances is not None:
        assert of_instances.due_at == moment(0) + instances * DAY
    kept_instances, kept_results = both(series(job(state)), max_gb=1)
    assert kept_instances.due_at is kept_results.due_at is None
    if state is JobState.FAILED:
        assert kept_results.over_at is None, "the quota takes no failed job"
    else:
        assert kept_results.over_at == moment(0)
        assert "is not set" in kept_results.why


def test_the_time_of_a_failed_job_holds_for_the_quota_too(
    job: Any, series: Any, moment: Any
) -> None:
    for verdict in both(series(job(JobState.FAILED))):
        assert verdict.over_at == verdict.due_at == moment(0) + 40 * DAY


def test_delivered_is_enough_only_where_nobody_is_asked_for_proof(job: Any, series: Any) -> None:
    for verdict in both(series(job()), proving=("other",)):
        assert verdict.due_at is not None
    for verdict in both(series(job()), proving=("pacs",)):
        assert (verdict.over_at, verdict.why) == (None, "not confirmed by pacs")
    for verdict in both(series(job(JobState.DELIVERED, delivery(proof=ProofState.GIVEN_UP)))):
        assert verdict.over_at is None
    for verdict in both(series(job(JobState.CONFIRMED, delivery(proof=ProofState.PROVEN)))):
        assert verdict.due_at is not None


def test_results_that_were_sent_nowhere_are_kept(job: Any, series: Any) -> None:
    instances, results = both(series(job(JobState.DELIVERED, deliveries=())))
    assert instances.due_at is not None
    assert (results.over_at, results.why) == (None, "sent nowhere")


def test_a_series_without_a_job(series: Any, moment: Any) -> None:
    judge = Judge(settings=RetentionSettings(**ALL_KEYS), proving=())
    verdict = judge.judge_instances(series())
    assert verdict.due_at == moment(-100) + 3 * DAY
    assert verdict.why == "no job, unused_days = 3"
    assert judge.judge_instances(series(settled=False)).over_at is None


def test_a_series_that_came_again_has_its_time_again(job: Any, series: Any, moment: Any) -> None:
    instances, results = both(series(job(), last_received_at=moment(500)))
    assert instances.due_at == moment(500) + 10 * DAY
    assert results.due_at == moment(0) + 20 * DAY


def test_the_strictest_job_of_the_content_counts(job: Any, series: Any, moment: Any) -> None:
    rejected, delivered = job(JobState.REJECTED, id=1), job(id=2)
    judge = Judge(settings=RetentionSettings(instances_days=10, unused_days=3), proving=())
    assert judge.judge_instances(series(rejected, delivered)).due_at == moment(0) + 10 * DAY
    failed = job(JobState.FAILED, id=3)
    assert judge.judge_instances(series(rejected, failed, delivered)).over_at is None
    outdated = job(JobState.FAILED, id=4, content_digest="fewer slices")
    assert judge.judge_instances(series(outdated, delivered)).due_at == moment(0) + 10 * DAY

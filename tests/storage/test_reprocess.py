"""A person asks for another model: one job stands for a series, the others say which."""

from typing import Any

import pytest
from sqlalchemy import update

from storage.errors import (
    InstancesRemoved,
    ModelInUse,
    NewerRequest,
    NotFound,
    SeriesChanged,
)
from storage.records import JobRecord, NewJob, Problem
from storage.states import DeliveryState, FailureCode, JobState
from storage.tables import InstanceRow

ACTOR = "user:anna"


def ask(node: Any, moment: Any, model: str, *, job_id: int = 1, second: float = 100) -> JobRecord:
    wanted = NewJob(model_name="other", model_version="2", model_digest=model)
    return node.jobs.reprocess(job_id, wanted, ACTOR, moment(second))


def finish(node: Any, moment: Any, second: float) -> JobRecord:
    """Process what waits, and deliver it."""
    job = node.jobs.claim("w1", 30, moment(second))
    node.produce(job.id)
    return node.deliver(second=second)


@pytest.mark.parametrize("state", ["queued", "running", "produced", "delivered"])
def test_another_model_takes_the_place(node: Any, moment: Any, state: str) -> None:
    getattr(node, "produced" if state == "delivered" else state)()
    if state == "delivered":
        node.deliver()
    job = ask(node, moment, "m2")
    assert (job.id, job.state, job.model_digest) == (2, JobState.QUEUED, "m2")
    assert (job.model_name, job.model_version) == ("other", "2")
    earlier = node.jobs.get(1)
    assert (job.series_uid, job.content_digest) == (earlier.series_uid, earlier.content_digest)
    assert earlier.state is JobState.SUPERSEDED
    assert earlier.reason == "other 2 was asked for; job 2 takes its place."
    assert node.history(1)[-1] == (ACTOR, "SUPERSEDED")
    assert node.history(2) == [(ACTOR, "QUEUED"), (ACTOR, "QUEUED")]
    assert node.jobs.events(2)[-1].detail == "takes the place of job 1"
    pending = [one.state for one in node.deliveries.list_deliveries(1)]
    assert DeliveryState.PENDING not in pending
    assert node.jobs.claim("w2", 30, moment(101)).id == 2


def test_the_earlier_model_can_be_asked_for_again(node: Any, moment: Any) -> None:
    node.produced()
    node.deliver()
    ask(node, moment, "m2")
    assert finish(node, moment, 110).state is JobState.DELIVERED
    job = ask(node, moment, "m1", job_id=2, second=120)
    assert (job.id, job.state, job.attempts, job.reason) == (1, JobState.QUEUED, 0, "")
    assert node.jobs.results(1) == []
    assert node.jobs.get(2).state is JobState.SUPERSEDED
    assert node.jobs.find_predecessor(job).id == 2
    again = finish(node, moment, 130)
    assert (again.id, again.state) == (1, JobState.DELIVERED)


def test_only_what_may_be_in_an_archive_is_a_predecessor(node: Any, moment: Any) -> None:
    node.produced()
    node.deliver()
    ask(node, moment, "m2")
    job = ask(node, moment, "m3", job_id=2, second=110)
    assert [one.state.value for one in node.jobs.list_jobs()] == [
        "QUEUED",
        "SUPERSEDED",
        "SUPERSEDED",
    ]
    assert node.jobs.find_predecessor(job).id == 1


def test_a_failed_delivery_may_have_left_something(node: Any, moment: Any) -> None:
    node.produced()
    delivery = node.claim()
    node.deliveries.attempt_failed(delivery.id, "s1", "refused", None, moment(45))
    job = ask(node, moment, "m2")
    assert node.jobs.get(1).state is JobState.FAILED, "it did not end in a newer job"
    assert node.jobs.find_predecessor(job).id == 1


COMEBACKS = {
    "retry": lambda node, now: node.jobs.retry(1, ACTOR, now),
    "resend": lambda node, now: node.deliveries.resend(1, {"pacs": "ohif"}, ACTOR, now),
}


@pytest.mark.parametrize("call", COMEBACKS)
def test_what_has_ended_otherwise_does_not_come_back_beside_it(
    node: Any, moment: Any, call: str
) -> None:
    node.produced()
    node.jobs.cancel(1, ACTOR, moment(40))
    ask(node, moment, "m2")
    with pytest.raises(NewerRequest, match=r"job 1: job 2 stands .*liver 1.*hepar jobs reprocess"):
        COMEBACKS[call](node, moment(110))
    node.jobs.cancel(2, ACTOR, moment(120))
    assert node.jobs.retry(1, ACTOR, moment(130)).state is JobState.DELIVERING


def test_a_job_that_failed_starts_over_when_its_model_is_asked_for(node: Any, moment: Any) -> None:
    node.running()
    node.jobs.fail_attempt(1, "w1", Problem("boom"), 1, moment(30))
    ask(node, moment, "m2")
    assert ask(node, moment, "m1", second=110).id == 1
    assert node.jobs.get(1).state is JobState.QUEUED
    assert node.jobs.get(2).state is JobState.SUPERSEDED


def test_the_same_model_is_told(node: Any, moment: Any) -> None:
    node.produced()
    node.deliver()
    with pytest.raises(ModelInUse, match=r"job 1: .*DELIVERED.*hepar jobs resend 1"):
        ask(node, moment, "m1")
    assert node.jobs.get(1).state is JobState.DELIVERED


def test_refusals(node: Any, moment: Any) -> None:
    with pytest.raises(NotFound):
        ask(node, moment, "m2")
    node.queued()
    with node.database.write() as session:
        session.execute(update(InstanceRow).values(removed_at=moment(50)))
    with pytest.raises(InstancesRemoved, match="send the series to this node again"):
        ask(node, moment, "m2")
    with node.database.write() as session:
        session.execute(update(InstanceRow).values(removed_at=None))
    node.receive(2, second=60)
    with pytest.raises(SeriesChanged, match="more instances"):
        ask(node, moment, "m2")
    assert len(node.jobs.list_jobs()) == 1


def test_a_late_slice_supersedes_it_too(node: Any, moment: Any) -> None:
    node.queued()
    ask(node, moment, "m2")
    node.receive(2, second=110)
    assert node.settle(second=120).model_digest == "m1"
    states = [one.state.value for one in node.jobs.list_jobs()]
    assert states == ["QUEUED", "SUPERSEDED", "SUPERSEDED"]


def test_a_problem_that_lasts_costs_no_further_attempt(node: Any, moment: Any) -> None:
    node.running()
    problem = Problem("It is gone.", FailureCode.MODEL_MISSING, lasts=True)
    job = node.jobs.fail_attempt(1, "w1", problem, 3, moment(30))
    assert (job.state, job.reason_code) == (JobState.FAILED, "MODEL_MISSING")
    assert job.reason == "It is gone."


def test_open_jobs_are_counted_by_model(node: Any, moment: Any) -> None:
    node.running("1.1")
    node.queued("1.2")
    ask(node, moment, "m2", job_id=2)
    assert node.jobs.count_open_by_model() == {"m1": 1, "m2": 1}

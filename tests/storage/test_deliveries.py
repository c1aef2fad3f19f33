import re
from typing import Any

import pytest
from sqlalchemy.dialects import postgresql

from storage.deliveries import claim_statement
from storage.errors import ForbiddenTransition, LeaseLost, NotFound, SeriesChanged
from storage.records import NewResult, Rejection
from storage.states import DeliveryState, JobState


def test_a_claim_begins_the_delivery(node: Any, moment: Any) -> None:
    node.produced()
    delivery = node.claim(second=40)
    assert (delivery.job_id, delivery.destination, delivery.attempts) == (1, "pacs", 1)
    assert (delivery.owner, delivery.lease_until) == ("s1", moment(70))
    assert delivery.first_attempt_at == moment(40)
    assert node.jobs.get(1).state is JobState.DELIVERING
    assert node.history(1)[-1] == ("s1", "DELIVERING")
    assert node.claim(owner="s2") is None


def test_the_last_destination_ends_the_job(node: Any, moment: Any) -> None:
    node.produced(("backup", "pacs"))
    assert node.deliver("pacs").state is JobState.DELIVERING
    job = node.deliver("backup", second=60)
    assert (job.state, job.finished_at) == (JobState.DELIVERED, moment(60))
    assert node.history(1)[-2:] == [("s1", "DELIVERING"), ("s1", "DELIVERED")]
    assert [d.state for d in node.deliveries.list_deliveries(1)] == [DeliveryState.DELIVERED] * 2
    assert node.claim("pacs", second=1000) is None


def test_a_failed_attempt_waits_until_it_is_due(node: Any, moment: Any) -> None:
    node.produced()
    for number, (start, due) in enumerate([(40, 45), (45, 55), (55, 75)], start=1):
        delivery = node.claim(second=start)
        assert (delivery.attempts, delivery.first_attempt_at) == (number, moment(40))
        job = node.deliveries.attempt_failed(
            delivery.id, "s1", "connection refused", moment(due), moment(start)
        )
        assert job.state is JobState.DELIVERING
        assert node.claim(second=due - 0.1) is None
    (delivery,) = node.deliveries.list_deliveries(1)
    assert (delivery.state, delivery.next_attempt_at) == (DeliveryState.PENDING, moment(75))
    assert (delivery.last_error, delivery.lease_until) == ("connection refused", None)
    assert node.deliver(second=75).state is JobState.DELIVERED
    assert node.deliveries.list_deliveries(1)[0].last_error == ""


def test_a_dead_destination_does_not_touch_the_others(node: Any, moment: Any) -> None:
    node.produced(("backup", "dead", "pacs"))
    dead = node.claim("dead")
    job = node.deliveries.attempt_failed(dead.id, "s1", "no answer", None, moment(41))
    assert job.state is JobState.DELIVERING
    assert node.deliver("pacs").state is JobState.DELIVERING
    job = node.deliver("backup")
    assert (job.state, job.reason_code) == (JobState.FAILED, "DELIVERY_GIVEN_UP")
    assert job.reason == "The results could not be delivered to dead: no answer"
    assert [d.state.value for d in node.deliveries.list_deliveries(1)] == [
        "DELIVERED",
        "FAILED",
        "DELIVERED",
    ]


def test_a_destination_gets_the_longest_due_first(node: Any, moment: Any) -> None:
    for uid in ("1.1", "1.2"):
        node.queued(uid)
        node.jobs.claim("w1", 30, moment(20))
    node.produce(2)
    node.produce(1)
    first = node.claim()
    assert first.job_id == 2
    node.deliveries.attempt_failed(first.id, "s1", "busy", moment(50), moment(41))
    assert [node.claim(second=60).job_id for _ in range(2)] == [1, 2]


def test_a_delivery_of_a_dead_sender_goes_on(node: Any, moment: Any) -> None:
    node.produced()
    lost = node.claim(owner="s1", second=40)
    assert node.claim(owner="s2", second=70) is None
    taken = node.claim(owner="s2", second=70.1)
    assert (taken.id, taken.attempts) == (lost.id, 2)
    with pytest.raises(LeaseLost, match="s1 no longer holds it"):
        node.deliveries.delivered(lost.id, "s1", moment(71))
    assert node.deliveries.delivered(lost.id, "s2", moment(72)).state is JobState.DELIVERED


def test_heartbeat(node: Any, moment: Any) -> None:
    node.produced()
    delivery = node.claim(second=40)
    node.deliveries.heartbeat(delivery.id, "s1", 30, moment(60))
    assert node.claim(owner="s2", second=89) is None
    assert node.claim(owner="s2", second=91) is not None
    with pytest.raises(LeaseLost):
        node.deliveries.heartbeat(delivery.id, "s1", 30, moment(92))


SENDER_CALLS = {
    "heartbeat": lambda deliveries, now: deliveries.heartbeat(1, "s1", 30, now),
    "delivered": lambda deliveries, now: deliveries.delivered(1, "s1", now),
    "attempt_failed": lambda deliveries, now: deliveries.attempt_failed(1, "s1", "no", now, now),
    "given up": lambda deliveries, now: deliveries.attempt_failed(1, "s1", "no", None, now),
}


@pytest.mark.parametrize("call", SENDER_CALLS)
@pytest.mark.parametrize("fate", ["canceled", "superseded", "done", "between attempts"])
def test_a_sender_that_has_lost_its_delivery_changes_nothing(
    node: Any, moment: Any, call: str, fate: str
) -> None:
    node.produced()
    node.claim()
    if fate == "canceled":
        node.jobs.cancel(1, "admin", moment(45))
    elif fate == "superseded":
        node.receive(2, second=45)
        node.settle(second=50)
    elif fate == "done":
        node.deliveries.delivered(1, "s1", moment(45))
    else:
        node.deliveries.attempt_failed(1, "s1", "no", moment(99), moment(45))
    before = node.jobs.get(1), node.jobs.events(1), node.deliveries.list_deliveries(1)
    with pytest.raises(LeaseLost):
        SENDER_CALLS[call](node.deliveries, moment(60))
    assert (node.jobs.get(1), node.jobs.events(1), node.deliveries.list_deliveries(1)) == before


@pytest.mark.parametrize("call", SENDER_CALLS)
def test_no_such_delivery(node: Any, moment: Any, call: str) -> None:
    with pytest.raises(NotFound, match="there is no delivery 1"):
        SENDER_CALLS[call](node.deliveries, moment(60))


def test_resend_to_all(node: Any, moment: Any) -> None:
    node.produced(("backup", "pacs"))
    node.deliver("backup")
    node.deliver("pacs")
    job = node.deliveries.resend(1, {"backup": "ohif", "pacs": "ohif"}, "admin", moment(100))
    assert (job.state, job.finished_at) == (JobState.DELIVERING, None)
    assert node.jobs.events(1)[-1].detail == "re-send to backup, pacs"
    for delivery in node.deliveries.list_deliveries(1):
        assert (delivery.state, delivery.attempts) == (DeliveryState.PENDING, 0)
        assert (delivery.first_attempt_at, delivery.next_attempt_at) == (None, moment(100))
    assert node.deliver("backup", second=100).state is JobState.DELIVERING
    assert node.deliver("pacs", second=100).state is JobState.DELIVERED


@pytest.mark.parametrize("first", [(), ("pacs",)])
def test_resend_to_a_destination_that_was_not_there(
    node: Any, moment: Any, first: tuple[str, ...]
) -> None:
    node.produced(first)
    if first:
        node.deliver("pacs")
    node.deliveries.resend(1, {"new": "ohif"}, "admin", moment(100))
    assert node.claim("pacs", second=100) is None
    assert node.deliver("new", second=100).state is JobState.DELIVERED
    assert [d.destination for d in node.deliveries.list_deliveries(1)] == sorted({"new", *first})


def test_resend_of_what_waits_makes_it_due_and_leaves_the_state(node: Any, moment: Any) -> None:
    node.produced(("backup", "pacs"))
    node.deliveries.attempt_failed(node.claim("pacs").id, "s1", "no", moment(9000), moment(41))
    sending = node.claim("backup")
    job = node.deliveries.resend(1, {"backup": "ohif", "pacs": "ohif"}, "admin", moment(60))
    assert job.state is JobState.DELIVERING
    event = node.jobs.events(1)[-1]
    assert (event.from_state, event.to_state) == (JobState.DELIVERING, JobState.DELIVERING)
    backup, pacs = node.deliveries.list_deliveries(1)
    assert backup == sending
    assert (pacs.next_attempt_at, pacs.attempts) == (moment(60), 0)


def test_resend_of_results_of_a_failed_job(node: Any, moment: Any) -> None:
    node.produced(("dead", "pacs"))
    node.deliveries.attempt_failed(node.claim("dead").id, "s1", "no", None, moment(41))
    node.deliver("pacs")
    node.deliveries.resend(1, {"pacs": "ohif"}, "admin", moment(60))
    job = node.deliver("pacs", second=60)
    assert (job.state, job.reason_code) == (JobState.FAILED, "DELIVERY_GIVEN_UP")
    node.deliveries.resend(1, {"dead": "ohif"}, "admin", moment(70))
    assert node.deliver("dead", second=70).state is JobState.DELIVERED


def test_what_cannot_be_sent_again(node: Any, moment: Any) -> None:
    with pytest.raises(NotFound):
        node.deliveries.resend(1, {"pacs": "ohif"}, "admin", moment(60))
    node.queued()
    with pytest.raises(ForbiddenTransition, match="it has no results"):
        node.deliveries.resend(1, {"pacs": "ohif"}, "admin", moment(60))
    node.jobs.claim("w1", 30, moment(60))
    node.produce(1)
    with pytest.raises(ForbiddenTransition, match="no destination is named"):
        node.deliveries.resend(1, {}, "admin", moment(60))
    node.deliver()
    node.receive(2, second=70)
    for _ in range(2):
        with pytest.raises(SeriesChanged):
            node.deliveries.resend(1, {"pacs": "ohif"}, "admin", moment(80))
        node.settle(second=90)
    assert node.jobs.get(1).state is JobState.SUPERSEDED


def test_a_claim_uses_the_index(node: Any, moment: Any) -> None:
    plan = node.plan(claim_statement("s1", "pacs", 30, moment(0)))
    assert re.search(r"ix_delivery_due.*destination.*state.*next_attempt_at", plan)
    for slow in ("SCAN", "Seq Scan on delivery"):
        assert slow not in plan


def test_on_postgresql_senders_do_not_wait_for_each_other(moment: Any) -> None:
    statement = claim_statement("s1", "pacs", 30, moment(0))
    assert "FOR UPDATE SKIP LOCKED" in str(statement.compile(dialect=postgresql.dialect()))


def reject(node: Any, moment: Any) -> Any:
    """Reject a job; a report goes to one destination."""
    node.running()
    rejection = Rejection(
        reason_code="MISSING_SLICE",
        sentence="A slice is missing.",
        results=[
            NewResult(
                role="sr",
                path="sr.dcm",
                sop_class_uid="1.2.840.10008.5.1.4.1.1.88.34",
                sop_instance_uid="2.25.2",
                series_instance_uid="2.25.102",
            )
        ],
        destinations={"pacs": "ohif"},
    )
    return node.jobs.reject(1, "w1", rejection, moment(30))


def test_the_report_on_a_rejected_series_goes_its_way(node: Any, moment: Any) -> None:
    assert reject(node, moment).state is JobState.REJECTED
    job = node.deliver()
    assert job.state is JobState.REJECTED
    [delivery] = node.deliveries.list_deliveries(1)
    assert delivery.state is DeliveryState.DELIVERED
    assert node.jobs.count_by_state() == {JobState.REJECTED: 1}


def test_a_report_that_is_given_up_leaves_the_job_rejected(node: Any, moment: Any) -> None:
    reject(node, moment)
    delivery = node.claim()
    job = node.deliveries.attempt_failed(delivery.id, "s1", "is down", None, moment(41))
    assert (job.state, job.reason_code) == (JobState.REJECTED, "MISSING_SLICE")
    assert "pacs: is down" in node.jobs.events(1)[-1].detail
    node.deliveries.resend(1, {"pacs": "ohif"}, "admin", moment(50))
    assert node.deliver(second=60).state is JobState.REJECTED


def test_a_rejected_job_that_is_retried_is_worked_on_again(node: Any, moment: Any) -> None:
    reject(node, moment)
    node.deliver()
    assert node.jobs.retry(1, "admin", moment(50)).state is JobState.QUEUED
    assert node.jobs.results(1) == []
    assert node.claim(second=51) is None
    node.jobs.claim("w1", 30, moment(52))
    node.produce(1)
    assert node.deliver(second=60).state is JobState.DELIVERED


def test_late_slices_end_the_delivery_of_a_report(node: Any, moment: Any) -> None:
    reject(node, moment)
    node.receive(2, second=40)
    node.settle(second=60)
    assert node.jobs.get(1).state is JobState.SUPERSEDED
    assert node.claim(second=70) is None

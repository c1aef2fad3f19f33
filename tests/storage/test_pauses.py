from typing import Any

from storage.pauses import Pauses
from storage.states import JobState, Work


def test_work_is_suspended_once_and_resumed_once(node: Any, moment: Any) -> None:
    pauses = Pauses(node.database)
    assert not pauses.is_suspended(Work.DELIVERY)
    assert pauses.suspend(Work.DELIVERY, "user:anna", "the archive moves", moment(0))
    assert not pauses.suspend(Work.DELIVERY, "user:ben", "", moment(1))
    assert pauses.is_suspended(Work.DELIVERY)
    assert not pauses.is_suspended(Work.PROCESSING)
    [pause] = pauses.list_pauses()
    assert (pause.work, pause.actor, pause.since) == (Work.DELIVERY, "user:anna", moment(0))
    assert pauses.resume(Work.DELIVERY)
    assert not pauses.resume(Work.DELIVERY)
    assert pauses.list_pauses() == []


def test_no_job_is_taken_while_processing_is_suspended(
    node: Any, other_node: Any, moment: Any
) -> None:
    pauses = Pauses(other_node.database)
    running = node.running("1.1")
    node.queued("1.2")
    pauses.suspend(Work.PROCESSING, "user:anna", "", moment(0))
    assert node.jobs.claim("w2", 30, moment(20)) is None
    node.jobs.heartbeat(running.id, "w1", 30, moment(21))
    assert node.produce(running.id).state is JobState.PRODUCED
    assert node.claim() is not None
    pauses.resume(Work.PROCESSING)
    assert node.jobs.claim("w2", 30, moment(22)).id == 2


def test_nothing_is_sent_while_delivery_is_suspended_but_proof_goes_on(
    node: Any, other_node: Any, moment: Any
) -> None:
    pauses = Pauses(other_node.database)
    node.produced(("pacs", "other"))
    under_way = node.claim("other")
    node.deliver("pacs", asks_proof=True)
    node.queued("1.2")
    node.jobs.claim("w1", 30, moment(41))
    pauses.suspend(Work.DELIVERY, "user:anna", "", moment(42))
    node.produce(2)
    assert node.claim("pacs", second=50) is None
    node.deliveries.delivered(under_way.id, "s1", moment(50))
    assert node.claim_proof("pacs") is not None
    pauses.resume(Work.DELIVERY)
    assert node.claim("pacs", second=51).job_id == 2

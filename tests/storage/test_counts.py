"""What is counted at each scrape of the metrics."""

from storage.open_series import Patience, Waiting
from storage.records import Problem
from storage.states import DeliveryState, JobState, ProofState


def test_an_empty_node(node):
    assert node.jobs.oldest_by_state() == {}
    assert node.deliveries.count_by_state() == {}
    assert node.deliveries.oldest_pending() == {}
    assert node.proofs.count_by_state() == {}
    assert node.open_series.summarize() == (Waiting(), Waiting())


def test_jobs_wait_since_they_were_queued_and_run_since_they_were_claimed(node, moment):
    node.queued("1.1")
    node.queued("1.2")
    assert node.jobs.oldest_by_state() == {JobState.QUEUED: moment(10)}
    job = node.jobs.claim("w1", 30, moment(20))
    node.jobs.heartbeat(job.id, "w1", 30, moment(45))
    assert node.jobs.oldest_by_state()[JobState.RUNNING] == moment(20)
    node.jobs.release(job.id, "w1", moment(50))
    assert node.jobs.oldest_by_state() == {JobState.QUEUED: moment(10)}


def test_a_delivery_waits_since_it_was_due_and_fails_since_it_was_tried(node, moment):
    node.produced(("pacs", "other"))
    assert node.deliveries.oldest_pending() == {"pacs": moment(30), "other": moment(30)}
    delivery = node.claim("pacs", second=40)
    node.deliveries.attempt_failed(delivery.id, "s1", "down", moment(900), moment(41))
    node.deliver("other", second=40, asks_proof=True)
    assert node.deliveries.oldest_pending() == {"pacs": moment(40)}
    assert node.deliveries.count_by_state() == {
        ("pacs", DeliveryState.PENDING): 1,
        ("other", DeliveryState.DELIVERED): 1,
    }
    assert node.proofs.count_by_state() == {ProofState.WAITING: 1}


def test_what_has_failed_lately_and_still_has(node, moment):
    given_up = node.produced(("pacs", "other"))
    for name in ("pacs", "other"):
        delivery = node.claim(name)
        node.deliveries.attempt_failed(delivery.id, "s1", "no", None, moment(41))
    job = node.running("1.1", second=50)
    node.jobs.fail_attempt(job.id, "w1", Problem("out of memory"), 1, moment(60))
    both = {"ATTEMPTS_USED_UP": 1, "DELIVERY_GIVEN_UP": 1}
    assert node.jobs.count_failed(moment(41)) == both
    assert node.jobs.count_failed(moment(42)) == {"ATTEMPTS_USED_UP": 1}
    assert node.deliveries.count_given_up(["pacs"], moment(41)) == {"pacs": 1}
    assert node.deliveries.count_given_up(["pacs"], moment(42)) == {}
    node.jobs.retry(given_up.id, "user:anna", moment(43))
    assert node.deliveries.count_given_up(["pacs", "other"], moment(0)) == {}
    assert node.jobs.count_failed(moment(0)) == {"ATTEMPTS_USED_UP": 1}


def test_what_is_sent_again_after_long_is_not_old(node, moment):
    job = node.produced()
    node.deliver(second=40)
    node.deliveries.resend(job.id, {"pacs": "ohif"}, "admin", moment(99_000))
    assert node.deliveries.oldest_pending() == {"pacs": moment(99_000)}


def test_open_series_by_what_they_wait_for(node, moment):
    node.receive(series_uid="1.1", second=5, expected_instances=9)
    node.receive(series_uid="1.2", second=60)
    node.queued("1.3")
    node.open_series.list_settleable(Patience(quiet_s=20, max_wait_s=900), moment(61))
    quiet, missing = node.open_series.summarize()
    assert quiet == Waiting(count=1, oldest=moment(60))
    assert missing == Waiting(count=1, oldest=moment(5))

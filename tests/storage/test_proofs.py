from typing import Any

import pytest

from storage.errors import LeaseLost, NotFound
from storage.states import DeliveryState, JobState, ProofState

TRANSACTION = "2.25.77"
KEPT = ("2.25.1", "2.25.2")


def test_what_asks_for_no_proof_stays_delivered(node: Any) -> None:
    node.produced()
    assert node.deliver().state is JobState.DELIVERED
    assert node.proofs.list_proofs(1) == []
    assert node.claim_proof() is None


def test_a_proof_confirms_the_job(node: Any, moment: Any) -> None:
    node.produced()
    assert node.deliver(asks_proof=True).state is JobState.DELIVERED
    proof = node.claim_proof()
    assert (proof.state, proof.attempts) == (ProofState.WAITING, 1)
    assert node.claim_proof(owner="p2") is None
    job = node.proofs.proven(proof.delivery_id, "p1", moment(60))
    assert (job.state, job.finished_at) == (JobState.CONFIRMED, moment(60))
    assert node.history(1)[-1] == ("p1", "CONFIRMED")
    assert node.claim_proof(second=9000) is None


def test_all_that_are_asked_must_have_proven(node: Any, moment: Any) -> None:
    node.produced(("backup", "pacs", "research"))
    node.deliver("pacs", asks_proof=True)
    proof = node.claim_proof()
    job = node.proofs.proven(proof.delivery_id, "p1", moment(55))
    assert job.state is JobState.DELIVERING, "other deliveries are under way"
    assert node.deliver("backup", second=60, asks_proof=True).state is JobState.DELIVERING
    assert node.deliver("research", second=61).state is JobState.DELIVERED
    proof = node.claim_proof(destination="backup", second=70)
    assert node.proofs.proven(proof.delivery_id, "p1", moment(71)).state is JobState.CONFIRMED


def test_a_last_delivery_without_proof_finds_the_others_proven(node: Any, moment: Any) -> None:
    node.produced(("pacs", "research"))
    node.deliver("pacs", asks_proof=True)
    node.proofs.proven(node.claim_proof().delivery_id, "p1", moment(55))
    assert node.deliver("research", second=60).state is JobState.CONFIRMED
    assert node.history(1)[-2:] == [("s1", "DELIVERED"), ("s1", "CONFIRMED")]


def test_what_is_not_proven_is_tried_again_and_given_up(node: Any, moment: Any) -> None:
    node.produced()
    node.deliver(asks_proof=True)
    proof = node.claim_proof()
    job = node.proofs.attempt_failed(proof.delivery_id, "p1", "no answer", moment(70), moment(51))
    assert job.state is JobState.DELIVERED
    assert node.claim_proof(second=69) is None
    proof = node.claim_proof(second=70)
    assert (proof.attempts, proof.last_error) == (2, "no answer")
    assert proof.first_attempt_at == moment(50)
    node.proofs.attempt_failed(proof.delivery_id, "p1", "sr.dcm is not there", None, moment(71))
    ((delivery, proof),) = node.proofs.list_proofs(1)
    assert (delivery.state, proof.state) == (DeliveryState.DELIVERED, ProofState.GIVEN_UP)
    event = node.jobs.events(1)[-1]
    assert event.detail == "not confirmed by pacs: sr.dcm is not there"
    assert event.to_state is JobState.DELIVERED
    assert node.claim_proof(second=9000) is None


def test_results_sent_again_are_proven_again(node: Any, moment: Any) -> None:
    node.produced()
    node.deliver(asks_proof=True)
    proof = node.claim_proof()
    node.proofs.asked(proof.delivery_id, "p1", TRANSACTION, moment(51))
    node.proofs.answered(TRANSACTION, kept=KEPT, problem="", now=moment(52))
    assert node.proofs.proven(proof.delivery_id, "p1", moment(53)).state is JobState.CONFIRMED
    assert (
        node.deliveries.resend(1, {"pacs": "ohif"}, "me", moment(60)).state is JobState.DELIVERING
    )
    assert node.claim_proof(second=61) is None, "it is not delivered yet"
    node.deliver(second=62, asks_proof=True)
    proof = node.claim_proof(second=63)
    assert (proof.attempts, proof.transaction_uid, proof.committed_at) == (1, None, None)


def test_an_answer_makes_the_proof_due_at_once(node: Any, moment: Any) -> None:
    node.produced()
    node.deliver(asks_proof=True)
    proof = node.claim_proof()
    node.proofs.asked(proof.delivery_id, "p1", TRANSACTION, moment(51))
    node.proofs.attempt_failed(proof.delivery_id, "p1", "waits", moment(500), moment(52))
    assert node.claim_proof(second=60) is None
    node.proofs.answered(TRANSACTION, kept=KEPT, problem="", now=moment(61))
    proof = node.claim_proof(second=61)
    assert (proof.committed_at, proof.last_error) == (moment(61), "")
    with pytest.raises(NotFound, match=f"storage commitment transaction {TRANSACTION}"):
        node.proofs.answered(TRANSACTION, kept=KEPT, problem="", now=moment(62))


def test_a_refusal_is_kept_and_asked_anew_when_due(node: Any, moment: Any) -> None:
    node.produced()
    node.deliver(asks_proof=True)
    proof = node.claim_proof()
    node.proofs.asked(proof.delivery_id, "p1", TRANSACTION, moment(51))
    node.proofs.attempt_failed(proof.delivery_id, "p1", "waits", moment(500), moment(52))
    node.proofs.answered(
        TRANSACTION, kept=KEPT[:1], problem="sr.dcm: no such object", now=moment(61)
    )
    found = node.proofs.get(proof.delivery_id)
    assert (found.last_error, found.transaction_uid) == ("sr.dcm: no such object", None)
    assert node.claim_proof(second=61) is None
    assert node.claim_proof(second=500).asked_at is None


def test_what_a_dead_prover_noted_does_not_count_as_asked_for(node: Any, moment: Any) -> None:
    node.produced()
    node.deliver(asks_proof=True)
    proof = node.claim_proof(second=50)
    node.proofs.asked(proof.delivery_id, "p1", TRANSACTION, moment(51))
    taken = node.claim_proof(owner="p2", second=5000)
    assert taken.asked_at is None, "it may have died before it asked"
    node.proofs.asked(taken.delivery_id, "p2", "1.2.99", moment(5001))
    node.proofs.attempt_failed(taken.delivery_id, "p2", "waits", moment(5010), moment(5002))
    assert node.claim_proof(second=5010).asked_at == moment(5001), "its answer is awaited"


def test_a_report_that_leaves_a_result_out_proves_nothing(node: Any, moment: Any) -> None:
    node.produced()
    node.deliver(asks_proof=True)
    proof = node.claim_proof()
    node.proofs.asked(proof.delivery_id, "p1", TRANSACTION, moment(51))
    node.proofs.answered(TRANSACTION, kept=KEPT[:1], problem="", now=moment(52))
    found = node.proofs.get(proof.delivery_id)
    assert (found.last_error, found.committed_at) == ("does not mention sr.dcm", None)


def test_a_dead_prover_loses_its_proof(node: Any, moment: Any) -> None:
    node.produced()
    node.deliver(asks_proof=True)
    proof = node.claim_proof()
    node.proofs.heartbeat(proof.delivery_id, "p1", 30, moment(70))
    assert node.claim_proof(owner="p2", second=99) is None
    assert node.claim_proof(owner="p2", second=101).attempts == 2
    calls = (
        lambda: node.proofs.heartbeat(proof.delivery_id, "p1", 30, moment(102)),
        lambda: node.proofs.asked(proof.delivery_id, "p1", TRANSACTION, moment(102)),
        lambda: node.proofs.proven(proof.delivery_id, "p1", moment(102)),
        lambda: node.proofs.attempt_failed(proof.delivery_id, "p1", "", None, moment(102)),
    )
    for call in calls:
        with pytest.raises(LeaseLost):
            call()
    assert node.jobs.get(1).state is JobState.DELIVERED


def test_no_such_proof(node: Any, moment: Any) -> None:
    node.produced()
    node.deliver()
    with pytest.raises(NotFound, match="proof of delivery 1"):
        node.proofs.get(1)
    with pytest.raises(NotFound, match="proof of delivery 1"):
        node.proofs.proven(1, "p1", moment(50))
    with pytest.raises(NotFound, match="delivery 9"):
        node.proofs.proven(9, "p1", moment(50))
    with pytest.raises(NotFound, match=r"2\.25\.1"):
        node.proofs.answered("2.25.1", kept=KEPT, problem="", now=moment(50))

from typing import Any

from storage.heartbeats import Heartbeats
from storage.overview import look_over
from storage.pauses import Pauses
from storage.states import JobState, Work


def test_an_idle_node(node: Any, moment: Any) -> None:
    seen = look_over(node.database, moment(0))
    assert (seen.series_count, seen.delivery_count, seen.proof_count) == (0, 0, 0)
    assert not any((seen.series, seen.queued, seen.running, seen.ended, seen.job_counts))


def test_what_goes_on(node: Any, moment: Any) -> None:
    node.produced(("pacs", "other"), series_uid="1.1")
    node.deliver("pacs", asks_proof=True)
    failed = node.claim("other")
    node.deliveries.attempt_failed(failed.id, "s1", "refused: no", moment(500), moment(50))
    node.running("1.2", worker="w7", second=60)
    node.jobs.note_step(2, "w7", "segment", 0.5)
    node.queued("1.3")
    node.queued("1.4")
    node.receive(2, series_uid="1.3", second=70)
    node.running("1.5", second=80)
    node.jobs.cancel(5, "user:anna", moment(90))
    node.jobs.cancel(4, "user:anna", moment(95))
    Pauses(node.database).suspend(Work.DELIVERY, "user:anna", "", moment(96))
    Heartbeats(node.database).beat("worker", host="h", pid=1, now=moment(97))

    seen = look_over(node.database, moment(100))
    assert [(one.series_uid, one.instance_count) for one in seen.series] == [("1.3", 2)]
    assert [(one.job.id, one.series_is_open) for one in seen.queued] == [(3, True)]
    assert [(one.id, one.worker, one.step, one.step_share) for one in seen.running] == [
        (2, "w7", "segment", 0.5)
    ]
    [delivery] = seen.deliveries
    assert (delivery.job_id, delivery.destination, delivery.last_error) == (
        1,
        "other",
        "refused: no",
    )
    assert delivery.next_attempt_at == moment(500)
    assert [(one.job_id, one.destination) for one in seen.proofs] == [(1, "pacs")]
    assert [one.id for one in seen.ended] == [4, 5]
    assert seen.job_counts[JobState.CANCELED] == 2
    assert [pause.work for pause in seen.pauses] == [Work.DELIVERY]
    assert [beat.role for beat in seen.beats] == ["worker"]


def test_lists_are_short_and_counts_are_not(node: Any, moment: Any) -> None:
    for uid in ("1.1", "1.2", "1.3"):
        node.receive(series_uid=uid)
    seen = look_over(node.database, moment(1), limit=2)
    assert (len(seen.series), seen.series_count) == (2, 3)

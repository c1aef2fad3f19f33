from typing import Any

import pytest
from sqlalchemy import insert, text
from sqlalchemy.dialects import postgresql

from storage.errors import ForbiddenTransition, LeaseLost, NotFound, SeriesChanged, StaleJob
from storage.jobs import claim_statement
from storage.records import Problem, Rejection
from storage.states import DeliveryState, JobState
from storage.tables import JobRow


def test_claim_takes_the_oldest(node: Any, moment: Any) -> None:
    for uid in ("1.1", "1.2"):
        node.queued(uid)
    job = node.jobs.claim("w1", 30, moment(20))
    assert (job.id, job.series_uid, job.state, job.attempts) == (1, "1.1", JobState.RUNNING, 1)
    assert (job.worker, job.lease_until, job.started_at) == ("w1", moment(50), moment(20))
    assert node.jobs.get(1) == job
    assert node.jobs.claim("w2", 30, moment(20)).id == 2
    assert node.jobs.claim("w3", 30, moment(20)) is None
    assert node.history(1) == [("scheduler", "QUEUED"), ("w1", "RUNNING")]
    assert node.jobs.events(1)[-1].detail == "attempt 1"


def test_a_job_whose_series_has_just_grown_is_left(node: Any, moment: Any) -> None:
    node.queued()
    node.receive(2, second=15)
    assert node.jobs.claim("w1", 30, moment(20)) is None
    node.settle(second=25)
    assert node.jobs.claim("w1", 30, moment(30)).id == 2


def test_heartbeat_extends_the_lease(node: Any, moment: Any) -> None:
    node.running()
    node.jobs.heartbeat(1, "w1", 30, moment(45))
    assert node.jobs.get(1).lease_until == moment(75)
    assert node.jobs.release_abandoned(3, moment(74)) == []


WORKER_CALLS = {
    "heartbeat": lambda jobs, worker, now: jobs.heartbeat(1, worker, 30, now),
    "produced": lambda jobs, worker, now: jobs.produced(
        1, worker, results=[], destinations={"pacs": "ohif"}, summary={"a": 1}, now=now
    ),
    "reject": lambda jobs, worker, now: jobs.reject(
        1, worker, Rejection(reason_code="NOT_CT", sentence="No CT."), now
    ),
    "fail_attempt": lambda jobs, worker, now: jobs.fail_attempt(1, worker, Problem("boom"), 3, now),
    "release": lambda jobs, worker, now: jobs.release(1, worker, now),
}


@pytest.mark.parametrize("call", WORKER_CALLS)
@pytest.mark.parametrize("fate", ["canceled", "superseded", "given to another", "waiting", "done"])
def test_a_worker_that_has_lost_its_job_changes_nothing(
    node: Any, moment: Any, call: str, fate: str
) -> None:
    node.running()
    if fate == "canceled":
        node.jobs.cancel(1, "admin", moment(25))
    elif fate == "superseded":
        node.receive(2, second=25)
        node.settle(second=30)
    elif fate == "done":
        node.produce(1)
    else:
        node.jobs.release_abandoned(3, moment(100))
        if fate == "given to another":
            node.jobs.claim("w2", 30, moment(100))
    before = node.jobs.get(1), node.jobs.events(1), node.deliveries.list_deliveries(1)
    with pytest.raises(LeaseLost, match="job 1: w1 no longer holds it") as caught:
        WORKER_CALLS[call](node.jobs, "w1", moment(110))
    assert isinstance(caught.value, StaleJob)
    assert (
        node.jobs.get(1),
        node.jobs.events(1),
        node.deliveries.list_deliveries(1),
    ) == before


def test_produced(node: Any, moment: Any) -> None:
    job = node.produced(("pacs", "backup"))
    assert (job.state, job.summary, job.finished_at) == (JobState.PRODUCED, {"lesions": 2}, None)
    assert job.lease_until is None
    results = node.jobs.results(1)
    assert [(r.role, r.path, r.sop_instance_uid, r.job_id) for r in results] == [
        ("seg", "seg.dcm", "2.25.1", 1),
        ("sr", "sr.dcm", "2.25.2", 1),
    ]
    deliveries = node.deliveries.list_deliveries(1)
    assert [(d.destination, d.state, d.attempts, d.next_attempt_at) for d in deliveries] == [
        ("backup", DeliveryState.PENDING, 0, moment(30)),
        ("pacs", DeliveryState.PENDING, 0, moment(30)),
    ]
    assert node.jobs.events(1)[-1].detail == "seg, sr"


def test_produced_without_destinations(node: Any, moment: Any) -> None:
    job = node.produced(())
    assert (job.state, job.finished_at) == (JobState.DELIVERED, moment(30))
    assert node.history(1)[-2:] == [("w1", "PRODUCED"), ("w1", "DELIVERED")]
    assert node.jobs.events(1)[-1].detail == "no destination is set"


def test_a_production_that_fails_half_way_leaves_nothing(node: Any, moment: Any) -> None:
    node.running()
    with pytest.raises(Exception, match="not JSON serializable"):
        node.jobs.produced(
            1,
            "w1",
            results=[],
            destinations={"pacs": "ohif"},
            summary={"a": object()},
            now=moment(30),
        )
    assert node.jobs.get(1).state is JobState.RUNNING
    assert node.deliveries.list_deliveries(1) == []


def test_reject(node: Any, moment: Any) -> None:
    node.running()
    job = node.jobs.reject(
        1,
        "w1",
        Rejection(reason_code="TOO_FEW_SLICES", sentence="The series has too few."),
        moment(30),
    )
    assert (job.state, job.reason_code) == (JobState.REJECTED, "TOO_FEW_SLICES")
    assert (job.reason, job.finished_at) == ("The series has too few.", moment(30))
    assert node.jobs.events(1)[-1].detail == "The series has too few."


def test_attempts_are_used_up(node: Any, moment: Any) -> None:
    node.queued()
    for attempt in (1, 2, 3):
        node.jobs.claim("w1", 30, moment(20 * attempt))
        job = node.jobs.fail_attempt(1, "w1", Problem("boom"), 3, moment(20 * attempt + 5))
    assert node.history(1)[1:] == [("w1", "RUNNING"), ("w1", "QUEUED")] * 2 + [
        ("w1", "RUNNING"),
        ("w1", "FAILED"),
    ]
    assert node.jobs.events(1)[2].detail == "attempt 1 of 3: boom"
    assert (job.reason_code, job.finished_at) == ("ATTEMPTS_USED_UP", moment(65))
    assert job.reason == "All 3 attempts failed; the last one: boom"


def test_a_job_given_back_has_lost_no_attempt(node: Any, moment: Any) -> None:
    node.running()
    job = node.jobs.release(1, "w1", moment(30))
    assert (job.state, job.attempts, job.worker, job.lease_until) == (
        JobState.QUEUED,
        0,
        None,
        None,
    )


def test_jobs_of_dead_workers_go_on_and_poison_ends(node: Any, moment: Any) -> None:
    node.queued()
    for number in (1, 2):
        node.jobs.claim(f"w{number}", 30, moment(100 * number))
        assert node.jobs.release_abandoned(2, moment(100 * number + 30)) == []
        (job,) = node.jobs.release_abandoned(2, moment(100 * number + 31))
    assert node.history(1)[2:] == [
        ("scheduler", "QUEUED"),
        ("w2", "RUNNING"),
        ("scheduler", "FAILED"),
    ]
    assert (job.state, job.reason_code) == (JobState.FAILED, "ATTEMPTS_USED_UP")
    assert job.reason.startswith("All 2 attempts failed; the last one: the worker w2 has fallen")


@pytest.mark.parametrize("end", ["rejected", "failed", "canceled"])
def test_retry_starts_anew(node: Any, moment: Any, end: str) -> None:
    node.running()
    if end == "rejected":
        node.jobs.reject(1, "w1", Rejection(reason_code="NOT_CT", sentence="No CT."), moment(30))
    elif end == "failed":
        node.jobs.fail_attempt(1, "w1", Problem("boom"), 1, moment(30))
    else:
        node.jobs.cancel(1, "admin", moment(30))
    job = node.jobs.retry(1, "admin", moment(40))
    assert (job.state, job.attempts, job.worker) == (JobState.QUEUED, 0, None)
    assert (job.reason_code, job.reason, job.finished_at) == (None, "", None)
    assert node.history(1)[-1] == ("admin", "QUEUED")
    assert node.jobs.claim("w2", 30, moment(50)).attempts == 1


def test_retry_of_results_that_exist_only_delivers(node: Any, moment: Any) -> None:
    node.produced(("backup", "pacs"))
    node.deliver("backup")
    node.deliveries.attempt_failed(node.claim().id, "s1", "refused", None, moment(41))
    job = node.jobs.retry(1, "admin", moment(50))
    assert (job.state, job.reason) == (JobState.DELIVERING, "")
    backup, pacs = node.deliveries.list_deliveries(1)
    assert backup.state is DeliveryState.DELIVERED
    assert (pacs.state, pacs.attempts, pacs.next_attempt_at) == (
        DeliveryState.PENDING,
        0,
        moment(50),
    )
    assert node.deliver("pacs", second=50).state is JobState.DELIVERED


def test_retry_of_a_canceled_delivery(node: Any, moment: Any) -> None:
    node.produced()
    node.jobs.cancel(1, "admin", moment(35))
    assert node.jobs.retry(1, "admin", moment(36)).state is JobState.DELIVERING
    assert node.deliver().state is JobState.DELIVERED


@pytest.mark.parametrize("state", ["QUEUED", "RUNNING", "PRODUCED", "DELIVERED"])
def test_only_ended_jobs_are_retried(node: Any, moment: Any, state: str) -> None:
    if state == "QUEUED":
        node.queued()
    elif state == "RUNNING":
        node.running()
    else:
        node.produced(() if state == "DELIVERED" else ("pacs",))
    with pytest.raises(ForbiddenTransition, match=f"job 1 is {state} and cannot be retried"):
        node.jobs.retry(1, "admin", moment(40))


def test_a_job_for_outdated_content_is_not_retried(node: Any, moment: Any) -> None:
    node.running()
    node.jobs.fail_attempt(1, "w1", Problem("boom"), 1, moment(30))
    node.receive(2, second=40)
    for _ in range(2):
        with pytest.raises(SeriesChanged, match="more instances"):
            node.jobs.retry(1, "admin", moment(50))
        node.settle(second=60)


def test_cancel(node: Any, moment: Any) -> None:
    node.produced(("backup", "pacs"))
    node.deliver("backup")
    job = node.jobs.cancel(1, "admin", moment(50))
    assert (job.state, job.reason, job.finished_at) == (
        JobState.CANCELED,
        "Canceled by admin.",
        moment(50),
    )
    assert [d.state.value for d in node.deliveries.list_deliveries(1)] == ["DELIVERED", "CANCELED"]
    with pytest.raises(ForbiddenTransition):
        node.jobs.cancel(1, "admin", moment(51))


@pytest.mark.parametrize(
    "call",
    [
        lambda jobs, now: jobs.get(9),
        lambda jobs, now: jobs.retry(9, "admin", now),
        lambda jobs, now: jobs.cancel(9, "admin", now),
        lambda jobs, now: jobs.heartbeat(9, "w1", 30, now),
    ],
)
def test_no_such_job(node: Any, moment: Any, call: Any) -> None:
    with pytest.raises(NotFound, match="there is no job 9"):
        call(node.jobs, moment(0))


def test_what_a_running_job_does(node: Any, moment: Any) -> None:
    job = node.running()

    def seen() -> tuple[str, float]:
        found = node.jobs.get(job.id)
        return found.step, found.step_share

    assert seen() == ("", 0.0)
    node.jobs.note_step(job.id, "w1", "segment", 0.25)
    node.jobs.note_step(job.id, "w2", "read", 0.0)
    assert seen() == ("segment", 0.25)
    node.jobs.fail_attempt(job.id, "w1", Problem("a fault"), 3, moment(21))
    assert seen() == ("", 0.0)
    node.jobs.note_step(job.id, "w1", "segment", 0.5)
    assert seen() == ("", 0.0)
    node.jobs.claim("w1", 30, moment(22))
    node.jobs.note_step(job.id, "w1", "measure", 0.8)
    node.jobs.fail_attempt(job.id, "w1", Problem("a fault"), 1, moment(23))
    assert seen() == ("measure", 0.8)
    assert node.jobs.retry(job.id, "admin", moment(24)).step == ""


def test_lists(node: Any, moment: Any) -> None:
    for uid in ("1.1", "1.2", "1.20", "2.1"):
        node.queued(uid)
    node.jobs.claim("w1", 30, moment(20))

    def ids(**filters: Any) -> list[int]:
        return [job.id for job in node.jobs.list_jobs(**filters)]

    assert ids() == [4, 3, 2, 1]
    assert ids(limit=2, offset=1) == [3, 2]
    assert ids(states=[JobState.RUNNING]) == [1]
    assert ids(states=[]) == []
    assert ids(states=list(JobState), series_uid_prefix="1.2") == [3, 2]
    assert node.jobs.count_by_state() == {JobState.RUNNING: 1, JobState.QUEUED: 3}


def test_an_id_is_never_given_out_twice(node: Any) -> None:
    node.queued("1.1")
    with node.database.write() as session:
        session.execute(text("DELETE FROM job_event"))
        session.execute(text("DELETE FROM job"))
    assert node.queued("1.2").id == 2


def insert_jobs(node: Any, moment: Any, count: int) -> None:
    """Insert finished jobs, and every hundredth queued, as a node of some years has them."""
    node.receive()
    node.settle()
    rows = [
        {
            "series_uid": "1.2.3.4",
            "study_uid": "1.2.3",
            "content_digest": str(number),
            "calling_ae_title": "SCANNER",
            "model_name": "liver",
            "model_version": "1",
            "model_digest": "m1",
            "state": JobState.DELIVERED if number % 100 else JobState.QUEUED,
            "created_at": moment(0),
            "updated_at": moment(0),
        }
        for number in range(count)
    ]
    with node.database.write() as session:
        session.execute(insert(JobRow), rows)


def test_a_claim_among_many_jobs_uses_the_index(node: Any, moment: Any) -> None:
    insert_jobs(node, moment, 20_000)
    plan = node.plan(claim_statement("w1", 30, moment(20)))
    assert "ix_job_state_id" in plan
    for slow in ("SCAN", "TEMP B-TREE", "Seq Scan on job", "Sort"):
        assert slow not in plan
    assert [node.jobs.claim("w1", 30, moment(20)).id for _ in range(3)] == [1, 2, 102]
    assert node.jobs.count_by_state()[JobState.QUEUED] == 198
    assert [job.id for job in node.jobs.list_jobs(limit=2)] == [20_001, 20_000]


def test_on_postgresql_workers_do_not_wait_for_each_other(moment: Any) -> None:
    statement = claim_statement("w1", 30, moment(20))
    sql = str(statement.compile(dialect=postgresql.dialect()))
    assert "FOR UPDATE SKIP LOCKED" in sql
    assert "RETURNING" in sql

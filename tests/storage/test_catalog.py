import hashlib
from datetime import UTC, datetime
from typing import Any

import pytest
from sqlalchemy import text

from config.rules import RuleAction
from storage.errors import NotFound
from storage.open_series import Patience
from storage.records import Problem, Rejection
from storage.states import AddOutcome, JobState

SERIES = "1.2.3.4"


def ready(node: Any) -> list[str]:
    found = node.open_series.list_settleable(Patience(quiet_s=0), datetime.now(UTC))
    return [series.series_uid for series in found]


def test_a_new_instance_is_counted(node: Any, moment: Any) -> None:
    assert node.receive(1, second=1) is AddOutcome.ADDED
    assert node.receive(2, second=2, expected_instances=5) is AddOutcome.ADDED
    series = node.catalog.get_series(SERIES)
    assert (series.instance_count, series.expected_instances) == (2, 5)
    assert (series.first_received_at, series.last_received_at) == (moment(1), moment(2))
    assert (series.study_uid, series.modality, series.calling_ae_title) == (
        "1.2.3",
        "CT",
        "SCANNER",
    )
    assert not series.settled
    assert not series.has_conflicts
    found = node.catalog.find_instance("1.2.3.4.2")
    assert (found.slice_position_mm, found.received_at, found.is_conflict) == (
        4.0,
        moment(2),
        False,
    )


def test_the_same_instance_again_changes_nothing_but_keeps_an_open_series_open(
    node: Any, moment: Any
) -> None:
    node.receive(1, second=1)
    assert node.receive(1, second=4) is AddOutcome.DUPLICATE
    series = node.catalog.get_series(SERIES)
    assert (series.instance_count, series.last_received_at) == (1, moment(4))


def test_other_bytes_under_the_same_uid_are_a_conflict(node: Any) -> None:
    node.receive(1)
    digest = node.catalog.content_digest(SERIES)
    for _ in range(2):
        assert node.receive(1, sha256="other") is AddOutcome.CONFLICT
    assert node.receive(1) is AddOutcome.DUPLICATE
    series = node.catalog.get_series(SERIES)
    assert (series.instance_count, series.has_conflicts) == (1, True)
    assert node.catalog.instance_paths(SERIES) == ["instances/1.2.3.4/1.dcm"]
    assert node.catalog.content_digest(SERIES) == digest
    assert node.catalog.find_instance("1.2.3.4.1").sha256 == "sha-1.2.3.4-1"


def test_a_conflict_from_another_series_never_makes_a_job(node: Any) -> None:
    node.receive(1)
    assert node.receive(1, "1.9", sha256="other", sop_instance_uid="1.2.3.4.1") is (
        AddOutcome.CONFLICT
    )
    series = node.catalog.get_series("1.9")
    assert (series.instance_count, series.has_conflicts) == (0, True)
    assert ready(node) == [SERIES]


def test_what_is_not_there(node: Any) -> None:
    assert node.catalog.find_instance("1.2") is None
    assert node.catalog.instance_paths("1.2") == []
    with pytest.raises(NotFound, match=r"no series 1\.2"):
        node.catalog.get_series("1.2")


def test_content_digest_covers_identity_and_bytes_whatever_the_order(node: Any) -> None:
    node.receive(2)
    node.receive(1)
    lines = b"1.2.3.4.1 sha-1.2.3.4-1\n1.2.3.4.2 sha-1.2.3.4-2\n"
    assert node.catalog.content_digest(SERIES) == hashlib.sha256(lines).hexdigest()


def test_series_are_listed_newest_first(node: Any) -> None:
    for second, uid in enumerate(["1.1", "1.2", "1.20", "2.1"]):
        node.receive(series_uid=uid, second=second)
    node.settle("1.2")

    def uids(**filters: Any) -> list[str]:
        return [series.series_uid for series in node.catalog.list_series(**filters)]

    assert uids() == ["2.1", "1.20", "1.2", "1.1"]
    assert uids(limit=2, offset=1) == ["1.20", "1.2"]
    assert uids(series_uid_prefix="1.2") == ["1.20", "1.2"]
    assert uids(series_uid_prefix="%") == []
    assert uids(settled=True) == ["1.2"]
    assert uids(settled=False) == ["2.1", "1.20", "1.1"]


def test_settling_makes_the_job(node: Any, moment: Any) -> None:
    node.receive(1)
    job = node.settle(second=10)
    series = node.catalog.get_series(SERIES)
    assert (series.settled, series.settled_at) == (True, moment(10))
    assert (series.decision, series.rule) == (RuleAction.PROCESS, "CT")
    assert series.content_digest == job.content_digest == node.catalog.content_digest(SERIES)
    assert (job.state, job.attempts, job.created_at) == (JobState.QUEUED, 0, moment(10))
    assert (job.series_uid, job.study_uid, job.calling_ae_title) == (SERIES, "1.2.3", "SCANNER")
    assert (job.model_name, job.model_version, job.model_digest) == ("liver", "1", "m1")
    assert job.summary == {}
    assert node.history(job.id) == [("scheduler", "QUEUED")]
    assert ready(node) == []


def test_a_skipped_series_has_a_reason_and_no_job(node: Any, moment: Any) -> None:
    node.receive(1)
    node.skip(reason="A scout.")
    series = node.catalog.get_series(SERIES)
    assert (series.settled, series.decision, series.reason) == (True, RuleAction.SKIP, "A scout.")
    assert node.jobs.list_jobs() == []


@pytest.mark.parametrize("number", [1, 2], ids=["the same instance", "another instance"])
def test_what_arrives_while_we_decide_keeps_the_series_open(node: Any, number: int) -> None:
    node.receive(1, second=1)
    seen = node.catalog.get_series(SERIES)
    node.receive(number, second=2)
    assert node.settle_as_seen(seen) is None
    assert not node.catalog.get_series(SERIES).settled
    assert node.jobs.list_jobs() == []
    assert node.settle() is not None


def test_a_series_is_settled_once(node: Any) -> None:
    node.receive(1)
    seen = node.catalog.get_series(SERIES)
    assert node.settle_as_seen(seen) is not None
    assert node.settle_as_seen(seen) is None
    assert len(node.jobs.list_jobs()) == 1


def test_a_late_slice_opens_the_series_and_makes_a_new_job(node: Any) -> None:
    first = node.queued()
    node.receive(2, second=20)
    series = node.catalog.get_series(SERIES)
    assert (series.settled, series.settled_at, series.decision) == (False, None, None)
    assert (series.rule, series.reason, series.content_digest) == ("", "", None)
    second = node.settle(second=30)
    assert second.content_digest != first.content_digest
    assert node.jobs.get(first.id).state is JobState.SUPERSEDED
    assert node.jobs.get(first.id).reason == (
        "The series has 2 instances now, more than this job was for; job 2 takes its place."
    )
    assert node.jobs.get(second.id).state is JobState.QUEUED
    assert node.jobs.events(second.id)[-1].detail == "takes the place of job 1"


@pytest.mark.parametrize("sha256", ["", "other"], ids=["the same bytes", "other bytes"])
def test_a_re_send_to_a_settled_series_changes_nothing(node: Any, sha256: str) -> None:
    job = node.queued()
    node.receive(1, second=50, sha256=sha256)
    assert node.catalog.get_series(SERIES).settled
    assert ready(node) == []
    assert node.jobs.list_jobs() == [job]


def test_the_same_content_and_model_have_one_job(node: Any) -> None:
    node.receive(1)
    assert node.settle(model="m1") is not None
    with node.database.write() as session:
        session.execute(text("UPDATE series SET settled = false, settled_at = NULL"))
    assert node.settle(model="m1") is None
    assert node.catalog.get_series(SERIES).settled
    with node.database.write() as session:
        session.execute(text("UPDATE series SET settled = false, settled_at = NULL"))
    assert node.settle(model="m2") is not None
    assert [job.state for job in node.jobs.list_jobs()] == [JobState.QUEUED, JobState.SUPERSEDED]


STATES_AFTER_A_LATE_SLICE = {
    "queued": "SUPERSEDED",
    "running": "SUPERSEDED",
    "produced": "SUPERSEDED",
    "delivering": "SUPERSEDED",
    "delivered": "SUPERSEDED",
    "rejected": "SUPERSEDED",
    "failed": "FAILED",
    "canceled": "CANCELED",
}


def bring_to(node: Any, state: str, moment: Any) -> None:
    """Bring a new job to a state, by the calls that lead there."""
    node.queued()
    if state in ("running", "produced", "delivering", "delivered", "rejected", "failed"):
        node.jobs.claim("w1", 30, moment(20))
    if state in ("produced", "delivering", "delivered"):
        node.produce(1, ("pacs", "backup"))
    if state in ("delivering", "delivered"):
        node.deliver("pacs")
    if state == "delivered":
        node.deliver("backup")
    if state == "rejected":
        node.jobs.reject(
            1, "w1", Rejection(reason_code="NOT_CT", sentence="It is no CT."), moment(30)
        )
    if state == "failed":
        node.jobs.fail_attempt(1, "w1", Problem("boom"), 1, moment(30))
    if state == "canceled":
        node.jobs.cancel(1, "admin", moment(30))


@pytest.mark.parametrize(("state", "after"), STATES_AFTER_A_LATE_SLICE.items())
def test_what_a_late_slice_does_to_the_older_job(
    node: Any, moment: Any, state: str, after: str
) -> None:
    bring_to(node, state, moment)
    node.receive(2, second=100)
    assert node.settle(second=110).id == 2
    assert node.jobs.get(1).state == after
    left = {delivery.state.value for delivery in node.deliveries.list_deliveries(1)}
    assert left <= {"DELIVERED", "CANCELED"}
    assert node.claim() is None

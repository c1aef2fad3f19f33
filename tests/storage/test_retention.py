from typing import Any

import pytest

from config.settings import RetentionSettings
from storage.errors import ForbiddenTransition, InstancesRemoved, ResultsRemoved
from storage.records import Rejection
from storage.retention import HoldingKind, Retention
from storage.states import DeliveryState, JobState

DAY_S = 86400
SERIES = "1.2.3.4"


@pytest.fixture
def keep(node: Any, files: Any) -> Any:
    """Make the retention of the node with its keys."""

    def make(*proving: str, **keys: float) -> Retention:
        return Retention(node.database, files, RetentionSettings(**keys), proving)

    return make


@pytest.fixture
def fill(node: Any, files: Any) -> Any:
    """Write the files that the rows of the node speak of."""

    def write(series_uid: str = SERIES, job_id: int | None = 1, size_bytes: int = 1000) -> None:
        for path in node.catalog.instance_paths(series_uid):
            files.absolute(path).parent.mkdir(parents=True, exist_ok=True)
            files.absolute(path).write_bytes(b"x" * 100)
        if job_id is not None:
            folder = files.new_result_folder(job_id)
            (folder / "seg.dcm").write_bytes(b"x" * size_bytes)
            files.commit_results(job_id, folder)

    return write


def left(files: Any) -> list[str]:
    kinds = ("instances", "results")
    found = [path for kind in kinds for path in (files.data_dir / kind).rglob("*")]
    return sorted(files.relative(path) for path in found if path.is_file())


def run(retention: Retention, now: Any) -> list[tuple[str, int | None, str]]:
    """Remove what may go now; give what was."""
    done = [one for one in retention.plan(now).removals if retention.remove(one, now)]
    return [(one.holding.kind.value, one.holding.job_id, one.rule) for one in done]


def test_what_is_due_goes_and_the_rows_tell(
    node: Any, files: Any, keep: Any, fill: Any, moment: Any
) -> None:
    node.produced()
    node.deliver(second=40)
    fill()
    retention = keep(instances_days=1, results_days=2)
    assert run(retention, moment(39 + DAY_S)) == []
    assert run(retention, moment(40 + DAY_S)) == [
        ("instances", None, "DELIVERED, instances_days = 1")
    ]
    assert left(files) == ["results/1/seg.dcm"]
    assert node.catalog.find_instance("1.2.3.4.1") is None
    assert run(retention, moment(40 + 2 * DAY_S)) == [("results", 1, "DELIVERED, results_days = 2")]
    assert left(files) == []
    assert run(retention, moment(9 * DAY_S)) == []

    job, series = node.jobs.get(1), node.catalog.get_series(SERIES)
    assert job.results_removed_at == moment(40 + 2 * DAY_S)
    assert [result.path for result in node.jobs.results(1)] == ["seg.dcm", "sr.dcm"]
    assert series.removed_at == moment(40 + DAY_S)
    assert [(event.actor, event.detail) for event in node.catalog.series_events(SERIES)] == [
        ("retention", "1 instances removed, 0.0 MB: DELIVERED, instances_days = 1"),
        ("retention", "job 1: results removed, 0.0 MB: DELIVERED, results_days = 2"),
    ]
    assert node.history(1)[-2:] == [("retention", "DELIVERED")] * 2
    assert "results_days = 2" in node.jobs.events(1)[-1].detail


def test_by_default_everything_stays(
    node: Any, files: Any, keep: Any, fill: Any, moment: Any
) -> None:
    node.produced()
    node.deliver()
    fill()
    plan = keep().plan(moment(9e8))
    assert (plan.removals, plan.excess_bytes) == ([], 0)
    assert {one.verdict.why for one in plan.kept} == {
        "DELIVERED, instances_days is not set",
        "DELIVERED, results_days is not set",
    }


def test_what_is_wanted_again_since_it_was_planned_stays(
    node: Any, files: Any, keep: Any, fill: Any, moment: Any
) -> None:
    node.produced()
    node.deliver()
    fill()
    retention, now = keep(instances_days=1, results_days=1), moment(9 * DAY_S)
    removals = retention.plan(now).removals
    assert len(removals) == 2
    node.deliveries.resend(1, {"pacs": "ohif"}, "admin", moment(100))
    assert [retention.remove(one, now) for one in removals] == [False, False]
    assert len(left(files)) == 2


@pytest.mark.parametrize("by", ["proof", "settings"])
def test_what_is_not_confirmed_stays(node: Any, keep: Any, fill: Any, moment: Any, by: str) -> None:
    node.produced()
    node.deliver(asks_proof=by == "proof")
    fill()
    proving = ("pacs",) if by == "settings" else ()
    keys = {"instances_days": 1, "results_days": 1, "max_gb": 1e-9}
    plan = keep(*proving, **keys).plan(moment(9 * DAY_S))
    assert plan.removals == []
    assert plan.excess_bytes > 0
    if by == "proof":
        node.proofs.proven(node.claim_proof().delivery_id, "p1", moment(60))
        assert len(keep("pacs", **keys).plan(moment(9 * DAY_S)).removals) == 2


def test_the_quota_takes_the_oldest_that_may_go(
    node: Any, files: Any, keep: Any, fill: Any, moment: Any
) -> None:
    for number in (1, 2, 3, 4):
        node.receive(series_uid=f"1.{number}")
        node.settle(f"1.{number}")
        node.jobs.claim("w1", 30, moment(20))
        node.produce(number)
        if number != 4:
            node.deliver(second=40 + number)
        fill(f"1.{number}", number, size_bytes=900)
    plan = keep(max_gb=2.1e-6).plan(moment(1000))
    assert [(one.holding.series_uid, one.holding.kind) for one in plan.removals] == [
        ("1.1", HoldingKind.INSTANCES),
        ("1.1", HoldingKind.RESULTS),
        ("1.2", HoldingKind.INSTANCES),
        ("1.2", HoldingKind.RESULTS),
    ]
    assert {one.rule for one in plan.removals} == {"max_gb = 2.1e-06"}
    assert plan.excess_bytes == 0
    assert len(run(keep(max_gb=2.1e-6), moment(1000))) == 4
    assert keep(max_gb=2.1e-6).plan(moment(1000)).removals == []
    assert keep(max_gb=0.5e-6).plan(moment(1000)).excess_bytes == 500
    assert len(left(files)) == 4


def test_conflicts_go_with_their_series(node: Any, files: Any, keep: Any, moment: Any) -> None:
    node.receive(1)
    node.receive(1, sha256="other")
    series = node.catalog.get_series(SERIES)
    assert series.size_bytes == 200
    node.skip()
    other = files.absolute("instances/1.2.3.4/1other.dcm")
    other.parent.mkdir(parents=True)
    other.write_bytes(b"x")
    assert len(run(keep(unused_days=1), moment(9 * DAY_S))) == 1
    assert left(files) == []
    assert node.receive(1, sha256="other", second=9 * DAY_S).value == "CONFLICT"
    assert node.catalog.get_series(SERIES).size_bytes == 100
    assert node.catalog.instance_paths(SERIES) == []


def gone(node: Any, keep: Any, fill: Any, moment: Any) -> None:
    """Deliver a job, and remove all."""
    node.produced(("backup", "pacs"))
    node.deliver("pacs")
    node.deliver("backup")
    fill()
    assert len(run(keep(instances_days=1, results_days=1), moment(9 * DAY_S))) == 2


def test_what_is_gone_is_not_sent_and_comes_back_by_a_re_send_and_a_retry(
    node: Any, keep: Any, fill: Any, moment: Any
) -> None:
    gone(node, keep, fill, moment)
    with pytest.raises(ResultsRemoved, match=r"removed on 2026-03-10.* `hepar jobs retry 1`"):
        node.deliveries.resend(1, {"pacs": "ohif"}, "admin", moment(10 * DAY_S))
    with pytest.raises(InstancesRemoved, match="send the series to this node again"):
        node.jobs.retry(1, "admin", moment(10 * DAY_S))
    assert node.jobs.get(1).state is JobState.DELIVERED

    assert node.receive(1, second=10 * DAY_S).value == "RESTORED"
    assert node.settle(second=10 * DAY_S + 10) is None, "its job is known"
    job = node.jobs.retry(1, "admin", moment(10 * DAY_S + 20))
    assert (job.state, job.attempts, job.results_removed_at) == (JobState.QUEUED, 0, None)
    assert node.claim(second=10 * DAY_S + 30) is None
    node.jobs.claim("w1", 30, moment(10 * DAY_S + 30))
    node.produce(1)
    assert len(node.jobs.results(1)) == 2
    for destination in ("pacs", "backup"):
        job = node.deliver(destination, second=10 * DAY_S + 40)
    assert job.state is JobState.DELIVERED
    states = {one.state for one in node.deliveries.list_deliveries(1)}
    assert states == {DeliveryState.DELIVERED}


def test_a_delivered_job_whose_results_are_there_is_not_retried(node: Any, moment: Any) -> None:
    node.produced()
    node.deliver()
    with pytest.raises(ForbiddenTransition, match="DELIVERED and cannot be retried"):
        node.jobs.retry(1, "admin", moment(100))


def test_a_rejected_job_whose_series_is_gone_says_so(node: Any, keep: Any, moment: Any) -> None:
    node.running()
    node.jobs.reject(1, "w1", Rejection(reason_code="NOT_CT", sentence="It is no CT."), moment(30))
    assert len(run(keep(unused_days=1), moment(9 * DAY_S))) == 1
    with pytest.raises(InstancesRemoved, match=r"1 instances of series 1\.2\.3\.4"):
        node.jobs.retry(1, "admin", moment(10 * DAY_S))


def test_a_killed_removal_of_results_is_finished(
    node: Any, files: Any, keep: Any, fill: Any, moment: Any, monkeypatch: Any
) -> None:
    node.produced()
    node.deliver()
    fill()
    retention = keep(results_days=1)

    def die(job_id: int) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(files, "discard_results", die)
    with pytest.raises(KeyboardInterrupt):
        run(retention, moment(9 * DAY_S))
    monkeypatch.undo()
    assert "results/1/seg.dcm" in left(files)
    assert retention.finish() == []
    assert "results/1/seg.dcm" not in left(files)


def test_what_cannot_be_removed_is_told_and_tried_again(
    node: Any, files: Any, keep: Any, fill: Any, moment: Any
) -> None:
    node.produced()
    node.deliver()
    fill()
    [path] = [files.absolute(path) for path in node.catalog.instance_paths(SERIES)]
    retention, now = keep(instances_days=1), moment(9 * DAY_S)
    [removal] = retention.plan(now).removals
    path.unlink()
    path.mkdir()
    with pytest.raises(Exception, match="directory"):
        retention.remove(removal, now)
    [problem] = retention.finish()
    assert str(path) in str(problem)
    path.rmdir()
    assert retention.finish() == []


def test_two_removals_of_the_same_at_once(
    node: Any, other_node: Any, files: Any, keep: Any, fill: Any, moment: Any
) -> None:
    node.produced()
    node.deliver()
    fill()
    now = moment(9 * DAY_S)
    first = keep(instances_days=1)
    second = Retention(other_node.database, files, RetentionSettings(instances_days=1), ())
    [one], [two] = first.plan(now).removals, second.plan(now).removals
    assert first.remove(one, now)
    assert not second.remove(two, now)
    assert len(node.catalog.series_events(SERIES)) == 1

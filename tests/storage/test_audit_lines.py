"""What is done writes its line of the audit trail in the same transaction."""

from dataclasses import replace
from typing import Any

import pytest
from sqlalchemy import text

from config.rules import RuleAction
from config.settings import RetentionSettings
from dicom_io.description import SeriesDescription
from dicom_io.rules import Decision
from storage.audit import AuditTrail
from storage.deliveries import Deliveries
from storage.errors import DatabaseError
from storage.files import FileStore
from storage.proofs import Proofs
from storage.records import (
    Addressee,
    AuditRecord,
    NewJob,
    Problem,
    Rejection,
)
from storage.retention import Retention
from storage.states import AuditEvent, AuditOutcome, JobState

SERIES, STUDY = "1.2.3.4", "1.2.3"
CT = "1.2.840.10008.5.1.4.1.1.2"
SEG = "1.2.840.10008.5.1.4.1.1.66.4"
RUN, SENT = AuditEvent.MODEL_RUN, AuditEvent.RESULTS_SENT
SENDING, PROVEN = AuditEvent.RESULTS_SENDING, AuditEvent.RESULTS_PROVEN
ADDRESSEES = {"pacs": Addressee("PACS", "10.0.0.9:104")}


@pytest.fixture
def trail(node: Any) -> AuditTrail:
    return AuditTrail(node.database)


@pytest.fixture
def lines(trail: AuditTrail) -> Any:
    """Give the lines of some events, the oldest first; all fit together."""

    def read(*events: AuditEvent) -> list[AuditRecord]:
        assert trail.find_break() is None
        return [line for line in trail.read() if not events or line.event in events]

    return read


def settle(node: Any, moment: Any, second: float = 10) -> None:
    node.catalog.settle(
        node.catalog.get_series(SERIES),
        Decision(action=RuleAction.PROCESS, rule="CT", reason="It is a CT series."),
        job=NewJob(model_name="liver", model_version="1", model_digest="m1"),
        now=moment(second),
        described=SeriesDescription(patient_id="P 1", patient_name="Somebody"),
    )


def test_a_settled_series_says_who_sent_it(node: Any, lines: Any, moment: Any) -> None:
    node.receive(1)
    node.receive(2)
    settle(node, moment)
    [line] = lines()
    assert (line.event, line.actor) == (AuditEvent.INSTANCES_RECEIVED, "ae:SCANNER")
    assert (line.patient_id, line.study_uid, line.at) == ("P 1", STUDY, moment(10))
    assert line.detail == {
        "series": SERIES,
        "instances": 2,
        "senders": {"SCANNER": {CT: 2}},
        "decision": "process",
    }
    assert "Somebody" not in str(line)


def test_late_slices_have_a_line_of_their_own(node: Any, lines: Any, moment: Any) -> None:
    node.receive(1)
    settle(node, moment)
    node.receive(2, second=20)
    settle(node, moment, second=30)
    assert [line.detail["instances"] for line in lines()] == [1, 2]


def test_a_series_that_has_changed_meanwhile_has_none(node: Any, lines: Any, moment: Any) -> None:
    node.receive(1)
    seen = node.catalog.get_series(SERIES)
    node.receive(2, second=5)
    node.settle_as_seen(seen)
    assert lines() == []


def run_of(line: AuditRecord) -> tuple[Any, ...]:
    detail = line.detail
    return line.actor, line.outcome.value, detail["became"], detail["attempt"]


def test_each_run_of_a_model_is_told(node: Any, lines: Any, moment: Any) -> None:
    job = node.running()
    node.jobs.fail_attempt(job.id, "w1", Problem("no memory"), 2, moment(21))
    node.jobs.claim("w2", 5, moment(22))
    node.jobs.release_abandoned(2, moment(40))
    first, second = lines(RUN)
    assert run_of(first) == ("worker", "serious-failure", "failed", 1)
    assert first.detail["error"] == "no memory"
    assert first.detail["job"] == job.id
    assert (first.detail["model"], first.detail["version"]) == ("liver", "1")
    assert (first.detail["digest"], first.detail["series"]) == ("m1", SERIES)
    assert run_of(second) == ("worker", "serious-failure", "failed", 2)
    assert (first.detail["worker"], second.detail["worker"]) == ("w1", "w2")
    assert "fallen silent" in second.detail["error"]


def test_a_rejection_is_told(node: Any, lines: Any, moment: Any) -> None:
    job = node.running()
    rejection = Rejection(reason_code="TOO_FEW_SLICES", sentence="Too few slices.")
    node.jobs.reject(job.id, "w1", rejection, moment(21))
    [line] = lines(RUN)
    assert run_of(line) == ("worker", "minor-failure", "rejected", 1)
    assert line.detail["reason"] == "TOO_FEW_SLICES"


@pytest.fixture
def known(node: Any) -> Any:
    """The node, with destinations whose AE titles and addresses are known."""
    return replace(
        node,
        deliveries=Deliveries(node.database, ADDRESSEES),
        proofs=Proofs(node.database, ADDRESSEES),
    )


def test_results_that_are_sent_and_kept(known: Any, lines: Any, moment: Any) -> None:
    job = known.produced()
    known.deliver(asks_proof=True)
    proof = known.claim_proof()
    known.proofs.proven(proof.delivery_id, "p1", moment(55))
    run, *others = lines(RUN, SENDING, SENT, PROVEN)
    assert run_of(run) == ("worker", "success", "produced", 1)
    assert [line.event for line in others] == [SENDING, SENT, PROVEN]
    for line in others:
        assert (line.actor, line.outcome, line.study_uid) == (
            "scheduler",
            AuditOutcome.SUCCESS,
            STUDY,
        )
        assert line.detail == {
            "job": job.id,
            "destination": "pacs",
            "peer": "PACS",
            "peer_address": "10.0.0.9:104",
            "objects": {SEG: ["2.25.1", "2.25.2"]},
        }


def test_failed_attempts_have_one_line_at_the_first_and_at_the_end(
    known: Any, lines: Any, moment: Any
) -> None:
    known.produced()
    for number in range(3):
        delivery = known.claim(second=40 + number)
        due = moment(41 + number) if number < 2 else None
        known.deliveries.attempt_failed(delivery.id, "s1", "unreachable", due, moment(40 + number))
    begin, end = lines(SENDING, SENT)
    assert begin.event is SENDING
    assert (end.event, end.outcome) == (SENT, AuditOutcome.SERIOUS_FAILURE)
    assert end.detail["error"] == "unreachable"


def test_proof_that_is_given_up(known: Any, lines: Any, moment: Any) -> None:
    known.produced()
    known.deliver(asks_proof=True)
    proof = known.claim_proof()
    known.proofs.attempt_failed(proof.delivery_id, "p1", "not there", None, moment(55))
    [line] = lines(PROVEN)
    assert (line.outcome, line.detail["error"]) == (AuditOutcome.SERIOUS_FAILURE, "not there")


def test_removed_files_are_told(node: Any, lines: Any, moment: Any, files: FileStore) -> None:
    node.receive(1)
    node.skip()
    retention = Retention(node.database, files, RetentionSettings(unused_days=1), ())
    later = moment(3 * 86400)
    [removal] = retention.plan(later).removals
    assert retention.remove(removal, later)
    [line] = lines(AuditEvent.FILES_REMOVED)
    assert (line.actor, line.study_uid) == ("retention", STUDY)
    assert line.detail["series"] == SERIES
    assert (line.detail["files"], line.detail["instances"]) == ("instances", 1)


RENAME = "ALTER TABLE audit RENAME TO lost"


@pytest.fixture
def broken(node: Any) -> Any:
    """The node without a table of the audit trail."""
    with node.database.write() as session:
        session.execute(text(RENAME))
    yield node
    with node.database.write() as session:
        session.execute(text("ALTER TABLE lost RENAME TO audit"))


def test_work_is_kept_where_no_line_can_be_written(
    broken: Any, caplog: Any, trail: AuditTrail
) -> None:
    job = broken.produced()
    assert broken.jobs.get(job.id).state is JobState.PRODUCED
    assert len(broken.jobs.results(job.id)) == 2
    assert broken.deliver().state is JobState.DELIVERED
    told = [record.message for record in caplog.records if record.levelname == "ERROR"]
    assert len(told) == 4
    assert told[0].startswith("no line in the audit trail about instances-received: ")
    with pytest.raises(DatabaseError):
        trail.check_writable()


def test_a_line_and_what_it_tells_of_are_one(
    node: Any, lines: Any, moment: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A full disk ends a transaction of SQLite; nothing of it must seem to be done then."""
    if node.database.dialect != "sqlite":
        return  # PostgreSQL keeps a transaction until it is ended
    job = node.running()

    def fill_disk(session: Any, *_: Any) -> None:
        session.connection().connection.driver_connection.rollback()
        raise ValueError("as SQLite does")

    monkeypatch.setattr("storage.audit._add_line", fill_disk)
    with pytest.raises(Exception, match=r"savepoint|as SQLite"):
        node.produce(job.id)
    assert node.jobs.get(job.id).state is JobState.RUNNING
    assert node.jobs.results(job.id) == []


def test_the_trail_can_be_tried(trail: AuditTrail, moment: Any) -> None:
    trail.check_writable()
    assert list(trail.read()) == []
    assert trail.last_id() == 0

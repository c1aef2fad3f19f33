from typing import Any

import pytest
from sqlalchemy import text

from storage.audit import AuditTrail
from storage.errors import DatabaseError
from storage.records import AuditEntry
from storage.states import AuditEvent, AuditOutcome


@pytest.fixture
def trail(node: Any) -> AuditTrail:
    return AuditTrail(node.database)


def login(actor: str = "user:anna", **changes: Any) -> AuditEntry:
    return AuditEntry(event=AuditEvent.LOGIN, actor=actor, **changes)


def test_lines_come_back_in_order(trail: AuditTrail, moment: Any) -> None:
    viewed = AuditEntry(
        event=AuditEvent.DATA_VIEWED,
        actor="user:anna",
        address="10.0.0.7",
        patient_id="P\0 1",
        study_uid="1.2",
        detail={"page": "job", "jobs": (7,)},
    )
    trail.append(login(), moment(0))
    trail.append(viewed, moment(1))
    first, second = trail.read()
    assert (first.event, first.actor, first.at) == (AuditEvent.LOGIN, "user:anna", moment(0))
    assert (second.patient_id, second.study_uid, second.address) == ("P\ufffd 1", "1.2", "10.0.0.7")
    assert second.detail == {"page": "job", "jobs": [7]}
    assert [line.id for line in trail.read(first.id)] == [second.id]
    assert trail.find_break() is None


def test_lines_are_found(trail: AuditTrail, moment: Any) -> None:
    for second, actor in enumerate(("user:anna", "user:ben", "user:anna")):
        trail.append(login(actor), moment(second))
    trail.append(AuditEntry(event=AuditEvent.MODEL_RUN, actor="worker"), moment(3))

    def find(*args: Any, **wanted: Any) -> list[int]:
        return [line.id for line in trail.list_entries(*args, **wanted)]

    assert find() == [4, 3, 2, 1]
    assert find([AuditEvent.LOGIN], actor="user:anna") == [3, 1]
    assert find(since=moment(1), until=moment(3)) == [3, 2]
    assert find(limit=1, offset=1) == [3]


@pytest.mark.parametrize("change", ["UPDATE audit SET actor = 'nobody'", "DELETE FROM audit"])
def test_no_line_can_be_changed(trail: AuditTrail, node: Any, moment: Any, change: str) -> None:
    trail.append(login(), moment(0))
    with pytest.raises(DatabaseError, match="append-only"), node.database.write() as session:
        session.execute(text(change))
    assert [line.actor for line in trail.read()] == ["user:anna"]


@pytest.mark.parametrize(
    ("change", "broken"),
    [
        ("UPDATE audit SET actor = 'user:ben' WHERE id = 2", 2),
        ("UPDATE audit SET detail = '{\"a\": 1}' WHERE id = 2", 2),
        ("DELETE FROM audit WHERE id = 2", 3),
    ],
)
def test_a_change_in_spite_of_that_is_found(
    trail: AuditTrail, node: Any, unguarded: Any, moment: Any, change: str, broken: int
) -> None:
    for second in range(4):
        trail.append(login(), moment(second))
    with node.database.write() as session, unguarded(session):
        session.execute(text(change))
    found = trail.find_break()
    assert found is not None
    assert found.id == broken


def test_the_whole_trail_is_read_in_parts(trail: AuditTrail, moment: Any) -> None:
    for second in range(4):
        trail.append(login(), moment(second))
    assert [line.id for line in trail.read(since=moment(1), until=moment(3))] == [2, 3]
    assert trail.last_id() == 4


def test_text_that_no_database_takes(trail: AuditTrail, moment: Any) -> None:
    trail.append(login("user:\ud800\0", detail={"file": "\udcff.dcm"}), moment(0))
    [line] = trail.read()
    assert (line.actor, line.detail) == ("user:?\ufffd", {"file": "?.dcm"})
    assert trail.find_break() is None


def test_failures_are_counted(trail: AuditTrail, moment: Any) -> None:
    wrong = AuditOutcome.MINOR_FAILURE
    trail.append(login(outcome=wrong, address="10.0.0.7"), moment(0))
    trail.append(login(outcome=wrong, address="10.0.0.7"), moment(100))
    trail.append(login("user:ben", outcome=wrong), moment(100))
    trail.append(login(), moment(100))

    def count(**who: str) -> int:
        return trail.count_failures(AuditEvent.LOGIN, since=moment(50), **who)

    assert count(actor="user:anna") == 1
    assert count(address="10.0.0.7") == 1
    assert trail.count_failures(AuditEvent.LOGIN, since=moment(0), actor="user:anna") == 2


def test_how_far_it_was_sent_is_kept(trail: AuditTrail) -> None:
    assert trail.sent_up_to("syslog") == 0
    trail.mark_sent("syslog", 3)
    trail.mark_sent("syslog", 5)
    assert trail.sent_up_to("syslog") == 5

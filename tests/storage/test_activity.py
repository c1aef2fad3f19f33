"""Figures over all rows: senders, destinations, rules, and series that people look for."""

import pytest

from dicom_io.description import SeriesDescription
from dicom_io.rules import Decision
from storage.activity import Activity, SenderActivity
from storage.states import DeliveryState


@pytest.fixture
def activity(node):
    return Activity(node.database)


def test_nothing_has_come_and_gone_at_first(activity, moment):
    assert activity.of_senders() == {}
    assert activity.of_destinations() == {}
    assert activity.of_rules(moment(0)) == {}
    assert activity.held_bytes() == 0


def test_senders(node, activity, moment):
    node.queued("1.2.3.4")
    node.receive(1, "1.2.3.5", second=20)
    node.receive(2, "1.2.3.5", second=30)
    assert activity.of_senders() == {
        "SCANNER": SenderActivity(series=2, instances=3, jobs=1, last_received_at=moment(30))
    }
    assert activity.held_bytes() == 300


def test_destinations(node, activity, moment):
    for number in (1, 2, 3):
        node.produced(("pacs", "idle"), f"1.2.{number}")
        due = node.deliveries.claim_due("s", destination="pacs", lease_s=30, now=moment(60))
        if number == 1:
            node.deliveries.delivered(due.id, "s", moment(61))
        else:
            later = moment(500) if number == 2 else None
            node.deliveries.attempt_failed(due.id, "s", f"no {number}", later, moment(61 + number))
    known = activity.of_destinations()
    assert known["pacs"].counts == {
        DeliveryState.DELIVERED: 1,
        DeliveryState.PENDING: 1,
        DeliveryState.FAILED: 1,
    }
    assert known["pacs"].last_accepted_at == moment(61)
    assert (known["pacs"].last_failed_at, known["pacs"].last_error) == (moment(64), "no 3")
    assert known["idle"].count(DeliveryState.PENDING) == 3
    assert known["idle"].last_accepted_at is None
    assert known["idle"].last_error == ""


def test_rules(node, activity, moment):
    node.queued("1.2.3.4")
    for number, second in ((5, 100), (6, 200)):
        node.receive(1, f"1.2.3.{number}", second=second)
        node.skip(f"1.2.3.{number}", second=second + 10)
    node.receive(1, "1.2.3.7", second=300)
    known = activity.of_rules(moment(150))
    assert {rule: (one.total, one.recent) for rule, one in known.items()} == {
        "CT": (1, 0),
        "none": (2, 1),
    }
    assert known["none"].last_decided_at == moment(210)
    assert known["CT"].last_decided_at is None


@pytest.mark.parametrize(
    ("text", "by_patient", "count"),
    [
        ("1.2.3.4", False, 1),
        ("1.2.3", False, 1),
        ("PAT", True, 1),
        ("PAT", False, 0),
        ("ACC", True, 1),
        ("PA", True, 0),
        ("", True, 0),
    ],
)
def test_series_that_people_look_for(node, activity, moment, text, by_patient, count):
    node.receive()
    node.catalog.settle(
        node.catalog.get_series("1.2.3.4"),
        Decision(action="skip", rule="none", reason=""),
        job=None,
        now=moment(10),
        described=SeriesDescription(patient_id="PAT", accession_number="ACC"),
    )
    assert len(activity.find_series(text, by_patient=by_patient, limit=5)) == count

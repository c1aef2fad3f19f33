from typing import Any

import pytest

from storage.alerts import Alerts
from storage.records import AlertFinding, AlertRecord

FULL = AlertFinding(kind="disk-short", subject="data folder", message="1 GB free")
DOWN = AlertFinding(kind="delivery-failing", subject="pacs", message="for 31 min")


@pytest.fixture
def alerts(node: Any) -> Alerts:
    return Alerts(node.database)


def only(alerts: Alerts) -> AlertRecord:
    [record] = alerts.list_alerts()
    return record


def test_what_is_seen_again_and_again_is_raised_once(
    alerts: Alerts, other_node: Any, moment: Any
) -> None:
    alerts.see([FULL], moment(0))
    Alerts(other_node.database).see(
        [AlertFinding(kind=FULL.kind, subject=FULL.subject, message="0 GB free")], moment(5)
    )
    record = only(alerts)
    assert (record.raised_at, record.seen_at, record.message) == (
        moment(0),
        moment(5),
        "0 GB free",
    )
    assert record.told_at is record.cleared_at is None


def test_what_was_over_is_raised_anew_and_nobody_was_told(alerts: Alerts, moment: Any) -> None:
    alerts.see([FULL], moment(0))
    alerts.mark_told([only(alerts)], moment(1))
    alerts.see([FULL], moment(2))
    assert only(alerts).told_at == moment(1)
    alerts.clear(only(alerts), moment(3))
    assert alerts.list_alerts(open_only=True) == []
    assert only(alerts).cleared_at == moment(3)
    alerts.see([FULL], moment(4))
    record = only(alerts)
    assert (record.raised_at, record.told_at, record.cleared_at) == (moment(4), None, None)
    assert alerts.list_alerts(open_only=True) == [record]


def test_what_is_seen_meanwhile_is_not_over(alerts: Alerts, moment: Any) -> None:
    alerts.see([FULL], moment(0))
    looked_at = only(alerts)
    alerts.see([FULL], moment(1))
    alerts.clear(looked_at, moment(2))
    assert only(alerts).cleared_at is None


def test_whoever_told_that_it_began_did_not_tell_that_it_is_over(
    alerts: Alerts, moment: Any
) -> None:
    alerts.see([FULL, DOWN], moment(0))
    told = alerts.list_alerts()
    alerts.clear(told[1], moment(1))
    alerts.mark_told(told, moment(2))
    assert [one.told_at for one in alerts.list_alerts()] == [moment(2), None]


def test_it_may_have_been_told_before_it_is_noted(alerts: Alerts, moment: Any) -> None:
    alerts.see([FULL], moment(0), told=True)
    assert only(alerts).told_at == moment(0)
    alerts.see([FULL], moment(9), told=True)
    assert (only(alerts).raised_at, only(alerts).told_at) == (moment(0), moment(9))

"""Telling people: what is due, by which way, and once.

What the rows of the database say was told is not told again. Where the database is gone, the memory
of the process stands for it.
"""

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from config import Settings
from node.alert_channels import Way, open_ways
from node.alert_kinds import KINDS, AlertKind
from node.alert_notice import AlertItem, AlertStatus, Notice
from node.clock import utc_now
from node.errors import AlertNotTaken, WrongCall
from storage.alerts import Alerts
from storage.records import AlertFinding, AlertRecord

logger = logging.getLogger(__name__)

RETRY = timedelta(minutes=1)
"""Pause before a way that did not take a message is tried again."""


class Teller:
    """Tells people by all ways that are set."""

    def __init__(self, settings: Settings) -> None:
        self._ae_title = settings.node.ae_title
        self._repeat = timedelta(hours=settings.alerts.repeat_h)
        self._ways = open_ways(settings.alerts)
        self._memory: dict[tuple[str, str], _Memory] = {}
        self._troubles: dict[str, str] = {}

    @property
    def trouble(self) -> str:
        """Say which way has not taken the last message; empty where all did."""
        return "; ".join(self._troubles.values())

    def tell(self, items: Sequence[AlertItem]) -> bool:
        """Tell by all ways; say whether one of them took it."""
        return True in [self._send(way, items) for way in self._ways]

    def tell_new(self, found: AlertFinding, alerts: Alerts) -> None:
        """Tell of something that was just found, and note it, unless people were told lately.

        Raises
        ------
        storage.errors.StorageError
            It was told, if at all, and could not be noted.
        """
        now = utc_now()
        records = alerts.list_alerts(open_only=True)
        told_at = [one.told_at for one in records if _key(one) == _key(found)]
        if any(at is not None and _apart(now, at) < self._repeat for at in told_at):
            alerts.see([found], now)
            return
        memory = self._memory[_key(found)] = _Memory(found=found, since=now)
        if self.tell([_new_item(found, now)]):
            memory.told_at = now
        alerts.see([found], now, told=memory.told_at is not None)
        del self._memory[_key(found)]

    def tell_without_database(self, found: AlertFinding) -> None:
        """Tell of something once it has lasted, and again after a while."""
        now = utc_now()
        memory = self._memory.setdefault(_key(found), _Memory(found=found, since=now))
        if _apart(now, memory.since) < KINDS[AlertKind(found.kind)].patience:
            return
        if memory.told_at is not None and _apart(now, memory.told_at) < self._repeat:
            return
        if self.tell([_new_item(found, memory.since)]):
            memory.told_at = now

    def note_what_was_told(self, alerts: Alerts) -> None:
        """Bring into the database what was told without it."""
        told = [one.found for one in self._memory.values() if one.told_at is not None]
        if told:
            alerts.see(told, utc_now(), told=True)
        self._memory.clear()

    def tell_due(self, alerts: Alerts) -> None:
        """Tell what the rows say is due; a way that fails is told of by the other.

        Once a way that has failed takes messages again, it gets all that has happened meanwhile.
        """
        records = alerts.list_alerts()
        due = list(list_due(records, utc_now(), self._repeat))
        failing = {
            one.subject: one
            for one in records
            if one.kind == AlertKind.ALERTS_NOT_TAKEN and one.cleared_at is None
        }
        took, missed = False, False
        for way in self._ways:
            items = [item for item in due if not _is_about(item.finding, way)]
            before = failing.get(way.name)
            if before is not None:
                if _apart(utc_now(), before.seen_at) < RETRY:
                    missed = True
                    continue
                items += _missed(records, items, before)
            if not items:
                continue
            if self._send(way, items):
                took = True
                if before is not None:
                    alerts.clear(before, utc_now())
            else:
                missed = True
                message = self._troubles[way.name]
                alerts.see([AlertKind.ALERTS_NOT_TAKEN.finding(way.name, message)], utc_now())
        if due and (took or not missed):
            told = [item.finding for item in due]
            alerts.mark_told([one for one in records if one in told], utc_now())

    def _send(self, way: Way, items: Sequence[AlertItem]) -> bool:
        notice = Notice(ae_title=self._ae_title, items=items, at=utc_now())
        try:
            remark = way.send(notice)
        except AlertNotTaken as error:
            self._troubles[way.name] = f"Alerts by {way.name} are not taken: {error}"
            logger.error("%s", self._troubles[way.name], extra={"action": "alert"})
            return False
        self._troubles.pop(way.name, None)
        logger.warning("told by %s: %s", way.name, notice.subject, extra={"action": "alert"})
        if remark:
            logger.error("alert by %s: %s", way.name, remark, extra={"action": "alert"})
        return True


@dataclass
class _Memory:
    """What a process knows of an alert while there is no database."""

    found: AlertFinding
    since: datetime
    told_at: datetime | None = None


@dataclass(frozen=True, kw_only=True)
class Trial:
    """How a test of a way came out."""

    kind: AlertKind
    way: str
    taken: bool
    answer: str


def try_ways(settings: Settings, kinds: Sequence[AlertKind]) -> Iterator[Trial]:
    """Send a test message of each kind by each way.

    Raises
    ------
    WrongCall
        No way is set.
    """
    ways = open_ways(settings.alerts)
    if not ways:
        raise WrongCall(
            "There is no way to send alerts; write a section [alerts.mail] or [alerts.webhook]."
        )
    for kind in kinds:
        finding = kind.finding(*KINDS[kind].example)
        now = utc_now()
        notice = Notice(
            ae_title=settings.node.ae_title, items=[_new_item(finding, now)], at=now, is_test=True
        )
        for way in ways:
            try:
                taken, answer = True, way.send(notice)
            except AlertNotTaken as error:
                taken, answer = False, str(error)
            yield Trial(kind=kind, way=way.name, taken=taken, answer=answer)


def list_due(
    records: Sequence[AlertRecord], now: datetime, repeat: timedelta
) -> Iterator[AlertItem]:
    """Give what people are to be told now, by what they were told."""
    for one in records:
        patience = KINDS[AlertKind(one.kind)].patience
        if one.cleared_at is not None:
            lasted = one.told_at is not None or one.seen_at - one.raised_at >= patience
            if lasted and (one.told_at is None or one.told_at < one.cleared_at):
                yield AlertItem.of(AlertStatus.OVER, one)
        elif one.told_at is None:
            if _apart(now, one.raised_at) >= patience:
                yield AlertItem.of(AlertStatus.BEGINS, one)
        elif _apart(now, one.told_at) >= repeat:
            yield AlertItem.of(AlertStatus.CONTINUES, one)


def clear_calm(alerts: Alerts, now: datetime) -> None:
    """Say of what was not seen for long enough that it is over."""
    for one in alerts.list_alerts(open_only=True):
        kind = AlertKind(one.kind)
        # A way that fails is not looked at, but tried again.
        is_tried = kind is AlertKind.ALERTS_NOT_TAKEN
        if not is_tried and _apart(now, one.seen_at) >= KINDS[kind].calm:
            alerts.clear(one, now)


def _missed(
    records: Sequence[AlertRecord], items: Sequence[AlertItem], failing: AlertRecord
) -> list[AlertItem]:
    """Give what people were told by other ways only, and that this one was out of order."""
    told = {_key(item.finding) for item in items}
    missed = []
    for one in records:
        if one.told_at is None or one.told_at < failing.raised_at or _key(one) in told:
            continue
        if _key(one) != _key(failing):
            over = one.cleared_at is not None
            status = AlertStatus.OVER if over else AlertStatus.CONTINUES
            missed.append(AlertItem.of(status, one))
    own = AlertItem(
        status=AlertStatus.OVER, finding=failing, since=failing.raised_at, over_at=utc_now()
    )
    return [*missed, own]


def _new_item(found: AlertFinding, since: datetime) -> AlertItem:
    return AlertItem(status=AlertStatus.BEGINS, finding=found, since=since)


def _key(one: AlertFinding) -> tuple[str, str]:
    return one.kind, one.subject


def _is_about(finding: AlertFinding, way: Way) -> bool:
    return _key(finding) == (AlertKind.ALERTS_NOT_TAKEN, way.name)


def _apart(now: datetime, then: datetime) -> timedelta:
    """Give a time span; a moment in the future is from before the clock was set back."""
    return abs(now - then)

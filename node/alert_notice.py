"""What people are told: the text of a mail and the JSON of a webhook."""

import socket
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any

from node.alert_kinds import KINDS, AlertKind
from storage.records import AlertFinding, AlertRecord

VERSION = 1
"""Of the JSON; it grows when a reader would have to be changed."""


class AlertStatus(StrEnum):
    """What is new about an alert."""

    BEGINS = "begins"
    CONTINUES = "continues"
    OVER = "over"


@dataclass(frozen=True, kw_only=True)
class AlertItem:
    """One of the things that a notice tells of."""

    status: AlertStatus
    finding: AlertFinding
    since: datetime
    over_at: datetime | None = None

    @classmethod
    def of(cls, status: AlertStatus, record: AlertRecord) -> "AlertItem":
        """Tell of an alert of the database."""
        return cls(status=status, finding=record, since=record.raised_at, over_at=record.cleared_at)

    def as_json(self) -> dict[str, Any]:
        """Give it as JSON values."""
        return {
            "kind": self.finding.kind,
            "subject": self.finding.subject,
            "status": self.status.value,
            "message": self.finding.message,
            "action": self._action,
            "since": self.since.isoformat(),
            "over_at": None if self.over_at is None else self.over_at.isoformat(),
        }

    def as_text(self, at: datetime) -> str:
        """Give it as a paragraph."""
        finding = self.finding
        head = f"{finding.kind} ({finding.subject}) {self.status}"
        since = f"since {self.since:%Y-%m-%d %H:%M} UTC"
        if self.over_at is not None:
            lasted = duration(self.over_at - self.since)
            return f"{head}, after {lasted}.\n  It was, {since}: {finding.message}\n"
        text = f"{head}, {since}"
        if self.status is AlertStatus.CONTINUES:
            text += f", for {duration(at - self.since)}"
        return f"{text}.\n  {finding.message}\n  {self._action}\n"

    @property
    def _action(self) -> str:
        return KINDS[AlertKind(self.finding.kind)].action


@dataclass(frozen=True, kw_only=True)
class Notice:
    """One message to people; it holds no patient data."""

    ae_title: str
    """Of this node."""
    items: Sequence[AlertItem]
    at: datetime
    is_test: bool = False
    host: str = field(default_factory=socket.gethostname)

    @property
    def subject(self) -> str:
        """One line."""
        kinds = ", ".join(sorted({item.finding.kind for item in self.items}))
        told = f"{len(self.items)} alerts: {kinds}" if len(self.items) > 1 else kinds
        if all(item.status is AlertStatus.OVER for item in self.items):
            told = f"over: {told}"
        return f"[hepar] {'TEST, ' if self.is_test else ''}{self.ae_title} on {self.host}: {told}"

    def as_text(self) -> str:
        """Give it for people."""
        parts = [item.as_text(self.at) for item in self.items]
        if self.is_test:
            parts.insert(0, "This is a test of the alerts; what follows is an example.\n")
        parts.append(
            f"-- \n{self.ae_title} on {self.host}, {self.at:%Y-%m-%d %H:%M:%S} UTC; "
            "`hepar alerts list` says what is wrong now.\n"
        )
        return "\n".join(parts)

    def as_json(self) -> dict[str, Any]:
        """Give it for programs."""
        return {
            "version": VERSION,
            "test": self.is_test,
            "node": {"ae_title": self.ae_title, "host": self.host},
            "at": self.at.isoformat(),
            "subject": self.subject,
            "alerts": [item.as_json() for item in self.items],
        }


def duration(span: timedelta) -> str:
    """Give a length of time in words, to the minute, or the hour, or the day."""
    minutes = max(0, round(span.total_seconds() / 60))
    if minutes < 120:
        return f"{minutes} min"
    if minutes < 48 * 60:
        return f"{minutes / 60:.0f} h"
    return f"{minutes / 60 / 24:.0f} days"

"""What is known of each peer: its settings, what has come and gone, what is wrong with it."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import groupby

from config import AnyPeer, PeerRole, WebPeerSettings
from dicom_io.rules import names_sender
from node.clock import utc_now
from node.health import DEAD_AFTER
from node.roles import Role
from node.services import Services
from storage.activity import DestinationActivity, SenderActivity
from storage.records import AuditRecord
from storage.states import AuditEvent

_REFUSALS_SINCE = timedelta(days=7)
_REFUSALS_READ = 500
_CALLERS_SHOWN = 20


@dataclass(frozen=True, kw_only=True)
class PeerReport:
    """What is known of one peer."""

    name: str
    peer: AnyPeer
    received: SenderActivity | None
    """None where it sends nothing to us, and is not asked for anything."""
    sent: DestinationActivity | None
    """None where nothing was to be sent to it."""
    rules: tuple[str, ...]
    """The rules that ask for its AE title."""
    trouble: str
    """What the scheduler says of it; empty where that is nothing."""

    @property
    def is_web(self) -> bool:
        """Whether it is a DICOMweb service."""
        return isinstance(self.peer, WebPeerSettings)


@dataclass(frozen=True, kw_only=True)
class RefusedCaller:
    """Somebody who called and was turned away."""

    ae_title: str
    """Empty where the caller did not get as far as to name one."""
    address: str
    reason: str
    count: int
    last_at: datetime


def report_peers(services: Services) -> list[PeerReport]:
    """Report on each peer of the settings, in their order."""
    settings = services.settings
    received = services.activity.of_senders()
    sent = services.activity.of_destinations()
    troubles = find_troubles(settings.peers, _told_by_schedulers(services))
    return [
        PeerReport(
            name=name,
            peer=peer,
            received=_received(peer, received),
            sent=sent.get(name),
            rules=tuple(one.name for one in settings.rules if names_sender(one, peer.ae_title)),
            trouble=troubles.get(name, ""),
        )
        for name, peer in settings.peers.items()
    ]


def _received(peer: AnyPeer, known: Mapping[str, SenderActivity]) -> SenderActivity | None:
    gives = PeerRole.SOURCE in peer.roles or peer.poll is not None
    return known.get(peer.ae_title, SenderActivity() if gives else None)


def _told_by_schedulers(services: Services) -> Iterator[str]:
    now = utc_now()
    for beat in services.heartbeats.list_beats():
        if beat.role == Role.SCHEDULER and abs(now - beat.beat_at) < DEAD_AFTER:
            yield beat.detail


def find_troubles(names: Iterable[str], told: Iterable[str]) -> dict[str, str]:
    """Find what schedulers say of each peer, see `node.scheduler.Scheduler.describe_trouble`."""
    starts = {
        start: name for name in names for start in (f"poll of {name}: ", f"{name} cannot be asked ")
    }
    troubles: dict[str, list[str]] = {}
    for detail in told:
        whose: str | None = None
        for part in detail.split("; "):
            # What has no such start belongs to the sentence before.
            whose = next((starts[start] for start in starts if part.startswith(start)), whose)
            if whose is not None and part not in troubles.setdefault(whose, []):
                troubles[whose].append(part)
    return {name: "; ".join(parts) for name, parts in troubles.items()}


def list_refused_callers(services: Services, now: datetime) -> list[RefusedCaller]:
    """List who was lately refused an association, the latest first, as the audit trail knows."""
    lines = services.audit.list_entries(
        [AuditEvent.ASSOCIATION_REJECTED], since=now - _REFUSALS_SINCE, limit=_REFUSALS_READ
    )

    def caller(line: AuditRecord) -> tuple[str, str]:
        return line.actor.removeprefix("ae:"), line.address

    callers = []
    for (ae_title, address), own in groupby(sorted(lines, key=caller), caller):
        first, *others = sorted(own, key=lambda line: line.at, reverse=True)
        callers.append(
            RefusedCaller(
                ae_title=ae_title,
                address=address,
                reason=str(first.detail.get("reason", "")),
                count=1 + len(others),
                last_at=first.at,
            )
        )
    return sorted(callers, key=lambda one: one.last_at, reverse=True)[:_CALLERS_SHOWN]

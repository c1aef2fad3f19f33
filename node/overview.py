"""What goes on in the node, and in words why what waits does."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import timedelta
from typing import Any, Generic, TypeVar

from config import ReceiveSettings
from node.clock import utc_now
from node.health import DEAD_AFTER
from node.roles import Role
from node.services import Services
from storage.overview import Overview, QueuedJob, look_over
from storage.records import DeliveryRecord, JobRecord, Pause, SeriesRecord
from storage.states import Work

_What = TypeVar("_What")


@dataclass(frozen=True)
class Waits(Generic[_What]):
    """Something that waits."""

    what: _What
    why: str
    """A sentence or a part of one."""


@dataclass(frozen=True, kw_only=True)
class Situation:
    """What goes on in the node."""

    overview: Overview
    series: Sequence[Waits[SeriesRecord]]
    queued: Sequence[Waits[JobRecord]]
    deliveries: Sequence[Waits[DeliveryRecord]]
    alive: Mapping[Role, int]
    """How many processes of each role have given a sign of life lately."""

    def as_json(self) -> dict[str, Any]:
        """Give it as JSON values; what waits says why."""
        return {
            **asdict(self.overview),
            "series": [_as_json(one) for one in self.series],
            "queued": [_as_json(one) for one in self.queued],
            "deliveries": [_as_json(one) for one in self.deliveries],
            "alive": {role.value: count for role, count in self.alive.items()},
        }


def describe_situation(services: Services, limit: int = 50) -> Situation:
    """Look at everything that goes on, and say why what waits does.

    Parameters
    ----------
    services
        Those of the node.
    limit
        Of each list.
    """
    overview = look_over(services.database, utc_now(), limit)
    pauses = {pause.work: describe_pause(pause) for pause in overview.pauses}
    now = overview.at
    living = Counter(beat.role for beat in overview.beats if abs(now - beat.beat_at) < DEAD_AFTER)
    alive = {role: living[role.value] for role in Role}
    stopped = pauses.get(Work.PROCESSING) or _no_worker(overview, alive[Role.WORKER])
    receive = services.settings.receive
    return Situation(
        overview=overview,
        series=[Waits(one, describe_wait(one, receive)) for one in overview.series],
        queued=[Waits(one.job, _why_queued(one, stopped)) for one in overview.queued],
        deliveries=[
            Waits(one, _why_undelivered(one, overview, pauses.get(Work.DELIVERY, "")))
            for one in overview.deliveries
        ],
        alive=alive,
    )


def describe_pause(pause: Pause) -> str:
    """Say who suspended a kind of work, since when, and why."""
    reason = f": {pause.reason}" if pause.reason else ""
    since = f"{pause.since:%Y-%m-%d %H:%M} (UTC)"
    return f"{pause.work.value} is suspended by {pause.actor} since {since}{reason}"


def describe_wait(series: SeriesRecord, receive: ReceiveSettings) -> str:
    """Say what an open series waits for, and how long."""
    if not series.waits_for:
        return f"waits until nothing comes for {receive.quiet_s:g} s"
    longest = timedelta(seconds=max(receive.quiet_s, receive.max_wait_s))
    until = series.last_received_at + longest
    return f"waits until {until:%Y-%m-%d %H:%M:%S} (UTC): {series.waits_for}"


def _no_worker(overview: Overview, alive: int) -> str:
    """Say why no worker is at hand."""
    if not alive:
        return "no worker is running"
    if len(overview.running) < alive:
        return "a worker takes the next at once"
    return "all workers are busy" if alive > 1 else "the worker is busy"


def _why_queued(queued: QueuedJob, stopped: str) -> str:
    return "another slice has arrived" if queued.series_is_open else stopped


def _why_undelivered(delivery: DeliveryRecord, overview: Overview, suspended: str) -> str:
    if delivery.lease_until is not None and delivery.lease_until >= overview.at:
        return "under way"
    if suspended:
        return suspended
    if delivery.next_attempt_at <= overview.at:
        return "due"
    return f"is tried again at {delivery.next_attempt_at:%Y-%m-%d %H:%M:%S} (UTC)"


def _as_json(one: Waits[Any]) -> dict[str, Any]:
    return {**asdict(one.what), "why": one.why}

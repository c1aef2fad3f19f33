"""What can be wrong with a node, as its scheduler sees it; no patient data, no UID."""

from collections.abc import Callable, Iterator
from datetime import datetime, timedelta

from node.alert_kinds import AlertKind
from node.alert_notice import duration
from node.errors import UnusableTls
from node.health import alive_roles, free_space
from node.roles import Role
from node.services import Services
from node.tls import read_expiry
from storage.records import AlertFinding
from storage.states import DeliveryState, FailureCode, JobState, Work

LATELY = timedelta(hours=1)
"""What has FAILED or was given up is told of while it is so new."""
LOW_DISK_FACTOR = 3
"""Of `receive.min_free_bytes`; so do the alert rules for Prometheus."""

Condition = Callable[[Services, datetime], Iterator[AlertFinding]]


def find_alerts(services: Services, now: datetime) -> Iterator[AlertFinding]:
    """Give all that is wrong at present."""
    for condition in CONDITIONS:
        yield from condition(services, now)


def _look_for_roles(services: Services, now: datetime) -> Iterator[AlertFinding]:
    alive = alive_roles(services.heartbeats.list_beats(), now)
    for role in Role:
        if role.value not in alive:
            message = f"No process of the role {role} gives a sign of life."
            yield AlertKind.ROLE_MISSING.finding(role.value, message)


def _look_for_stopped_nodes(services: Services, now: datetime) -> Iterator[AlertFinding]:
    """Give again what a supervisor has told, while its roles do not run there nor elsewhere."""
    beats = services.heartbeats.list_beats()
    alive = alive_roles(beats, now)
    hosts = {beat.host for beat in beats if beat.role in alive}
    for one in services.alerts.list_alerts(open_only=True):
        is_down = one.subject not in hosts and len(alive) < len(Role)
        if one.kind == AlertKind.NODE_STOPPED and is_down:
            yield one


def _look_at_disk(services: Services, now: datetime) -> Iterator[AlertFinding]:
    del now
    space = free_space(services.settings)
    least = f"{space.least_bytes / 1e9:g} GB"
    free = f"{space.free_bytes / 1e9:.1f} GB are free for the data folder"
    if space.free_bytes < LOW_DISK_FACTOR * space.least_bytes:
        message = f"{free}; below {least} instances are refused."
        yield AlertKind.DISK_LOW.finding("data folder", message)
    if space.free_bytes < space.least_bytes:
        message = f"{free}, below {least}: instances are refused."
        yield AlertKind.DISK_SHORT.finding("data folder", message)


def _look_at_queue(services: Services, now: datetime) -> Iterator[AlertFinding]:
    limit = timedelta(minutes=services.settings.alerts.queue_age_min)
    since = services.jobs.oldest_by_state().get(JobState.QUEUED)
    if since is None or now - since < limit:
        return
    count = services.jobs.count_by_state().get(JobState.QUEUED, 0)
    waiting = _count(count, "job waits", "jobs wait")
    message = f"{waiting} for a worker, the oldest for {duration(now - since)}"
    yield AlertKind.QUEUE_TOO_OLD.finding(
        "queue", message + _suspended(services, Work.PROCESSING) + "."
    )


def _look_at_failed_jobs(services: Services, now: datetime) -> Iterator[AlertFinding]:
    failed = services.jobs.count_failed(now - LATELY)
    failed.pop(FailureCode.DELIVERY_GIVEN_UP, None)
    if failed:
        many = _count(sum(failed.values()), "job has", "jobs have")
        codes = ", ".join(f"{code}: {count}" for code, count in sorted(failed.items()))
        message = f"{many} FAILED in the last hour ({codes})."
        yield AlertKind.JOBS_FAILED.finding("jobs", message)


def _look_at_deliveries(services: Services, now: datetime) -> Iterator[AlertFinding]:
    limit = timedelta(minutes=services.settings.alerts.delivery_failing_min)
    failing = {
        name: now - since
        for name, since in services.deliveries.oldest_pending().items()
        if now - since >= limit
    }
    counts = services.deliveries.count_by_state() if failing else {}
    for name, age in failing.items():
        waiting = _count(
            counts.get((name, DeliveryState.PENDING), 0), "delivery waits", "deliveries wait"
        )
        message = f"{name} has not taken results for {duration(age)}; {waiting}"
        yield AlertKind.DELIVERY_FAILING.finding(
            name, message + _suspended(services, Work.DELIVERY) + "."
        )


def _look_at_given_up_deliveries(services: Services, now: datetime) -> Iterator[AlertFinding]:
    destinations = services.settings.destinations
    given_up = services.deliveries.count_given_up(destinations, now - LATELY)
    for name, count in given_up.items():
        many = _count(count, f"delivery to {name} was", f"deliveries to {name} were")
        message = f"{many} given up in the last hour."
        yield AlertKind.DELIVERY_GIVEN_UP.finding(name, message)


def _look_at_certificates(services: Services, now: datetime) -> Iterator[AlertFinding]:
    settings = services.settings
    limit = timedelta(days=settings.alerts.certificate_days)
    for section, tls in (("node.tls", settings.node.tls), ("web.tls", settings.web.tls)):
        if tls is None:
            continue
        try:
            left = (ends_at := read_expiry(section, tls.certificate, tls.key)) - now
        except UnusableTls as error:
            message = f"It cannot be used: {error}."
        else:
            if left >= limit:
                continue
            message = (
                f"The certificate of [{section}] ends on {ends_at:%Y-%m-%d}, in {left.days} days."
            )
        yield AlertKind.CERTIFICATE_EXPIRING.finding(section, message)


CONDITIONS: tuple[Condition, ...] = (
    _look_for_roles,
    _look_for_stopped_nodes,
    _look_at_disk,
    _look_at_queue,
    _look_at_failed_jobs,
    _look_at_deliveries,
    _look_at_given_up_deliveries,
    _look_at_certificates,
)


def _count(count: int, one: str, many: str) -> str:
    return f"{count} {one if count == 1 else many}"


def _suspended(services: Services, work: Work) -> str:
    """Say whether a person has suspended the work, which is easily forgotten."""
    pauses = [pause for pause in services.pauses.list_pauses() if pause.work is work]
    return "".join(f"; {work} is suspended since {one.since:%Y-%m-%d %H:%M} UTC" for one in pauses)

"""The page ``/metrics``: what the processes have counted, the job database and the disk."""

import shutil
from collections import Counter
from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import TypeVar

from prometheus_client import generate_latest
from prometheus_client.metrics_core import GaugeMetricFamily
from prometheus_client.metrics_core import Metric as Family

from node.clock import utc_now
from node.health import DEAD_AFTER
from node.metrics import Metric, SeriesWait
from node.metrics_files import FOLDER, Families, read_places
from node.roles import Role
from node.services import Services
from node.version import SOFTWARE_VERSION
from storage.errors import StorageError
from storage.states import DeliveryState, JobState, ProofState, Work

Labels = TypeVar("Labels", bound=tuple[str, ...])
"""The values of the labels, in the order of the table."""


def render_metrics(services: Services) -> bytes:
    """Give the page, without the metrics of a database that does not answer."""
    families = [*read_places(services.files.data_dir / FOLDER), *_look(services)]
    try:
        stored = list(_read_database(services))
    except StorageError:
        stored = []
    families += stored
    families.append(_gauge(Metric.DATABASE_UP, {(): float(bool(stored))}))
    return generate_latest(Families(families))


def _gauge(metric: Metric, samples: Mapping[Labels, float]) -> Family:
    family = GaugeMetricFamily(
        metric.value.name, metric.value.help, labels=list(metric.value.labels)
    )
    for labels, value in samples.items():
        family.add_metric(labels, value)
    return family


def _look(services: Services) -> Iterator[Family]:
    disk = shutil.disk_usage(services.files.data_dir)
    yield _gauge(Metric.DISK_FREE, {(): disk.free})
    yield _gauge(Metric.DISK_SIZE, {(): disk.total})
    yield _gauge(Metric.DISK_RESERVE, {(): services.settings.receive.min_free_bytes})
    yield _gauge(Metric.BUILD_INFO, {(SOFTWARE_VERSION,): 1.0})


def _read_database(services: Services) -> Iterator[Family]:
    yield from _read_jobs(services)
    yield from _read_open_series(services)
    yield from _read_deliveries(services)
    pauses = {pause.work for pause in services.pauses.list_pauses()}
    yield _gauge(Metric.SUSPENDED, {(work.value,): float(work in pauses) for work in Work})
    yield from _read_roles(services)


def _read_jobs(services: Services) -> Iterator[Family]:
    counts = services.jobs.count_by_state()
    yield _gauge(Metric.JOBS, {(state.value,): counts.get(state, 0) for state in JobState})
    oldest = services.jobs.oldest_by_state()
    now = utc_now()
    states = (JobState.QUEUED, JobState.RUNNING)
    ages = {(state.value,): _seconds(now, oldest.get(state)) for state in states}
    yield _gauge(Metric.JOB_AGE, ages)


def _read_open_series(services: Services) -> Iterator[Family]:
    quiet, missing = services.open_series.summarize()
    now = utc_now()
    both = {(SeriesWait.QUIET.value,): quiet, (SeriesWait.MISSING.value,): missing}
    yield _gauge(Metric.SERIES_OPEN, {wait: series.count for wait, series in both.items()})
    ages = {wait: _seconds(now, series.oldest) for wait, series in both.items()}
    yield _gauge(Metric.SERIES_OPEN_AGE, ages)


def _read_deliveries(services: Services) -> Iterator[Family]:
    counts = services.deliveries.count_by_state()
    names = services.settings.destinations.keys() | {name for name, _ in counts}
    samples = {
        (name, state.value): counts.get((name, state), 0)
        for name in sorted(names)
        for state in DeliveryState
    }
    yield _gauge(Metric.DELIVERIES, samples)
    oldest = services.deliveries.oldest_pending()
    now = utc_now()
    ages = {(name,): _seconds(now, oldest.get(name)) for name in sorted(names)}
    yield _gauge(Metric.DELIVERY_AGE, ages)
    proofs = services.proofs.count_by_state()
    yield _gauge(Metric.PROOFS, {(state.value,): proofs.get(state, 0) for state in ProofState})


def _read_roles(services: Services) -> Iterator[Family]:
    now = utc_now()
    beats = services.heartbeats.list_beats()
    alive = [beat for beat in beats if abs(now - beat.beat_at) < DEAD_AFTER]
    counts = Counter(beat.role for beat in alive)
    yield _gauge(Metric.ROLE_PROCESSES, {(role.value,): counts[role.value] for role in Role})
    troubled = Counter(beat.role for beat in alive if beat.detail)
    yield _gauge(Metric.ROLE_TROUBLED, {(role.value,): troubled[role.value] for role in Role})


def _seconds(now: datetime, since: datetime | None) -> float:
    """Give an age; none has that of a clock that was set back, or of what is not there."""
    return 0.0 if since is None else max(0.0, (now - since).total_seconds())

"""What the node counts and shows to Prometheus: the table of metrics, and those of one process.

No label holds patient data, a UID, or anything that a stranger can choose.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from enum import Enum, StrEnum
from types import MappingProxyType

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from config.results import ResultRole
from dicom_io.errors import RejectionReason
from node.dimse_status import DimseStatus
from node.errors import Cause
from node.roles import Role
from storage.states import AddOutcome, DeliveryState, JobState, ProofState, Work

BUCKETS_S = (0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1800.0)
"""Upper bounds of all histograms: from one instance to `queue.max_job_s`."""


class AssociationOutcome(StrEnum):
    """What became of a connection to the receiver; reasons as in PS3.8 table 9-21."""

    ACCEPTED = "accepted"
    """An association of a peer."""
    CALLING_UNKNOWN = "calling AE title not recognized"
    """The caller is no peer, or calls from another address than its own."""
    CALLED_UNKNOWN = "called AE title not recognized"
    """It called another AE title than ours."""
    LIMIT = "local limit exceeded"
    """There were more than `node.max_associations`."""
    OTHER = "rejected otherwise"
    """Another reason of the standard."""
    TLS_FAILED = "TLS failed"
    """No association was asked for, because the TLS handshake failed."""
    TOO_MANY_STRANGERS = "too many strangers"
    """The connection was closed at once: addresses of no peer hold too many."""


class AttemptOutcome(StrEnum):
    """How an attempt of a worker at a job came out."""

    PRODUCED = "produced"
    """There are results."""
    REJECTED = "rejected"
    """The series is unsuitable."""
    FAILED = "failed"
    """An error; it is tried again, up to `queue.max_attempts`."""
    LOST = "lost"
    """The job was canceled, superseded or taken away meanwhile."""
    UNFINISHED = "unfinished"
    """It will be taken up again: the node stops, or disk or database fail."""


class SeriesWait(StrEnum):
    """What a series without a decision waits for."""

    QUIET = "quiet"
    """That no more instances come."""
    MISSING = "missing instances"
    """Instances of which it is known that they are missing, see `hepar series list`."""


class Kind(StrEnum):
    """Type of a metric, as Prometheus names it."""

    COUNTER = "counter"
    GAUGE = "gauge"
    HISTOGRAM = "histogram"


class Origin(StrEnum):
    """Where a metric comes from."""

    PROCESSES = "processes"
    """A process of the node counts it; all of them are added up."""
    DATABASE = "database"
    """It is read from the job database at each scrape."""
    WEB = "web role"
    """The web role looks at each scrape."""


Values = tuple[str, ...] | None
"""Values of a label; none means that the settings of the node or its machines name them."""


def _each(enum: Iterable[Enum]) -> tuple[str, ...]:
    return tuple(str(member.value) for member in enum)


@dataclass(frozen=True, kw_only=True)
class Definition:
    """What stands in the table about one metric."""

    name: str
    kind: Kind
    origin: Origin
    help: str
    labels: Mapping[str, Values] = field(default_factory=lambda: MappingProxyType({}))


def _counted(kind: Kind, name: str, text: str, **labels: Values) -> Definition:
    return Definition(name=name, kind=kind, origin=Origin.PROCESSES, help=text, labels=labels)


def _stored(name: str, text: str, **labels: Values) -> Definition:
    return Definition(name=name, kind=Kind.GAUGE, origin=Origin.DATABASE, help=text, labels=labels)


def _seen(name: str, text: str, **labels: Values) -> Definition:
    return Definition(name=name, kind=Kind.GAUGE, origin=Origin.WEB, help=text, labels=labels)


class Metric(Enum):
    """Every metric of the node."""

    ASSOCIATIONS = _counted(
        Kind.COUNTER,
        "hepar_associations_total",
        "Associations that were asked for, and connections that did not get so far.",
        outcome=_each(AssociationOutcome),
    )
    ASSOCIATIONS_OPEN = _counted(
        Kind.GAUGE, "hepar_associations_open", "Associations open at a receiver.", host=None
    )
    RECEIVED_INSTANCES = _counted(
        Kind.COUNTER,
        "hepar_received_instances_total",
        "Instances that are durable and were answered Success, by AE title of the sender.",
        source=None,
        outcome=_each(AddOutcome),
    )
    RECEIVED_BYTES = _counted(
        Kind.COUNTER,
        "hepar_received_bytes_total",
        "Bytes of these instances, duplicates included.",
        source=None,
    )
    REFUSED_INSTANCES = _counted(
        Kind.COUNTER,
        "hepar_refused_instances_total",
        "C-STORE requests that were not answered Success.",
        status=tuple(status.name for status in DimseStatus if status is not DimseStatus.SUCCESS),
    )
    ATTEMPT_DURATION = _counted(
        Kind.HISTOGRAM,
        "hepar_job_attempt_duration_seconds",
        "Time of a worker's attempt at a job.",
        outcome=_each(AttemptOutcome),
    )
    STEP_DURATION = _counted(
        Kind.HISTOGRAM,
        "hepar_step_duration_seconds",
        "Time of each step of the jobs that gave results.",
        step=("read", "segment", "measure", "draw", "encode and check"),
    )
    REJECTIONS = _counted(
        Kind.COUNTER,
        "hepar_rejections_total",
        "Jobs that became REJECTED, by reason code.",
        reason=_each(RejectionReason),
    )
    RESULTS = _counted(
        Kind.COUNTER, "hepar_results_total", "Result objects written.", role=_each(ResultRole)
    )
    DELIVERY_ATTEMPTS = _counted(
        Kind.COUNTER,
        "hepar_delivery_attempts_total",
        "Attempts to send the results of a job: delivered, or why not.",
        destination=None,
        outcome=("delivered", *_each(Cause)),
    )
    DELIVERY_DURATION = _counted(
        Kind.HISTOGRAM,
        "hepar_delivery_attempt_duration_seconds",
        "Time of these attempts.",
        destination=None,
    )
    PROOF_ATTEMPTS = _counted(
        Kind.COUNTER,
        "hepar_proof_attempts_total",
        "Attempts to have it proven that a destination keeps the results.",
        destination=None,
        outcome=("proven", "not proven"),
    )
    PROCESS_STARTS = _counted(
        Kind.COUNTER,
        "hepar_process_starts_total",
        "Starts of processes; more than the node was started means that they die.",
        role=_each(Role),
    )
    DEVICE_MEMORY_USED = _counted(
        Kind.GAUGE,
        "hepar_device_memory_used_bytes",
        "Memory in use of an NVIDIA GPU that a worker sees, by whomever.",
        host=None,
        device=None,
    )
    DEVICE_MEMORY = _counted(
        Kind.GAUGE, "hepar_device_memory_bytes", "Memory of that GPU.", host=None, device=None
    )
    JOBS = _stored("hepar_jobs", "Jobs in a state.", state=_each(JobState))
    JOB_AGE = _stored(
        "hepar_job_oldest_age_seconds",
        "Time since the job that is longest in a state got there; 0 where none is.",
        state=(JobState.QUEUED.value, JobState.RUNNING.value),
    )
    SERIES_OPEN = _stored(
        "hepar_series_open",
        "Series that are not decided on, by what they wait for.",
        waits_for=_each(SeriesWait),
    )
    SERIES_OPEN_AGE = _stored(
        "hepar_series_open_oldest_age_seconds",
        "Time since the last instance of the one that waits the longest; 0 where none does.",
        waits_for=_each(SeriesWait),
    )
    DELIVERIES = _stored(
        "hepar_deliveries",
        "Deliveries in a state.",
        destination=None,
        state=_each(DeliveryState),
    )
    DELIVERY_AGE = _stored(
        "hepar_delivery_oldest_age_seconds",
        "Time for which the oldest pending delivery has been due or tried; 0 where none is.",
        destination=None,
    )
    PROOFS = _stored("hepar_proofs", "Proofs of destinations in a state.", state=_each(ProofState))
    SUSPENDED = _stored(
        "hepar_suspended", "1 where `hepar suspend` lets none of this work begin.", work=_each(Work)
    )
    ROLE_PROCESSES = _stored(
        "hepar_role_processes",
        "Processes of a role that have given a sign of life lately.",
        role=_each(Role),
    )
    ROLE_TROUBLED = _stored(
        "hepar_role_troubled",
        "Processes of these that tell of trouble, which `hepar doctor --running` puts in words.",
        role=_each(Role),
    )
    DATABASE_UP = _seen(
        "hepar_database_up", "1 where the job database answers; else its metrics are missing."
    )
    DISK_FREE = _seen("hepar_disk_free_bytes", "Free space of the data folder.")
    DISK_SIZE = _seen("hepar_disk_size_bytes", "Size of its file system.")
    DISK_RESERVE = _seen(
        "hepar_disk_reserve_bytes",
        "`receive.min_free_bytes`: with less free space instances are refused.",
    )
    BUILD_INFO = _seen("hepar_build_info", "1; the label is the version.", version=None)


class Metrics:
    """The metrics that one process counts.

    Where the values of the only label are known, all are shown from the start, because Prometheus
    takes the first value that it sees for no increase.
    """

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._counters: dict[Metric, Counter] = {}
        self._histograms: dict[Metric, Histogram] = {}
        self._gauges: dict[Metric, Gauge] = {}
        for metric in Metric:
            if metric.value.origin is Origin.PROCESSES:
                self._make(metric)

    def _make(self, metric: Metric) -> None:
        known = metric.value
        made: Counter | Histogram | Gauge
        if known.kind is Kind.COUNTER:
            made = Counter(known.name, known.help, known.labels, registry=self.registry)
            self._counters[metric] = made
        elif known.kind is Kind.HISTOGRAM:
            made = Histogram(
                known.name, known.help, known.labels, registry=self.registry, buckets=BUCKETS_S
            )
            self._histograms[metric] = made
        else:
            made = Gauge(known.name, known.help, known.labels, registry=self.registry)
            self._gauges[metric] = made
        if len(known.labels) == 1:
            [values] = known.labels.values()
            for value in values or ():
                made.labels(value)

    def count(self, metric: Metric, by: float = 1.0, **labels: str) -> None:
        """Count what has happened."""
        self._counters[metric].labels(**labels).inc(by)

    def observe(self, metric: Metric, seconds: float, **labels: str) -> None:
        """Take a duration."""
        self._histograms[metric].labels(**labels).observe(seconds)

    def watch(self, metric: Metric, look: Callable[[], float], **labels: str) -> None:
        """Show what `look` gives, whenever it is asked for."""
        self._gauges[metric].labels(**labels).set_function(look)

"""How the node and its machine do: processes, devices, disk, database, queue, versions."""

import os
import platform
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from importlib.metadata import PackageNotFoundError, version
from itertools import chain
from pathlib import Path
from typing import Any

from config import Settings, TlsSettings
from dicom_io.rules import check_rules
from inference.errors import InferenceError
from inference.identity import identify
from inference.manifest import ModelIdentity
from node.clock import utc_now
from node.doctor_network import EXPIRY_WARNING, check_tls
from node.errors import UnusableTls
from node.health import DEAD_AFTER, Check, Verdict, check_disk, check_roles
from node.metrics import Metric
from node.metrics_files import FOLDER, read_places
from node.models import located
from node.services import Services
from node.tls import read_certificate
from node.version import SOFTWARE_VERSION
from storage.open_series import Waiting
from storage.records import Pause, RoleBeat
from storage.states import DeliveryState, JobState, ProofState

_LIBRARIES = (
    "pydicom",
    "pynetdicom",
    "highdicom",
    "onnxruntime-gpu",
    "onnxruntime",
    "openvino",
    "numpy",
    "SQLAlchemy",
    "APScheduler",
    "fastapi",
    "uvicorn",
)
_WITH_RESULTS = (
    JobState.PRODUCED,
    JobState.DELIVERING,
    JobState.DELIVERED,
    JobState.CONFIRMED,
)
_PROCESSORS = Path("/proc/cpuinfo")


@dataclass(frozen=True, kw_only=True)
class ProcessReport:
    """A process of the node."""

    beat: RoleBeat
    is_alive: bool


@dataclass(frozen=True, kw_only=True)
class GpuReport:
    """The memory of a GPU that a worker sees."""

    host: str
    device: str
    used_bytes: float
    total_bytes: float


@dataclass(frozen=True, kw_only=True)
class DiskReport:
    """The file system of the data folder."""

    folder: Path
    free_bytes: int
    total_bytes: int
    reserve_bytes: int
    """With less free space instances are refused."""
    instances_bytes: int
    """Of received files."""


@dataclass(frozen=True, kw_only=True)
class DatabaseReport:
    """The job database."""

    description: str
    size_bytes: int
    schema: str
    """Revision."""


@dataclass(frozen=True, kw_only=True)
class QueueReport:
    """How much waits, and for how long."""

    jobs: Mapping[JobState, int]
    oldest_jobs: Mapping[JobState, datetime]
    deliveries: Mapping[tuple[str, DeliveryState], int]
    oldest_deliveries: Mapping[str, datetime]
    proofs: Mapping[ProofState, int]
    quiet: Waiting
    """Series that are still being received."""
    lacking: Waiting
    """Series of which something is known to be missing."""
    pauses: list[Pause]


@dataclass(frozen=True, kw_only=True)
class CertificateReport:
    """A certificate of this node."""

    section: str
    path: Path
    ends_at: datetime | None
    """None where it cannot be used."""
    problem: str

    @property
    def days_left(self) -> int | None:
        """Whole days until its end."""
        return None if self.ends_at is None else (self.ends_at - utc_now()).days

    @property
    def is_short(self) -> bool:
        """Whether it is time for another one."""
        return self.days_left is not None and self.days_left < EXPIRY_WARNING.days


def quick_checks(services: Services) -> Iterator[Check]:
    """Check what can be checked at once."""
    settings = services.settings
    yield check_disk(settings)
    yield from check_roles(services.heartbeats.list_beats(), Verdict.BAD)
    try:
        check_rules(settings.rules)
    except ValueError as error:
        yield Check(name="rules", verdict=Verdict.BAD, detail=str(error))
    yield from check_tls(settings.node)


def list_processes(services: Services) -> list[ProcessReport]:
    """List the processes that have given a sign of life within a day."""
    now = utc_now()
    return [
        ProcessReport(beat=beat, is_alive=abs(now - beat.beat_at) < DEAD_AFTER)
        for beat in services.heartbeats.list_beats()
    ]


def list_gpus(services: Services) -> list[GpuReport]:
    """List the GPUs that workers see, by what they publish as metrics."""
    families = {one.name: one for one in read_places(services.files.data_dir / FOLDER)}

    def values(metric: Metric) -> dict[tuple[str, str], float]:
        family = families.get(metric.value.name)
        samples = () if family is None else family.samples
        return {(one.labels["host"], one.labels["device"]): one.value for one in samples}

    used = values(Metric.DEVICE_MEMORY_USED)
    return [
        GpuReport(host=host, device=device, total_bytes=total, used_bytes=used[host, device])
        for (host, device), total in sorted(values(Metric.DEVICE_MEMORY).items())
        if (host, device) in used
    ]


def last_run(services: Services) -> Mapping[str, Any]:
    """Give device, backend and precision of the last job with results; empty before the first."""
    jobs = services.jobs.list_jobs(states=_WITH_RESULTS, limit=1)
    run: Mapping[str, Any] = jobs[0].summary.get("run", {}) if jobs else {}
    return run


def describe_processor() -> str:
    """Name the processor of this machine, as far as the system tells."""
    try:
        lines = _PROCESSORS.read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    named = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(chain(named, (platform.processor(), platform.machine())))


def memory_bytes() -> int | None:
    """Give the memory of this machine; None where the system does not tell."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (ValueError, OSError):
        return None


def report_disk(services: Services) -> DiskReport:
    """Report on the file system of the data folder."""
    folder = services.files.data_dir
    disk = shutil.disk_usage(folder)
    return DiskReport(
        folder=folder,
        free_bytes=disk.free,
        total_bytes=disk.total,
        reserve_bytes=services.settings.receive.min_free_bytes,
        instances_bytes=services.activity.held_bytes(),
    )


def report_database(services: Services) -> DatabaseReport:
    """Report on the job database."""
    database = services.database
    return DatabaseReport(
        description=database.describe(),
        size_bytes=database.size_bytes(),
        schema=database.revision(),
    )


def report_queue(services: Services) -> QueueReport:
    """Report on what waits."""
    quiet, lacking = services.open_series.summarize()
    return QueueReport(
        jobs=services.jobs.count_by_state(),
        oldest_jobs=services.jobs.oldest_by_state(),
        deliveries=services.deliveries.count_by_state(),
        oldest_deliveries=services.deliveries.oldest_pending(),
        proofs=services.proofs.count_by_state(),
        quiet=quiet,
        lacking=lacking,
        pauses=services.pauses.list_pauses(),
    )


def list_versions() -> dict[str, str]:
    """Give the version of this software, and of what it is made of."""
    versions = {"Hepar": SOFTWARE_VERSION, "Python": platform.python_version()}
    for name in _LIBRARIES:
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            continue
    return versions | {"system": platform.platform()}


def find_model(settings: Settings) -> tuple[ModelIdentity | None, str]:
    """Give the papers of the model in use, or why there is none."""
    try:
        return identify(located(settings)), ""
    except InferenceError as error:
        return None, str(error)


def list_certificates(settings: Settings) -> list[CertificateReport]:
    """List our own certificates, of DICOM TLS and of HTTPS."""
    known: dict[str, TlsSettings] = {}
    if settings.node.tls is not None:
        known["node.tls"] = settings.node.tls
    if settings.web.tls is not None:
        own, key = settings.web.tls.certificate, settings.web.tls.key
        # Browsers need not trust it by authorities that we know.
        known["web.tls"] = TlsSettings(certificate=own, key=key, authorities=own)
    return [_report_certificate(section, tls) for section, tls in known.items()]


def _report_certificate(section: str, tls: TlsSettings) -> CertificateReport:
    try:
        ends_at, problem = read_certificate(tls).ends_at, ""
    except UnusableTls as error:
        ends_at, problem = None, str(error)
    return CertificateReport(
        section=section, path=tls.certificate, ends_at=ends_at, problem=problem
    )

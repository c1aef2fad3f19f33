"""The roles of the node: what runs inside each process of ``hepar serve``."""

import contextlib
import logging
import os
import signal
import socket
import sys
import threading
from collections.abc import Callable
from dataclasses import replace
from enum import StrEnum
from functools import partial
from typing import TYPE_CHECKING

from config import LoadedSettings, Settings
from node.clock import utc_now
from node.log_setup import set_up_logging

if TYPE_CHECKING:
    from node.metrics import Metrics
    from node.services import Services
    from storage.states import AuditEvent

logger = logging.getLogger(__name__)

BEAT_S = 2.0
TALLY_S = 1.0
REJECTIONS_S = 60.0
"""The audit trail has a line of each rejected caller in this time, with how often it called."""


class Role(StrEnum):
    """A process of the node."""

    RECEIVER = "receiver"
    """Storage SCP."""
    SCHEDULER = "scheduler"
    """Settle, recover, deliver, prove, poll, retrieve, clean."""
    WORKER = "worker"
    """Segmentation; one process per `queue.workers`."""
    WEB = "web"
    """Health and job pages."""


def run_role(role: Role, loaded: LoadedSettings, *, supervised: bool) -> None:
    """Run one role until SIGTERM or SIGINT, or until the supervisor is gone.

    Parameters
    ----------
    role
        Which one.
    loaded
        The whole tree, and whence it comes.
    supervised
        Whether standard input is a pipe of the supervisor whose end means: stop.
    """
    from node.metrics_files import FOLDER, publishing
    from node.services import open_services
    from storage.states import AuditEvent

    set_up_logging(loaded.settings.log, role=role.value)
    stop, orphaned = threading.Event(), threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    if supervised:
        threading.Thread(target=_stop_with_supervisor, args=(stop, orphaned), daemon=True).start()
    services = replace(open_services(loaded.settings), origins=loaded.origins)
    logger.info("role starts", extra={"action": "start", "pid": os.getpid()})
    _tell_audit(services, role, AuditEvent.NODE_STARTED)
    try:
        with publishing(services.metrics, services.files.data_dir / FOLDER, role.value):
            _RUN[role](services, stop)
    finally:
        # Else the signs of life would go on, and nobody would start the role again.
        stop.set()
        _tell_audit(services, role, AuditEvent.NODE_STOPPED, sys.exception())
    if orphaned.is_set() and role is Role.SCHEDULER:
        _tell_of_lost_supervisor(loaded.settings)
    logger.info("role stopped", extra={"action": "stop"})


def _tell_audit(
    services: "Services", role: Role, event: "AuditEvent", error: BaseException | None = None
) -> None:
    """Write that a process begins or ends; one that is killed leaves no second line."""
    from node.auditing import write_line
    from node.version import SOFTWARE_VERSION
    from storage.records import AuditEntry
    from storage.states import AuditOutcome

    outcome = AuditOutcome.SUCCESS if error is None else AuditOutcome.MAJOR_FAILURE
    detail = {"pid": os.getpid(), "version": SOFTWARE_VERSION}
    if error is not None:
        detail["error"] = f"{type(error).__name__}: {error}"
    entry = AuditEntry(event=event, actor=role.value, outcome=outcome, detail=detail)
    write_line(services.audit, entry)


def _stop_with_supervisor(stop: threading.Event, orphaned: threading.Event) -> None:
    """Block until the supervisor's end of the pipe closes, however it ended."""
    os.read(sys.stdin.fileno(), 1)
    if not stop.is_set():
        orphaned.set()
    stop.set()


def _tell_of_lost_supervisor(settings: Settings) -> None:
    """Tell in place of the supervisor, which was killed, that the node stops."""
    from node.watchman import Watchman

    watchman = Watchman(settings)
    watchman.node_stops("stops: `hepar serve` was killed")
    watchman.close()


def _beat(
    services: "Services", role: Role, stop: threading.Event, describe: Callable[[], str] = str
) -> None:
    """Write a sign of life until asked to stop, with what there is to say."""
    host, pid = socket.gethostname(), os.getpid()

    def write() -> None:
        from storage.errors import StorageError

        while not stop.is_set():
            try:
                services.heartbeats.beat(
                    role.value, host=host, pid=pid, now=utc_now(), detail=describe()
                )
            except StorageError as error:
                logger.warning("no sign of life written: %s", error)
            stop.wait(BEAT_S)
        with contextlib.suppress(StorageError):
            services.heartbeats.forget(host=host, pid=pid)

    threading.Thread(target=write, name="beat").start()


def _run_receiver(services: "Services", stop: threading.Event) -> None:
    from node.auditing import Tally
    from node.metrics import Metric
    from node.scp import Receiver

    rejections = Tally(services.audit, REJECTIONS_S)
    receiver = Receiver(
        services.settings,
        files=services.files,
        catalog=services.catalog,
        proofs=services.proofs,
        metrics=services.metrics,
        on_rejected=rejections.add,
    )
    receiver.start()
    services.metrics.watch(
        Metric.ASSOCIATIONS_OPEN, lambda: len(receiver.associations()), host=socket.gethostname()
    )
    _beat(services, Role.RECEIVER, stop)
    while not stop.wait(TALLY_S):
        rejections.flush()
    receiver.stop()
    rejections.flush(all_of_it=True)


def _run_scheduler(services: "Services", stop: threading.Event) -> None:
    from node.scheduler import Scheduler

    scheduler = Scheduler(services)
    _beat(services, Role.SCHEDULER, stop, scheduler.describe_trouble)
    scheduler.run(stop)


def _run_worker(services: "Services", stop: threading.Event) -> None:
    from node.worker import load_worker

    worker = load_worker(services, stop)
    _watch_device_memory(services.metrics)
    _beat(services, Role.WORKER, stop)
    worker.run()


def _watch_device_memory(metrics: "Metrics") -> None:
    from inference.device_memory import list_device_memory
    from node.metrics import Metric

    for device in list_device_memory():
        labels = {"host": socket.gethostname(), "device": str(device.index)}
        metrics.watch(Metric.DEVICE_MEMORY_USED, device.used_bytes, **labels)
        metrics.watch(Metric.DEVICE_MEMORY, partial(float, device.total_bytes), **labels)


def _run_web(services: "Services", stop: threading.Event) -> None:
    from node.web.server import WebServer

    server = WebServer(services)
    _beat(services, Role.WEB, stop)
    server.start(stop)
    stop.wait()
    server.stop()


_RUN: dict[Role, Callable[["Services", threading.Event], None]] = {
    Role.RECEIVER: _run_receiver,
    Role.SCHEDULER: _run_scheduler,
    Role.WORKER: _run_worker,
    Role.WEB: _run_web,
}

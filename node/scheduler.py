"""The ticks: what the node does again and again, for itself and with each peer.

APScheduler is only the clock (memory store, one instance of a tick at a time, missed ticks run
together): all work that must survive is rows.
"""

import logging
import math
import os
import random
import socket
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import datetime, timedelta
from functools import partial
from typing import Protocol

from apscheduler.executors.pool import ThreadPoolExecutor
from apscheduler.schedulers.background import BackgroundScheduler
from apscheduler.triggers.base import BaseTrigger
from pydicom.dataset import Dataset

from config import RuleAction, Settings
from dicom_io.description import describe
from dicom_io.errors import DicomIOError
from dicom_io.headers import read_attributes
from dicom_io.rules import Decision, decide
from inference.identity import identify
from node.alarm import Alarm
from node.audit_forwarder import Forwarder
from node.auditing import Tally
from node.clock import ClockWatch, utc_now
from node.counter import Counter
from node.deliverer import Attempt, send_results
from node.errors import Cause
from node.janitor import Janitor
from node.lease import LeaseKeeper
from node.metrics import Metric
from node.models import located, new_job
from node.poller import Poller
from node.prover import Prover
from node.retriever import Retriever
from node.retry import next_attempt_at
from node.services import TROUBLE_PAUSE_S, Services
from storage.errors import DatabaseError, DiskShort, LeaseLost, StaleJob
from storage.open_series import Patience
from storage.records import (
    DeliveryRecord,
    ProofRecord,
    SeriesRecord,
)

logger = logging.getLogger(__name__)

TICK_S = 0.3
RETRIEVE_S = 1.0
SWEEP_S = 3600.0
SPOOL_AGE = timedelta(hours=1)
FORWARD_S = 1.0
QUERIES_S = 3600.0
"""The audit trail has a line for what is asked of each peer in this time, with how often."""


Tick = tuple[Callable[[], None], float]
"""What is done, and every how many seconds."""


class Troubled(Protocol):
    """What does work outside of any job."""

    @property
    def trouble(self) -> str:
        """What goes wrong with it, in words; empty where nothing does."""


class Every(BaseTrigger):  # type: ignore[misc]  # APScheduler is not typed
    """Fires once in so many seconds, counted from the last time that it did.

    APScheduler's own interval goes through all times that were missed, which are millions when the
    clock of a machine is set forward by years.
    """

    def __init__(self, seconds: float) -> None:
        self._pause = timedelta(seconds=seconds)

    def get_next_fire_time(self, previous: datetime | None, now: datetime) -> datetime:
        """Give the next time; called by APScheduler."""
        del previous
        return now + self._pause


class Scheduler:
    """The clock of the node and what happens at each tick."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._owner = f"{socket.gethostname()}:{os.getpid()}"
        self._prover = Prover(services, self._owner)
        self._patience = _patience(services.settings)
        self._forwarder = Forwarder(services, self._owner)
        self._queries = Tally(services.audit, QUERIES_S)
        self._alarm = Alarm(services, self._owner)
        self._troubled: list[Troubled] = [self._forwarder, self._alarm]
        self._model = identify(located(services.settings))
        self._clock = ClockWatch()
        self._stop = threading.Event()

    def run(self, stop: threading.Event) -> None:
        """Tick until asked to stop; ticks in progress are finished."""
        self._stop = stop
        ticks = [*self._own_ticks(), *self._peer_ticks()]
        clock = BackgroundScheduler(
            timezone="UTC",
            # A thread for each: one that takes long holds up no other.
            executors={"default": ThreadPoolExecutor(len(ticks))},
            job_defaults={"coalesce": True, "max_instances": 1, "misfire_grace_time": None},
        )
        for tick, seconds in ticks:
            told = partial(_run_tick, tick, stop)
            clock.add_job(told, Every(seconds), next_run_time=utc_now())
        clock.start()
        self._watch_clock(clock, stop)
        clock.shutdown(wait=True)
        self._queries.flush(all_of_it=True)

    def _own_ticks(self) -> Iterator[Tick]:
        """Give what is done for the node as a whole, and every how many seconds."""
        settings = self._services.settings
        yield self.settle, TICK_S
        yield self.recover, settings.queue.lease_s / 3
        yield self.clean, SWEEP_S
        yield self._queries.flush, FORWARD_S
        if settings.audit.syslog is not None:
            yield self._forwarder.forward, FORWARD_S
        if settings.alerts.are_sent:
            yield self._alarm.tick, self._alarm.period_s
        janitor = Janitor(self._services, self._owner, self._stop)
        for tick in (janitor.retain, janitor.sweep, self._forwarder.check):
            # It looks whether it is due; soon, because another node's process may have died at it.
            yield tick, settings.queue.lease_s

    def _peer_ticks(self) -> Iterator[Tick]:
        """Give what is done with each peer: one that is dead holds up nobody else."""
        settings = self._services.settings
        for name, peer in settings.destinations.items():
            yield partial(self.deliver, name), TICK_S
            if peer.proofs:
                yield partial(self.prove, name), TICK_S
        for name, poll in settings.polled.items():
            poller = Poller(self._services, name, poll, self._stop, self._queries.add)
            self._troubled.append(poller)
            yield poller.poll, poll.every_s
        for name in settings.counting:
            counter = Counter(self._services, name, self._patience, self._queries.add)
            self._troubled.append(counter)
            yield counter.count, TICK_S
        for name in settings.peers:
            yield Retriever(self._services, name, self._owner, self._stop).retrieve, RETRIEVE_S

    def _watch_clock(self, clock: BackgroundScheduler, stop: threading.Event) -> None:
        """Tick at once whenever the clock was set; APScheduler would wait until it is as before."""
        steady_s = math.inf
        while not stop.wait(TICK_S):
            before_s, steady_s = steady_s, self._clock.steady_s()
            if steady_s < before_s:
                for job in clock.get_jobs():
                    job.modify(next_run_time=utc_now())

    def describe_trouble(self) -> str:
        """Say what goes wrong outside of any job; empty where nothing does."""
        return "; ".join(filter(None, (one.trouble for one in self._troubled)))

    def settle(self) -> None:
        """Decide on each series that is complete, and queue a job where it is wanted."""
        if self._clock.steady_s() < self._patience.quiet_s:
            # A clock set forward makes the silence of a series look longer than it was.
            return
        for series in self._services.open_series.list_settleable(self._patience, utc_now()):
            if self._stop.is_set():
                return
            attributes = self._read_attributes(series)
            decision = self._decide(series, attributes)
            wanted = decision.action is RuleAction.PROCESS
            job = self._services.catalog.settle(
                series,
                replace(decision, reason=f"{decision.reason} {series.waits_for}".strip()),
                job=new_job(self._model) if wanted else None,
                now=utc_now(),
                described=None if attributes is None else describe(attributes),
            )
            logger.info(
                "series decided: %s",
                decision.reason,
                extra={
                    "action": decision.action.value,
                    "series_uid": series.series_uid,
                    "instances": series.instance_count,
                    "job_id": None if job is None else job.id,
                },
            )

    def _read_attributes(self, series: SeriesRecord) -> Dataset | None:
        """Read what an instance says of its series; None where none can be read."""
        paths = self._services.catalog.instance_paths(series.series_uid)
        try:
            return read_attributes(self._services.files.absolute(paths[0])) if paths else None
        except (DicomIOError, OSError):
            logger.exception("header cannot be read", extra={"series_uid": series.series_uid})
            return None

    def _decide(self, series: SeriesRecord, attributes: Dataset | None) -> Decision:
        removed = self._services.catalog.count_removed(series.series_uid)
        if removed:
            all_known = removed + series.instance_count
            reason = (
                f"{removed} of its {all_known} instances were removed by a rule of [retention]; "
                "send the whole series to have it processed."
            )
            return Decision(action=RuleAction.SKIP, rule="retention", reason=reason)
        if attributes is None:
            # It was readable when it came. As a job it is visible, tried again and never lost.
            reason = "A file can no longer be read; the job says which."
            return Decision(action=RuleAction.PROCESS, rule="", reason=reason)
        return decide(
            self._services.settings.rules,
            attributes,
            calling_ae_title=series.calling_ae_title,
            instance_count=series.instance_count,
        )

    def recover(self) -> None:
        """Queue again the jobs whose worker is gone, and what waits for a time that is no more."""
        queue = self._services.settings.queue
        if self._clock.steady_s() < queue.lease_s:
            # Whoever lives renews its lease by the new time first.
            return
        mended = self._services.moments.mend(utc_now())
        if mended:
            logger.warning("%d rows were from the future", mended, extra={"action": "clock"})
        self._services.jobs.release_abandoned(max_attempts=queue.max_attempts, now=utc_now())

    def deliver(self, destination: str) -> None:
        """Send what is due to one destination, until nothing is or an attempt fails."""
        lease_s = self._services.settings.queue.lease_s
        while not self._stop.is_set():
            delivery = self._services.deliveries.claim_due(
                self._owner, destination=destination, lease_s=lease_s, now=utc_now()
            )
            if delivery is None:
                return
            try:
                with LeaseKeeper(partial(self._renew, delivery), lease_s):
                    attempt = send_results(self._services, delivery)
                self._record(delivery, attempt)
            except (LeaseLost, StaleJob):
                logger.warning("delivery is no longer ours", extra={"job_id": delivery.job_id})
            else:
                if attempt.problem:
                    return

    def _renew(self, delivery: DeliveryRecord) -> None:
        lease_s = self._services.settings.queue.lease_s
        self._services.deliveries.heartbeat(
            delivery.id, self._owner, lease_s=lease_s, now=utc_now()
        )

    def _record(self, delivery: DeliveryRecord, attempt: Attempt) -> None:
        now = utc_now()
        if attempt.cause is None:
            peer = self._services.settings.destinations[delivery.destination]
            self._services.deliveries.delivered(
                delivery.id,
                self._owner,
                now=now,
                remark=attempt.detail,
                asks_proof=bool(peer.proofs),
            )
            return
        due = self._next_attempt_at(delivery, attempt.cause, now)
        self._services.deliveries.attempt_failed(
            delivery.id, self._owner, attempt.problem, next_attempt_at=due, now=now
        )
        level = logging.ERROR if due is None else logging.WARNING
        logger.log(
            level,
            "delivery failed: %s",
            attempt.problem,
            extra={
                "action": "deliver",
                "job_id": delivery.job_id,
                "to": delivery.destination,
                "next_attempt_at": due,
            },
        )

    def prove(self, destination: str) -> None:
        """Let one destination prove what is due, until nothing is or something is missing."""
        lease_s = self._services.settings.queue.lease_s
        while not self._stop.is_set():
            proof = self._services.proofs.claim_due(
                self._owner, destination=destination, lease_s=lease_s, now=utc_now()
            )
            if proof is None:
                return
            try:
                with LeaseKeeper(partial(self._renew_proof, proof), lease_s):
                    problem = self._prover.attempt(proof, destination)
                self._record_proof(proof, destination, problem)
            except (LeaseLost, StaleJob):
                logger.warning("proof is no longer ours", extra={"to": destination})
            else:
                if problem:
                    return

    def _renew_proof(self, proof: ProofRecord) -> None:
        lease_s = self._services.settings.queue.lease_s
        self._services.proofs.heartbeat(
            proof.delivery_id, self._owner, lease_s=lease_s, now=utc_now()
        )

    def _record_proof(self, proof: ProofRecord, destination: str, problem: str) -> None:
        now = utc_now()
        outcome = "not proven" if problem else "proven"
        self._services.metrics.count(
            Metric.PROOF_ATTEMPTS, destination=destination, outcome=outcome
        )
        if not problem:
            self._services.proofs.proven(proof.delivery_id, self._owner, now=now)
            return
        due = self._next_attempt_at(proof, Cause.REFUSED, now)
        self._services.proofs.attempt_failed(
            proof.delivery_id, self._owner, problem, next_attempt_at=due, now=now
        )
        logger.log(
            logging.ERROR if due is None else logging.INFO,
            "not proven: %s",
            problem,
            extra={"action": "prove", "to": destination, "next_attempt_at": due},
        )

    def _next_attempt_at(
        self, attempted: DeliveryRecord | ProofRecord, cause: Cause, now: datetime
    ) -> datetime | None:
        return next_attempt_at(
            self._services.settings.delivery,
            cause=cause,
            attempts=attempted.attempts,
            first_attempt_at=attempted.first_attempt_at or now,
            now=now,
            luck=random.random(),
        )

    def clean(self) -> None:
        """Remove what killed processes left in the spool folder."""
        if self._clock.steady_s() < SPOOL_AGE.total_seconds():
            # What is being written now may look old.
            return
        removed = self._services.files.sweep_spool(SPOOL_AGE)
        if removed:
            logger.info("spool swept", extra={"action": "sweep", "files": removed})


def _patience(settings: Settings) -> Patience:
    counted = frozenset(peer.ae_title for peer in settings.counting.values())
    receive = settings.receive
    return Patience(quiet_s=receive.quiet_s, max_wait_s=receive.max_wait_s, counted_senders=counted)


def _run_tick(tick: Callable[[], None], stop: threading.Event) -> None:
    """Tick; what goes wrong is told, and the next tick tries again."""
    try:
        tick()
    except (DatabaseError, DiskShort) as error:
        logger.error("%s", error, extra={"action": "wait"})
        stop.wait(TROUBLE_PAUSE_S)

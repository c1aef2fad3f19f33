"""The ticks: settle, recover, deliver, prove, poll, clean, and the rare ones of `node.janitor`.

APScheduler is only the clock (memory store, one instance of a tick at a time, missed ticks run
together): all work that must survive is rows.
"""

import logging
import os
import random
import socket
import threading
from datetime import datetime, timedelta
from functools import partial

from apscheduler.executors.pool import ThreadPoolExecutor
from apscheduler.schedulers.background import BackgroundScheduler

from config import RuleAction
from dicom_io.errors import DicomIOError
from dicom_io.headers import read_attributes
from dicom_io.rules import Decision, decide
from inference.identity import identify
from inference.manifest import ModelIdentity
from node.clock import utc_now
from node.deliverer import Attempt, send_results
from node.errors import Cause
from node.janitor import Janitor
from node.lease import LeaseKeeper
from node.poller import Poller
from node.prover import Prover
from node.retry import next_attempt_at
from node.services import Services
from storage.errors import LeaseLost, StaleJob
from storage.records import DeliveryRecord, NewJob, ProofRecord, SeriesRecord

logger = logging.getLogger(__name__)

TICK_S = 0.3
SWEEP_S = 3600.0
SPOOL_AGE = timedelta(hours=1)


class Scheduler:
    """The clock of the node and what happens at each tick."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._owner = f"{socket.gethostname()}:{os.getpid()}"
        self._prover = Prover(services, self._owner)
        self._pollers: list[Poller] = []
        self._model = identify(services.settings.inference)

    def run(self, stop: threading.Event) -> None:
        """Tick until asked to stop; ticks in progress are finished."""
        settings = self._services.settings
        self._pollers = [
            Poller(self._services, name, poll, stop) for name, poll in settings.polled.items()
        ]
        janitor = Janitor(self._services, self._owner, stop)
        threads = 5 + 2 * len(settings.destinations) + len(self._pollers)
        clock = BackgroundScheduler(
            timezone="UTC",
            executors={"default": ThreadPoolExecutor(threads)},
            job_defaults={"coalesce": True, "max_instances": 1, "misfire_grace_time": None},
        )
        clock.add_job(self.settle, "interval", seconds=TICK_S)
        clock.add_job(self.recover, "interval", seconds=settings.queue.lease_s / 3)
        clock.add_job(self.clean, "interval", seconds=SWEEP_S, next_run_time=utc_now())
        for tick in (janitor.retain, janitor.sweep):
            # It looks whether it is due; soon, because another node's process may have died at it.
            clock.add_job(tick, "interval", seconds=settings.queue.lease_s, next_run_time=utc_now())
        for name in settings.destinations:
            # One tick a destination: a dead one holds up nobody else.
            clock.add_job(partial(self.deliver, name), "interval", seconds=TICK_S)
            if settings.destinations[name].proofs:
                clock.add_job(partial(self.prove, name), "interval", seconds=TICK_S)
        for poller, poll in zip(self._pollers, settings.polled.values(), strict=True):
            clock.add_job(poller.poll, "interval", seconds=poll.every_s, next_run_time=utc_now())
        self.recover()
        clock.start()
        stop.wait()
        clock.shutdown(wait=True)

    def describe_trouble(self) -> str:
        """Say what goes wrong outside of any job; empty where nothing does."""
        return "; ".join(poller.trouble for poller in self._pollers if poller.trouble)

    def settle(self) -> None:
        """Decide on each series that is complete, and queue a job where it is wanted."""
        quiet_s = self._services.settings.receive.quiet_s
        for series in self._services.catalog.settleable_series(utc_now(), quiet_s):
            decision = self._decide(series)
            wanted = decision.action is RuleAction.PROCESS
            job = self._services.catalog.settle(
                series,
                decision=decision.action,
                rule=decision.rule,
                reason=decision.reason,
                job=_new_job(self._model) if wanted else None,
                now=utc_now(),
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

    def _decide(self, series: SeriesRecord) -> Decision:
        removed = self._services.catalog.count_removed(series.series_uid)
        if removed:
            all_known = removed + series.instance_count
            reason = (
                f"{removed} of its {all_known} instances were removed by a rule of [retention]; "
                "send the whole series to have it processed."
            )
            return Decision(action=RuleAction.SKIP, rule="retention", reason=reason)
        path = self._services.catalog.instance_paths(series.series_uid)[0]
        try:
            attributes = read_attributes(self._services.files.absolute(path))
        except (DicomIOError, OSError):
            # It was readable when it came. As a job it is visible, tried again and never lost.
            logger.exception("header cannot be read", extra={"series_uid": series.series_uid})
            reason = "A file can no longer be read; the job says which."
            return Decision(action=RuleAction.PROCESS, rule="", reason=reason)
        return decide(
            self._services.settings.rules,
            attributes,
            calling_ae_title=series.calling_ae_title,
            instance_count=series.instance_count,
        )

    def recover(self) -> None:
        """Queue again the jobs whose worker is gone."""
        attempts = self._services.settings.queue.max_attempts
        self._services.jobs.release_abandoned(max_attempts=attempts, now=utc_now())

    def deliver(self, destination: str) -> None:
        """Send what is due to one destination, until nothing is or an attempt fails."""
        lease_s = self._services.settings.queue.lease_s
        while True:
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
        while True:
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
        removed = self._services.files.sweep_spool(SPOOL_AGE)
        if removed:
            logger.info("spool swept", extra={"action": "sweep", "files": removed})


def _new_job(model: ModelIdentity) -> NewJob:
    return NewJob(model_name=model.name, model_version=model.version, model_digest=model.digest)

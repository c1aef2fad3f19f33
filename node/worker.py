"""Claim a job, run the pipeline, turn what happened into the outcome of the job."""

import faulthandler
import logging
import os
import shutil
import socket
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path

from config.results import ResultRole
from dicom_io.errors import RejectionReason, ResultMismatch, UnsuitableSeries
from dicom_io.provenance import ReportReference, SeriesHistory
from dicom_io.refusal import Refusal, RefusedSeries, write_refusal
from dicom_io.results import ResultContext, ResultFile
from inference.errors import LiverNotFound, ModelPackageError
from inference.segment import Segmenter
from node.clock import utc_now
from node.errors import JobPutBack, MissingModel
from node.lease import LeaseKeeper
from node.loaded_models import LoadedModels, load_configured
from node.log_setup import job_context
from node.metrics import AttemptOutcome, Metric
from node.pages import write_refusal_pages
from node.pipeline import Produced, make_context, run_pipeline
from node.services import TROUBLE_PAUSE_S, Services
from node.step_writer import StepWriter
from storage.errors import DatabaseError, DiskShort, LeaseLost, StaleJob, StorageError
from storage.files import is_disk_full
from storage.records import JobRecord, NewResult, Problem, Rejection
from storage.states import FailureCode

logger = logging.getLogger(__name__)

_STDERR = 2
"""File descriptor, whatever Python writes to."""


class Worker:
    """One worker: one job at a time, each with the model that it was made for.

    Parameters
    ----------
    services
        The node's.
    segmenter
        The model of the settings, loaded.
    stop
        Set when it is to end.
    """

    def __init__(self, services: Services, segmenter: Segmenter, stop: threading.Event) -> None:
        self._services = services
        self._models = LoadedModels(services.settings, segmenter)
        self._stop = stop
        self._name = f"{socket.gethostname()}:{os.getpid()}"

    def run(self) -> None:
        """Work until asked to stop; the job in hand goes back to the queue."""
        while not self._stop.is_set():
            try:
                pause_s = 0.0 if self.work_once() else self._services.settings.queue.poll_s
            except (DatabaseError, DiskShort) as error:
                # The model stays loaded; what was in hand is taken up once its lease is over.
                logger.error("%s", error, extra={"action": "wait"})
                pause_s = TROUBLE_PAUSE_S
            self._stop.wait(pause_s)

    def work_once(self) -> bool:
        """Take the next job, if there is one, to its outcome; say whether there was one.

        Raises
        ------
        storage.errors.DiskShort
            There was no room for results; the job has been given back.
        storage.errors.DatabaseError
            Nobody could be told what became of the job.
        """
        queue = self._services.settings.queue
        self._models.release_unneeded()
        job = self._services.jobs.claim(self._name, lease_s=queue.lease_s, now=utc_now())
        if job is None:
            return False
        begin, outcome = time.perf_counter(), AttemptOutcome.UNFINISHED
        with job_context(job.id), _ended_when_it_hangs(queue.max_job_s):
            try:
                outcome = self._run(job)
            except (LeaseLost, StaleJob):
                outcome = AttemptOutcome.LOST
                logger.warning("job is no longer ours; its result is dropped")
            except JobPutBack as reason:
                logger.info("job put back: %s", reason, extra={"action": "release"})
                self._give_back(job)
            except DiskShort:
                # No fault of the job, so it costs it no attempt.
                self._give_back(job)
                raise
            finally:
                seconds = time.perf_counter() - begin
                self._services.metrics.observe(
                    Metric.ATTEMPT_DURATION, seconds, outcome=outcome.value
                )
        return True

    def _give_back(self, job: JobRecord) -> None:
        """Put a job back undone, as soon as the database takes that."""
        with suppress(LeaseLost, StaleJob):
            while True:
                try:
                    self._services.jobs.release(job.id, self._name, now=utc_now())
                except (DatabaseError, DiskShort):
                    if self._stop.wait(TROUBLE_PAUSE_S):
                        raise
                else:
                    return

    def _run(self, job: JobRecord) -> AttemptOutcome:
        jobs, queue = self._services.jobs, self._services.settings.queue
        try:
            with LeaseKeeper(lambda: self._renew(job), queue.lease_s) as lease:
                return self._work(job, lease)
        except (LeaseLost, StaleJob, JobPutBack):
            raise
        except Exception as error:
            if is_disk_full(error):
                raise DiskShort(0, 1) from error
            logger.exception("attempt failed", extra={"action": "attempt-failed"})
            problem = _name_problem(error)
            jobs.fail_attempt(job.id, self._name, problem, queue.max_attempts, utc_now())
            return AttemptOutcome.FAILED

    def _renew(self, job: JobRecord) -> None:
        lease_s = self._services.settings.queue.lease_s
        self._services.jobs.heartbeat(job.id, self._name, lease_s=lease_s, now=utc_now())

    def _work(self, job: JobRecord, lease: LeaseKeeper) -> AttemptOutcome:
        folder = self._services.files.new_result_folder(job.id)
        try:
            self._keep(job, folder, self._produce(job, folder, lease))
        except UnsuitableSeries as error:
            self._reject(job, folder, str(error), Refusal(error.reason, error.detail))
        except LiverNotFound:
            missing = RejectionReason.LIVER_NOT_FOUND
            self._reject(job, folder, missing.sentence, Refusal(missing))
        else:
            return AttemptOutcome.PRODUCED
        finally:
            # Kept results have left this folder; what did not get so far is worth nothing.
            shutil.rmtree(folder, ignore_errors=True)
        return AttemptOutcome.REJECTED

    def _produce(self, job: JobRecord, folder: Path, lease: LeaseKeeper) -> Produced:
        def check(step: str, fraction: float) -> None:
            lease.check()
            if self._stop.is_set():
                raise JobPutBack("the node stops")
            steps.tell(step, round(fraction, 2))

        with StepWriter(partial(self._services.jobs.note_step, job.id, self._name)) as steps:
            check("load model", 0.0)
            segmenter = self._models.choose(job)
            return run_pipeline(
                self._input(job),
                folder,
                settings=self._services.settings,
                segmenter=segmenter,
                context=self._context(job),
                progress=check,
            )

    def _input(self, job: JobRecord) -> list[Path]:
        """Give the instances that the job was made for, or refuse to work on others."""
        catalog = self._services.catalog
        paths = catalog.instance_paths(job.series_uid)
        # The paths first: what arrives between the two lines changes the digest.
        if catalog.content_digest(job.series_uid) != job.content_digest:
            raise JobPutBack("another slice has arrived")
        return [self._services.files.absolute(path) for path in paths]

    def _context(self, job: JobRecord) -> ResultContext:
        """Say what the results tell of their making.

        Beside results of another model, a reader must see which are which.
        """
        earlier = self._services.jobs.find_predecessor(job)
        history = self._history(job, earlier)
        context = make_context(self._services.settings, job.created_at, history)
        if earlier is None or earlier.model_digest == job.model_digest:
            return context
        return context.naming(job.model_name, job.model_version)

    def _history(self, job: JobRecord, earlier: JobRecord | None) -> SeriesHistory:
        """Say what the series lacks, and which reports the new ones take the place of."""
        results = [] if earlier is None else self._services.jobs.results(earlier.id)
        reports = {
            profile: ReportReference(
                sop_class_uid=one.sop_class_uid,
                sop_instance_uid=one.sop_instance_uid,
                series_instance_uid=one.series_instance_uid,
            )
            for one in results
            if one.role == ResultRole.SR.value
            for profile in one.profiles
        }
        return SeriesHistory(remark=job.remark, predecessors=reports)

    def _keep(self, job: JobRecord, folder: Path, produced: Produced) -> None:
        """Make the result files durable, then the rows: a row never points to nothing."""
        self._services.files.commit_results(job.id, folder)
        self._services.jobs.produced(
            job.id,
            self._name,
            results=[_new_result(result, folder) for result in produced.results],
            destinations=self._services.settings.deliveries,
            summary=produced.report,
            now=utc_now(),
        )
        self._count_results(produced.results)
        for step, seconds in produced.report["steps_s"].items():
            self._services.metrics.observe(Metric.STEP_DURATION, seconds, step=step)

    def _count_results(self, results: Sequence[ResultFile | NewResult]) -> None:
        for result in results:
            self._services.metrics.count(Metric.RESULTS, role=result.role)

    def _reject(self, job: JobRecord, folder: Path, sentence: str, refusal: Refusal) -> None:
        settings = self._services.settings
        wanted = settings.results.report_rejected
        rejection = Rejection(
            reason_code=refusal.reason.value,
            sentence=sentence,
            results=self._report(job, folder, refusal) if wanted else (),
            destinations=settings.deliveries,
        )
        self._services.jobs.reject(job.id, self._name, rejection, utc_now())
        self._services.metrics.count(Metric.REJECTIONS, reason=rejection.reason_code)
        self._count_results(rejection.results)

    def _report(self, job: JobRecord, folder: Path, refusal: Refusal) -> list[NewResult]:
        """Write the report on a series that cannot be evaluated.

        Where that fails, the job is REJECTED all the same: it says why, and nothing is gained by
        trying again. A full disk is no fault of the job; it goes back.
        """
        model = self._models.choose(job).identity
        try:
            refused = RefusedSeries.read(self._input(job), refusal, self._context(job), model)
            if not refused.instances:
                return []
            written = write_refusal(refused, folder, write_refusal_pages(refused, folder))
            self._services.files.commit_results(job.id, folder)
        except (StorageError, JobPutBack):
            raise
        except Exception as error:
            if is_disk_full(error):
                raise
            logger.exception("no report can be written", extra={"action": "refuse"})
            return []
        return [_new_result(result, folder) for result in written]


def _name_problem(error: Exception) -> Problem:
    if isinstance(error, ResultMismatch):
        return Problem(f"Check before sending: {error}", FailureCode.CHECK_FAILED)
    if isinstance(error, (MissingModel, ModelPackageError)):
        return Problem(str(error), FailureCode.MODEL_MISSING, lasts=True)
    return Problem(f"{type(error).__name__}: {error}")


def _new_result(result: ResultFile, folder: Path) -> NewResult:
    return NewResult(
        role=result.role.value,
        path=result.path.relative_to(folder).as_posix(),
        profiles=result.profiles,
        sop_class_uid=result.sop_class_uid,
        sop_instance_uid=result.sop_instance_uid,
        series_instance_uid=result.series_instance_uid,
    )


@contextmanager
def _ended_when_it_hangs(limit_s: float) -> Iterator[None]:
    """End this process when the work takes too long, with the stacks of its threads in the log.

    The watch is no Python thread, so it also ends a network that hangs and never gives the
    interpreter back. The supervisor starts another worker; the lease of the job runs out.
    """
    faulthandler.dump_traceback_later(limit_s, exit=True, file=_STDERR)
    try:
        yield
    finally:
        faulthandler.cancel_dump_traceback_later()


def load_worker(services: Services, stop: threading.Event) -> Worker:
    """Load the model, warm it up and give a worker that is ready.

    Raises
    ------
    inference.errors.InferenceError
        When the model cannot be loaded or computed.
    """
    return Worker(services, load_configured(services.settings), stop)

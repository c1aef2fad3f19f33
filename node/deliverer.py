"""One attempt to deliver the results of a job, and why it failed."""

import logging
import time
from collections.abc import Iterable
from dataclasses import dataclass

from node.errors import Cause, NodeError
from node.exchange import send_files
from node.metrics import Metric
from node.scu import SentInstance
from node.services import Services
from storage.records import DeliveryRecord

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Attempt:
    """How an attempt came out."""

    cause: Cause | None = None
    """None where the destination has everything."""
    detail: str = ""
    """What failed; where nothing did, the warnings of the destination."""

    @property
    def problem(self) -> str:
        """What failed, the cause first; empty where nothing did."""
        return "" if self.cause is None else f"{self.cause.value}: {self.detail}"


def send_results(services: Services, delivery: DeliveryRecord) -> Attempt:
    """Send the results of a job to a destination, those of its profile."""
    begin = time.perf_counter()
    attempt = _send(services, delivery)
    seconds, name = time.perf_counter() - begin, delivery.destination
    services.metrics.observe(Metric.DELIVERY_DURATION, seconds, destination=name)
    outcome = "delivered" if attempt.cause is None else attempt.cause.value
    services.metrics.count(Metric.DELIVERY_ATTEMPTS, destination=name, outcome=outcome)
    return attempt


def _send(services: Services, delivery: DeliveryRecord) -> Attempt:
    peer = services.settings.destinations[delivery.destination]
    folder = services.files.result_folder(delivery.job_id)
    results = services.jobs.results(delivery.job_id, delivery.profile)
    if not results:
        # Nothing sent must not count as everything accepted.
        detail = f"job {delivery.job_id} has no results of the profile {delivery.profile!r}"
        return Attempt(cause=Cause.OURS, detail=detail)
    paths = [folder / result.path for result in results]
    try:
        return _judge(send_files(services.settings.node, peer, paths))
    except NodeError as error:
        return Attempt(cause=error.cause, detail=str(error))
    except OSError as error:
        return Attempt(cause=Cause.OURS, detail=str(error))
    except Exception as error:
        logger.exception("results cannot be sent", extra={"job_id": delivery.job_id})
        return Attempt(cause=Cause.OURS, detail=f"{type(error).__name__}: {error}")


def _judge(answers: Iterable[SentInstance]) -> Attempt:
    refused = [answer for answer in answers if not answer.stored]
    if not refused:
        return Attempt(detail=_list([answer for answer in answers if answer.status != 0]))
    lasting = all(answer.lasting for answer in refused)
    cause = Cause.REFUSED_LASTINGLY if lasting else Cause.REFUSED
    return Attempt(cause=cause, detail=_list(refused))


def _list(answers: Iterable[SentInstance]) -> str:
    return "; ".join(f"{answer.path.name}: {answer.answer}" for answer in answers)

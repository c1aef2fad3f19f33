"""Let a destination prove that it keeps the results of a job, as its settings ask."""

import contextlib
import logging
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from pydicom.uid import generate_uid

from config import AnyPeer, Proof
from node.clock import utc_now
from node.commitment import request_commitment
from node.errors import NodeError
from node.read_back import find_differences, find_instance, get_instance
from node.services import Services
from storage.errors import NotFound, StaleJob
from storage.records import ProofRecord, ResultRecord

logger = logging.getLogger(__name__)

SAME_ASSOCIATION_S = 1.0
"""How long a peer may take to answer a request for commitment on the association of the request."""
ASK_AGAIN = timedelta(hours=1)
"""A request for commitment that has not been answered for this long is sent anew."""


@dataclass(frozen=True, kw_only=True)
class _Question:
    """What is asked of whom."""

    proof: ProofRecord
    destination: str
    peer: AnyPeer
    study_uid: str
    results: Sequence[ResultRecord]
    folder: Path
    """Where the files of the results lie."""


class Prover:
    """Asks destinations for proof.

    Parameters
    ----------
    services
        Stores and settings.
    owner
        Holds the leases.
    """

    def __init__(self, services: Services, owner: str) -> None:
        self._services = services
        self._owner = owner
        self._steps: dict[Proof, Callable[[_Question], str]] = {
            Proof.COMMITMENT: self._commit,
            Proof.FIND: self._find,
            Proof.GET: self._get,
        }

    def attempt(self, proof: ProofRecord, destination: str) -> str:
        """Ask for what is not proven yet; give what is missing in words, empty if nothing is.

        Raises
        ------
        storage.errors.LeaseLost
        """
        delivery = self._services.deliveries.get(proof.delivery_id)
        job_id = delivery.job_id
        question = _Question(
            proof=proof,
            destination=destination,
            peer=self._services.settings.destinations[destination],
            study_uid=self._services.jobs.get(job_id).study_uid,
            results=self._services.jobs.results(job_id, delivery.profile),
            folder=self._services.files.result_folder(job_id),
        )
        try:
            for kind in question.peer.proofs:
                problem = self._steps[kind](question)
                if problem:
                    return f"{kind.value}: {problem}"
        except (NodeError, OSError) as error:
            return str(error)
        except StaleJob:
            raise
        except Exception as error:
            logger.exception("nothing can be proven", extra={"job_id": job_id})
            return f"{type(error).__name__}: {error}"
        return ""

    def _commit(self, question: _Question) -> str:
        proof = question.proof
        if proof.committed_at is not None:
            return ""
        if proof.asked_at is None or utc_now() - proof.asked_at > ASK_AGAIN:
            self._ask(question)
            proof = self._services.proofs.get(proof.delivery_id)
            if proof.committed_at is not None:
                return ""
            if proof.asked_at is None:
                return proof.last_error
        return f"waits for the answer of {question.peer.ae_title} to {proof.transaction_uid}"

    def _ask(self, question: _Question) -> None:
        """Send a request; it is on record before the peer can answer it."""
        proofs, answered = self._services.proofs, threading.Event()
        transaction_uid = str(generate_uid(prefix=None))
        proofs.asked(question.proof.delivery_id, self._owner, transaction_uid, now=utc_now())

        def take(uid: str, kept: frozenset[str], problem: str) -> None:
            proofs.answered(uid, kept=kept, problem=problem, now=utc_now())
            answered.set()

        try:
            request_commitment(
                self._services.settings.node,
                self._services.settings.committing[question.destination],
                transaction_uid=transaction_uid,
                results=question.results,
                wait=lambda: answered.wait(SAME_ASSOCIATION_S),
                on_answer=take,
            )
        except NodeError as error:
            # Nobody will answer it now; the next attempt asks anew.
            with contextlib.suppress(NotFound):
                proofs.answered(transaction_uid, kept=(), problem=str(error), now=utc_now())
            raise

    def _find(self, question: _Question) -> str:
        node, peer = self._services.settings.node, question.peer
        missing = [
            result.path
            for result in question.results
            if not find_instance(node, peer, question.study_uid, result)
        ]
        return f"{peer.ae_title} does not list {', '.join(missing)}" if missing else ""

    def _get(self, question: _Question) -> str:
        node, peer = self._services.settings.node, question.peer
        for result in question.results:
            found = get_instance(node, peer, question.study_uid, result)
            if found is None:
                return f"{peer.ae_title} does not give {result.path} back"
            differing = find_differences(question.folder / result.path, found)
            if differing:
                return f"{peer.ae_title} has changed {result.path}: {', '.join(differing)}"
        return ""

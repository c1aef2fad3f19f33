"""Fetch what the lists of people ask a peer for, row after row.

A person asked for it, so all CT series are fetched, and the rules decide once they are here. What
is here already stands in the catalog, so a row that was interrupted goes on where it was.
"""

import logging
import random
import threading
from dataclasses import dataclass, field
from functools import partial

from config import AnyPeer
from node.clock import utc_now
from node.errors import Cause, NodeError, NodeStopped, NotThere, PeerRefused, TooMany
from node.lease import LeaseKeeper
from node.night import is_night
from node.pull import pull_study
from node.retry import next_attempt_at
from node.services import Services
from node.study_query import ListedStudy, find_studies
from node.wanted import NAMES
from storage.errors import DatabaseError, DiskShort, FileStoreError, StaleJob
from storage.records import RetrievalProgress, RetrievalRecord

logger = logging.getLogger(__name__)


class Retriever:
    """Fetches from one peer.

    Parameters
    ----------
    services
        Stores and settings.
    name
        Of the peer.
    owner
        Holds the leases.
    stop
        Breaks a retrieval off when it is set.
    """

    def __init__(self, services: Services, name: str, owner: str, stop: threading.Event) -> None:
        self._services = services
        self._name = name
        self._owner = owner
        self._stop = stop

    def retrieve(self) -> None:
        """Fetch what is due, until nothing is or an attempt fails."""
        while not self._stop.is_set():
            row = self._claim()
            if row is None:
                return
            try:
                if not self._work_on(row):
                    return
            except StaleJob as error:
                logger.info("%s", error, extra={"action": "pull", "from": self._name})

    def _claim(self) -> RetrievalRecord | None:
        settings, now = self._services.settings, utc_now()
        return self._services.retrievals.claim_due(
            self._owner,
            peer=self._name,
            lease_s=settings.queue.lease_s,
            is_night=is_night(settings.pull, now),
            now=now,
        )

    def _work_on(self, row: RetrievalRecord) -> bool:
        """Attempt a row and record what came of it; say whether the peer may be asked for more."""
        retrievals = self._services.retrievals
        peer = self._services.settings.peers[self._name]
        attempt = _Attempt(self._services, peer, row, self._owner, self._stop)
        lease_s = self._services.settings.queue.lease_s
        try:
            with LeaseKeeper(partial(self._renew, row), lease_s):
                attempt.run()
        except NodeStopped:
            retrievals.release(row.id, self._owner, utc_now())
            return False
        except NotThere as error:
            retrievals.not_found(row.id, self._owner, str(error), utc_now())
            self._tell(logging.INFO, row, str(error))
        except TooMany as error:
            retrievals.attempt_failed(row.id, self._owner, str(error), None, utc_now())
            self._tell(logging.ERROR, row, str(error))
        except (StaleJob, DatabaseError, DiskShort):
            raise
        except (NodeError, FileStoreError, OSError) as error:
            cause = error.cause if isinstance(error, NodeError) else Cause.OURS
            self._fail(row, str(error), cause)
            return False
        except Exception as error:
            logger.exception("retrieval failed", extra={"from": self._name})
            self._fail(row, f"{type(error).__name__}: {error}", Cause.OURS)
            return False
        else:
            retrievals.done(row.id, self._owner, utc_now())
            self._tell(logging.INFO, row, f"{attempt.offered} instances are here")
        return True

    def _renew(self, row: RetrievalRecord) -> None:
        lease_s = self._services.settings.queue.lease_s
        self._services.retrievals.heartbeat(row.id, self._owner, lease_s, utc_now())

    def _fail(self, row: RetrievalRecord, problem: str, cause: Cause) -> None:
        now = utc_now()
        due = next_attempt_at(
            self._services.settings.pull,
            cause=cause,
            attempts=row.attempts,
            first_attempt_at=row.first_attempt_at or now,
            now=now,
            luck=random.random(),
        )
        self._services.retrievals.attempt_failed(row.id, self._owner, problem, due, now)
        self._tell(logging.ERROR if due is None else logging.WARNING, row, problem)

    def _tell(self, level: int, row: RetrievalRecord, what: str) -> None:
        # Not the value: it may be a patient's.
        extra = {"action": "pull", "from": self._name, "batch": row.batch, "row": row.id}
        logger.log(level, "pull: %s", what, extra=extra)


@dataclass
class _Attempt:
    """One attempt to fetch what a row asks for."""

    services: Services
    peer: AnyPeer
    row: RetrievalRecord
    owner: str
    stop: threading.Event
    offered: int = 0
    fetched: int = 0
    series_uids: list[str] = field(default_factory=list)

    def run(self) -> None:
        """Fetch all CT series of all studies; what stands against one holds up no other.

        Raises
        ------
        NotThere, TooMany, PeerUnreachable, PeerRefused, NodeStopped, LeaseLost
        """
        problems = []
        for study in self._find_studies():
            try:
                self._pull(study)
            except NotThere:
                continue
            except PeerRefused as error:
                problems.append(error)
        if problems:
            raise problems[0]
        if not self.series_uids:
            raise NotThere(f"{self.peer.ae_title} lists no CT series under {self._number}")

    @property
    def _number(self) -> str:
        return f"this {NAMES[self.row.key]}"

    def _find_studies(self) -> list[ListedStudy]:
        listed = find_studies(self.services, self.peer, self.row.key, self.row.value)
        studies = [study for study in listed if study.may_have_ct]
        most = self.services.settings.pull.max_studies
        if len(studies) > most:
            raise TooMany(
                f"{self.peer.ae_title} lists {len(studies)} studies with CT under {self._number}, "
                f"and pull.max_studies is {most}; name the studies by accession number or UID"
            )
        if not listed:
            raise NotThere(f"{self.peer.ae_title} lists no study under {self._number}")
        return studies

    def _pull(self, study: ListedStudy) -> None:
        offered, fetched = self.offered, self.fetched

        def on_progress(here: int, of: int) -> None:
            self.offered, self.fetched = offered + of, fetched + here
            self._note()

        pulled = pull_study(
            self.services,
            self.peer,
            study.study_uid,
            retrieval=self.row.retrieval,
            on_progress=on_progress,
            actor=self.row.actor,
        )
        missing = sum(len(series.missing) for series in pulled)
        self.fetched -= missing
        self.series_uids += [series.series_uid for series in pulled]
        self._note()
        if missing:
            total = sum(series.offered for series in pulled)
            raise PeerRefused(f"{missing} of {total} instances of a study did not come")

    def _note(self) -> None:
        """Keep the progress, unless the row is no longer ours or the node stops."""
        progress = RetrievalProgress(
            offered=self.offered, fetched=self.fetched, series_uids=self.series_uids
        )
        self.services.retrievals.note_progress(self.row.id, self.owner, progress, utc_now())
        if self.stop.is_set():
            raise NodeStopped

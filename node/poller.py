"""Ask a peer for new CT series, and fetch those that the rules may want.

What is here already stands in the catalog, so an interrupted fetch goes on at the next poll.
"""

import logging
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import timedelta

from pydicom.dataset import Dataset

from config import PollSettings
from dicom_io.rules import may_process
from dicom_io.values import read_count
from node.auditing import query_entry
from node.clock import utc_now
from node.errors import NodeError, NodeStopped, NotThere, PeerRefused
from node.exchange import find
from node.identifiers import ct_series_of, new_studies
from node.pull import pull_study
from node.services import Services
from storage.errors import NotFound, StorageError
from storage.records import AuditEntry

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class _Offer:
    """A series that a peer lists."""

    study_uid: str
    series_uid: str
    instance_count: int | None
    """None where the peer does not tell."""


class Poller:
    """Polls one peer.

    Parameters
    ----------
    services
        Stores and settings.
    name
        Of the peer.
    poll
        What is asked for, and how.
    stop
        Breaks a fetch off when it is set.
    on_query
        Told of each poll.
    """

    def __init__(
        self,
        services: Services,
        name: str,
        poll: PollSettings,
        stop: threading.Event,
        on_query: Callable[[AuditEntry], None] = lambda _: None,
    ) -> None:
        self._on_query = on_query
        self._services = services
        self._name = name
        self._peer = services.settings.peers[name]
        self._settings = poll
        self._stop = stop
        self._seen: dict[str, int | None] = {}
        """Instances of each series at the last poll: one that still grows is left for later."""
        self.trouble = ""
        """What went wrong at the last poll, in words."""

    def poll(self) -> None:
        """Fetch what is new and steady; what goes wrong is told, and tried again next time."""
        try:
            problems = self._poll()
        except NodeStopped:
            return
        except (NodeError, StorageError, OSError) as error:
            problems = [str(error)]
        except Exception as error:
            logger.exception("poll failed", extra={"from": self._name})
            problems = [f"{type(error).__name__}: {error}"]
        for problem in problems:
            logger.warning("poll: %s", problem, extra={"action": "poll", "from": self._name})
        self.trouble = f"poll of {self._name}: {problems[0]}" if problems else ""

    def _poll(self) -> list[str]:
        """Fetch, and give in words what could not be fetched."""
        offers = list(self._list_offers())
        seen, self._seen = self._seen, {one.series_uid: one.instance_count for one in offers}
        problems, fetched = [], 0
        for offer in offers:
            if seen.get(offer.series_uid, -1) != offer.instance_count or self._has(offer):
                continue
            if fetched == self._settings.max_series:
                break
            try:
                fetched += self._fetch(offer)
            except (PeerRefused, NotThere) as error:
                problems.append(f"series {offer.series_uid}: {error}")
        return problems

    def _list_offers(self) -> Iterator[_Offer]:
        """List the series of the last days that the rules may want."""
        node = self._services.settings.node
        first_day = utc_now().date() - timedelta(days=self._settings.days)
        key = new_studies(first_day)
        self._on_query(query_entry(self._peer, key, "poll", "scheduler"))
        for study in find(node, self._peer, key):
            self._go_on()
            uid = str(study.StudyInstanceUID)
            for match in find(node, self._peer, ct_series_of(uid)):
                count = read_count(match, "NumberOfSeriesRelatedInstances")
                if self._is_wanted(study, match, count):
                    series_uid = str(match.SeriesInstanceUID)
                    yield _Offer(study_uid=uid, series_uid=series_uid, instance_count=count)

    def _is_wanted(self, study: Dataset, series: Dataset, count: int | None) -> bool:
        told = Dataset()
        told.update(study)
        told.update(series)
        return may_process(
            self._services.settings.rules,
            told,
            calling_ae_title=self._peer.ae_title,
            instance_count=count,
        )

    def _has(self, offer: _Offer) -> bool:
        """Say whether a series is complete here, as far as the peer tells its size."""
        try:
            here = self._services.catalog.get_series(offer.series_uid)
        except NotFound:
            return False
        return offer.instance_count is not None and here.instance_count >= offer.instance_count

    def _fetch(self, offer: _Offer) -> bool:
        """Fetch what is missing of a series; say whether there was anything."""
        [pulled] = pull_study(
            self._services,
            self._peer,
            offer.study_uid,
            series_uid=offer.series_uid,
            retrieval=self._settings.by,
            on_progress=lambda *_: self._go_on(),
        )
        if pulled.missing:
            raise PeerRefused(f"{len(pulled.missing)} of {pulled.offered} instances did not come")
        if pulled.fetched:
            logger.info(
                "series fetched",
                extra={
                    "action": "poll",
                    "from": self._name,
                    "series_uid": pulled.series_uid,
                    "instances": pulled.fetched,
                },
            )
        return pulled.fetched > 0

    def _go_on(self) -> None:
        if self._stop.is_set():
            raise NodeStopped

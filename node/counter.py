"""Ask a sender by C-FIND how many instances a series has of which it sends some."""

import logging
import time
from collections.abc import Callable

from dicom_io.values import read_count
from node.auditing import query_entry
from node.clock import utc_now
from node.errors import NodeError, PeerRefused
from node.identifiers import instances_of, size_of_series
from node.query import find
from node.services import Services
from storage.open_series import Patience
from storage.records import AuditEntry, SeriesRecord

logger = logging.getLogger(__name__)

PAUSE_S = 10.0
"""After a question that failed."""


class Counter:
    """Asks one sender.

    Parameters
    ----------
    services
        Stores and settings.
    name
        Of the peer.
    patience
        When a series is taken for quiet.
    on_query
        Told of each question, whatever the series.
    """

    def __init__(
        self,
        services: Services,
        name: str,
        patience: Patience,
        on_query: Callable[[AuditEntry], None] = lambda _: None,
    ) -> None:
        self._on_query = on_query
        self._services = services
        self._name = name
        self._peer = services.settings.counting[name]
        self._patience = patience
        self._pause_until_s = 0.0
        self.trouble = ""
        """What went wrong with the last question, in words."""

    def count(self) -> None:
        """Ask about each series of which the number is wanted; pause where a question failed."""
        if time.monotonic() < self._pause_until_s:
            return
        open_series, problem = self._services.open_series, ""
        for series in open_series.list_uncounted(self._peer.ae_title, self._patience, utc_now()):
            asked_at = utc_now()
            try:
                count = self._ask(series)
            except PeerRefused as error:
                # It may answer for the others.
                problem = str(error)
            except (NodeError, OSError) as error:
                problem = str(error)
                break
            else:
                open_series.note_count(series.series_uid, count, asked_at)
        self._tell(problem)
        if problem:
            self._pause_until_s = time.monotonic() + PAUSE_S

    def _ask(self, series: SeriesRecord) -> int:
        """Take what the peer says of the series, or count what it lists (PS3.4 C.6.2.1.3)."""
        uids = series.study_uid, series.series_uid
        self._on_query(query_entry(self._peer, size_of_series("", ""), "count", "scheduler"))
        node = self._services.settings.node
        for match in find(node, self._peer, size_of_series(*uids)):
            count = read_count(match, "NumberOfSeriesRelatedInstances")
            if count is not None:
                return count
        return len(find(node, self._peer, instances_of(*uids)))

    def _tell(self, problem: str) -> None:
        """Say what went wrong, once for as long as it lasts; empty where nothing did."""
        what = f"{self._name} cannot be asked for the number of instances: {problem}"
        trouble = what if problem else ""
        if trouble not in ("", self.trouble):
            logger.warning("%s", trouble, extra={"action": "count", "peer": self._name})
        self.trouble = trouble

"""Ask a sender by C-FIND how many instances a series has of which it sends some."""

import logging
from datetime import timedelta

from dicom_io.values import read_count
from node.clock import utc_now
from node.errors import NodeError
from node.query import find, make_key
from node.services import Services
from storage.open_series import Patience
from storage.records import SeriesRecord

logger = logging.getLogger(__name__)

PAUSE = timedelta(seconds=10)
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
    """

    def __init__(self, services: Services, name: str, patience: Patience) -> None:
        self._services = services
        self._name = name
        self._peer = services.settings.counting[name]
        self._patience = patience
        self._next_at = utc_now()
        self.trouble = ""
        """What went wrong with the last question, in words."""

    def count(self) -> None:
        """Ask about each series of which the number is wanted, until a question fails."""
        now = utc_now()
        if now < self._next_at:
            return
        open_series = self._services.open_series
        for series in open_series.list_uncounted(self._peer.ae_title, self._patience, now):
            asked_at = utc_now()
            try:
                count = self._ask(series)
            except (NodeError, OSError) as error:
                self._tell(str(error))
                self._next_at = utc_now() + PAUSE
                return
            self.trouble = ""
            open_series.note_count(series.series_uid, count, asked_at)

    def _ask(self, series: SeriesRecord) -> int:
        """Take what the peer says of the series, or count what it lists (PS3.4 C.6.2.1.3)."""
        uids = {"StudyInstanceUID": series.study_uid, "SeriesInstanceUID": series.series_uid}
        node = self._services.settings.node
        key = make_key("SERIES", **uids, NumberOfSeriesRelatedInstances="")
        for match in find(node, self._peer, key):
            count = read_count(match, "NumberOfSeriesRelatedInstances")
            if count is not None:
                return count
        return len(find(node, self._peer, make_key("IMAGE", **uids, SOPInstanceUID="")))

    def _tell(self, problem: str) -> None:
        """Say what went wrong, once for as long as it lasts."""
        trouble = f"{self._name} cannot be asked for the number of instances: {problem}"
        if trouble != self.trouble:
            logger.warning("%s", trouble, extra={"action": "count", "peer": self._name})
        self.trouble = trouble

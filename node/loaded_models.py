"""The models that a worker holds: that of the settings, and at most one other beside it."""

import logging
import time

from config import Settings, TumorEngine
from inference.identity import find_settings
from inference.segment import Segmenter, load_segmenter
from node.errors import MissingModel
from node.models import located
from storage.records import JobRecord

logger = logging.getLogger(__name__)

KEPT_S = 300.0
"""How long another model is kept after it was last needed."""


def load_configured(settings: Settings) -> Segmenter:
    """Load the model of the settings, and warm it up.

    Raises
    ------
    inference.errors.InferenceError
        When it cannot be loaded or computed.
    """
    segmenter = load_segmenter(
        located(settings), keeps_probabilities=settings.delivers_probabilities
    )
    segmenter.warm_up()
    return segmenter


class LoadedModels:
    """Gives each job what it was made for.

    Parameters
    ----------
    settings
        The whole tree.
    configured
        The model of the settings, loaded; it stays so.
    """

    def __init__(self, settings: Settings, configured: Segmenter) -> None:
        self._settings = settings
        self._configured = configured
        self._other: Segmenter | None = None
        self._needed_at = 0.0

    def choose(self, job: JobRecord) -> Segmenter:
        """Give the model of a job; another one is loaded in the place of the one loaded before.

        Raises
        ------
        MissingModel
            This node does not have it, or not with these settings.
        inference.errors.InferenceError
            It cannot be loaded or computed.
        """
        if self._configured.identity.digest == job.model_digest:
            return self._configured
        if self._other is None or self._other.identity.digest != job.model_digest:
            self._other = None
            self._other = self._load(job)
        self._needed_at = time.monotonic()
        return self._other

    def release_unneeded(self) -> None:
        """Let go of another model that no job has needed for a while."""
        if self._other is not None and time.monotonic() - self._needed_at > KEPT_S:
            self._other = None

    def _load(self, job: JobRecord) -> Segmenter:
        settings, needs_network = self._settings, self._settings.delivers_probabilities
        wanted = find_settings(job.model_digest, settings.inference, settings.model_folders)
        if wanted is None or (needs_network and wanted.tumor_engine is not TumorEngine.NETWORK):
            raise MissingModel(job.id, f"{job.model_name} {job.model_version}")
        logger.info("another model is loaded", extra={"model": wanted.model})
        segmenter = load_segmenter(wanted, keeps_probabilities=needs_network)
        segmenter.warm_up()
        return segmenter

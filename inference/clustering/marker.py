"""A method that marks tumor, as settings choose it: its parameters, and the papers they change."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from config.inference import InferenceSettings, TumorEngine
from inference.clustering.cleanup import BoolArray, Element
from inference.errors import ClusteringError
from inference.manifest import ModelIdentity

if TYPE_CHECKING:
    from inference.clustering.marking import Marking

_PARAMETERS = {
    TumorEngine.KMEANS: ("clusters",),
    TumorEngine.DBSCAN: ("eps_sd", "min_samples"),
    TumorEngine.GMM: ("clusters", "tolerance"),
}
_COMMON_PARAMETERS = ("low_hu", "high_hu", "tumor_cluster", "erosion", "dilation")


@dataclass(frozen=True, kw_only=True)
class TumorMarker:
    """A method with its parameters: marks tumor in a liver, and says so in the papers.

    Raises
    ------
    ClusteringError
        The settings name no method, or a structuring element that is none.
    """

    settings: InferenceSettings

    def __post_init__(self) -> None:
        if self.settings.tumor_engine is TumorEngine.NETWORK:
            raise ClusteringError("the network clusters nothing; choose kmeans, dbscan or gmm")
        for text in (self.settings.clustering.erosion, self.settings.clustering.dilation):
            Element.parse(text)

    @property
    def engine(self) -> TumorEngine:
        """The method."""
        return self.settings.tumor_engine

    @property
    def parameters(self) -> dict[str, str]:
        """All that the result depends on: the method and those settings that it uses."""
        values = self.settings.clustering.model_dump(mode="json")
        names = (*_PARAMETERS[self.engine], *_COMMON_PARAMETERS)
        return {"tumor_engine": self.engine.value, **{name: str(values[name]) for name in names}}

    def sign(self, model: ModelIdentity) -> ModelIdentity:
        """Give the papers of a model whose liver this method looks at.

        Name and digest are others than those of the model alone, and the digest changes with each
        parameter, so that jobs and results are told apart.
        """
        content = json.dumps([model.digest, self.parameters], sort_keys=True)
        return replace(
            model,
            name=f"{model.name}+{self.engine.value}",
            digest=hashlib.sha256(content.encode("utf-8")).hexdigest(),
            parameters=self.parameters,
        )

    def mark(
        self,
        channels: Sequence[NDArray[np.integer]],
        liver: BoolArray,
        spacing_mm: tuple[float, float],
    ) -> "Marking":
        """Mark tumor.

        Parameters
        ----------
        channels:
            (slices, rows, columns), whole HU, one for each phase; slices are axial.
        liver:
            The same shape, the liver with its tumors.
        spacing_mm:
            Distance of rows and of columns.

        Raises
        ------
        ClusteringError
            The arrays do not fit, or the CT numbers cannot be clustered as asked.
        """
        # It brings scipy, which a process that only signs does without.
        from inference.clustering.marking import mark_tumor

        return mark_tumor(channels, liver, spacing_mm, self.settings)


def make_marker(settings: InferenceSettings) -> TumorMarker | None:
    """Give the method that the settings name; none where the network itself marks tumor.

    Raises
    ------
    ClusteringError
        Its settings cannot be used.
    """
    if settings.tumor_engine is TumorEngine.NETWORK:
        return None
    return TumorMarker(settings=settings)

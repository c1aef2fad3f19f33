"""The papers of what finds liver and tumor: who does so, without loading any of it.

What only signs or compares papers, as a scheduler does, needs no network and no engine.
"""

import hashlib
from dataclasses import replace

from config.inference import InferenceSettings
from inference.clustering.marker import TumorMarker, make_marker
from inference.manifest import ModelIdentity, ModelPackage, find_package


def identify(settings: InferenceSettings) -> ModelIdentity:
    """Give the papers of what finds liver and tumor by these settings, without loading it.

    Raises
    ------
    ModelPackageError
        There is no such package, or its manifest is wrong.
    ClusteringError
        The settings of the method that marks tumor cannot be used.
    """
    package = find_package(settings.model)
    return sign(package, make_marker(settings), is_filtered=settings.candidate_filter)


def sign(package: ModelPackage, marker: TumorMarker | None, *, is_filtered: bool) -> ModelIdentity:
    """Give papers that differ where settings change the result."""
    model = package.identity
    if marker is not None:
        return marker.sign(model)
    if package.manifest.candidates is None or is_filtered:
        return model
    digest = hashlib.sha256(f"{model.digest} without its filter".encode()).hexdigest()
    parameters = {"candidate_filter": "off"}
    return replace(model, name=f"{model.name}-unfiltered", digest=digest, parameters=parameters)

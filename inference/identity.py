"""The papers of what finds liver and tumor: who does so, without loading any of it.

What only signs or compares papers, as a scheduler does, needs no network and no engine.
"""

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from itertools import product
from pathlib import Path

from config.inference import InferenceSettings, TumorEngine
from inference.clustering.marker import TumorMarker, make_marker
from inference.errors import ClusteringError, ModelPackageError
from inference.manifest import ModelIdentity, ModelPackage, find_package, list_packages


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


def find_settings(
    digest: str, settings: InferenceSettings, folders: Sequence[Path] = ()
) -> InferenceSettings | None:
    """Give the settings by which something with these papers finds liver and tumor.

    All models are tried, with each method to mark tumor and with and without their filters; of
    what a method depends on, only the present settings are known.

    Parameters
    ----------
    digest
        Of the papers.
    settings
        Those in force; they come first.
    folders
        As of `find_package`.

    Returns
    -------
    InferenceSettings or None
        None where no model of this node has, or by the present settings gets, such papers.
    """
    for candidate in _variants(settings, folders):
        with suppress(ModelPackageError, ClusteringError):
            if identify(candidate).digest == digest:
                return candidate
    return None


def _variants(settings: InferenceSettings, folders: Sequence[Path]) -> Iterator[InferenceSettings]:
    yield settings
    models = [settings.model, *(str(package.folder) for package in list_packages(folders))]
    for model, engine, is_filtered in product(models, TumorEngine, (True, False)):
        yield settings.model_copy(
            update={"model": model, "tumor_engine": engine, "candidate_filter": is_filtered}
        )


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

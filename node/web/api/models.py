"""The models that jobs can be made for."""

from collections.abc import Sequence
from typing import Any

from fastapi import APIRouter

from node.models import ModelOrigin, survey_models
from node.web.access import ServicesHere, Viewer
from node.web.api.common import Answer

router = APIRouter(prefix="/models", tags=["models"])


class Model(Answer):
    """A model package."""

    reference: str
    """NAME@VERSION, by which it is asked for."""
    name: str
    version: str
    digest: str
    """SHA-256 of all that decides what it gives."""
    license: str
    origin: ModelOrigin
    in_use: bool
    """Whether new series get it."""
    description: str
    metrics: dict[str, Any]
    """What was measured, by data set."""


class ModelList(Answer):
    """What the node has."""

    usable: Sequence[Model]
    """Those that ship with the node first."""
    problems: Sequence[str]
    """What cannot be used, and why."""


@router.get("")
def list_models(services: ServicesHere, visitor: Viewer) -> ModelList:
    """List the models of the node."""
    del visitor
    found = survey_models(services.settings)
    usable = [
        Model.model_validate(
            {
                **vars(one.package.identity),
                "reference": one.package.reference,
                "origin": one.origin,
                "in_use": one.in_use,
                "description": one.package.manifest.description,
                "metrics": one.package.manifest.metrics,
            }
        )
        for one in found.usable
    ]
    return ModelList(usable=usable, problems=found.problems)

"""Models: what the node has, the papers of each, are its files as stated, remove one."""

from typing import Any

from fastapi import APIRouter, Request, Response

from inference.errors import ModelPackageError
from inference.manifest import verify_package
from node.errors import ModelRefused
from node.models import Model, ModelOrigin, read_card, remove_model, survey_models
from node.services import Services
from node.web.access import Administrator, Operator, ServicesHere, Viewer
from node.web.errors import Conflict, NotHere
from node.web.journal import note_action
from node.web.markdown import render_markdown
from node.web.rendering import go_to, render

router = APIRouter(prefix="/models")


@router.get("")
def list_models(request: Request, services: ServicesHere, visitor: Viewer) -> Response:
    """List the models."""
    del visitor
    return render(request, "models/list.html", {"models": survey_models(services.settings)})


@router.get("/{reference}")
def show_model(
    request: Request, services: ServicesHere, visitor: Viewer, reference: str
) -> Response:
    """Show the papers of a model."""
    del visitor
    model = _find(services, reference)
    manifest = model.package.manifest
    context: dict[str, Any] = {
        "model": model,
        "manifest": manifest,
        "measures": sorted({name for values in manifest.metrics.values() for name in values}),
        "card": render_markdown(read_card(model.package)),
        "is_added": model.origin is ModelOrigin.ADDED,
    }
    return render(request, "models/one.html", context)


@router.post("/{reference}/verify")
def verify(request: Request, services: ServicesHere, visitor: Operator, reference: str) -> Response:
    """Compare the files of a model with its manifest."""
    package = _find(services, reference).package
    try:
        verify_package(package)
    except ModelPackageError as error:
        raise Conflict(str(error)) from error
    note_action(services, visitor, "model verify", detail={"model": package.reference})
    return go_to(request, f"/models/{package.reference}", "All files are as the manifest says.")


@router.post("/{reference}/remove")
def remove(
    request: Request, services: ServicesHere, visitor: Administrator, reference: str
) -> Response:
    """Remove an added model."""
    package = _find(services, reference).package
    try:
        remove_model(services, package.reference)
    except (ModelRefused, ModelPackageError) as error:
        raise Conflict(f"It is not removed: {error}.") from error
    detail = {"model": package.reference, "digest": package.identity.digest}
    note_action(services, visitor, "model remove", detail=detail)
    return go_to(request, "/models", f"{package.reference} is removed; what it made stays.")


def _find(services: Services, reference: str) -> Model:
    for model in survey_models(services.settings).usable:
        if model.package.reference == reference:
            return model
    raise NotHere(f"The node has no model {reference}.")

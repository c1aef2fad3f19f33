"""What machines ask for: health, readiness, metrics; without users, and without patient data."""

from collections.abc import Iterable

from fastapi import APIRouter, Response
from fastapi.responses import JSONResponse
from prometheus_client import CONTENT_TYPE_LATEST

from node.health import Check, Verdict, check_ready, check_running
from node.metrics_page import render_metrics
from node.web.access import ServicesHere

router = APIRouter(include_in_schema=False)


@router.get("/healthz")
def healthz(services: ServicesHere) -> JSONResponse:
    """Say whether all roles run."""
    return _answer(check_running(services.settings))


@router.get("/readyz")
def readyz(services: ServicesHere) -> JSONResponse:
    """Say whether the node can take and process series."""
    return _answer(check_ready(services.settings))


@router.get("/metrics")
def metrics(services: ServicesHere) -> Response:
    """Give the metrics of all processes, as Prometheus reads them."""
    return Response(render_metrics(services), media_type=CONTENT_TYPE_LATEST)


def _answer(checks: Iterable[Check]) -> JSONResponse:
    """Say how the checks came out; one that is bad makes it 503."""
    done = list(checks)
    bad = any(check.verdict is Verdict.BAD for check in done)
    content = {check.name: "; ".join(filter(None, (check.detail, check.limit))) for check in done}
    return JSONResponse(content, status_code=503 if bad else 200)

"""The web role: health checks and metrics for machines, and plain job pages for people.

The pages show no patient data. They have no users and no passwords: keep them on loopback.
"""

import threading
import time
from collections.abc import Iterable
from pathlib import Path

import uvicorn
from fastapi import FastAPI, HTTPException, Request, Response
from fastapi.responses import FileResponse, HTMLResponse, JSONResponse
from fastapi.templating import Jinja2Templates
from prometheus_client import CONTENT_TYPE_LATEST

from node.clock import utc_now
from node.health import Check, Verdict, check_ready, check_running
from node.metrics_page import render_metrics
from node.services import Services
from storage.errors import NotFound

_PAGES = Jinja2Templates(directory=Path(__file__).parent / "templates")
_JOBS_SHOWN = 100
_START_POLL_S = 0.02


def build_app(services: Services) -> FastAPI:
    """Build the pages over the stores of a node."""
    app = FastAPI(title="Hepar", docs_url=None, redoc_url=None, openapi_url=None)

    _add_probes(app, services)

    @app.get("/", response_class=HTMLResponse)
    def jobs(request: Request) -> Response:
        context = {
            "jobs": services.jobs.list_jobs(limit=_JOBS_SHOWN),
            "series": services.catalog.list_series(limit=_JOBS_SHOWN),
            "ae_title": services.settings.node.ae_title,
            "now": utc_now(),
        }
        return _PAGES.TemplateResponse(request, "jobs.html", context)

    @app.get("/jobs/{job_id}", response_class=HTMLResponse)
    def job(request: Request, job_id: int) -> Response:
        try:
            record = services.jobs.get(job_id)
        except NotFound as error:
            raise HTTPException(404, str(error)) from None
        context = {
            "job": record,
            "events": services.jobs.events(job_id),
            "deliveries": services.deliveries.list_deliveries(job_id),
            "proofs": services.proofs.list_proofs(job_id),
            "has_preview": _preview(services, job_id).exists(),
        }
        return _PAGES.TemplateResponse(request, "job.html", context)

    @app.get("/jobs/{job_id}/preview.png")
    def preview(job_id: int) -> FileResponse:
        path = _preview(services, job_id)
        if not path.exists():
            raise HTTPException(404, f"job {job_id} has no preview")
        return FileResponse(path, media_type="image/png")

    return app


def _add_probes(app: FastAPI, services: Services) -> None:
    """Add what machines ask for."""

    @app.get("/healthz")
    def healthz() -> JSONResponse:
        return _answer(check_running(services.settings))

    @app.get("/readyz")
    def readyz() -> JSONResponse:
        return _answer(check_ready(services.settings))

    @app.get("/metrics")
    def metrics() -> Response:
        return Response(render_metrics(services), media_type=CONTENT_TYPE_LATEST)


def _answer(checks: Iterable[Check]) -> JSONResponse:
    """Say how the checks came out; one that is bad makes it 503."""
    done = list(checks)
    bad = any(check.verdict is Verdict.BAD for check in done)
    content = {check.name: "; ".join(filter(None, (check.detail, check.limit))) for check in done}
    return JSONResponse(content, status_code=503 if bad else 200)


def _preview(services: Services, job_id: int) -> Path:
    return services.files.result_folder(job_id) / "preview.png"


class WebServer:
    """uvicorn in a thread of the web role."""

    def __init__(self, services: Services) -> None:
        web = services.settings.web
        config = uvicorn.Config(
            build_app(services), host=web.host, port=web.port, log_config=None, access_log=False
        )
        self._address = f"{web.host}:{web.port}"
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(target=self._server.run, name="web")

    def start(self) -> None:
        """Listen and serve.

        Raises
        ------
        OSError
            When the address cannot be bound; uvicorn's log line says why.
        """
        self._thread.start()
        while not self._server.started:
            if not self._thread.is_alive():
                raise OSError(f"cannot listen on {self._address}")
            time.sleep(_START_POLL_S)

    def stop(self) -> None:
        """Finish the requests in progress and stop."""
        self._server.should_exit = True
        self._thread.join()

"""OHIF in headless Chromium, in front of an archive that speaks DICOMweb.

OHIF's static build comes from npm (``docker/install-viewers``) and runs with the settings of our
own example, ``docker/ohif.js``. It and the archive's DICOMweb are served from one origin, as nginx
does in ``docker/compose.yaml``. Only loopback is reached.
"""

import re
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import httpx
import uvicorn
from fastapi import FastAPI, Request, Response
from playwright.sync_api import Page
from starlette.background import BackgroundTask
from starlette.responses import FileResponse, StreamingResponse

from benchmarks.peers import find_free_port
from benchmarks.viewers.browser import open_page
from benchmarks.viewers.voxels import viewers_folder

OHIF_VERSION = "3.13.2"
SETTINGS = Path(__file__).parents[2] / "docker" / "ohif.js"
_UNATTENDED = """
Object.assign(window.config, {
  disableConfirmationPrompts: true,
  investigationalUseDialog: { option: 'never' },
  showErrorDetails: 'always',
});
"""
"""Nobody is there to answer questions."""
_ISOLATED = {
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Embedder-Policy": "require-corp",
}
"""OHIF decodes in workers that share memory."""
_HOP_BY_HOP = {"connection", "keep-alive", "transfer-encoding", "upgrade", "content-length"}
_HIDE = (
    ".shepherd-modal-overlay-container, .shepherd-element,"
    " div:has(> [data-cy^=cine-player]) { display: none !important }"
)
"""A tour for beginners, and buttons that lie over the pictures."""
_PANE = '[data-cy="viewport-pane"]'
_NUMBER = re.compile(r"^([A-Z][A-Za-z ]+)\n+(-?[\d.]+)(?:\s*(?:HU|mm\u00b3))?$", re.MULTILINE)
"""A title and a number in a table of OHIF."""
_SEGMENTATIONS = "services.segmentationService.getSegmentations()"
_SEGMENTS = f"{_SEGMENTATIONS}.at(-1)"
_READ_SEGMENTS = f"""() => {{
  const segmentation = {_SEGMENTS};
  const viewport = services.viewportGridService.getActiveViewportId();
  return Object.values(segmentation.segments).map(segment => ({{
    number: segment.segmentIndex,
    label: segment.label,
    color: Array.from(services.segmentationService.getSegmentColor(
      viewport, segmentation.segmentationId, segment.segmentIndex)).slice(0, 3),
  }}));
}}"""
_READ_STATISTICS = f"""number => Object.fromEntries(
  Object.values({_SEGMENTS}.segments[number].cachedStats.namedStats)
    .map(one => [one.name, one.value]))"""
_READ_CONTOURS = f"""() => Array.from(
  {_SEGMENTS}.representationData.Contour.annotationUIDsMap, ([number, uids]) => [
    number, Array.from(uids, uid => Array.from(
      cornerstoneTools.annotation.state.getAnnotation(uid).data.contour.polyline,
      point => Array.from(point)))])"""
_HAS_SCAN = """() => services.cornerstoneViewportService
  .getCornerstoneViewport(services.viewportGridService.getActiveViewportId())
  .getImageIds().every(id => cornerstone.cache.getImage(id))"""
_DRAWN = "cornerstoneTools.annotation.state.getAllAnnotations()" + (
    ".filter(one => one.metadata.toolName === 'DICOMSRDisplay')"
)
_READ_FINDINGS = f"""() => {{
  const lines = {_DRAWN};
  return services.displaySetService.getActiveDisplaySets()
    .filter(one => one.Modality === 'SR')
    .flatMap(one => one.measurements)
    .map(one => ({{
      tracking_uid: one.TrackingUniqueIdentifier,
      labels: one.labels.map(label => [label.label, label.value]),
      lines: lines
        .filter(line => line.data.TrackingUniqueIdentifier === one.TrackingUniqueIdentifier)
        .map(line => Array.from(line.data.handles.points, point => Array.from(point))),
    }}));
}}"""


def ohif_folder() -> Path:
    """Give the folder of OHIF's static build."""
    return viewers_folder() / f"ohif-{OHIF_VERSION}"


@contextmanager
def serve_ohif(archive_url: str) -> Iterator[str]:
    """Serve OHIF and the DICOMweb of an archive from one origin; gives its address.

    Parameters
    ----------
    archive_url
        The archive, without the path of DICOMweb.
    """
    port = find_free_port()
    app = _make_app(archive_url)
    server = uvicorn.Server(
        uvicorn.Config(app, host="127.0.0.1", port=port, log_level="error", lifespan="off")
    )
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        while not server.started:
            assert thread.is_alive(), "the server of OHIF did not start"
            time.sleep(0.02)
        yield f"http://127.0.0.1:{port}"
    finally:
        server.should_exit = True
        thread.join()


def _make_app(archive_url: str) -> FastAPI:
    app = FastAPI(openapi_url=None)
    root = ohif_folder()

    @app.api_route("/dicom-web/{path:path}", methods=["GET", "POST", "OPTIONS"])
    async def pass_on(request: Request) -> Response:
        client = httpx.AsyncClient(base_url=archive_url, timeout=60, trust_env=False)
        # The Host header goes with it: Orthanc makes the addresses of bulk data of it.
        question = client.build_request(
            request.method,
            httpx.URL(path=request.url.path, query=request.url.query.encode()),
            headers=request.headers.raw,
            content=await request.body(),
        )
        answer = await client.send(question, stream=True)

        async def close() -> None:
            await answer.aclose()
            await client.aclose()

        return StreamingResponse(
            answer.aiter_raw(),
            status_code=answer.status_code,
            headers={k: v for k, v in answer.headers.items() if k.lower() not in _HOP_BY_HOP},
            background=BackgroundTask(close),
        )

    @app.get("/app-config.js")
    def settings() -> Response:
        text = SETTINGS.read_text(encoding="utf-8") + _UNATTENDED
        return Response(text, media_type="text/javascript", headers=_ISOLATED)

    @app.get("/{path:path}")
    def static(path: str) -> Response:
        file = (root / path).resolve()
        if not (file.is_relative_to(root) and file.is_file()):
            file = root / "index.html"
        return FileResponse(file, headers=_ISOLATED)

    return app


_HAS = """modality => services.viewportGridService
  .getDisplaySetsUIDsForViewport(services.viewportGridService.getActiveViewportId())
  ?.some(uid => services.displaySetService.getDisplaySetByUID(uid).Modality === modality)"""
_READ_IMAGE = """() => {
  const id = services.viewportGridService.getActiveViewportId();
  const viewport = services.cornerstoneViewportService.getCornerstoneViewport(id);
  const image = viewport?.viewportStatus === 'rendered' ? viewport.getImageData() : null;
  if (!image) return null;
  const [columns, rows] = image.dimensions;
  const values = image.scalarData;
  return { columns, rows, mean: values.reduce((sum, value) => sum + value, 0) / values.length };
}"""


@dataclass(frozen=True, kw_only=True)
class ShownSegment:
    """A segment, or a structure of an RTSTRUCT, as OHIF lists it."""

    number: int
    label: str
    color: tuple[int, int, int]
    statistics: dict[str, Any] = field(default_factory=dict)
    """What OHIF has computed of its voxels: ``count``, ``volume`` in mm3, ``mean`` in HU, ..."""
    displayed: dict[str, float] = field(default_factory=dict)
    """The numbers in its table, as they stand there, by their title."""


@dataclass(frozen=True, kw_only=True)
class ShownFinding:
    """A finding of a report as OHIF has it."""

    tracking_uid: str
    labels: list[tuple[str, str]]
    """Titles and values."""
    lines: list[list[list[float]]]
    """Of each line its points in patient coordinates."""


@dataclass(frozen=True, kw_only=True)
class ShownImage:
    """An image as OHIF has it."""

    size: tuple[int, int]
    """Rows, columns."""
    mean: float
    """Of all its values."""


@dataclass(frozen=True, kw_only=True)
class Ohif:
    """A page of OHIF."""

    page: Page
    origin: str

    def open_study(self, study_uid: str) -> None:
        """Open a study, and wait until its first image is shown."""
        self.page.goto(f"{self.origin}/viewer?StudyInstanceUIDs={study_uid}")
        self.page.add_style_tag(content=_HIDE)
        self.page.locator('[data-cy="viewport-overlay-bottom-right"]').first.wait_for()
        self._wait_for_image("CT")

    def show(self, modality: str) -> None:
        """Ask for the first series of a modality, by a double click as a reader would."""
        series = self.page.locator('[data-cy^="study-browser-thumbnail"]')
        series.filter(has_text=re.compile(rf"^\s*{modality}")).first.dblclick()

    def show_segments(self, modality: str) -> list[ShownSegment]:
        """Show a segmentation or a structure set, and read the list of its segments."""
        self.page.locator('[data-cy="panelSegmentation-btn"]').click()
        shown = self.page.evaluate(f"{_SEGMENTATIONS}.length")
        self.show(modality)
        self.page.wait_for_function(f"{_SEGMENTATIONS}.length > {shown}")
        self.page.locator('[data-cy="data-row"]').first.wait_for()
        return [
            ShownSegment(number=one["number"], label=one["label"], color=tuple(one["color"]))
            for one in self.page.evaluate(_READ_SEGMENTS)
        ]

    def measure(self, segments: Sequence[ShownSegment]) -> list[ShownSegment]:
        """Let OHIF measure segments that are shown, and read what it has computed."""
        self.page.wait_for_function(_HAS_SCAN)
        # OHIF measures when somebody has drawn; nobody has, so it is told so.
        trigger = "cornerstoneTools.segmentation.triggerSegmentationEvents"
        self.page.evaluate(f"{trigger}.triggerSegmentationDataModified({_SEGMENTS}.segmentationId)")
        self.page.wait_for_function(
            f"numbers => numbers.every(one => {_SEGMENTS}.segments[one].cachedStats.namedStats)",
            arg=[one.number for one in segments],
        )
        return [
            replace(one, statistics=self.page.evaluate(_READ_STATISTICS, one.number))
            for one in segments
        ]

    def read_contours(self) -> dict[int, list[list[list[float]]]]:
        """Read the contours that are shown: of each structure lists of points in patient space."""
        self.page.wait_for_function(
            f"{_SEGMENTS}.representationData.Contour.annotationUIDsMap?.size > 0"
        )
        return dict(self.page.evaluate(_READ_CONTOURS))

    def read_table(self, label: str) -> dict[str, float]:
        """Read the table that comes up beside the row of a segment."""
        row = self.page.locator('[data-cy="data-row"]').get_by_text(label, exact=True)
        self.page.mouse.move(100, 700)
        row.hover()
        table = self.page.locator("[data-radix-popper-content-wrapper]")
        shown = table.filter(has_text=label).filter(has_text="Voxel Count")
        pairs = _NUMBER.findall(shown.inner_text())
        return {title: float(number) for title, number in pairs}

    def show_report(self) -> list[ShownFinding]:
        """Show the report, and read its findings and the lines that are drawn of them."""
        self.show("SR")
        self.page.wait_for_function(f"{_DRAWN}.length > 0")
        return [
            ShownFinding(
                tracking_uid=one["tracking_uid"],
                labels=[(title, value) for title, value in one["labels"]],
                lines=one["lines"],
            )
            for one in self.page.evaluate(_READ_FINDINGS)
        ]

    def read_drawn_texts(self) -> dict[str, str]:
        """Read what is written over the image, by the tracking UID of the finding."""
        texts = self.page.locator("svg.svg-layer g[data-annotation-uid]")
        texts.first.wait_for(state="attached")
        return {
            str(one.get_attribute("data-annotation-uid")): str(one.text_content())
            for one in texts.all()
        }

    def wait_for_report(self) -> None:
        """Wait until the viewport has the report, whether or not that shows anything."""
        self.page.wait_for_function(f"({_HAS})('SR')")
        self.page.wait_for_load_state("networkidle")

    def show_images(self, modality: str) -> ShownImage:
        """Show a series of images, wait until one is seen, and say what is seen."""
        self.show(modality)
        return self._wait_for_image(modality)

    def _wait_for_image(self, modality: str) -> ShownImage:
        self.page.wait_for_function(f"({_HAS})('{modality}') && ({_READ_IMAGE})() !== null")
        seen = self.page.evaluate(_READ_IMAGE)
        return ShownImage(size=(seen["rows"], seen["columns"]), mean=seen["mean"])

    def jump_to(self, label: str) -> None:
        """Go to the middle of a segment, and wait until it has ceased to flash."""
        self.page.locator('[data-cy="data-row"]').get_by_text(label, exact=True).click()
        self.page.wait_for_timeout(1000)

    def split(self) -> None:
        """Show two viewports, one above the other; the upper one goes on with what is shown."""
        self.page.locator('[data-cy="Layout"]').click()
        self.page.locator('[data-cy="Layout-0-1"]').click()
        self.page.locator(_PANE).nth(1).wait_for()

    def choose(self, pane: int) -> None:
        """Choose the viewport that all that follows is about."""
        self.page.locator(_PANE).nth(pane).click()

    def picture(self, path: Path) -> None:
        """Save what is seen."""
        self.page.screenshot(path=path)


@contextmanager
def open_ohif(archive_url: str) -> Iterator[Ohif]:
    """Open OHIF in headless Chromium, which reaches nothing but the archive."""
    with serve_ohif(archive_url) as origin, open_page(origin) as page:
        yield Ohif(page=page, origin=origin)

"""Pictures and the one-page report of a job, for people: PNG, HTML and PDF."""

from pathlib import Path
from tempfile import TemporaryDirectory

from dicom_io.page_source import describe_instance
from dicom_io.refusal import RefusedSeries
from dicom_io.results import ResultContext
from inference.findings import Findings, Segmentation
from inference.manifest import ModelIdentity
from inference.montage import draw_montage
from inference.preview import draw_planes, draw_preview
from inference.report_html import render_html
from inference.report_page import (
    Figure,
    PageOrigin,
    PageSource,
    ReportPage,
    make_page,
    make_refusal_page,
)
from inference.report_pdf import render_pdf
from inference.volume import Volume

TITLE = "Hepar: liver and liver tumors"


def write_pages(
    volume: Volume,
    segmentation: Segmentation,
    findings: Findings,
    folder: Path,
    described: PageSource,
    context: ResultContext,
) -> bytes:
    """Write ``preview.png``, ``montage.png``, ``report.html`` and ``report.pdf``.

    Parameters
    ----------
    volume
        The scan.
    segmentation, findings
        What was found in it.
    folder
        An existing folder.
    described
        What is known of the series.
    context
        Maker and time.

    Returns
    -------
    bytes
        The PDF.
    """
    labels = segmentation.labels
    draw_preview(volume, labels, folder / "preview.png", title=TITLE, findings=findings)
    slices = Figure(
        path=folder / "montage.png",
        caption="Slices through the liver",
        description="Axial slices from head to foot with contours of liver and lesions.",
    )
    draw_montage(volume, labels, slices.path, findings=findings)
    with TemporaryDirectory(dir=folder) as name:
        planes = Figure(
            path=Path(name) / "planes.png",
            caption="Planes through the largest lesion, or through the liver",
            description="Axial, coronal and sagittal slice with contours of liver and lesions.",
        )
        draw_planes(volume, labels, planes.path, findings)
        origin = make_origin(context, segmentation.model)
        return render(make_page(findings, labels, described, origin, (planes, slices)), folder)


def write_refusal_pages(refused: RefusedSeries, folder: Path) -> bytes:
    """Write ``report.html`` and ``report.pdf`` on a series that cannot be evaluated.

    Returns
    -------
    bytes
        The PDF.
    """
    context, refusal = refused.context, refused.refusal
    described = describe_instance(refused.instances[0], context.history.remark)
    origin = make_origin(context, refused.model)
    page = make_refusal_page(refusal.reason.sentence, refusal.detail, described, origin)
    return render(page, folder)


def make_origin(context: ResultContext, model: ModelIdentity) -> PageOrigin:
    """Say who made a page, with the time of the job in the zone of this machine."""
    return PageOrigin(
        model=model,
        software_version=context.software_version,
        created_at=context.created_at.astimezone(),
    )


def render(page: ReportPage, folder: Path) -> bytes:
    """Write ``report.html`` and ``report.pdf``, and give the PDF."""
    pdf = render_pdf(page)
    (folder / "report.html").write_text(render_html(page), encoding="utf-8")
    (folder / "report.pdf").write_bytes(pdf)
    return pdf

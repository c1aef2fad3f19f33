"""The slices of a job's series, with what was found in them, for the viewer."""

import gzip
from typing import Annotated, Any

import numpy as np
from fastapi import APIRouter, Depends, Request, Response
from numpy.typing import NDArray

from dicom_io.slices import Slice, SliceList
from node.services import Services
from node.web.access import ServicesHere, Viewer
from node.web.job_facts import explain_missing, has_changed
from node.web.journal import Looks
from node.web.shelf import Shelf
from storage.records import JobRecord, SeriesRecord
from storage.states import JobState

router = APIRouter(prefix="/jobs/{job_id}/slices")
_FASTEST = 1
"""Of gzip: two thirds of the size for a tenth of the time."""


def get_shelf(request: Request) -> Shelf:
    """Give what keeps series open."""
    shelf: Shelf = request.app.state.shelf
    return shelf


def get_looks(request: Request) -> Looks:
    """Give what knows who looks at which job."""
    looks: Looks = request.app.state.looks
    return looks


ShelfHere = Annotated[Shelf, Depends(get_shelf)]
LooksHere = Annotated[Looks, Depends(get_looks)]


@router.get("")
def list_slices(
    services: ServicesHere, shelf: ShelfHere, looks: LooksHere, visitor: Viewer, job_id: int
) -> dict[str, Any]:
    """Say which slices there are, in the order of reading, and what can be laid over them."""
    job, series = _find(services, job_id)
    looks.note(services, visitor, series, job_id)
    found = shelf.slices(series)
    seg = shelf.seg(job)
    removed = services.catalog.count_removed(job.series_uid)
    changed = has_changed(job, series) or removed > 0
    return {
        "slices": [_describe(found, index) for index in found.reading_order],
        "axis": found.axis_name if found.slices else None,
        "has_overlay": seg is not None,
        "notes": [
            *explain_missing(job, series, removed=removed, shown=len(found.slices)),
            *_left_out(found),
            *([] if seg is not None else [_explain_bareness(job)]),
        ],
        "lesions": [] if changed else _list_diameters(job),
    }


@router.get("/{index}/hu")
def show_slice(
    request: Request,
    services: ServicesHere,
    shelf: ShelfHere,
    looks: LooksHere,
    visitor: Viewer,
    job_id: int,
    index: int,
) -> Response:
    """Give the pixels of a slice: HU, 16-bit signed, little endian, row by row."""
    _, series = _find(services, job_id)
    looks.note(services, visitor, series, job_id)
    return _send(request, shelf.hu(series, index).astype("<i2", copy=False))


@router.get("/{index}/labels")
def show_labels(
    request: Request,
    services: ServicesHere,
    shelf: ShelfHere,
    looks: LooksHere,
    visitor: Viewer,
    job_id: int,
    index: int,
) -> Response:
    """Give what was found in a slice: 8-bit, row by row; 1 is liver, 2 is lesion."""
    job, series = _find(services, job_id)
    looks.note(services, visitor, series, job_id)
    return _send(request, shelf.labels(job, series, index))


def _find(services: Services, job_id: int) -> tuple[JobRecord, SeriesRecord]:
    job = services.jobs.get(job_id)
    return job, services.catalog.get_series(job.series_uid)


def _send(request: Request, pixels: NDArray[np.integer]) -> Response:
    content, headers = pixels.tobytes(), {"Vary": "Accept-Encoding"}
    if "gzip" in request.headers.get("Accept-Encoding", ""):
        content = gzip.compress(content, _FASTEST)
        headers["Content-Encoding"] = "gzip"
    return Response(content, media_type="application/octet-stream", headers=headers)


def _describe(found: SliceList, index: int) -> dict[str, Any]:
    one: Slice = found.slices[index]
    return {
        "index": index,
        "number": one.number,
        "position_mm": round(one.center_mm[found.axis], 2),
        "shape": one.frame.shape,
        "spacing_mm": one.frame.pixel_spacing_mm,
        "edges": one.edges,
    }


def _list_diameters(job: JobRecord) -> list[dict[str, Any]]:
    keys = ("number", "long_axis", "short_axis")
    return [{key: lesion[key] for key in keys} for lesion in job.summary.get("lesions", ())]


def _left_out(found: SliceList) -> list[str]:
    if not found.problems:
        return []
    count = len(found.problems)
    files = "1 file" if count == 1 else f"{count} files"
    return [f"{files} cannot be shown, for this reason: {found.problems[0]}."]


def _explain_bareness(job: JobRecord) -> str:
    if job.results_removed_at is not None:
        return (
            f"The results were removed on {job.results_removed_at:%Y-%m-%d}, as the settings "
            "under [retention] say; there is nothing to lay over the slices."
        )
    if job.state in (JobState.QUEUED, JobState.RUNNING):
        return "The contours appear here when the job is done."
    return "The job made no segmentation; these are the slices as they came."

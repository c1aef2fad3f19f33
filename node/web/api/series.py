"""Received series, and what was decided about them."""

from collections.abc import Sequence
from datetime import datetime
from typing import Annotated

from fastapi import APIRouter, Query

from config.rules import RuleAction
from node.web.access import ServicesHere, Viewer
from node.web.api.common import Answer, refuses
from node.web.api.jobs import Described, Job
from node.web.journal import note_action, note_view
from node.web.privacy import for_visitor
from storage.states import AuditEvent

router = APIRouter(prefix="/series", tags=["series"])


class Series(Described):
    """A received series and what was decided about it."""

    series_uid: str
    study_uid: str
    modality: str
    calling_ae_title: str
    """Of who sent its first instance."""
    calling_address: str
    """From which that came; empty where it is not known."""
    instance_count: int
    """Without conflicts, and without those whose files are removed."""
    expected_instances: int | None
    """The largest number that an instance has announced."""
    counted_instances: int | None
    """How many its sender lists, where it was asked and listed more than had come."""
    has_conflicts: bool
    """Whether a SOP instance UID came twice with different bytes."""
    size_bytes: int
    missing_files: int
    """Files that should be there and are not."""
    first_received_at: datetime
    last_received_at: datetime
    settled: bool
    settled_at: datetime | None
    decision: RuleAction | None
    """Null until it is settled, as are rule and reason."""
    rule: str
    reason: str
    waits_for: str
    """What is known to be missing, or was when the decision was made."""
    removed_at: datetime | None
    """When files of it were removed that have not all come again since."""


class SeriesEvent(Answer):
    """What became of the files of a series."""

    at: datetime
    actor: str
    detail: str


class SeriesDetail(Series):
    """All about one series."""

    events: Sequence[SeriesEvent]
    """The oldest first."""
    jobs: Sequence[Job]
    """The newest first."""


@router.get("")
def list_series(
    services: ServicesHere,
    visitor: Viewer,
    limit: Annotated[int, Query(ge=1, le=1000)] = 100,
    offset: Annotated[int, Query(ge=0, le=1_000_000, description="So many are newer.")] = 0,
) -> list[Series]:
    """List received series, the newest first."""
    found = services.catalog.list_series(limit=limit, offset=offset)
    if found and visitor.sees_patients:
        detail = {"page": "api series", "series": [one.series_uid for one in found]}
        note_action(services, visitor, "view", event=AuditEvent.DATA_VIEWED, detail=detail)
    return [Series.model_validate(for_visitor(one, visitor)) for one in found]


@router.get("/{series_uid}", responses=refuses(404))
def get_series(services: ServicesHere, visitor: Viewer, series_uid: str) -> SeriesDetail:
    """Give a series with what became of its files, and its jobs."""
    series = services.catalog.get_series(series_uid)
    note_view(services, visitor, series, page="api series", series_uid=series_uid)
    return SeriesDetail.model_validate(
        vars(for_visitor(series, visitor))
        | {
            "events": services.catalog.series_events(series_uid),
            "jobs": services.jobs.list_jobs(series_uid=series_uid),
        }
    )

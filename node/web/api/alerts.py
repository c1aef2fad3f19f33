"""What is wrong, and whether people can be told."""

from datetime import datetime
from typing import Annotated

from fastapi import APIRouter, Query
from pydantic import Field

from node.alert_kinds import AlertKind
from node.alert_teller import try_ways
from node.web.access import Administrator, ServicesHere, Viewer
from node.web.api.common import Answer, Asked, Turn, refuses
from node.web.journal import note_action

router = APIRouter(prefix="/alerts", tags=["alerts"])


class Alert(Answer):
    """Something that is or was wrong; it holds no patient data."""

    kind: str
    subject: str
    """What is concerned, as the name of a destination."""
    message: str
    raised_at: datetime
    seen_at: datetime
    """When it was last found to be wrong."""
    told_at: datetime | None
    """When people were last told."""
    cleared_at: datetime | None
    """When it was found to be over; null while it is not."""


class AlertKinds(Asked):
    """Which alerts are tried."""

    kinds: list[AlertKind] = Field(default_factory=list, max_length=len(AlertKind))
    """Empty means all."""


class AlertTrial(Answer):
    """How a test of one way came out."""

    kind: AlertKind
    way: str
    """As "mail"."""
    taken: bool
    answer: str
    """What the other side said, if anything worth telling."""


@router.get("")
def list_alerts(
    services: ServicesHere,
    visitor: Viewer,
    *,
    past: Annotated[bool, Query(description="Also what is over, each thing once.")] = False,
) -> list[Alert]:
    """List what is wrong now, since when, and when people were told."""
    del visitor
    found = services.alerts.list_alerts(open_only=not past)
    return [Alert.model_validate(one) for one in found]


@router.post("/test", responses=refuses(400, 413, 429))
def try_alerts(
    services: ServicesHere, visitor: Administrator, asked: AlertKinds, turn: Turn
) -> list[AlertTrial]:
    """Send a message of each kind, marked as a test, by each way that is set."""
    del turn
    kinds = list(dict.fromkeys(asked.kinds)) or list(AlertKind)
    trials = [AlertTrial.model_validate(one) for one in try_ways(services.settings, kinds)]
    note_action(services, visitor, "test alerts", detail={"kinds": kinds})
    return trials

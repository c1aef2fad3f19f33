"""Ask a PACS what it has, and have it fetched."""

from collections.abc import Sequence
from datetime import datetime
from typing import Annotated

from fastapi import APIRouter, Query
from pydantic import Field

from config import Retrieval
from node.pull_orders import PullOrder, cancel_pull, order_pull, retry_pull
from node.study_query import FoundStudy, query_studies
from node.web.access import Operator, ServicesHere
from node.web.api.common import Answer, Asked, Text, Turn, refuses
from node.web.errors import Unusable
from node.web.journal import note_action
from storage.states import AuditEvent, JobState, RetrievalKey, RetrievalState

router = APIRouter(tags=["pulls"])

_MOST_ASKED = 100
"""In one call; programs ask again for the rest."""


class Wanted(Asked):
    """A number that a person knows of a study."""

    key: RetrievalKey
    """What the number is."""
    value: Text
    """Without wildcards."""


class Question(Asked):
    """What a peer is asked for."""

    peer: Text
    """Its name in the settings."""
    wanted: list[Wanted] = Field(min_length=1, max_length=_MOST_ASKED)


class StudyJob(Answer):
    """A job for a series of the study."""

    id: int
    state: JobState


class ListedStudy(Answer):
    """A study that a peer lists; what it does not tell is empty or null."""

    study_uid: str
    study_date: str
    """As YYYY-MM-DD."""
    description: str
    accession_number: str
    patient_id: str
    patient_name: str
    modalities: Sequence[str]
    series_count: int | None
    instance_count: int | None
    here_series_count: int
    """What the node has of it."""
    here_instance_count: int
    jobs: Sequence[StudyJob]
    """The newest first."""


class Listing(Answer):
    """What a peer lists under one number."""

    key: RetrievalKey
    value: str
    studies: Sequence[ListedStudy]
    error: str
    """Why there is no answer; empty where there is one."""


class Pull(Answer):
    """A list of what is fetched, and how far it has come."""

    batch: str
    """Its name."""
    peer: str
    retrieval: Retrieval
    at_night: bool
    actor: str
    created_at: datetime
    counts: dict[RetrievalState, int]
    """Rows by state, of those states that any has."""
    offered: int
    """Instances that the peer lists, as far as it has been asked."""
    fetched: int
    """How many of them are here."""


class PullRow(Answer):
    """A row of a list."""

    id: int
    key: RetrievalKey
    value: str
    state: RetrievalState
    attempts: int
    first_attempt_at: datetime | None
    next_attempt_at: datetime
    last_error: str
    offered: int
    fetched: int
    series_uids: Sequence[str]
    """The series that came."""


class PullDetail(Pull):
    """A list with its rows."""

    rows: Sequence[PullRow]


class NewPull(Asked):
    """What is to be fetched."""

    peer: Text
    """Its name in the settings."""
    wanted: list[Wanted] = Field(min_length=1, max_length=10_000)
    """At most as many as pull.max_rows says; what is there twice is fetched once."""
    retrieval: Retrieval = Retrieval.GET
    """C-GET (or WADO-RS), or C-MOVE to this node."""
    at_night: bool = False
    """Begin between pull.night_from and pull.night_until only."""


class WhichRow(Asked):
    """Part of a list."""

    row: int | None = Field(default=None, ge=1, le=2**31 - 1)
    """Number of a row; null means all of them."""


@router.post("/studies/lookup", responses=refuses(400, 413, 429))
def look_studies_up(
    services: ServicesHere, visitor: Operator, asked: Question, turn: Turn
) -> list[Listing]:
    """Ask what a peer lists under each number, at most for pull.query_timeout_s; fetch nothing."""
    del turn
    peer = services.settings.peers.get(asked.peer)
    if peer is None:
        raise Unusable(f"There is no peer {asked.peer!r} in the settings.")
    wanted = [(one.key, one.value) for one in asked.wanted]
    answers = query_studies(services, peer, wanted, actor=visitor.actor, address=visitor.address)
    return [
        Listing(
            key=answer.key,
            value=answer.value,
            studies=[_answer_study(one) for one in answer.studies],
            error=answer.error,
        )
        for answer in answers
    ]


@router.get("/pulls")
def list_pulls(
    services: ServicesHere, visitor: Operator, limit: Annotated[int, Query(ge=1, le=1000)] = 100
) -> list[Pull]:
    """List what was ordered, the newest first."""
    del visitor
    return [Pull.model_validate(one) for one in services.retrievals.list_batches(limit=limit)]


@router.post("/pulls", status_code=201, responses=refuses(400, 413))
def add_pull(services: ServicesHere, visitor: Operator, asked: NewPull) -> Pull:
    """Order studies from a peer; the running node fetches all CT series of each."""
    order = PullOrder(
        peer=asked.peer,
        wanted=[(one.key, one.value) for one in asked.wanted],
        retrieval=asked.retrieval,
        at_night=asked.at_night,
    )
    return Pull.model_validate(order_pull(services, order, visitor.actor, visitor.address))


@router.get("/pulls/{batch}", responses=refuses(404))
def get_pull(services: ServicesHere, visitor: Operator, batch: str) -> PullDetail:
    """Give a list with each of its rows."""
    found, rows = services.retrievals.get_batch(batch), services.retrievals.list_rows(batch)
    detail = {"page": "api pull", "batch": batch}
    note_action(services, visitor, "view", event=AuditEvent.DATA_VIEWED, detail=detail)
    return PullDetail.model_validate({**vars(found), "rows": rows})


@router.post("/pulls/{batch}/cancel", responses=refuses(400, 404, 413))
def stop_pull(
    services: ServicesHere, visitor: Operator, batch: str, asked: WhichRow
) -> list[PullRow]:
    """Cancel what has not ended; gives the rows that are canceled. What has come stays."""
    rows = cancel_pull(services, batch, visitor.actor, asked.row, visitor.address)
    return [PullRow.model_validate(row) for row in rows]


@router.post("/pulls/{batch}/retry", responses=refuses(400, 404, 413))
def repeat_pull(
    services: ServicesHere, visitor: Operator, batch: str, asked: WhichRow
) -> list[PullRow]:
    """Ask again for what was not fetched; gives the rows that wait again."""
    rows = retry_pull(services, batch, visitor.actor, asked.row, visitor.address)
    return [PullRow.model_validate(row) for row in rows]


def _answer_study(study: FoundStudy) -> ListedStudy:
    here = study.here
    return ListedStudy.model_validate(
        vars(study.listed)
        | {
            "here_series_count": here.series_count,
            "here_instance_count": here.instance_count,
            "jobs": [{"id": job_id, "state": state} for job_id, state in here.jobs],
        }
    )

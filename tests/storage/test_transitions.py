import logging
from typing import Any

import pytest

from storage.errors import ForbiddenTransition, StaleJob
from storage.states import FINAL_STATES, JOB_TRANSITIONS, JobState
from storage.tables import JobRow
from storage.transitions import Step, job_transaction, lock_job, move


def put_in(node: Any, state: JobState, moment: Any) -> None:
    """Put job 1 in a state without asking the table."""
    with node.database.write() as session:
        job = session.get_one(JobRow, 1)
        job.state = state
        job.lease_until = moment(60)


@pytest.mark.parametrize("start", JobState)
def test_every_pair_of_states(node: Any, moment: Any, start: JobState) -> None:
    node.queued()
    for end in JobState:
        put_in(node, start, moment)
        check_pair(node, start, end, moment)


def check_pair(node: Any, start: JobState, end: JobState, moment: Any) -> None:
    before = len(node.jobs.events(1))
    # A lease makes RUNNING valid; all other columns are up to the caller.
    values = {"lease_until": moment(90)} if end is JobState.RUNNING else {}
    step = Step(to=end, actor="somebody", now=moment(70), detail="because")

    def go() -> None:
        with job_transaction(node.database) as session:
            move(session, lock_job(session, 1), step, **values)

    if (start, end) in JOB_TRANSITIONS:
        go()
        event = node.jobs.events(1)[-1]
        assert (event.from_state, event.to_state, event.at) == (start, end, moment(70))
        assert (event.actor, event.detail) == ("somebody", "because")
        job = node.jobs.get(1)
        assert (job.state, job.updated_at) == (end, moment(70))
        assert (job.finished_at is not None) == (end in FINAL_STATES)
    else:
        with pytest.raises(ForbiddenTransition, match=f"job 1 is {start} and cannot become {end}"):
            go()
        assert node.jobs.get(1).state is start
        assert len(node.jobs.events(1)) == before


def test_an_update_that_touches_no_row_is_an_error(node: Any, moment: Any) -> None:
    node.queued()
    step = Step(to=JobState.CANCELED, actor="admin", now=moment(70))
    with node.database.read() as session:
        outdated = session.get_one(JobRow, 1)
        session.expunge(outdated)
    put_in(node, JobState.RUNNING, moment)
    with pytest.raises(StaleJob), node.database.write() as session:
        move(session, outdated, step)
    assert node.jobs.get(1).state is JobState.RUNNING


def test_moves_are_logged_once_committed_and_without_patients(
    node: Any, moment: Any, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "storage")
    node.queued()
    with pytest.raises(StaleJob):
        node.jobs.produced(1, "w1", results=[], destinations={}, summary={}, now=moment(20))
    node.jobs.cancel(1, "admin", moment(30))
    lines = [(record.getMessage(), record.job_id, record.series_uid) for record in caplog.records]
    assert lines == [
        ("job 1: new -> QUEUED (scheduler)", 1, "1.2.3.4"),
        ("job 1: QUEUED -> CANCELED (admin)", 1, "1.2.3.4"),
    ]

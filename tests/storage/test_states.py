from itertools import product

import pytest

from storage.states import FINAL_STATES, JOB_TRANSITIONS, RETRYABLE_STATES, JobState, can_supersede

PERMITTED = {
    "QUEUED": "RUNNING CANCELED SUPERSEDED",
    "RUNNING": "QUEUED PRODUCED REJECTED FAILED CANCELED SUPERSEDED",
    "PRODUCED": "DELIVERING DELIVERED CANCELED SUPERSEDED",
    "DELIVERING": "DELIVERED FAILED CANCELED SUPERSEDED",
    "DELIVERED": "CONFIRMED DELIVERING QUEUED SUPERSEDED",
    "CONFIRMED": "DELIVERING QUEUED SUPERSEDED",
    "REJECTED": "QUEUED SUPERSEDED",
    "FAILED": "QUEUED DELIVERING",
    "CANCELED": "QUEUED DELIVERING",
    "SUPERSEDED": "QUEUED",
}


@pytest.mark.parametrize("start", JobState)
def test_transitions(start: JobState) -> None:
    assert {end.value for end in JobState if (start, end) in JOB_TRANSITIONS} == set(
        PERMITTED[start].split()
    )


def test_each_transition_says_who_does_it() -> None:
    roles = {"worker", "scheduler", "sender", "administrator", "worker or scheduler"}
    assert {who.split(":")[0] for who in JOB_TRANSITIONS.values()} <= roles


def test_each_state_can_be_reached_and_each_job_can_end() -> None:
    reached = {JobState.QUEUED}
    for _, (start, end) in product(JobState, JOB_TRANSITIONS):
        if start in reached:
            reached.add(end)
    assert reached == set(JobState)
    for state in set(JobState) - FINAL_STATES:
        assert (state, JobState.CANCELED) in JOB_TRANSITIONS


def test_retry_leads_to_the_queue() -> None:
    where_results_were_removed = {JobState.DELIVERED, JobState.CONFIRMED}
    where_its_model_is_asked_for = {JobState.SUPERSEDED}
    assert {s for s, end in JOB_TRANSITIONS if end is JobState.QUEUED} == (
        RETRYABLE_STATES
        | where_results_were_removed
        | where_its_model_is_asked_for
        | {JobState.RUNNING}
    )


def test_ended_jobs_that_gave_no_result_are_not_superseded() -> None:
    assert {s.value for s in JobState if not can_supersede(s)} == {
        "FAILED",
        "CANCELED",
        "SUPERSEDED",
    }

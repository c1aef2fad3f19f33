"""Lists of what is to be fetched, on SQLite and PostgreSQL."""

from typing import Any

import pytest

from config import Retrieval
from storage.errors import NotFound, RetrievalLost
from storage.moments import Moments
from storage.records import RetrievalOrder, RetrievalProgress, RetrievalRecord
from storage.retrievals import Retrievals, claim_statement
from storage.states import RetrievalKey, RetrievalState

A1 = (RetrievalKey.ACCESSION, "A1")
A2 = (RetrievalKey.ACCESSION, "A2")


class Lists:
    """The lists of a node, and what tests do with them again and again."""

    def __init__(self, database: Any, moment: Any) -> None:
        self.store = Retrievals(database)
        self.at = moment

    def add(self, *wanted: Any, peer: str = "pacs", at_night: bool = False, due: float = 0) -> str:
        order = RetrievalOrder(
            peer=peer,
            wanted=wanted or (A1, A2),
            retrieval=Retrieval.GET,
            actor="user:anna",
            at_night=at_night,
            not_before=self.at(due),
        )
        return self.store.add(order, self.at(0))

    def claim(
        self, second: float = 1, *, owner: str = "s1", peer: str = "pacs", is_night: bool = False
    ) -> RetrievalRecord | None:
        return self.store.claim_due(
            owner, peer=peer, lease_s=30, is_night=is_night, now=self.at(second)
        )

    def states(self, batch: str) -> list[str]:
        return [row.state.value for row in self.store.list_rows(batch)]


@pytest.fixture
def lists(node: Any, moment: Any) -> Lists:
    return Lists(node.database, moment)


def test_a_list_has_each_value_once_in_its_order(lists: Lists) -> None:
    batch = lists.add(A2, A1, A2, (RetrievalKey.PATIENT, "A1"))
    rows = lists.store.list_rows(batch)
    assert [(row.key, row.value) for row in rows] == [A2, A1, (RetrievalKey.PATIENT, "A1")]
    assert batch == str(rows[0].id)
    assert {row.state for row in rows} == {RetrievalState.WAITING}
    assert [row.value for row in lists.store.list_rows(batch, limit=1, offset=1)] == ["A1"]


def test_rows_of_a_peer_are_fetched_one_after_the_other(
    lists: Lists, other_node: Any, moment: Any
) -> None:
    batch = lists.add()
    elsewhere = Lists(other_node.database, moment)
    first = lists.claim()
    assert (first.value, first.state, first.attempts) == ("A1", RetrievalState.RUNNING, 1)
    assert elsewhere.claim(owner="s2") is None
    lists.add(peer="other")
    assert elsewhere.claim(owner="s2", peer="other") is not None
    lists.store.done(first.id, "s1", moment(2))
    assert elsewhere.claim(3, owner="s2").value == "A2"
    assert lists.states(batch) == ["DONE", "RUNNING"]


def test_what_a_dead_scheduler_held_goes_on_with_its_progress(lists: Lists, moment: Any) -> None:
    batch = lists.add(A1)
    first = lists.claim(1)
    progress = RetrievalProgress(offered=200, fetched=64, series_uids=("1.2.3",))
    lists.store.note_progress(first.id, "s1", progress, moment(5))
    lists.store.heartbeat(first.id, "s1", 30, moment(20))
    assert lists.claim(45, owner="s2") is None
    again = lists.claim(51, owner="s2")
    assert (again.id, again.attempts, again.offered, again.fetched) == (first.id, 2, 200, 64)
    assert again.series_uids == ["1.2.3"]
    with pytest.raises(RetrievalLost, match="retrieval 1: s1 no longer holds it"):
        lists.store.done(first.id, "s1", moment(52))
    assert lists.states(batch) == ["RUNNING"]


def test_an_attempt_that_failed_waits_and_lets_others_pass(lists: Lists, moment: Any) -> None:
    batch = lists.add()
    first = lists.claim()
    lists.store.attempt_failed(first.id, "s1", "down", moment(60), moment(2))
    assert lists.claim(3).value == "A2"
    again = lists.store.list_rows(batch)[0]
    assert (again.state, again.last_error) == (RetrievalState.WAITING, "down")
    assert again.next_attempt_at == moment(60)


def test_ends(lists: Lists, moment: Any) -> None:
    batch = lists.add()
    lists.store.not_found(lists.claim().id, "s1", "no such number", moment(2))
    lists.store.attempt_failed(lists.claim().id, "s1", "too many", None, moment(3))
    assert lists.states(batch) == ["NOT_FOUND", "FAILED"]
    errors = [row.last_error for row in lists.store.list_rows(batch)]
    assert errors == ["no such number", "too many"]
    assert lists.claim(1000) is None


def test_a_stop_costs_no_attempt(lists: Lists, moment: Any) -> None:
    lists.add(A1)
    first = lists.claim()
    lists.store.release(first.id, "s1", moment(2))
    again = lists.claim(3)
    assert (again.id, again.attempts) == (first.id, 1)


def test_night_rows_begin_at_night_only(lists: Lists, moment: Any) -> None:
    lists.add(A1, at_night=True, due=10)
    lists.add(A2)
    assert lists.claim(20).value == "A2"
    lists.store.done(2, "s1", moment(21))
    assert lists.claim(22) is None
    assert lists.claim(5, is_night=True) is None, "not this night"
    assert lists.claim(22, is_night=True).value == "A1"
    assert lists.claim(60, owner="s2").value == "A1", "what has begun goes on by day"


def test_cancel_ends_what_has_not_ended(lists: Lists, moment: Any) -> None:
    batch = lists.add(A1, A2, (RetrievalKey.ACCESSION, "A3"))
    lists.store.done(lists.claim().id, "s1", moment(2))
    running = lists.claim(3)
    assert [row.id for row in lists.store.cancel(batch, moment(4), row_id=3)] == [3]
    assert lists.states(batch) == ["DONE", "RUNNING", "CANCELED"]
    assert [row.id for row in lists.store.cancel(batch, moment(5))] == [2]
    with pytest.raises(RetrievalLost, match="it is CANCELED"):
        lists.store.heartbeat(running.id, "s1", 30, moment(6))
    assert lists.store.cancel(batch, moment(7)) == []


def test_retry_takes_up_what_was_not_fetched(lists: Lists, moment: Any) -> None:
    batch = lists.add(A1, A2, (RetrievalKey.ACCESSION, "A3"))
    lists.store.done(lists.claim().id, "s1", moment(2))
    lists.store.attempt_failed(lists.claim(3).id, "s1", "down", moment(9000), moment(4))
    lists.store.cancel(batch, moment(5), row_id=3)
    assert [row.id for row in lists.store.retry(batch, moment(6), row_id=3)] == [3]
    assert [row.id for row in lists.store.retry(batch, moment(6))] == [2]
    assert lists.states(batch) == ["DONE", "WAITING", "WAITING"]
    again = lists.claim(7)
    assert (again.attempts, again.last_error, again.first_attempt_at) == (1, "", moment(7))


def test_lists_are_summed_up_newest_first(lists: Lists, moment: Any) -> None:
    first, second = lists.add(), lists.add(A1, at_night=True)
    row = lists.claim()
    lists.store.note_progress(row.id, "s1", RetrievalProgress(offered=9, fetched=4), moment(2))
    assert [one.batch for one in lists.store.list_batches()] == [second, first]
    assert [one.batch for one in lists.store.list_batches(limit=1, offset=1)] == [first]
    found = lists.store.get_batch(first)
    assert found.counts == {RetrievalState.WAITING: 1, RetrievalState.RUNNING: 1}
    assert (found.offered, found.fetched, found.actor) == (9, 4, "user:anna")
    assert found.created_at == moment(0)
    assert lists.store.get_batch(second).at_night


@pytest.mark.parametrize("batch", ["77", "", "x"])
def test_what_is_not_there_is_told(lists: Lists, moment: Any, batch: str) -> None:
    known = lists.add()
    for call in (lists.store.get_batch, lists.store.list_rows):
        with pytest.raises(NotFound, match="hepar pulls list"):
            call(batch)
    with pytest.raises(NotFound):
        lists.store.cancel(batch, moment(1))
    with pytest.raises(NotFound, match="no row 77 in the pull"):
        lists.store.retry(known, moment(1), row_id=77)


def test_a_clock_set_back_keeps_nothing_waiting(lists: Lists, node: Any, moment: Any) -> None:
    lists.add(A1)
    row = lists.claim()
    lists.store.attempt_failed(row.id, "s1", "down", moment(900), moment(2))
    assert lists.claim(-7200) is None
    assert Moments(node.database).mend(moment(-7200)) == 1
    assert lists.claim(-7200) is not None


def test_a_claim_uses_the_index(lists: Lists, node: Any, moment: Any) -> None:
    lists.add()
    plan = node.plan(claim_statement("s1", "pacs", 30, moment(1), is_night=False))
    assert "ix_retrieval_due" in plan

"""Which series are ready for a decision, and what the others wait for."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from storage.missing import find_gap
from storage.open_series import Patience

SERIES = "1.2.3.4"
PATIENCE = Patience(quiet_s=5, max_wait_s=60, counted_senders=frozenset({"PACS"}))
ASKED = Patience(quiet_s=5, max_wait_s=60, counted_senders=frozenset({"SCANNER"}))


@pytest.fixture
def ready(node: Any, moment: Any) -> Any:
    """Give the series that are ready so many seconds after noon."""

    def look(second: float, patience: Patience = PATIENCE) -> list[str]:
        found = node.open_series.list_settleable(patience, moment(second))
        return [series.series_uid for series in found]

    return look


@pytest.fixture
def asked(node: Any, moment: Any) -> Any:
    """Give the series that the sender is asked about so many seconds after noon."""

    def look(second: float) -> list[str]:
        found = node.open_series.list_uncounted("SCANNER", ASKED, moment(second))
        return [series.series_uid for series in found]

    return look


def waits_for(node: Any) -> str:
    return str(node.catalog.get_series(SERIES).waits_for)


def test_a_series_is_ready_when_it_has_been_quiet(node: Any, ready: Any) -> None:
    node.receive(1, second=0)
    node.receive(2, second=3)
    assert ready(7.9) == []
    assert ready(8) == [SERIES]
    node.receive(2, second=7)
    assert ready(8) == []


@pytest.mark.parametrize(
    ("numbers", "expected", "whole"),
    [
        ([1, 2, 3], 3, True),
        ([3, 1, 2], 3, True),
        ([1], 1, True),
        ([1, 2], 3, False),
        ([1, 2, 3], 2, False),
        ([1, 2, 3], None, False),
        ([1, 2, 3, 6, 7], 5, False),
    ],
)
def test_a_series_is_ready_at_once_when_provably_whole(
    node: Any, ready: Any, numbers: list[int], expected: int | None, whole: bool
) -> None:
    for number in numbers:
        node.receive(number, expected_instances=expected)
    assert ready(0.1) == ([SERIES] if whole else [])


def test_without_positions_a_number_is_no_proof(node: Any, ready: Any) -> None:
    for number in (1, 2):
        node.receive(number, expected_instances=2, slice_position_mm=None)
    assert ready(0.1) == []
    assert ready(5) == [SERIES]


@pytest.mark.parametrize(
    ("numbers", "expected", "sentence"),
    [
        ([1, 2], 3, "2 of the 3 instances that its objects announce have come."),
        ([1, 2, 4, 5], None, "No slice between 4.0 and 8.0 mm has come."),
    ],
)
def test_what_is_known_to_be_missing_is_waited_for(
    node: Any, ready: Any, numbers: list[int], expected: int | None, sentence: str
) -> None:
    for number in numbers:
        node.receive(number, expected_instances=expected)
    assert ready(4) == []
    assert waits_for(node) == "", "it is not quiet"
    assert ready(59.9) == []
    assert waits_for(node) == sentence
    assert ready(60) == [SERIES]
    assert waits_for(node) == sentence, "the decision goes without it"
    job = node.settle(second=61)
    assert job.remark == sentence
    assert sentence.rstrip(".") in node.jobs.events(job.id)[0].detail
    node.receive(3, second=70, expected_instances=expected)
    assert waits_for(node) == ""
    assert ready(75) == [SERIES]
    assert node.settle(second=75).remark == ""


def test_waiting_ends_where_nothing_is_to_be_waited_for(node: Any, ready: Any) -> None:
    node.receive(1, expected_instances=3)
    impatient = Patience(quiet_s=5)
    assert ready(4.9, impatient) == []
    assert ready(5, impatient) == [SERIES]


def test_a_sender_that_lists_more_is_waited_for(
    node: Any, ready: Any, asked: Any, moment: Any
) -> None:
    node.receive(1, second=1)
    assert asked(1.1) == [SERIES]
    node.open_series.note_count(SERIES, 3, moment(1.1))
    node.receive(2, second=2)
    assert asked(2.1) == [], "it will send more"
    assert asked(7) == [SERIES], "there may be fewer by now"
    assert ready(8, ASKED) == []
    assert waits_for(node) == "2 of the 3 instances that its sender lists have come."
    node.receive(3, second=9)
    assert ready(9.1, ASKED) == [], "there may be more by now"
    assert asked(9.1) == [SERIES]
    node.open_series.note_count(SERIES, 3, moment(9.2))
    assert ready(9.3, ASKED) == [SERIES], "it lists no more than it did when some were missing"


def test_a_sender_that_hands_on_what_it_gets_proves_nothing(
    node: Any, ready: Any, asked: Any, moment: Any
) -> None:
    node.receive(1, second=1)
    node.open_series.note_count(SERIES, 1, moment(1.1))
    assert ready(1.2, ASKED) == []
    assert asked(1.2) == []
    node.receive(2, second=2)
    assert asked(3) == [], "it is asked again once the series is quiet"
    assert asked(7) == [SERIES]
    node.open_series.note_count(SERIES, 2, moment(7.1))
    assert ready(7.2, ASKED) == [SERIES]


def test_a_sender_that_does_not_answer_is_waited_for(
    node: Any, ready: Any, asked: Any, moment: Any
) -> None:
    node.receive(1)
    assert ready(5, ASKED) == []
    assert "not said yet" in waits_for(node)
    assert asked(59) == [SERIES]
    assert ready(60, ASKED) == [SERIES]
    assert node.settle(second=60).remark == "", "nothing is known to be missing"
    node.open_series.note_count(SERIES, 2, moment(61))
    assert "not said yet" in waits_for(node), "what the decision said stays"


def test_other_senders_are_not_asked(node: Any, ready: Any, moment: Any) -> None:
    node.receive(1)
    assert node.open_series.list_uncounted("PACS", PATIENCE, moment(10)) == []
    assert ready(5) == [SERIES]


@pytest.mark.parametrize(
    ("positions_mm", "gap"),
    [
        ([], None),
        ([None], None),
        ([5.0], None),
        ([5.0, None], None),
        ([0.0, 2.0, 4.0, 6.1], None),
        ([6.0, 0.0, 2.0, 4.0], None),
        ([0.0, 2.0, 6.0, 8.0], (2.0, 6.0)),
        ([8.0, 0.0, 2.0, 6.0], (2.0, 6.0)),
        ([0.0, 0.0, 2.0, 2.0, 4.0, 4.0], None),
        ([0.0, 1e-6, 2.0, 2.0 + 1e-6, 4.0], None),
        ([5.0, 5.0, 5.0], None),
    ],
)
def test_gaps(positions_mm: list[float | None], gap: tuple[float, float] | None) -> None:
    assert find_gap(positions_mm) == gap


@settings(max_examples=40)
@given(
    count=st.integers(5, 60),
    step_mm=st.floats(0.3, 10),
    start_mm=st.floats(-2000, 2000),
    data=st.data(),
)
def test_a_missing_slice_is_a_gap(
    count: int, step_mm: float, start_mm: float, data: st.DataObject
) -> None:
    positions = [start_mm + step_mm * number for number in range(count)]
    assert find_gap(data.draw(st.permutations(positions))) is None
    missing = data.draw(st.integers(1, count - 2))
    gap = (positions[missing - 1], positions[missing + 1])
    del positions[missing]
    assert find_gap(positions) == gap

from typing import Any

import pytest

from storage.ticks import Ticks


@pytest.fixture
def ticks(node: Any) -> Ticks:
    return Ticks(node.database)


def test_one_of_two_schedulers_does_it(ticks: Ticks, other_node: Any, moment: Any) -> None:
    other = Ticks(other_node.database)
    assert ticks.claim("sweep", "a", 30, moment(0))
    assert not other.claim("sweep", "b", 30, moment(1))
    assert other.claim("another", "b", 30, moment(1))
    ticks.heartbeat("sweep", "a", 30, moment(20))
    assert not other.claim("sweep", "b", 30, moment(40))
    ticks.done("sweep", "a", next_at=moment(100), now=moment(41))
    assert not other.claim("sweep", "b", 30, moment(99))
    assert other.claim("sweep", "b", 30, moment(100))


def test_the_work_of_one_that_died_is_another_s(ticks: Ticks, moment: Any) -> None:
    assert ticks.claim("sweep", "a", 30, moment(0))
    assert ticks.claim("sweep", "b", 30, moment(31))
    ticks.done("sweep", "a", next_at=moment(1000), now=moment(32))
    ticks.heartbeat("sweep", "a", 300, moment(33))
    assert ticks.claim("sweep", "c", 30, moment(62)), "the dead has no say"

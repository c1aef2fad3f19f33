from typing import Any

from storage.heartbeats import Heartbeats


def test_beats(node: Any, moment: Any) -> None:
    heartbeats = Heartbeats(node.database)
    heartbeats.beat("worker", host="ct1", pid=7, now=moment(0), detail="cpu")
    heartbeats.beat("worker", host="ct1", pid=8, now=moment(1))
    heartbeats.beat("worker", host="ct1", pid=7, now=moment(5), detail="cuda")
    beats = [
        (b.role, b.host, b.pid, b.started_at, b.beat_at, b.detail) for b in heartbeats.list_beats()
    ]
    assert beats == [
        ("worker", "ct1", 7, moment(0), moment(5), "cuda"),
        ("worker", "ct1", 8, moment(1), moment(1), ""),
    ]


def test_a_process_that_ends_takes_its_leave(node: Any, moment: Any) -> None:
    heartbeats = Heartbeats(node.database)
    for pid in (7, 8):
        heartbeats.beat("web", host="ct1", pid=pid, now=moment(0))
    heartbeats.forget(host="ct1", pid=7)
    assert [beat.pid for beat in heartbeats.list_beats()] == [8]


def test_a_process_number_that_comes_again_is_a_new_start(node: Any, moment: Any) -> None:
    Heartbeats(node.database).beat("web", host="ct1", pid=7, now=moment(0))
    Heartbeats(node.database).beat("web", host="ct1", pid=7, now=moment(50))
    (beat,) = Heartbeats(node.database).list_beats()
    assert beat.started_at == moment(50)


def test_killed_processes_are_forgotten_after_a_day(node: Any, moment: Any) -> None:
    Heartbeats(node.database).beat("web", host="old", pid=7, now=moment(0))
    Heartbeats(node.database).beat("web", host="young", pid=7, now=moment(3600))
    Heartbeats(node.database).beat("web", host="new", pid=7, now=moment(86401))
    assert [b.host for b in Heartbeats(node.database).list_beats()] == ["new", "young"]

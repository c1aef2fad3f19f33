from typing import Any

from storage.pauses import Pauses
from storage.states import Work


def test_work_is_suspended_once_and_resumed_once(node: Any, moment: Any) -> None:
    pauses = Pauses(node.database)
    assert not pauses.is_suspended(Work.DELIVERY)
    assert pauses.suspend(Work.DELIVERY, "user:anna", "the archive moves", moment(0))
    assert not pauses.suspend(Work.DELIVERY, "user:ben", "", moment(1))
    assert pauses.is_suspended(Work.DELIVERY)
    assert not pauses.is_suspended(Work.PROCESSING)
    [pause] = pauses.list_pauses()
    assert (pause.work, pause.actor, pause.since) == (Work.DELIVERY, "user:anna", moment(0))
    assert pauses.resume(Work.DELIVERY)
    assert not pauses.resume(Work.DELIVERY)
    assert pauses.list_pauses() == []

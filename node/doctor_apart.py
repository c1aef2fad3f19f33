"""The doctor's checks in a process of their own: a model that is loaded for them goes with it."""

import time
from collections.abc import Iterator
from contextlib import suppress
from multiprocessing import get_context
from multiprocessing.connection import Connection

from config import Settings
from node.health import Check, Verdict

_LIMIT_S = 600.0


def check_node_apart(settings: Settings) -> Iterator[Check]:
    """Check all that `hepar doctor --quick` checks; each is given as soon as it is known."""
    context = get_context("spawn")
    ours, theirs = context.Pipe(duplex=False)
    process = context.Process(target=_tell, args=(settings, theirs), daemon=True)
    process.start()
    theirs.close()
    give_up_at = time.monotonic() + _LIMIT_S
    with suppress(EOFError):
        while ours.poll(max(0.0, give_up_at - time.monotonic())):
            yield ours.recv()
    ours.close()
    if time.monotonic() >= give_up_at:
        process.terminate()
    process.join()
    if process.exitcode != 0:
        detail = "the checks did not come to their end; `hepar doctor` on the machine says more"
        yield Check(name="doctor", verdict=Verdict.BAD, detail=detail)


def _tell(settings: Settings, listener: Connection) -> None:
    from node.doctor import check_node

    for check in check_node(settings, quick=True):
        listener.send(check)

"""Whether the node runs: what health checks and the doctor ask."""

import shutil
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from config import Settings
from node.clock import utc_now
from node.roles import BEAT_S, Role
from node.services import open_services
from storage.errors import StorageError
from storage.records import RoleBeat

DEAD_AFTER = timedelta(seconds=5 * BEAT_S)


class Verdict(StrEnum):
    """How a check came out."""

    GOOD = "good"
    REMARK = "remark"
    """Worth knowing; the node works."""
    BAD = "bad"


@dataclass(frozen=True, kw_only=True)
class Check:
    """One line of the report of the doctor, or of a commissioning."""

    name: str
    verdict: Verdict
    detail: str
    limit: str = ""
    """What the detail is judged by, where that is a number."""

    def as_json(self) -> dict[str, str]:
        """Give it as JSON values."""
        return {
            "check": self.name,
            "verdict": self.verdict.value,
            "detail": self.detail,
            "limit": self.limit,
        }


def check_running(settings: Settings, *, down: Verdict = Verdict.BAD) -> Iterator[Check]:
    """Check that each role has given a sign of life lately.

    Parameters
    ----------
    settings
        Names the job database.
    down
        The verdict on a role that is not running.
    """
    try:
        with open_services(settings) as services:
            beats = services.heartbeats.list_beats()
    except StorageError as error:
        yield Check(name="roles", verdict=down, detail=str(error))
        return
    yield from check_roles(beats, down)


def check_ready(settings: Settings) -> Iterator[Check]:
    """Check that what is sent now is taken and worked on: disk, database, each role."""
    yield check_disk(settings)
    try:
        with open_services(settings) as services:
            beats = services.heartbeats.list_beats()
    except StorageError as error:
        yield Check(name="database", verdict=Verdict.BAD, detail=str(error))
        return
    yield Check(name="database", verdict=Verdict.GOOD, detail="answers")
    yield from check_roles(beats, Verdict.BAD)


@dataclass(frozen=True, kw_only=True)
class FreeSpace:
    """Room for what comes."""

    free_bytes: int
    least_bytes: int
    """With less, instances are refused."""


def free_space(settings: Settings) -> FreeSpace:
    """Look at the disk of the data folder, also of one that is yet to be made."""
    folder = settings.data_dir
    while not folder.exists():
        folder = folder.parent
    free = shutil.disk_usage(folder).free
    return FreeSpace(free_bytes=free, least_bytes=settings.receive.min_free_bytes)


def check_disk(settings: Settings) -> Check:
    """Check that instances are not refused for want of space."""
    space = free_space(settings)
    return Check(
        name="disk",
        verdict=Verdict.BAD if space.free_bytes < space.least_bytes else Verdict.GOOD,
        detail=f"{space.free_bytes / 1e9:.1f} GB free for {settings.data_dir}",
        limit=f"at least {space.least_bytes / 1e9:g} GB",
    )


def alive_roles(beats: Collection[RoleBeat], now: datetime) -> dict[str, str]:
    """Give the roles that have given a sign of life lately, and what each said."""
    # One from the future is older than the clock, which was set back since.
    return {beat.role: beat.detail for beat in beats if abs(now - beat.beat_at) < DEAD_AFTER}


def check_roles(beats: Collection[RoleBeat], down: Verdict) -> Iterator[Check]:
    """Check by signs of life that each role runs; `down` is the verdict on one that does not."""
    alive = alive_roles(beats, utc_now())
    for role in Role:
        verdict, detail = down, "not running; `hepar serve` starts it"
        if role.value in alive:
            trouble = alive[role.value]
            verdict = Verdict.REMARK if trouble else Verdict.GOOD
            detail = f"running; {trouble}" if trouble else "running"
        yield Check(name=f"role {role.value}", verdict=verdict, detail=detail)

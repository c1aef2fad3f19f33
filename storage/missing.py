"""What is known to be missing of a series: by number, and by the positions of its slices."""

from collections.abc import Sequence
from itertools import pairwise
from statistics import median

from sqlalchemy import select
from sqlalchemy.orm import Session

from storage.tables import InstanceRow, SeriesRow

_GAP_FACTOR = 1.5
"""A step between slices larger than this many median steps is a gap."""
_SAME_POSITION_MM = 0.01


def find_gap(positions_mm: Sequence[float | None]) -> tuple[float, float] | None:
    """Find the largest gap between slices.

    Parameters
    ----------
    positions_mm
        Along the slice normal, in any order; several slices may share a position. None where an
        instance has none.

    Returns
    -------
    tuple[float, float] or None
        The positions between which slices are missing; None where none are, or where an instance
        has no position, so that nothing is known.
    """
    if None in positions_mm:
        return None
    known = sorted(position for position in positions_mm if position is not None)
    steps = [
        (after - before, before, after)
        for before, after in pairwise(known)
        if after - before > _SAME_POSITION_MM
    ]
    if not steps:
        return None
    longest_mm, before, after = max(steps)
    is_gap = longest_mm > _GAP_FACTOR * median(step for step, _, _ in steps)
    return (before, after) if is_gap else None


def is_gapless(session: Session, series_uid: str) -> bool:
    """Say whether the slices of a series provably follow one another without a gap.

    Where instances have no position, only a single one can be said to be whole.
    """
    positions = _positions_mm(session, series_uid)
    return len(positions) == 1 or (None not in positions and find_gap(positions) is None)


def describe_missing(session: Session, series: SeriesRow) -> str:
    """Say in a sentence what is known to be missing of a series; empty where nothing is."""
    here = series.instance_count
    for number, who in (
        (series.expected_instances, "its objects announce"),
        (series.counted_instances, "its sender lists"),
    ):
        if number is not None and number > here:
            return f"{here} of the {number} instances that {who} have come."
    gap = find_gap(_positions_mm(session, series.series_uid))
    return "" if gap is None else f"No slice between {gap[0]:.1f} and {gap[1]:.1f} mm has come."


def _positions_mm(session: Session, series_uid: str) -> Sequence[float | None]:
    statement = select(InstanceRow.slice_position_mm).where(
        InstanceRow.series_uid == series_uid,
        InstanceRow.is_conflict.is_(False),
        InstanceRow.removed_at.is_(None),
    )
    return session.scalars(statement).all()

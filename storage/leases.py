"""Work that is attempted under a lease: one owner has it at a time, until it is done or given up.

An owner's name must be unique to its process, because the name is what holds the lease.
"""

from datetime import datetime, timedelta
from typing import Any, TypeVar

from sqlalchemy import ColumnElement, Select, func, or_, update
from sqlalchemy.sql.dml import ReturningUpdate

from storage.tables import LeasedRow

_Row = TypeVar("_Row", bound=LeasedRow)


def take_statement(
    table: type[_Row], which: Select[Any], owner: str, lease_s: float, now: datetime
) -> ReturningUpdate[_Row]:
    """Build the one statement that takes what is due the longest.

    Parameters
    ----------
    table
        What is taken.
    which
        The keys of what may be taken, be it due or not.
    owner, lease_s, now
        Who holds it then, for how long, from when on.
    """
    [key] = table.__table__.primary_key
    longest_due = (
        which.where(table.next_attempt_at <= now, is_free(table, now))
        .order_by(table.next_attempt_at, key)
        .limit(1)
        # What `which` joins is locked too, see `storage.transitions.lock_job`.
        .with_for_update(skip_locked=True)
        .scalar_subquery()
    )
    return (
        update(table)
        .where(key == longest_due)
        .values(
            attempts=table.attempts + 1,
            first_attempt_at=func.coalesce(table.first_attempt_at, now),
            owner=owner,
            lease_until=now + timedelta(seconds=lease_s),
            updated_at=now,
        )
        .returning(table)
        .execution_options(synchronize_session=False)
    )


def is_free(table: type[LeasedRow], now: datetime) -> ColumnElement[bool]:
    """Give the condition that nobody holds a row."""
    return or_(table.lease_until.is_(None), table.lease_until < now)


def is_held(row: LeasedRow, owner: str) -> bool:
    """Say whether `owner` has a row under way; others may have taken it once its lease ran out."""
    return row.owner == owner and row.lease_until is not None


def extend_lease(row: LeasedRow, lease_s: float, now: datetime) -> None:
    """Let an owner hold a row for longer."""
    row.lease_until = now + timedelta(seconds=lease_s)
    row.updated_at = now


def end_attempt(row: LeasedRow, error: str, now: datetime) -> None:
    """Let a row go, and say what went wrong; nothing did if `error` is empty."""
    row.last_error = error
    row.lease_until = None
    row.updated_at = now


def due_anew(now: datetime) -> dict[str, Any]:
    """Give the columns of a row that is due at once, as if never tried."""
    return {
        "attempts": 0,
        "first_attempt_at": None,
        "next_attempt_at": now,
        "last_error": "",
        "owner": None,
        "lease_until": None,
        "updated_at": now,
    }

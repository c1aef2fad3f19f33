"""A lease outlives trouble of the database, but not its loss."""

import threading

import pytest

from node.lease import LeaseKeeper
from storage.errors import DatabaseError, LeaseLost


def test_a_busy_database_does_not_end_the_renewals():
    renewals = []
    enough = threading.Event()

    def renew() -> None:
        renewals.append(len(renewals))
        if len(renewals) == 1:
            raise DatabaseError("locked")
        enough.set()

    with LeaseKeeper(renew, 0.03) as lease:
        assert enough.wait(5)
        lease.check()


def test_a_lost_lease_is_told_to_the_work():
    called = threading.Event()

    def renew() -> None:
        called.set()
        raise LeaseLost(1, "worker", "QUEUED")

    with LeaseKeeper(renew, 0.03) as lease:
        assert called.wait(5)
    with pytest.raises(LeaseLost):
        lease.check()

"""What every role of the node works with, opened from the settings."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Self

from config import Settings
from node.metrics import Metrics
from storage.activity import Activity
from storage.alerts import Alerts
from storage.audit import AuditTrail
from storage.catalog import Catalog
from storage.database import Database, open_database
from storage.deliveries import Deliveries
from storage.files import FileStore
from storage.heartbeats import Heartbeats
from storage.jobs import Jobs
from storage.moments import Moments
from storage.open_series import OpenSeries
from storage.orphans import Orphans
from storage.pauses import Pauses
from storage.proofs import Proofs
from storage.records import Addressee
from storage.retention import Retention
from storage.retrievals import Retrievals
from storage.ticks import Ticks
from storage.users import Users

TROUBLE_PAUSE_S = 2.0
"""How long work waits after the database did not answer, or the disk was full."""


@dataclass(frozen=True, kw_only=True)
class Services:
    """The stores of one node; whoever needs them only for a moment uses them in a `with`."""

    settings: Settings
    database: Database
    files: FileStore
    catalog: Catalog
    open_series: OpenSeries
    jobs: Jobs
    deliveries: Deliveries
    proofs: Proofs
    heartbeats: Heartbeats
    retention: Retention
    retrievals: Retrievals
    orphans: Orphans
    ticks: Ticks
    moments: Moments
    pauses: Pauses
    users: Users
    audit: AuditTrail
    activity: Activity
    alerts: Alerts
    metrics: Metrics
    """Of this process."""
    origins: Mapping[tuple[str, ...], str] = field(default_factory=dict)
    """Whence the settings come, as `LoadedSettings.origins`, where that is known."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.database.close()


def open_services(settings: Settings) -> Services:
    """Open the data folder and the job database.

    Raises
    ------
    storage.errors.StorageError
        When the folder cannot be used or the schema is not the one of this version.
    """
    files = FileStore(settings.data_dir)
    database = open_database(settings.database_url, timeout_s=settings.database.timeout_s)
    addressees = {
        name: Addressee(peer.ae_title, peer.address) for name, peer in settings.destinations.items()
    }
    return Services(
        settings=settings,
        database=database,
        files=files,
        catalog=Catalog(database),
        open_series=OpenSeries(database),
        jobs=Jobs(database),
        deliveries=Deliveries(database, addressees),
        proofs=Proofs(database, addressees),
        heartbeats=Heartbeats(database),
        retention=Retention(database, files, settings.retention, frozenset(settings.proving)),
        retrievals=Retrievals(database),
        orphans=Orphans(database, files),
        ticks=Ticks(database),
        moments=Moments(database),
        pauses=Pauses(database),
        users=Users(database),
        audit=AuditTrail(database),
        activity=Activity(database),
        alerts=Alerts(database),
        metrics=Metrics(),
    )

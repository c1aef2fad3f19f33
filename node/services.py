"""What every role of the node works with, opened from the settings."""

from dataclasses import dataclass

from config import Settings
from storage.catalog import Catalog
from storage.database import open_database
from storage.deliveries import Deliveries
from storage.files import FileStore
from storage.heartbeats import Heartbeats
from storage.jobs import Jobs
from storage.orphans import Orphans
from storage.proofs import Proofs
from storage.retention import Retention
from storage.ticks import Ticks


@dataclass(frozen=True, kw_only=True)
class Services:
    """The stores of one node."""

    settings: Settings
    files: FileStore
    catalog: Catalog
    jobs: Jobs
    deliveries: Deliveries
    proofs: Proofs
    heartbeats: Heartbeats
    retention: Retention
    orphans: Orphans
    ticks: Ticks


def open_services(settings: Settings) -> Services:
    """Open the data folder and the job database.

    Raises
    ------
    storage.errors.StorageError
        When the folder cannot be used or the schema is not the one of this version.
    """
    files = FileStore(settings.data_dir)
    database = open_database(settings.database_url)
    return Services(
        settings=settings,
        files=files,
        catalog=Catalog(database),
        jobs=Jobs(database),
        deliveries=Deliveries(database),
        proofs=Proofs(database),
        heartbeats=Heartbeats(database),
        retention=Retention(database, files, settings.retention, frozenset(settings.proving)),
        orphans=Orphans(database, files),
        ticks=Ticks(database),
    )

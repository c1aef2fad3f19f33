"""Make a received instance durable, however it came: file first, then its row."""

from typing import Protocol

from dicom_io.errors import MismatchingInstance
from dicom_io.headers import read_header
from node.clock import utc_now
from node.metrics import Metric, Metrics
from storage.catalog import Catalog
from storage.files import FileStore
from storage.records import Sender, StoredFile
from storage.states import AddOutcome


class OnInstance(Protocol):
    """Takes an instance that a peer gives."""

    def __call__(self, content: bytes, *, sop_class_uid: str, sop_instance_uid: str) -> None:
        """Take a part-10 file, and what it was announced as.

        Raises
        ------
        Exception
            When it cannot be taken; as `Ingest.store` does.
        """


class Ingest:
    """Where received instances go.

    Parameters
    ----------
    files, catalog
        The stores.
    min_free_bytes
        Disk space that must remain free.
    metrics
        Where they are counted.
    """

    def __init__(
        self, files: FileStore, catalog: Catalog, min_free_bytes: int, metrics: Metrics
    ) -> None:
        self._files = files
        self._catalog = catalog
        self._min_free_bytes = min_free_bytes
        self._metrics = metrics

    def store(
        self, content: bytes, *, sop_class_uid: str, sop_instance_uid: str, sender: Sender
    ) -> None:
        """Make file and row durable, the file first: a row never points to nothing.

        Parameters
        ----------
        content
            Part-10 file.
        sop_class_uid, sop_instance_uid
            What it was announced as.
        sender
            Whom it is from.

        Raises
        ------
        storage.errors.DiskShort
            Nothing was written.
        dicom_io.errors.MismatchingInstance
            It is something else (PS3.4 B.2.3: 0xA9xx).
        dicom_io.errors.UndecodableInstance, dicom_io.errors.InvalidUid
        """
        stored, outcome = self._store(content, sop_class_uid, sop_instance_uid, sender)
        # An earlier copy may have been removed just before our row said that it is wanted again.
        # From now on the row says so, so the next copy stays.
        while not self._files.absolute(stored.relative_path).exists():
            stored, _ = self._store(content, sop_class_uid, sop_instance_uid, sender)
        self._metrics.count(
            Metric.RECEIVED_INSTANCES, source=sender.ae_title, outcome=outcome.value
        )
        self._metrics.count(Metric.RECEIVED_BYTES, len(content), source=sender.ae_title)

    def _store(
        self, content: bytes, sop_class_uid: str, sop_instance_uid: str, sender: Sender
    ) -> tuple[StoredFile, AddOutcome]:
        self._files.check_free(self._min_free_bytes + len(content))
        spooled = self._files.spool(content)
        try:
            header = read_header(spooled)
            if header.sop_instance_uid != sop_instance_uid:
                raise MismatchingInstance("SOP Instance UID differs from the request")
            if header.sop_class_uid != sop_class_uid:
                raise MismatchingInstance("SOP Class UID differs from the presentation context")
            stored = self._files.commit_instance(spooled, header)
        finally:
            spooled.unlink(missing_ok=True)
        return stored, self._catalog.add_instance(header, stored, sender, utc_now())

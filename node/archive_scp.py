"""A small archive for the demonstration: a Storage SCP that keeps files in a folder."""

import threading
from pathlib import Path

from pydicom.uid import AllTransferSyntaxes
from pynetdicom import AE, AllStoragePresentationContexts, evt
from pynetdicom.sop_class import Verification

from dicom_io.headers import check_uid
from node.dimse_status import DimseStatus


class EmbeddedArchive:
    """A Storage SCP on loopback; use it as a context manager.

    It takes any storage SOP class from anybody on this machine and writes each instance as
    ``<sop_instance_uid>.dcm``. It is no replacement for a PACS.
    """

    def __init__(self, folder: Path, *, ae_title: str = "ARCHIVE") -> None:
        self._folder = folder
        self._ae_title = ae_title
        self._arrived = threading.Condition()
        self.port = 0

    def __enter__(self) -> "EmbeddedArchive":
        self._folder.mkdir(parents=True, exist_ok=True)
        ae = AE(ae_title=self._ae_title)
        ae.add_supported_context(Verification)
        for context in AllStoragePresentationContexts:
            ae.add_supported_context(context.abstract_syntax, list(AllTransferSyntaxes))
        handlers = [(evt.EVT_C_STORE, self._handle_store)]
        self._server = ae.start_server(("127.0.0.1", 0), block=False, evt_handlers=handlers)
        self.port = int(self._server.server_address[1])
        return self

    def __exit__(self, *_: object) -> None:
        self._server.ae.shutdown()

    def files(self) -> list[Path]:
        """List the files that have arrived so far."""
        return sorted(self._folder.glob("*.dcm"))

    def wait_for(self, count: int, *, timeout_s: float) -> bool:
        """Wait until this many instances are there; say whether they came in time."""
        with self._arrived:
            return self._arrived.wait_for(lambda: len(self.files()) >= count, timeout=timeout_s)

    def _handle_store(self, event: evt.Event) -> int:
        uid = check_uid(str(event.request.AffectedSOPInstanceUID))
        partial = self._folder / f"{uid}.part"
        partial.write_bytes(event.encoded_dataset())
        partial.replace(self._folder / f"{uid}.dcm")
        with self._arrived:
            self._arrived.notify_all()
        return int(DimseStatus.SUCCESS)

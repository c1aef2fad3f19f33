"""A receiver that listens in this process, and what is sent to it byte by byte."""

from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

from pydicom import dcmread, dcmwrite
from pydicom.dataset import Dataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian
from pynetdicom import AE, build_context
from pynetdicom.association import Association
from pynetdicom.dimse_primitives import C_STORE

from config import Settings
from node.metrics import Metrics
from node.scp import Receiver
from storage.catalog import Catalog
from storage.files import FileStore

CT = build_context(CTImageStorage, ExplicitVRLittleEndian)


@dataclass(frozen=True, kw_only=True)
class Listening:
    settings: Settings
    receiver: Receiver
    port: int
    files: FileStore
    catalog: Catalog
    metrics: Metrics

    def associate(self, *contexts, calling: str = "SCANNER", called: str = "HEPAR") -> Association:
        ae = AE(ae_title=calling)
        return ae.associate("127.0.0.1", self.port, contexts=list(contexts), ae_title=called)


def store(assoc: Association, content: bytes, sop_instance_uid: str) -> Dataset:
    """Send any bytes as the data set of a C-STORE request for CT."""
    request = C_STORE()
    request.MessageID = 1
    request.AffectedSOPClassUID = CTImageStorage
    request.AffectedSOPInstanceUID = sop_instance_uid
    request.Priority = 2
    request.DataSet = BytesIO(content)
    context = next(c for c in assoc.accepted_contexts if c.abstract_syntax == CTImageStorage)
    assoc._reactor_checkpoint.clear()
    try:
        assoc.dimse.send_msg(request, context.context_id)
        _, response = assoc.dimse.get_msg(block=True)
    finally:
        assoc._reactor_checkpoint.set()
    answer = Dataset()
    answer.Status = response.Status
    answer.ErrorComment = response.ErrorComment or ""
    return answer


def data_set_bytes(ds: Dataset) -> bytes:
    """Encode a data set alone, without preamble and file meta information."""
    buffer = BytesIO()
    dcmwrite(buffer, ds, enforce_file_format=False, implicit_vr=False, little_endian=True)
    return buffer.getvalue()


def bare(path: Path) -> Dataset:
    ds = dcmread(path)
    plain = Dataset()
    plain.update(ds)
    return plain

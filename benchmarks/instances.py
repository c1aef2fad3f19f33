"""Instances that are sent as a PACS sends them, and looked for on the disk afterwards."""

import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from pydicom import Dataset
from pydicom.uid import generate_uid
from pynetdicom import AE
from pynetdicom.dsutils import encode

from benchmarks.peers import SENDER

REPEAT_S = 0.1


def renew_uids(slices: Sequence[Dataset]) -> Sequence[Dataset]:
    """Make another series of the same slices; it says how many they are."""
    study_uid, series_uid = generate_uid(), generate_uid()
    for instance in slices:
        instance.StudyInstanceUID = study_uid
        instance.SeriesInstanceUID = series_uid
        instance.SOPInstanceUID = instance.file_meta.MediaStorageSOPInstanceUID = generate_uid()
        instance.NumberOfSeriesRelatedInstances = len(slices)
    return slices


def make_ae(instances: Sequence[Dataset], calling_ae_title: str) -> AE:
    """Give a sender of instances, each in the transfer syntax that it has."""
    ae = AE(ae_title=calling_ae_title)
    for sop_class_uid, syntax in {
        (instance.SOPClassUID, instance.file_meta.TransferSyntaxUID) for instance in instances
    }:
        ae.add_requested_context(sop_class_uid, syntax)
    ae.acse_timeout = ae.dimse_timeout = ae.network_timeout = 10
    return ae


def send_until_acknowledged(
    port: int,
    series: Sequence[Dataset],
    *,
    calling_ae_title: str = SENDER,
    stop: threading.Event | None = None,
) -> None:
    """Send instances by C-STORE, each until it was answered with Success, as a PACS does."""
    ae = make_ae(series, calling_ae_title)
    waiting = list(series)
    while waiting and not (stop is not None and stop.is_set()):
        assoc = ae.associate("127.0.0.1", port, ae_title="HEPAR")
        with suppress(RuntimeError):
            while waiting and assoc.is_established:
                status = assoc.send_c_store(waiting[0])
                if "Status" in status and status.Status == 0:
                    waiting.pop(0)
        if assoc.is_established:
            assoc.release()
        elif waiting:
            time.sleep(REPEAT_S)


def is_kept(data_dir: Path, instance: Dataset) -> bool:
    """Say whether an instance lies in the data folder of a node as it was sent."""
    path = data_dir.joinpath(
        "instances",
        instance.StudyInstanceUID,
        instance.SeriesInstanceUID,
        f"{instance.SOPInstanceUID}.dcm",
    )
    sent = encode(instance, is_implicit_vr=False, is_little_endian=True)
    return path.is_file() and path.read_bytes().endswith(sent or b"?")

"""Each unsuitable series, sent by C-STORE, ends in a job that says why."""

import threading
from collections.abc import Callable, Iterable
from copy import deepcopy
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from doubles import BoxSegmenter
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.uid import CTImageStorage, EnhancedCTImageStorage, ExplicitVRLittleEndian
from pynetdicom import AE

from dicom_io.codes import refusal_code
from dicom_io.ct_enhanced import write_enhanced_ct
from dicom_io.errors import RejectionReason
from dicom_io.uids import derive_uid
from inference.manifest import find_package
from inference.phantom import PhantomSettings, make_phantom
from node.scheduler import Scheduler
from node.scp import Receiver
from node.worker import Worker
from storage.states import JobState

Slices = list[Dataset]


class ShippedBox(BoxSegmenter):
    """The test double under the name of the shipped model, for which the scheduler makes jobs."""

    identity = find_package("hepar-liver-ct").identity


def _every(change: Callable[[int, Dataset], None]) -> Callable[[Slices], Slices]:
    def fault(slices: Slices) -> Slices:
        for index, ds in enumerate(slices):
            change(index, ds)
        return slices

    return fault


def _one(change: Callable[[Dataset], None]) -> Callable[[Slices], Slices]:
    def fault(slices: Slices) -> Slices:
        change(slices[4])
        return slices

    return fault


def _set(keyword: str, value: object) -> Callable[..., None]:
    return lambda *where: setattr(where[-1], keyword, value)


def _shift(ds: Dataset, axis: int, distance_mm: float) -> None:
    position = [float(value) for value in ds.ImagePositionPatient]
    position[axis] += distance_mm
    ds.ImagePositionPatient = position


def _second_phase(slices: Slices) -> Slices:
    again = deepcopy(slices)
    for ds in again:
        ds.SOPInstanceUID = derive_uid("second phase", ds.SOPInstanceUID)
        ds.file_meta.MediaStorageSOPInstanceUID = ds.SOPInstanceUID
    return slices + again


def _no_rescale(_: int, ds: Dataset) -> None:
    del ds.RescaleSlope
    del ds.RescaleIntercept


def _no_position(_: int, ds: Dataset) -> None:
    del ds.ImagePositionPatient


def _two_enhanced(slices: Slices) -> Slices:
    """Give two multi-frame instances of one series, as of two phases."""
    settings = PhantomSettings(
        seed=1, shape=(12, 32, 32), spacing_mm=(10.0, 12.0, 12.0), lesions=()
    )
    with TemporaryDirectory() as folder:
        path = Path(folder) / "enhanced.dcm"
        write_enhanced_ct(make_phantom(settings).volume, path)
        return _second_phase([dcmread(path)])


def _cut_pixels(ds: Dataset) -> None:
    ds.PixelData = ds.PixelData[:200]


FAULTS: dict[str, Callable[[Slices], Slices]] = {
    "TOO_FEW_SLICES": lambda slices: slices[:5],
    "NOT_CT": _every(_set("Modality", "MR")),
    "MIXED_SERIES": _one(_set("PatientID", "ANOTHER")),
    "SEVERAL_STACKS": _two_enhanced,
    "UNDECODABLE_PIXELS": _one(_cut_pixels),
    "LOCALIZER": _every(_set("ImageType", ["ORIGINAL", "PRIMARY", "LOCALIZER"])),
    "NOT_GRAYSCALE": _every(_set("PhotometricInterpretation", "MONOCHROME1")),
    "MIXED_FRAME_OF_REFERENCE": _one(_set("FrameOfReferenceUID", "1.2.3")),
    "MIXED_ORIENTATION": _one(_set("ImageOrientationPatient", [1, 0, 0, 0, 0, -1])),
    "MIXED_GRID": _one(_set("PixelSpacing", [11, 11])),
    "NO_POSITION": _every(_no_position),
    "DUPLICATE_POSITION": _second_phase,
    "MISSING_SLICE": lambda slices: slices[:5] + slices[6:],
    "IRREGULAR_SPACING": _one(lambda ds: _shift(ds, 2, 3.0)),
    "GANTRY_TILT": _every(lambda index, ds: _shift(ds, 1, 2.5 * index)),
    "NO_RESCALE": _every(_no_rescale),
    "NOT_HU": _every(_set("RescaleType", "OD")),
}


def send(port: int, datasets: Iterable[Dataset]) -> None:
    ae = AE(ae_title="SCANNER")
    for sop_class in (CTImageStorage, EnhancedCTImageStorage):
        ae.add_requested_context(sop_class, ExplicitVRLittleEndian)
    assoc = ae.associate("127.0.0.1", port, ae_title="HEPAR")
    assert assoc.is_established
    for ds in datasets:
        assert assoc.send_c_store(ds).Status == 0x0000
    assoc.release()


@pytest.mark.parametrize("code", FAULTS)
def test_an_unsuitable_series_is_rejected_with_its_code(hold, small_ct, free_port, code: str):
    port = free_port()
    held = hold(
        late=len(small_ct),
        node={"port": port},
        peers={"scanner": {"ae_title": "SCANNER", "host": "127.0.0.1", "roles": ["source"]}},
        receive={"quiet_s": 0.0, "max_wait_s": 0.0, "min_free_bytes": 0},
        rules=[{"name": "everything", "action": "process"}],
    )
    services = held.services
    receiver = Receiver(
        services.settings,
        files=services.files,
        catalog=services.catalog,
        proofs=services.proofs,
        metrics=services.metrics,
    )
    receiver.start()
    try:
        send(port, FAULTS[code]([dcmread(path) for path in small_ct]))
    finally:
        receiver.stop()
    Scheduler(services).settle()
    assert Worker(services, ShippedBox(), threading.Event()).work_once()
    [job] = services.jobs.list_jobs()
    assert (job.state, job.reason_code) == (JobState.REJECTED, code)
    assert job.reason.startswith(RejectionReason(code).sentence)
    results = services.jobs.results(job.id)
    if code == "MIXED_SERIES":
        assert results == [], "they are of several patients"
        return
    result, picture = results
    assert (result.role, picture.role) == ("sr", "summary")
    report = dcmread(services.files.result_folder(job.id) / result.path)
    said = report.ContentSequence[-1].ContentSequence[0].ConceptCodeSequence[0]
    assert said.CodeValue == refusal_code(RejectionReason(code)).value

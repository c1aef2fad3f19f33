"""Proof by an archive that answers on the association of the request, or badly, or never."""

import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest
from doubles import BoxSegmenter, Held
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence
from pynetdicom import AE, evt
from pynetdicom.sop_class import (
    Comprehensive3DSRStorage,
    SecondaryCaptureImageStorage,
    SegmentationStorage,
    StorageCommitmentPushModel,
    StorageCommitmentPushModelInstance,
    StudyRootQueryRetrieveInformationModelFind,
    StudyRootQueryRetrieveInformationModelGet,
)

from node import prover
from node.scheduler import Scheduler
from node.worker import Worker
from storage.records import ProofRecord
from storage.states import JobState, ProofState

RESULT_CLASSES = (SegmentationStorage, Comprehensive3DSRStorage, SecondaryCaptureImageStorage)


@dataclass(kw_only=True)
class Archive:
    """An archive that keeps what it gets in memory."""

    port: int
    kept: dict[str, Dataset] = field(default_factory=dict)
    reports: bool = True
    action_status: int = 0x0000
    query_status: int = 0x0000
    server: Any = None

    def start(self) -> None:
        ae = AE(ae_title="ARCHIVE")
        for sop_class in RESULT_CLASSES:
            ae.add_supported_context(sop_class, scu_role=True, scp_role=True)
        ae.add_supported_context(StorageCommitmentPushModel)
        ae.add_supported_context(StudyRootQueryRetrieveInformationModelFind)
        ae.add_supported_context(StudyRootQueryRetrieveInformationModelGet)
        handlers = [
            (evt.EVT_C_STORE, self._store),
            (evt.EVT_N_ACTION, self._commit),
            (evt.EVT_C_FIND, self._find),
            (evt.EVT_C_GET, self._get),
        ]
        self.server = ae.start_server(("127.0.0.1", self.port), block=False, evt_handlers=handlers)

    def stop(self) -> None:
        if self.server is not None:
            self.server.shutdown()
            self.server = None

    def drop(self, sop_class: str) -> None:
        self.kept = {u: one for u, one in self.kept.items() if one.SOPClassUID != sop_class}

    def _store(self, event: evt.Event) -> int:
        dataset = event.dataset
        dataset.file_meta = event.file_meta
        self.kept[str(dataset.SOPInstanceUID)] = dataset
        return 0x0000

    def _commit(self, event: evt.Event) -> tuple[int, Dataset | None]:
        request = event.action_information
        if self.action_status == 0 and self.reports:
            threading.Thread(target=self._report, args=(event.assoc, request)).start()
        return self.action_status, None

    def _report(self, assoc: Any, request: Dataset) -> None:
        asked = list(request.ReferencedSOPSequence)
        failed = [one for one in asked if one.ReferencedSOPInstanceUID not in self.kept]
        report = Dataset()
        report.TransactionUID = request.TransactionUID
        report.ReferencedSOPSequence = Sequence([one for one in asked if one not in failed])
        for one in failed:
            one.FailureReason = 0x0112
        if failed:
            report.FailedSOPSequence = Sequence(failed)
        assoc.send_n_event_report(
            report,
            2 if failed else 1,
            StorageCommitmentPushModel,
            StorageCommitmentPushModelInstance,
        )

    def _find(self, event: evt.Event) -> Iterator[tuple[int, Dataset | None]]:
        if self.query_status:
            yield self.query_status, None
            return
        for one in self._matches(event.identifier):
            answer = Dataset()
            answer.SOPInstanceUID = one.SOPInstanceUID
            yield 0xFF00, answer

    def _get(self, event: evt.Event) -> Iterator[Any]:
        found = self._matches(event.identifier)
        yield len(found)
        for one in found:
            yield 0xFF00, one

    def _matches(self, key: Dataset) -> list[Dataset]:
        return [
            one
            for one in self.kept.values()
            if all(
                one.get(element.keyword) == element.value
                for element in key
                if "UID" in element.keyword
            )
        ]


@pytest.fixture
def archive(free_port: Callable[[], int]) -> Iterator[Archive]:
    scp = Archive(port=free_port())
    yield scp
    scp.stop()


@pytest.fixture
def delivered(hold: Callable[..., Held], archive: Archive, monkeypatch: pytest.MonkeyPatch):
    """Give a job whose results the archive has accepted, and which is to be proven so."""
    monkeypatch.setattr(prover, "SAME_ASSOCIATION_S", 30.0)

    def make(*proofs: str, give_up_h: float = 1.0) -> Held:
        peer = {"ae_title": "ARCHIVE", "host": "127.0.0.1", "port": archive.port}
        held = hold(
            peers={"archive": {**peer, "roles": ["destination"], "proofs": proofs}},
            delivery={"first_retry_s": 0.001, "max_retry_s": 0.001, "give_up_h": give_up_h},
        )
        held.queue()
        Worker(held.services, BoxSegmenter(), threading.Event()).work_once()
        archive.start()
        Scheduler(held.services).deliver("archive")
        assert len(archive.kept) == 3
        return held

    return make


def prove(held: Held) -> tuple[JobState, ProofRecord]:
    """Let the archive prove once."""
    Scheduler(held.services).prove("archive")
    [job] = held.services.jobs.list_jobs()
    [(_, proof)] = held.services.proofs.list_proofs(job.id)
    return job.state, proof


@pytest.mark.parametrize(
    "proofs", [("commitment",), ("find",), ("get",), ("commitment", "find", "get")]
)
def test_an_archive_that_keeps_everything_confirms(delivered, proofs: tuple[str, ...]):
    held = delivered(*proofs)
    assert prove(held)[0] is JobState.CONFIRMED


@pytest.mark.parametrize(
    ("kind", "problem"),
    [
        ("commitment", "no such object instance"),
        ("find", "ARCHIVE does not list sr.dcm"),
        ("get", "ARCHIVE does not give sr.dcm back"),
    ],
)
def test_what_is_lost_is_named_until_it_is_there(delivered, archive, kind: str, problem: str):
    held = delivered(kind)
    kept = dict(archive.kept)
    archive.drop(Comprehensive3DSRStorage)
    state, proof = prove(held)
    assert (state, proof.state) == (JobState.DELIVERED, ProofState.WAITING)
    assert proof.last_error.startswith(kind)
    assert problem in proof.last_error
    archive.kept = kept
    state, proof = prove(held)
    assert (state, proof.state, proof.attempts) == (JobState.CONFIRMED, ProofState.PROVEN, 2)


def test_what_was_changed_is_named_and_what_was_added_is_not(delivered, archive: Archive):
    held = delivered("get")
    for one in archive.kept.values():
        one.PatientID = "SOMEBODY ELSE"
        one.RetrieveAETitle = "ARCHIVE"
        del one.StudyDate
    _, proof = prove(held)
    assert proof.last_error == "get: ARCHIVE has changed seg.dcm: Study Date, Patient ID"


def test_a_refused_request_is_asked_anew(delivered, archive: Archive):
    held = delivered("commitment")
    archive.action_status = 0x0110
    _, proof = prove(held)
    assert "refuses a request for storage commitment: status 0x0110" in proof.last_error
    archive.action_status = 0x0000
    assert prove(held)[0] is JobState.CONFIRMED


def test_a_request_that_nobody_answers_stands(delivered, archive: Archive, monkeypatch):
    held = delivered("commitment")
    monkeypatch.setattr(prover, "SAME_ASSOCIATION_S", 0.1)
    archive.reports = False
    _, first = prove(held)
    assert first.last_error.startswith("commitment: waits for the answer of ARCHIVE to 2.25.")
    _, second = prove(held)
    assert second.transaction_uid == first.transaction_uid
    held.services.proofs.answered(
        first.transaction_uid, kept=archive.kept, problem="", now=second.updated_at
    )
    assert prove(held)[0] is JobState.CONFIRMED


def test_an_archive_that_is_gone_or_refuses_is_named_and_given_up(delivered, archive: Archive):
    held = delivered("find", give_up_h=1e-9)
    archive.query_status = 0xA700
    state, proof = prove(held)
    assert (state, proof.state) == (JobState.DELIVERED, ProofState.GIVEN_UP)
    assert proof.last_error == "ARCHIVE refuses a query: status 0xA700"


def test_an_archive_that_is_down_is_tried_again(delivered, archive: Archive):
    held = delivered("find")
    archive.stop()
    _, proof = prove(held)
    assert "cannot be reached" in proof.last_error
    archive.start()
    assert prove(held)[0] is JobState.CONFIRMED


def test_the_bytes_of_the_results_are_compared(delivered, archive: Archive):
    held = delivered("get")
    [job] = held.services.jobs.list_jobs()
    folder = held.services.files.result_folder(job.id)
    seg = dcmread(folder / "seg.dcm")
    pixels = bytearray(seg.PixelData)
    pixels[0] ^= 1
    archive.kept[seg.SOPInstanceUID].PixelData = bytes(pixels)
    _, proof = prove(held)
    assert proof.last_error == "get: ARCHIVE has changed seg.dcm: Pixel Data"

"""Results go to a real Orthanc by STOW-RS, and are proven by QIDO-RS and WADO-RS."""

import threading
from collections.abc import Callable
from io import BytesIO
from pathlib import Path

import pytest
from doubles import BoxSegmenter, Held
from pydicom import dcmread

from benchmarks.peers import Orthanc
from config import NodeSettings, Retrieval, WebPeerSettings
from node.errors import NotThere, PeerRefused, WrongCall
from node.exchange import echo, get, send_files
from node.pull import pull_study
from node.query import make_key
from node.scheduler import Scheduler
from node.worker import Worker
from storage.states import DeliveryState, JobState

pytestmark = pytest.mark.peer

NODE = NodeSettings()


def peer_of(archive: Orthanc, password: str = "right") -> WebPeerSettings:
    return WebPeerSettings(url=archive.url, user="hepar", password=password)


@pytest.fixture
def produced(hold: Callable[..., Held], web_archive: Orthanc) -> Held:
    """Give a job whose results wait for the archive."""
    peer = {"url": web_archive.url, "user": "hepar", "password": "right"}
    held = hold(
        peers={"web": peer | {"roles": ["destination"], "proofs": ["find", "get"]}},
        delivery={"first_retry_s": 0.001, "max_retry_s": 0.001},
    )
    held.queue()
    Worker(held.services, BoxSegmenter(), threading.Event()).work_once()
    return held


def deliver(held: Held) -> tuple[JobState, DeliveryState, str]:
    Scheduler(held.services).deliver("web")
    [job] = held.services.jobs.list_jobs()
    [delivery] = held.services.deliveries.list_deliveries(job.id)
    return job.state, delivery.state, delivery.last_error


def prove(held: Held) -> tuple[JobState, str]:
    Scheduler(held.services).prove("web")
    [job] = held.services.jobs.list_jobs()
    [(_, proof)] = held.services.proofs.list_proofs(job.id)
    return job.state, proof.last_error


def test_results_are_stored_and_proven_whatever_the_archive_suffers(produced: Held, web_archive):
    web_archive.stop()
    state, delivery, error = deliver(produced)
    assert (state, delivery) == (JobState.DELIVERING, DeliveryState.PENDING)
    assert error.startswith(f"unreachable: DICOMWEB at {web_archive.url} cannot be reached")
    web_archive.password = "changed"
    web_archive.start()
    assert (
        "refused until something is changed: DICOMWEB refuses to store: HTTP 401"
        in (deliver(produced)[2])
    )
    web_archive.stop()
    web_archive.password = "right"
    web_archive.start()
    assert deliver(produced)[0] is JobState.DELIVERED
    [job] = produced.services.jobs.list_jobs()
    folder = produced.services.files.result_folder(job.id)
    stored = {name: dcmread(BytesIO(file)) for name, file in web_archive.instances().items()}
    written = {"SEG": "seg.dcm", "SR": "sr.dcm", "OT": "summary.dcm"}
    assert stored == {modality: dcmread(folder / name) for modality, name in written.items()}
    web_archive.delete("SR")
    assert prove(produced) == (JobState.DELIVERED, "find: DICOMWEB does not list sr.dcm")
    produced.services.deliveries.resend(job.id, {"web": "ohif"}, "test", job.updated_at)
    # The SEG is there already: stored, and once only.
    assert deliver(produced)[0] is JobState.DELIVERED
    assert prove(produced) == (JobState.CONFIRMED, "")
    assert set(web_archive.instances()) == {"SEG", "SR", "OT"}


def test_what_the_archive_changed_is_named(produced: Held, web_archive: Orthanc):
    [job] = produced.services.jobs.list_jobs()
    path = produced.services.files.result_folder(job.id) / "sr.dcm"
    sent = dcmread(path)
    changed = dcmread(path)
    changed.PatientID = "SOMEBODY ELSE"
    changed.save_as(path)
    assert deliver(produced)[0] is JobState.DELIVERED
    sent.save_as(path)
    assert prove(produced) == (
        JobState.DELIVERED,
        "get: DICOMWEB has changed sr.dcm: Patient ID",
    )


def test_a_refused_object_is_told_and_the_others_are_stored(
    web_archive: Orthanc, small_ct: list[Path], tmp_path: Path
):
    good = small_ct[0].read_bytes()
    cut = tmp_path / "cut.dcm"
    cut.write_bytes(good[:1000])
    told = []
    refused, stored = send_files(NODE, peer_of(web_archive), [cut, small_ct[0]], told.append)
    assert told == [refused, stored]
    assert (refused.stored, stored.stored) == (False, True)
    assert "HTTP 400 Bad Request" in refused.answer
    assert set(web_archive.instances()) == {"CT"}


def test_a_wrong_password_is_told(web_archive: Orthanc, small_ct: list[Path]):
    echo(NODE, peer_of(web_archive))
    for wrong in (
        peer_of(web_archive, "wrong"),
        WebPeerSettings(url=web_archive.url, token="wrong"),
        WebPeerSettings(url=web_archive.url),
    ):
        for ask in (lambda peer: echo(NODE, peer), lambda peer: send_files(NODE, peer, small_ct)):
            with pytest.raises(PeerRefused, match=r"HTTP 401 Unauthorized; check user and pass"):
                ask(wrong)


def test_a_wrong_path_is_told(web_archive: Orthanc):
    wrong = peer_of(web_archive).model_copy(update={"url": web_archive.url + "/x"})
    with pytest.raises(PeerRefused, match=r"HTTP 404 Not Found; check the path in `url`"):
        echo(NODE, wrong)


def test_only_what_is_asked_for_is_taken(web_archive: Orthanc, small_ct: list[Path]):
    peer = peer_of(web_archive)
    send_files(NODE, peer, small_ct[:2])
    sent = [dcmread(path) for path in small_ct[:2]]
    key = make_key(
        "IMAGE",
        StudyInstanceUID=sent[0].StudyInstanceUID,
        SeriesInstanceUID=sent[0].SeriesInstanceUID,
        SOPInstanceUID=[*(one.SOPInstanceUID for one in sent), "1.2.3"],
    )
    got = []

    def keep(content: bytes, **announced: str) -> None:
        got.append(dcmread(BytesIO(content)))
        assert announced["sop_instance_uid"] == got[-1].SOPInstanceUID

    get(NODE, peer, key, {sent[0].SOPClassUID: [sent[0].file_meta.TransferSyntaxUID]}, keep)
    assert got == sent
    get(NODE, peer, key, {"1.2.840.10008.5.1.4.1.1.4": ["1.2.840.10008.1.2.1"]}, keep)
    assert got == sent


def test_a_pull_fetches_what_is_not_there_yet(
    hold: Callable[..., Held], web_archive: Orthanc, small_ct: list[Path]
):
    peer = peer_of(web_archive)
    send_files(NODE, peer, small_ct)
    held = hold(late=4)
    study = dcmread(small_ct[0]).StudyInstanceUID
    with pytest.raises(WrongCall, match="cannot be asked by C-MOVE"):
        pull_study(held.services, peer, study, retrieval=Retrieval.MOVE)
    [pulled] = pull_study(held.services, peer, study)
    assert (pulled.modality, pulled.offered, pulled.fetched, pulled.missing) == ("CT", 12, 4, ())
    for path in small_ct:
        sent = dcmread(path)
        record = held.services.catalog.find_instance(sent.SOPInstanceUID)
        assert dcmread(held.services.files.absolute(record.path)) == sent
    [again] = pull_study(held.services, peer, study)
    assert (again.offered, again.fetched) == (12, 0)
    with pytest.raises(NotThere, match="DICOMWEB lists no CT series"):
        pull_study(held.services, peer, "1.2.3")

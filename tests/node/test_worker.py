"""Each outcome of a job, with a test double of the network and real stores."""

import errno
import multiprocessing
import threading
import time
from collections.abc import Callable
from datetime import timedelta

import pytest
from doubles import BoxSegmenter, Held
from listening import bare
from pydicom import dcmread
from pydicom.uid import JPEGLosslessSV1

from dicom_io.ct_encoding import save_instance
from dicom_io.refusal import write_refusal
from dicom_io.results import write_object
from inference.errors import LiverNotFound
from node.clock import utc_now
from node.services import open_services
from node.worker import Worker
from storage.errors import DiskShort, ForbiddenTransition
from storage.states import JobState


class Raising(BoxSegmenter):
    """A network that does something else first."""

    def __init__(self, act: Callable[[], None]) -> None:
        self.act = act

    def segment(self, volume, progress):
        self.act()
        return super().segment(volume, progress)


def work(held: Held, segmenter: BoxSegmenter | None = None, stop=None) -> bool:
    worker = Worker(held.services, segmenter or BoxSegmenter(), stop or threading.Event())
    return worker.work_once()


def assert_no_trace(held: Held, job_id: int) -> None:
    assert not held.services.files.result_folder(job_id).exists()
    assert not list((held.services.files.data_dir / "spool").iterdir())


def test_no_job_is_no_work(hold):
    assert work(hold()) is False


def test_results_are_kept_and_due_for_each_destination(hold):
    peers = {
        name: {"ae_title": name.upper(), "host": "127.0.0.1", "roles": ["destination"]}
        for name in ("one", "two")
    }
    held = hold(peers=peers)
    job = held.queue()
    assert work(held)
    assert held.services.jobs.get(job.id).state is JobState.PRODUCED
    folder = held.services.files.result_folder(job.id)
    assert {p.name for p in folder.iterdir()} == {
        "montage.png",
        "preview.png",
        "report.html",
        "report.json",
        "report.pdf",
        "seg.dcm",
        "sr.dcm",
        "summary.dcm",
    }
    roles = [result.role for result in held.services.jobs.results(job.id)]
    assert roles == ["seg", "sr", "summary"]
    deliveries = held.services.deliveries.list_deliveries(job.id)
    assert [d.destination for d in deliveries] == ["one", "two"]
    assert work(held) is False


def test_a_failed_check_stops_the_delivery_and_says_which(hold, monkeypatch):
    def damage(dataset, path) -> None:
        if path.name == "seg.dcm":
            dataset.PixelData = bytes(len(dataset.PixelData))
        write_object(dataset, path)

    monkeypatch.setattr("dicom_io.results.write_object", damage)
    peer = {"ae_title": "ONE", "host": "127.0.0.1", "roles": ["destination"]}
    held = hold(peers={"one": peer}, queue={"max_attempts": 1})
    job = held.queue()
    work(held)
    job = held.services.jobs.get(job.id)
    assert (job.state, job.reason_code) == (JobState.FAILED, "CHECK_FAILED")
    assert "seg.dcm: SEG differs from the plan in" in job.reason
    assert held.services.deliveries.list_deliveries(job.id) == []
    assert_no_trace(held, job.id)


def test_which_checks_were_passed_is_on_record(hold):
    held = hold()
    job = held.queue()
    work(held)
    checks = held.services.jobs.get(job.id).summary["checks"]
    assert [check["file"] for check in checks] == ["seg.dcm", "sr.dcm", "summary.dcm"]
    assert "each voxel" in checks[0]["checked"]
    assert all(check["seconds"] >= 0 for check in checks)


def test_a_destination_gets_what_its_profile_names(hold):
    peers = {
        name: {
            "ae_title": "ARCHIVE",
            "host": "127.0.0.1",
            "roles": ["destination"],
            "profile": profile,
        }
        for name, profile in {"pacs": "orthanc", "old": "sc-only", "plan": "rt"}.items()
    }
    held = hold(peers=peers)
    job = held.queue()
    work(held)
    jobs, folder = held.services.jobs, held.services.files.result_folder(job.id)
    found = {}
    for delivery in held.services.deliveries.list_deliveries(job.id):
        results = jobs.results(job.id, delivery.profile)
        assert all((folder / result.path).is_file() for result in results)
        found[delivery.destination] = {result.role for result in results}
    assert found == {
        "pacs": {"seg", "sr", "overlay", "pdf"},
        "old": {"overlay"},
        "plan": {"rtstruct"},
    }


def test_results_are_not_sent_in_a_form_that_was_not_made(hold):
    peer = {"ae_title": "ONE", "host": "127.0.0.1", "roles": ["destination"]}
    held = hold(peers={"one": peer})
    job = held.queue()
    work(held)
    with pytest.raises(ForbiddenTransition, match="made for the profile ohif, not for rt"):
        held.services.deliveries.resend(job.id, {"one": "rt"}, "test", utc_now())
    [delivery] = held.services.deliveries.list_deliveries(job.id)
    assert delivery.profile == "ohif"


def test_without_destinations_it_is_done(hold):
    held = hold()
    job = held.queue()
    work(held)
    assert held.services.jobs.get(job.id).state is JobState.DELIVERED


def test_the_report_names_the_one_that_it_takes_the_place_of(hold):
    peer = {"ae_title": "ONE", "host": "127.0.0.1", "roles": ["destination"]}
    held = hold(late=2, peers={"one": peer})
    jobs, reports = [], []
    for path in [None, *held.paths[-2:]]:
        if path is not None:
            held.receive(path)
        jobs.append(held.queue())
        work(held)
        report = dcmread(held.services.files.result_folder(jobs[-1].id) / "sr.dcm")
        reports.append(report)
        if len(jobs) == 1:
            # It is not known to be in the archive, but may be: somebody tried.
            held.services.deliveries.claim_due("s", destination="one", lease_s=1, now=utc_now())
    states = [held.services.jobs.get(job.id).state for job in jobs]
    assert states == [JobState.SUPERSEDED, JobState.SUPERSEDED, JobState.PRODUCED]
    assert "PredecessorDocumentsSequence" not in reports[0]
    for report in reports[1:]:
        [study] = report.PredecessorDocumentsSequence
        [named] = study.ReferencedSeriesSequence[0].ReferencedSOPSequence
        assert named.ReferencedSOPInstanceUID == reports[0].SOPInstanceUID, "the second never left"


def test_a_repeat_makes_the_same_bytes(hold):
    held = hold()
    job = held.queue()
    contents = []
    for _ in range(2):
        work(held)
        folder = held.services.files.result_folder(job.id)
        contents.append({p.name: p.read_bytes() for p in folder.glob("*.dcm")})
        with held.services.jobs._database.write() as session:
            session.connection().exec_driver_sql("UPDATE job SET state='QUEUED', attempts=0")
    assert contents[0] == contents[1]


def test_too_few_slices_are_rejected(hold):
    held = hold(late=3, results={"report_rejected": False})
    job = held.queue()
    work(held)
    job = held.services.jobs.get(job.id)
    assert (job.state, job.reason_code) == (JobState.REJECTED, "TOO_FEW_SLICES")
    assert_no_trace(held, job.id)


def test_a_rejected_series_gives_a_report_that_says_why(hold):
    peer = {"ae_title": "ONE", "host": "127.0.0.1", "roles": ["destination"]}
    held = hold(late=3, peers={"one": peer})
    job = held.queue()
    work(held)
    assert held.services.jobs.get(job.id).state is JobState.REJECTED
    result, picture = held.services.jobs.results(job.id)
    assert (result.role, picture.role) == ("sr", "summary")
    report = dcmread(held.services.files.result_folder(job.id) / result.path)
    assert report.SOPInstanceUID == result.sop_instance_uid
    assert report.ContentSequence[-1].ContentSequence[0].ConceptCodeSequence[0].CodeValue == (
        "too-few-slices"
    )
    [delivery] = held.services.deliveries.list_deliveries(job.id)
    assert delivery.destination == "one"


def test_a_report_that_cannot_be_written_keeps_no_series_from_its_end(hold, monkeypatch, caplog):
    def broken(*_: object) -> None:
        raise ValueError("broken")

    monkeypatch.setattr("node.worker.write_refusal", broken)
    held = hold(late=3)
    job = held.queue()
    work(held)
    assert held.services.jobs.get(job.id).state is JobState.REJECTED
    assert "no report can be written" in caplog.text
    assert_no_trace(held, job.id)


def test_a_full_disk_is_no_reason_to_go_without_a_report(hold, monkeypatch):
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("node.worker.write_refusal", full)
    held = hold(late=3)
    job = held.queue()
    with pytest.raises(DiskShort):
        work(held)
    job = held.services.jobs.get(job.id)
    assert (job.state, job.attempts) == (JobState.QUEUED, 0)
    assert_no_trace(held, job.id)


def test_the_job_is_held_while_its_report_is_written(hold, monkeypatch):
    lost = []

    def slow(*arguments: object) -> object:
        time.sleep(1.5)
        lost.extend(held.services.jobs.release_abandoned(3, utc_now()))
        return write_refusal(*arguments)

    monkeypatch.setattr("node.worker.write_refusal", slow)
    held = hold(late=3, queue={"lease_s": 1.0})
    job = held.queue()
    work(held)
    assert lost == []
    assert held.services.jobs.get(job.id).state is JobState.REJECTED


def test_no_liver_is_rejected(hold):
    def no_liver() -> None:
        raise LiverNotFound("nothing there")

    held = hold(results={"report_rejected": False})
    job = held.queue()
    work(held, Raising(no_liver))
    job = held.services.jobs.get(job.id)
    assert (job.state, job.reason_code) == (JobState.REJECTED, "LIVER_NOT_FOUND")
    assert job.reason.startswith("No liver was found")
    assert_no_trace(held, job.id)


def test_a_stream_that_kills_its_decoder_is_rejected(hold, small_ct, tmp_path):
    """GDCM has no code for a JPEG frame of 17 bits, and jumps there."""
    path = tmp_path / "deadly.dcm"
    save_instance(bare(small_ct[-1]), path, JPEGLosslessSV1)
    frame_of_16_bits = b"\xff\xc3\x00\x0b\x10"
    assert frame_of_16_bits in path.read_bytes()
    path.write_bytes(path.read_bytes().replace(frame_of_16_bits, frame_of_16_bits[:-1] + b"\x11"))
    held = hold(late=1, results={"report_rejected": False})
    held.receive(path)
    job = held.queue()
    work(held)
    job = held.services.jobs.get(job.id)
    assert (job.state, job.reason_code) == (JobState.REJECTED, "UNDECODABLE_PIXELS")
    assert "the decoder broke down" in job.reason
    assert_no_trace(held, job.id)


def test_a_worker_that_hangs_is_ended_and_the_job_goes_back(hold, capfd):
    held = hold(queue={"lease_s": 1.0})
    job = held.queue()
    settings = held.services.settings
    impatient = settings.model_copy(
        update={"queue": settings.queue.model_copy(update={"max_job_s": 0.5})}
    )
    hanging = Raising(lambda: time.sleep(60))
    process = multiprocessing.get_context("fork").Process(
        target=open_and_work, args=(impatient, hanging)
    )
    process.start()
    process.join(30)
    assert process.exitcode == 1
    assert "Timeout (0:00:00.5" in capfd.readouterr().err
    later = utc_now() + timedelta(seconds=5)
    [released] = held.services.jobs.release_abandoned(max_attempts=3, now=later)
    assert (released.id, released.state) == (job.id, JobState.QUEUED)
    assert "queue.max_job_s" in held.services.jobs.events(job.id)[-1].detail
    assert work(held)
    assert held.services.jobs.get(job.id).state is JobState.DELIVERED


def open_and_work(settings, segmenter: BoxSegmenter) -> None:
    """Work as another process does, which has opened the stores by itself."""
    Worker(open_services(settings), segmenter, threading.Event()).work_once()


def test_a_poison_series_fails_and_the_next_goes_on(hold):
    def poison() -> None:
        raise MemoryError("too large")

    held = hold(queue={"max_attempts": 2})
    job = held.queue()
    assert work(held, Raising(poison))
    assert held.services.jobs.get(job.id).state is JobState.QUEUED
    assert work(held, Raising(poison))
    job = held.services.jobs.get(job.id)
    assert job.state is JobState.FAILED
    assert "too large" in job.reason
    assert_no_trace(held, job.id)
    held.services.jobs.retry(job.id, "test", utc_now())
    assert work(held)
    assert held.services.jobs.get(job.id).state is JobState.DELIVERED


def test_canceled_while_running_drops_the_result(hold):
    held = hold()
    job = held.queue()
    work(held, Raising(lambda: held.services.jobs.cancel(job.id, "test", utc_now())))
    assert held.services.jobs.get(job.id).state is JobState.CANCELED
    assert held.services.jobs.results(job.id) == []


def test_a_stopping_node_puts_the_job_back(hold):
    held = hold()
    job = held.queue()
    stop = threading.Event()
    work(held, Raising(stop.set), stop)
    job = held.services.jobs.get(job.id)
    assert (job.state, job.attempts) == (JobState.QUEUED, 0)
    assert_no_trace(held, job.id)


def test_a_slice_that_comes_after_the_claim_puts_the_job_back(
    hold, monkeypatch: pytest.MonkeyPatch
):
    held = hold(late=1)
    job = held.queue()
    claim = held.services.jobs.claim

    def claim_then_receive(*args, **kwargs):
        claimed = claim(*args, **kwargs)
        held.receive(held.paths[-1])
        return claimed

    monkeypatch.setattr(held.services.jobs, "claim", claim_then_receive)
    work(held)
    job = held.services.jobs.get(job.id)
    assert (job.state, job.attempts) == (JobState.QUEUED, 0)

"""Deliveries to a real archive that answers as it is told."""

import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import pytest
from doubles import MODEL, BoxSegmenter
from pynetdicom import AE, evt
from pynetdicom.sop_class import (
    Comprehensive3DSRStorage,
    SecondaryCaptureImageStorage,
    SegmentationStorage,
)

from config import InferenceSettings, RuleAction, TumorEngine
from dicom_io.ct import write_ct_series
from dicom_io.ct_attributes import CtIdentity
from inference.identity import identify
from inference.manifest import ModelIdentity, find_package
from inference.phantom import PhantomSettings, make_phantom
from node.scheduler import Scheduler
from node.worker import Worker
from storage.states import DeliveryState, JobState


@dataclass(kw_only=True)
class Archive:
    """A Storage SCP with a status of our choice."""

    port: int
    title: str = "ARCHIVE"
    status: int = 0x0000
    classes: tuple[str, ...] = (
        SegmentationStorage,
        Comprehensive3DSRStorage,
        SecondaryCaptureImageStorage,
    )
    stored: list[str] = field(default_factory=list)
    free: threading.Event = field(default_factory=threading.Event)
    """It answers when this is set."""
    server: object = None

    def __post_init__(self) -> None:
        self.free.set()

    def start(self) -> None:
        ae = AE(ae_title=self.title)
        ae.require_called_aet = True
        for sop_class in self.classes:
            ae.add_supported_context(sop_class)
        handlers = [(evt.EVT_C_STORE, self._store)]
        self.server = ae.start_server(("127.0.0.1", self.port), block=False, evt_handlers=handlers)

    def stop(self) -> None:
        if self.server is not None:
            self.server.shutdown()
            self.server = None

    def _store(self, event: evt.Event) -> int:
        self.free.wait(30)
        if self.status in (0x0000, 0xB000):
            self.stored.append(event.request.AffectedSOPInstanceUID)
        return self.status


@pytest.fixture
def archive(free_port: Callable[[], int]) -> Iterator[Archive]:
    scp = Archive(port=free_port())
    yield scp
    scp.free.set()
    scp.stop()


@pytest.fixture
def produced(hold, archive: Archive):
    """A job whose results wait for the archive."""
    peer = {"ae_title": "ARCHIVE", "host": "127.0.0.1", "port": archive.port}
    held = hold(
        peers={"archive": peer | {"roles": ["destination"]}},
        delivery={"first_retry_s": 0.001, "max_retry_s": 0.001},
        node={"dimse_timeout_s": 1.0},
    )
    held.queue()
    Worker(held.services, BoxSegmenter(), threading.Event()).work_once()
    return held


@dataclass(frozen=True, kw_only=True)
class Named(BoxSegmenter):
    """The double of a network under another name."""

    identity: ModelIdentity


@pytest.mark.parametrize("engine", list(TumorEngine))
def test_a_job_is_made_for_what_marks_tumor(hold, engine: TumorEngine):
    held = hold(inference={"tumor_engine": engine}, receive={"quiet_s": 0.0})
    Scheduler(held.services).settle()
    [job] = held.services.jobs.list_jobs()
    wanted = identify(held.services.settings.inference)
    assert (job.model_name, job.model_digest) == (wanted.name, wanted.digest)
    others = [identify(InferenceSettings(tumor_engine=other)) for other in TumorEngine]
    assert sum(job.model_digest == other.digest for other in others) == 1
    Worker(held.services, Named(identity=wanted), threading.Event()).work_once()
    assert held.services.jobs.get(job.id).state is JobState.DELIVERED


def deliver(held) -> tuple[JobState, DeliveryState, str]:
    Scheduler(held.services).deliver("archive")
    [job] = held.services.jobs.list_jobs()
    [delivery] = held.services.deliveries.list_deliveries(job.id)
    return job.state, delivery.state, delivery.last_error


def history(held) -> str:
    [job] = held.services.jobs.list_jobs()
    return "\n".join(event.detail for event in held.services.jobs.events(job.id))


def test_nothing_sent_is_not_delivered(produced, archive: Archive):
    """As where a profile was changed, and its results were never made."""
    archive.start()
    [job] = produced.services.jobs.list_jobs()
    with produced.services.jobs._database.write() as session:
        session.connection().exec_driver_sql("UPDATE delivery SET profile = 'rt'")
    state, delivery, error = deliver(produced)
    assert (state, delivery) == (JobState.DELIVERING, DeliveryState.PENDING)
    assert f"job {job.id} has no results of the profile 'rt'" in error
    assert archive.stored == []


def test_success_needs_no_words(produced, archive: Archive):
    archive.start()
    state, delivery, error = deliver(produced)
    assert (state, delivery, error) == (JobState.DELIVERED, DeliveryState.DELIVERED, "")
    assert len(archive.stored) == 3
    assert "status" not in history(produced)


def test_what_is_stored_with_a_warning_is_in_the_history(produced, archive: Archive):
    archive.status = 0xB000
    archive.start()
    assert deliver(produced)[:2] == (JobState.DELIVERED, DeliveryState.DELIVERED)
    assert len(archive.stored) == 3
    warning = "status 0xB000 (Coercion of Data Elements)"
    assert f"archive: seg.dcm: {warning}; sr.dcm: {warning}" in history(produced)


@pytest.mark.parametrize(
    ("status", "cause"),
    [
        (0xA700, "refused: seg.dcm: status 0xA700"),
        (0x0110, "refused: seg.dcm: status 0x0110"),
        (0x0122, "refused until something is changed: seg.dcm: status 0x0122"),
        (0xA901, "refused until something is changed: seg.dcm: status 0xA901"),
        (0xC123, "refused until something is changed: seg.dcm: status 0xC123"),
    ],
)
def test_a_refusal_is_told_and_repeated(produced, archive: Archive, status: int, cause: str):
    archive.status = status
    archive.start()
    state, delivery, error = deliver(produced)
    assert (state, delivery) == (JobState.DELIVERING, DeliveryState.PENDING)
    assert error.startswith(cause)
    archive.status = 0x0000
    assert deliver(produced)[0] is JobState.DELIVERED


def test_an_archive_that_has_them_already_has_them(produced, archive: Archive):
    archive.status = 0x0111
    archive.start()
    assert deliver(produced)[0] is JobState.DELIVERED
    assert "0x0111" in history(produced)


def test_an_archive_that_takes_no_sr_is_named(produced, archive: Archive):
    archive.classes = (SegmentationStorage,)
    archive.start()
    _, delivery, error = deliver(produced)
    assert delivery is DeliveryState.PENDING
    assert error.startswith("refused until something is changed: sr.dcm")
    assert "seg.dcm" not in error


def test_an_archive_that_does_not_know_us_is_named(produced, archive: Archive):
    archive.title = "OTHER"
    archive.start()
    assert deliver(produced)[2] == (
        f"refused until something is changed: ARCHIVE at 127.0.0.1:{archive.port} rejects the "
        "association: Called AE title not recognised"
    )


def test_a_dead_archive_is_named(produced):
    state, delivery, error = deliver(produced)
    assert (state, delivery) == (JobState.DELIVERING, DeliveryState.PENDING)
    assert error.startswith("unreachable: ARCHIVE at 127.0.0.1")


def test_a_silent_archive_is_named(produced, archive: Archive):
    archive.free.clear()
    archive.start()
    assert deliver(produced)[2] == (
        f"timed out: ARCHIVE at 127.0.0.1:{archive.port} cannot be reached: no answer in 1 s"
    )
    archive.free.set()
    assert deliver(produced)[0] is JobState.DELIVERED


def test_patience_ends_in_failed(hold, archive: Archive):
    peer = {"ae_title": "ARCHIVE", "host": "127.0.0.1", "port": archive.port}
    held = hold(peers={"archive": peer | {"roles": ["destination"]}}, delivery={"give_up_h": 1e-9})
    held.queue()
    Worker(held.services, BoxSegmenter(), threading.Event()).work_once()
    state, delivery, _ = deliver(held)
    assert (state, delivery) == (JobState.FAILED, DeliveryState.FAILED)


def test_settling_waits_for_quiet_and_decides_once(hold):
    held = hold(late=2, receive={"quiet_s": 0.0})
    scheduler = Scheduler(held.services)
    scheduler.settle()
    scheduler.settle()
    [series] = held.services.catalog.list_series()
    assert (series.settled, series.decision) == (True, RuleAction.PROCESS)
    [job] = held.services.jobs.list_jobs()
    assert job.model_digest == find_package("hepar-liver-ct").identity.digest
    assert job.model_digest != MODEL.digest


def test_a_busy_series_stays_open(hold):
    held = hold(late=2, receive={"quiet_s": 60.0})
    Scheduler(held.services).settle()
    assert held.services.jobs.list_jobs() == []


def test_a_lost_file_stops_no_other_series_and_can_be_retried(hold, tmp_path):
    held = hold(receive={"quiet_s": 0.0}, queue={"max_attempts": 1})
    other = make_phantom(
        PhantomSettings(seed=2, shape=(12, 32, 32), spacing_mm=(10.0, 12.0, 12.0), lesions=())
    )
    for path in write_ct_series(other.volume, tmp_path / "b", identity=CtIdentity.from_seed(2)):
        held.receive(path)
    catalog, files = held.services.catalog, held.services.files
    for path in catalog.instance_paths(held.series_uid):
        files.absolute(path).unlink()
    Scheduler(held.services).settle()
    assert [series.settled for series in catalog.list_series()] == [True, True]
    assert len(held.services.jobs.list_jobs()) == 2


def test_a_damaged_result_is_a_failed_attempt(produced, archive: Archive):
    archive.start()
    [job] = produced.services.jobs.list_jobs()
    folder = produced.services.files.result_folder(job.id)
    (folder / "seg.dcm").write_bytes(b"damaged")
    state, delivery, error = deliver(produced)
    assert (state, delivery) == (JobState.DELIVERING, DeliveryState.PENDING)
    assert error


def test_a_node_that_stops_begins_nothing(produced):
    """However much is due: thousands of series must not hold the end up."""
    stop = threading.Event()
    stop.set()
    Scheduler(produced.services).run(stop)
    [job] = produced.services.jobs.list_jobs()
    [delivery] = produced.services.deliveries.list_deliveries(job.id)
    assert (job.state, delivery.attempts) == (JobState.PRODUCED, 0)

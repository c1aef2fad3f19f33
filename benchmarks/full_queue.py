"""Thousands of small series at once: how long each step of the node's bookkeeping takes.

    python -m benchmarks.full_queue [--series 5000] [--senders 4] [--postgresql]

The rows come from the stores of the node, as when the series are received; then each step is timed:
the settle tick, a worker's claim, lists as commands and pages ask for them, what the scheduler
looks for again and again, the plan of retention. Then a few hundred series are sent to a listening
receiver by C-STORE, while the scheduler settles them.
"""

import argparse
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path

from pydicom import dcmread, dcmwrite
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, generate_uid
from pynetdicom import AE

from benchmarks.peers import SENDER, find_free_port
from config import Settings
from config.settings import LogSettings
from dicom_io.ct import write_ct_series
from inference.phantom import PhantomSettings, make_phantom
from node.clock import utc_now
from node.ingest import Ingest
from node.log_setup import set_up_logging
from node.metrics_page import render_metrics
from node.scheduler import Scheduler
from node.scp import Receiver
from node.services import Services, open_services
from storage.database import upgrade_database
from storage.open_series import Patience
from storage.records import Sender

CLAIMED = 5
"""Rounds of each step, and so jobs that are claimed while that is timed."""
PEERS = {
    "scanner": {"ae_title": SENDER, "host": "127.0.0.1", "roles": ["source"]},
    "pacs": {"ae_title": "PACS", "host": "127.0.0.1", "port": 1, "roles": ["destination"]},
}


def main() -> None:
    """Print the two tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=_Raw)
    parser.add_argument("--series", type=int, default=5000)
    parser.add_argument("--sent", type=int, default=300, help="series of the second table")
    parser.add_argument("--senders", type=int, default=4, help="associations at once")
    parser.add_argument("--postgresql", action="store_true", help="instead of SQLite")
    options = parser.parse_args()
    set_up_logging(LogSettings(level="ERROR"), role="benchmark")
    with _database(postgresql=options.postgresql) as url, tempfile.TemporaryDirectory() as folder:
        template = _tiny_instance(Path(folder))
        with _services(Path(folder) / "full", url) as services:
            measure(services, template, options.series)
        if options.sent and not options.postgresql:
            with _services(Path(folder) / "sent", None) as services:
                send(services, template, options.sent, options.senders)


class _Raw(argparse.RawDescriptionHelpFormatter):
    pass


@contextmanager
def _database(*, postgresql: bool) -> Iterator[str | None]:
    if not postgresql:
        yield None
        return
    from benchmarks.postgresql import PostgreSql, find_programs

    programs = find_programs()
    assert programs is not None, "postgresql is not installed"
    server = PostgreSql(programs=programs)
    server.start()
    try:
        yield server.new_database()
    finally:
        server.stop()


@contextmanager
def _services(data_dir: Path, url: str | None) -> Iterator[Services]:
    data_dir.mkdir()
    settings = Settings(
        data_dir=data_dir,
        node={"port": find_free_port()},
        peers=PEERS,
        receive={"quiet_s": 0.0, "min_free_bytes": 0},
        retention={"instances_days": 1.0, "max_gb": 1.0},
        database={"url": url},
    )
    upgrade_database(settings.database_url)
    with open_services(settings) as services:
        yield services


def _tiny_instance(folder: Path) -> Dataset:
    """Give a CT slice of 32 x 32."""
    phantom = make_phantom(
        PhantomSettings(seed=1, shape=(3, 32, 32), spacing_mm=(10.0, 12.0, 12.0), lesions=())
    )
    return dcmread(write_ct_series(phantom.volume, folder / "ct")[0])


def make_series(template: Dataset, count: int) -> Iterator[list[Dataset]]:
    """Give series of one to three slices."""
    for number in range(count):
        series_uid = generate_uid()
        slices = []
        for _ in range(1 + number % 3):
            one = Dataset()
            one.update(template)
            one.file_meta = FileMetaDataset()
            one.file_meta.update(template.file_meta)
            one.SeriesInstanceUID, one.SOPInstanceUID = series_uid, generate_uid()
            one.file_meta.MediaStorageSOPInstanceUID = one.SOPInstanceUID
            slices.append(one)
        yield slices


def measure(services: Services, template: Dataset, count: int) -> None:
    """Fill the queue, and time each step."""
    ingest = Ingest(services.files, services.catalog, 0, services.metrics)
    scheduler = Scheduler(services)
    instances = [one for series in make_series(template, count) for one in series]
    print(f"{count} series, {len(instances)} instances, {services.database.dialect}")
    with _timed("file and row of each instance", len(instances)):
        for one in instances:
            _ingest(ingest, one)
    first = instances[0]
    _time("find an instance", lambda: services.catalog.find_instance(first.SOPInstanceUID))
    at_once = Patience(quiet_s=0.0)
    _time(
        "which series are silent", lambda: services.open_series.list_settleable(at_once, utc_now())
    )
    with _timed("settle tick, all series", count):
        scheduler.settle()
    _time("settle tick, nothing to do", scheduler.settle)
    _time("recover tick", scheduler.recover)
    _time("claim", lambda: services.jobs.claim("w", lease_s=3600, now=utc_now()))
    _time("release abandoned", lambda: services.jobs.release_abandoned(3, utc_now()))
    _time("hepar jobs list", lambda: services.jobs.list_jobs(limit=100))
    _time("the last page of jobs", lambda: services.jobs.list_jobs(limit=100, offset=count - 100))
    _time("hepar series list", lambda: services.catalog.list_series(limit=100))
    _time("jobs by state", services.jobs.count_by_state)
    _time("scrape of the metrics", lambda: render_metrics(services))
    _time("retention plan", lambda: services.retention.plan(utc_now()))
    _time("retention finish", services.retention.finish)
    jobs = services.jobs.list_jobs(limit=count)
    with _timed("claim and produce each job", len(jobs) - CLAIMED):
        for _ in jobs[CLAIMED:]:
            job = services.jobs.claim("w", lease_s=3600, now=utc_now())
            assert job is not None
            services.jobs.produced(
                job.id, "w", results=[], destinations={"pacs": "ohif"}, summary={}, now=utc_now()
            )
    owner, far = "s", utc_now().replace(year=2100)

    def postpone() -> None:
        delivery = services.deliveries.claim_due(
            owner, destination="pacs", lease_s=30, now=utc_now()
        )
        assert delivery is not None
        services.deliveries.attempt_failed(
            delivery.id, owner, "down", next_attempt_at=far, now=utc_now()
        )

    with _timed("a failed attempt of each delivery", len(jobs) - CLAIMED):
        for _ in jobs[CLAIMED:]:
            postpone()
    _time("deliver tick, none due", lambda: scheduler.deliver("pacs"))
    _time("recover tick", scheduler.recover)
    _time("retention plan", lambda: services.retention.plan(utc_now()))


def send(services: Services, template: Dataset, count: int, senders: int) -> None:
    """Send series by C-STORE, an association each, while the scheduler settles them."""
    settings = services.settings
    receiver = Receiver(
        settings,
        files=services.files,
        catalog=services.catalog,
        proofs=services.proofs,
        metrics=services.metrics,
    )
    receiver.start()
    stop = threading.Event()
    scheduler = threading.Thread(target=Scheduler(services).run, args=(stop,))
    scheduler.start()
    waits: list[float] = []

    def send_one(series: Sequence[Dataset]) -> None:
        ae = AE(ae_title=SENDER)
        ae.add_requested_context(CTImageStorage, ExplicitVRLittleEndian)
        assoc = ae.associate("127.0.0.1", settings.node.port, ae_title="HEPAR")
        assert assoc.is_established
        for one in series:
            begin = time.perf_counter()
            assert assoc.send_c_store(one).Status == 0x0000
            waits.append(time.perf_counter() - begin)
        assoc.release()

    print(f"\n{count} series sent by {senders} senders, while they are settled")
    begin = time.perf_counter()
    try:
        with ThreadPoolExecutor(senders) as pool:
            list(pool.map(send_one, make_series(template, count)))
        print(f"{'C-STORE, association included':<36} {(time.perf_counter() - begin):8.1f} s")
        while sum(services.jobs.count_by_state().values()) < count:
            time.sleep(0.05)
        print(f"{'until each has its job':<36} {(time.perf_counter() - begin):8.1f} s")
    finally:
        stop.set()
        scheduler.join()
        receiver.stop()
    waits.sort()
    print(f"{'answer to a C-STORE, median':<36} {waits[len(waits) // 2] * 1e3:8.1f} ms")
    print(f"{'answer to a C-STORE, longest':<36} {waits[-1] * 1e3:8.1f} ms")


def _ingest(ingest: Ingest, ds: Dataset) -> None:
    buffer = BytesIO()
    dcmwrite(buffer, ds, enforce_file_format=True)
    ingest.store(
        buffer.getvalue(),
        sop_class_uid=str(ds.SOPClassUID),
        sop_instance_uid=str(ds.SOPInstanceUID),
        sender=Sender(SENDER),
    )


def _time(what: str, step: Callable[[], object], rounds: int = CLAIMED) -> None:
    """Print the median time of a step."""
    times = []
    for _ in range(rounds):
        begin = time.perf_counter()
        step()
        times.append(time.perf_counter() - begin)
    print(f"{what:<36} {sorted(times)[rounds // 2] * 1e3:8.1f} ms", flush=True)


@contextmanager
def _timed(what: str, count: int) -> Iterator[None]:
    """Print the time of many steps, and of each."""
    begin = time.perf_counter()
    yield
    seconds = time.perf_counter() - begin
    print(f"{what:<36} {seconds:8.1f} s, {seconds / count * 1e3:.1f} ms each", flush=True)


if __name__ == "__main__":
    main()

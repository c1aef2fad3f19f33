"""Series are removed by rule, and whatever happens meanwhile, Success means: it is there."""

import random
import subprocess
import threading
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from doubles import Held
from pydicom import dcmread
from pydicom.dataset import Dataset

from config import RuleAction
from node.clock import utc_now
from node.ingest import Ingest
from node.scheduler import Scheduler
from node.scp import Receiver
from storage import files as files_module
from storage.records import Sender
from storage.states import JobState

LATER = timedelta(days=2)


class Killed(BaseException):
    """The process is gone; nothing of ours catches it."""


@pytest.fixture
def over(hold, free_port: Callable[[], int]) -> Held:
    """A node that has delivered its one job, and keeps instances for a day."""
    held = hold(
        node={"port": free_port()},
        peers={"scanner": {"ae_title": "SCANNER", "host": "127.0.0.1", "roles": ["source"]}},
        receive={"quiet_s": 0.0, "min_free_bytes": 0},
        retention={"instances_days": 1.0},
    )
    held.queue(job_model(held))
    held.services.jobs.claim("w", 30, utc_now())
    held.services.jobs.produced(1, "w", results=[], destinations={}, summary={}, now=utc_now())
    return held


def job_model(held: Held) -> str:
    """Give the digest of the model that the scheduler makes jobs for."""
    return Scheduler(held.services)._model.digest


@pytest.fixture
def resend(over: Held, program: Callable[[str], str]) -> Iterator[Callable[..., None]]:
    """Send files to the receiver with dcmtk's storescu, which stops where one is refused."""
    services = over.services
    receiver = Receiver(
        services.settings,
        files=services.files,
        catalog=services.catalog,
        proofs=services.proofs,
        metrics=services.metrics,
    )
    [port] = receiver.start()

    def send(*paths: Path) -> None:
        command = [program("storescu"), "-v", "-aet", "SCANNER", "-aec", "HEPAR", "127.0.0.1"]
        done = subprocess.run(
            [*command, str(port), *map(str, paths)], capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        assert done.stderr.count("(Success)") == len(paths)

    yield send
    receiver.stop()


def remove(held: Held) -> None:
    retention = held.services.retention
    for removal in retention.plan(utc_now() + LATER).removals:
        retention.remove(removal, utc_now() + LATER)


def on_disk(held: Held) -> list[str]:
    return sorted(path.name for path in held.services.files.data_dir.glob("instances/*/*/*"))


def data_sets(held: Held) -> list[Dataset]:
    paths = held.services.catalog.instance_paths(held.series_uid)
    return [dcmread(held.services.files.absolute(path)) for path in paths]


def test_a_re_send_after_removal_is_stored_and_makes_no_second_job(over, resend):
    before = data_sets(over)
    remove(over)
    assert on_disk(over) == []
    [series] = over.services.catalog.list_series()
    assert (series.instance_count, series.size_bytes) == (0, 0)
    assert series.removed_at is not None

    resend(*over.paths)
    assert data_sets(over) == before
    Scheduler(over.services).settle()
    [series] = over.services.catalog.list_series()
    assert (series.settled, series.instance_count) == (True, len(over.paths))
    assert (series.decision, series.removed_at) == (RuleAction.PROCESS, None)
    [job] = over.services.jobs.list_jobs()
    assert (job.state, job.content_digest) == (JobState.DELIVERED, series.content_digest)
    removed, came_again = over.services.catalog.series_events(over.series_uid)
    assert removed.actor == "retention"
    assert f"{len(over.paths)} instances removed" in removed.detail
    assert "instances_days = 1" in removed.detail
    assert "come again" in came_again.detail
    assert "instances_days = 1" in over.services.jobs.events(job.id)[-1].detail


def test_removal_between_the_look_at_the_file_and_its_row(over, resend, monkeypatch):
    """The receiver has found the same bytes on the disk, and then they go."""
    add = over.services.catalog.add_instance

    def add_late(*args, **kwargs):
        monkeypatch.setattr(over.services.catalog, "add_instance", add)
        remove(over)
        assert on_disk(over) == []
        return add(*args, **kwargs)

    monkeypatch.setattr(over.services.catalog, "add_instance", add_late)
    resend(over.paths[0])
    assert len(on_disk(over)) == len(data_sets(over)) == 1


def test_removal_while_the_bytes_are_compared(over, resend, monkeypatch):
    digest = files_module.data_set_sha256

    def digest_late(path: Path) -> str:
        if path.parent.name == over.series_uid:
            monkeypatch.setattr(files_module, "data_set_sha256", digest)
            remove(over)
        return digest(path)

    monkeypatch.setattr(files_module, "data_set_sha256", digest_late)
    resend(over.paths[0])
    assert len(on_disk(over)) == len(data_sets(over)) == 1


def test_a_re_send_at_the_moment_of_removal_is_kept_for_its_own_time(over, resend):
    """It was planned, then a slice came once more, and nothing goes."""
    retention = over.services.retention
    [removal] = retention.plan(utc_now() + LATER).removals
    resend(over.paths[3])
    assert not retention.remove(removal, removal.holding.verdict.due_at)
    assert len(on_disk(over)) == len(over.paths)


@pytest.mark.parametrize("left", [12, 5, 0], ids=["before the files", "amid them", "after them"])
def test_a_kill_at_any_point_is_made_good(over, resend, monkeypatch, left: int):
    """Killed when so many files are left; then a slice comes, and then the next tick."""
    files = over.services.files
    kill(monkeypatch, files, left=left, held=over)
    with pytest.raises(Killed):
        remove(over)
    monkeypatch.undo()
    assert len(on_disk(over)) == left
    assert over.services.catalog.instance_paths(over.series_uid) == []

    resend(over.paths[0], over.paths[-1])
    assert over.services.retention.finish() == []
    assert len(on_disk(over)) == len(data_sets(over)) == 2
    assert over.services.retention.finish() == []
    assert len(data_sets(over)) == 2


def kill(monkeypatch, files, *, left: int, held: Held) -> None:
    unlink = Path.unlink

    def unlink_some(path: Path, missing_ok: bool = False) -> None:
        if path.parent.name == held.series_uid and len(on_disk(held)) == left:
            raise Killed
        unlink(path, missing_ok=missing_ok)

    remove_instances = files.remove_instances

    def remove_then_die(relative) -> None:
        remove_instances(relative)
        raise Killed

    monkeypatch.setattr(Path, "unlink", unlink_some)
    monkeypatch.setattr(files, "remove_instances", remove_then_die)


def test_other_bytes_under_a_removed_name_outlive_the_next_tick(
    over, resend, monkeypatch, tmp_path
):
    """Killed after the file went and before its row said so; its name is another's by then."""
    kill(monkeypatch, over.services.files, left=0, held=over)
    with pytest.raises(Killed):
        remove(over)
    monkeypatch.undo()
    changed = dcmread(over.paths[0])
    changed.PatientComments = "changed"
    changed.save_as(tmp_path / "changed.dcm")
    resend(tmp_path / "changed.dcm")
    assert over.services.retention.finish() == []
    assert len(on_disk(over)) == 1
    resend(over.paths[0])
    assert len(on_disk(over)) == 2
    [original] = data_sets(over)
    assert "PatientComments" not in original


def test_a_late_slice_of_a_removed_series_says_what_to_do(over, resend, tmp_path):
    remove(over)
    late = dcmread(over.paths[0])
    late.SOPInstanceUID = late.file_meta.MediaStorageSOPInstanceUID = f"{late.SOPInstanceUID}.9"
    late.ImagePositionPatient = [*late.ImagePositionPatient[:2], late.ImagePositionPatient[2] - 10]
    late.save_as(tmp_path / "late.dcm")
    resend(tmp_path / "late.dcm")
    Scheduler(over.services).settle()
    [series] = over.services.catalog.list_series()
    assert (series.decision, series.rule) == (RuleAction.SKIP, "retention")
    assert "12 of its 13 instances were removed" in series.reason
    [job] = over.services.jobs.list_jobs()
    assert job.state is JobState.DELIVERED, "nothing newer stands for it"

    resend(*over.paths)
    Scheduler(over.services).settle()
    newer, older = over.services.jobs.list_jobs()
    assert (newer.state, older.state) == (JobState.QUEUED, JobState.SUPERSEDED)
    assert len(data_sets(over)) == 13


def test_success_means_that_it_is_there_however_removal_runs(hold):
    """A sender, the scheduler and the removal at once; what was acknowledged lies there then."""
    days = 0.3 / 86400
    held = hold(
        receive={"quiet_s": 0.0},
        rules=[{"name": "nothing", "action": "skip"}],
        retention={"unused_days": days},
    )
    services, stop, choice = held.services, threading.Event(), random.Random(4)
    scheduler = Scheduler(services)
    removals: list[int] = []

    def run_removal() -> None:
        while not stop.is_set():
            scheduler.settle()
            due = services.retention.plan(utc_now()).removals
            removals.extend(services.retention.remove(removal, utc_now()) for removal in due)

    thread = threading.Thread(target=run_removal)
    thread.start()
    ingest = Ingest(services.files, services.catalog, 0, services.metrics)
    try:
        for _ in range(40):
            path = choice.choice(held.paths)
            header = dcmread(path, stop_before_pixels=True)
            ingest.store(
                path.read_bytes(),
                sop_class_uid=header.SOPClassUID,
                sop_instance_uid=header.SOPInstanceUID,
                sender=Sender("SCANNER"),
            )
            found = services.catalog.find_instance(header.SOPInstanceUID)
            assert found is not None
            assert services.files.absolute(found.path).exists()
            stop.wait(choice.choice([0.0, 0.0, 0.0, 0.29, 0.3, 0.31]))
    finally:
        stop.set()
        thread.join()
    assert sum(removals) > 2

"""What a node at work writes into its audit trail, and how the trail is read."""

import json
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from doubles import BoxSegmenter, Held
from pydicom import dcmread
from pydicom.uid import generate_uid
from pynetdicom import AE, evt
from pynetdicom.sop_class import (
    Comprehensive3DSRStorage,
    SecondaryCaptureImageStorage,
    SegmentationStorage,
)
from sqlalchemy import text
from typer.testing import CliRunner

from benchmarks.peers import wait_until
from config import RuleAction
from node.audit_forwarder import Forwarder
from node.auditing import Tally, told
from node.cli import app
from node.clock import utc_now
from node.errors import PeerUnreachable, WrongCall
from node.pull import pull_study
from node.scheduler import Scheduler
from node.scp import Receiver
from node.scu import send_files
from node.worker import Worker
from storage.audit import AuditTrail
from storage.records import AuditEntry, AuditRecord
from storage.states import AuditEvent, AuditOutcome, JobState

CT = "1.2.840.10008.5.1.4.1.1.2"


@pytest.fixture
def archive(free_port: Callable[[], int]) -> Iterator[dict]:
    ae = AE(ae_title="ARCHIVE")
    for sop_class in (SegmentationStorage, Comprehensive3DSRStorage, SecondaryCaptureImageStorage):
        ae.add_supported_context(sop_class)
    stored: list[str] = []

    def store(event: evt.Event) -> int:
        stored.append(str(event.request.AffectedSOPInstanceUID))
        return 0

    port = free_port()
    server = ae.start_server(
        ("127.0.0.1", port), block=False, evt_handlers=[(evt.EVT_C_STORE, store)]
    )
    yield {"port": port, "stored": stored}
    server.shutdown()


@pytest.fixture
def at_work(hold, archive: dict, free_port) -> Iterator[Held]:
    """A node whose receiver listens, with nothing received."""
    port = free_port()
    scanner = {"ae_title": "SCANNER", "host": "127.0.0.1", "port": port, "roles": ["source"]}
    destination = {"ae_title": "ARCHIVE", "host": "127.0.0.1", "port": archive["port"]}
    held = hold(
        late=12,
        node={"port": port},
        peers={
            "scanner": scanner,
            "archive": destination | {"roles": ["destination"]},
        },
        receive={"quiet_s": 0.0, "min_free_bytes": 0},
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
    yield held
    receiver.stop()


def send_as_scanner(held: Held, paths: list[Path]) -> None:
    """Send as a scanner does."""
    node = held.services.settings.node
    caller = node.model_copy(update={"ae_title": "SCANNER"})
    to_us = held.services.settings.peers["scanner"].model_copy(update={"ae_title": node.ae_title})
    assert all(sent.stored for sent in send_files(caller, to_us, paths))


def of_another_patient(paths: list[Path], folder: Path) -> list[Path]:
    """Give a series of somebody else, that no rule wants."""
    study, series, made = generate_uid(), generate_uid(), []
    for number, path in enumerate(paths[:2]):
        ds = dcmread(path)
        ds.PatientID, ds.StudyInstanceUID, ds.SeriesInstanceUID = "OTHER", study, series
        ds.SOPInstanceUID = ds.file_meta.MediaStorageSOPInstanceUID = generate_uid()
        made.append(folder / f"other{number}.dcm")
        ds.save_as(made[-1])
    return made


def test_who_sent_what_which_model_ran_what_went_where(
    at_work: Held, archive: dict, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    services = at_work.services
    send_as_scanner(at_work, at_work.paths)
    send_as_scanner(at_work, others := of_another_patient(at_work.paths, tmp_path))
    scheduler = Scheduler(services)
    scheduler.settle()
    queued = services.jobs.list_jobs(series_uid=at_work.series_uid)[0]
    segmenter = BoxSegmenter()
    model = replace(segmenter.identity, digest=queued.model_digest)
    monkeypatch.setattr(BoxSegmenter, "identity", model)
    worker = Worker(services, segmenter, threading.Event())
    while worker.work_once():
        pass
    scheduler.deliver("archive")
    assert services.jobs.get(queued.id).state is JobState.DELIVERED
    assert services.audit.find_break() is None
    source, other = dcmread(at_work.paths[0]), dcmread(others[0])
    lines = [one for one in services.audit.read() if one.patient_id == source.PatientID]
    assert [one.event for one in lines] == [
        AuditEvent.INSTANCES_RECEIVED,
        AuditEvent.MODEL_RUN,
        AuditEvent.RESULTS_SENDING,
        AuditEvent.RESULTS_SENT,
    ]
    received, run, sending, sent = lines
    assert (received.actor, received.address) == ("ae:SCANNER", "127.0.0.1")
    assert received.detail["senders"] == {"SCANNER": {CT: 12}}
    assert run.detail["digest"] == queued.model_digest
    assert (run.detail["became"], run.detail["series"]) == ("produced", at_work.series_uid)
    assert sending.detail["objects"] == sent.detail["objects"]
    objects = [uid for uids in sent.detail["objects"].values() for uid in uids]
    assert set(objects) <= set(archive["stored"])
    assert (sent.detail["peer"], sent.detail["peer_address"]) == (
        "ARCHIVE",
        f"127.0.0.1:{archive['port']}",
    )
    for line in lines:
        assert line.study_uid == source.StudyInstanceUID
        assert str(source.PatientName) not in str(line)
        for uid in (other.StudyInstanceUID, other.SeriesInstanceUID, other.SOPInstanceUID):
            assert uid not in str(line)


def test_late_slices_are_told_again(at_work: Held):
    scheduler = Scheduler(at_work.services)
    for part in (at_work.paths[:-1], at_work.paths[-1:]):
        send_as_scanner(at_work, part)
        scheduler.settle()
    [first, second] = at_work.services.audit.read()
    assert (first.detail["instances"], second.detail["instances"]) == (11, 12)
    assert second.detail["decision"] == RuleAction.PROCESS.value


# Callers that are rejected


def rejections(services) -> list[tuple[str, str, str, int]]:
    lines = services.audit.list_entries([AuditEvent.ASSOCIATION_REJECTED], limit=1000)
    return [(e.actor, e.address, e.detail["reason"], e.detail["count"]) for e in reversed(lines)]


def test_rejected_callers_are_told(hold, free_port):
    port = free_port()
    scanner = {"ae_title": "SCANNER", "host": "127.0.0.1", "roles": ["source"]}
    far = {"ae_title": "FAR", "host": "192.0.2.1", "roles": ["source"]}
    held = hold(late=12, node={"port": port}, peers={"scanner": scanner, "far": far})
    services = held.services
    tally = Tally(services.audit, 60.0)
    receiver = Receiver(
        services.settings,
        files=services.files,
        catalog=services.catalog,
        proofs=services.proofs,
        metrics=services.metrics,
        on_rejected=tally.add,
    )
    receiver.start()
    try:
        for calling, called in (
            ("WHO", "HEPAR"),
            ("FAR", "HEPAR"),
            ("SCANNER", "WRONG"),
            ("SCANNER", "HEPAR"),
        ):
            ae = AE(ae_title=calling)
            ae.add_requested_context("1.2.840.10008.1.1")
            assoc = ae.associate("127.0.0.1", port, ae_title=called)
            assert assoc.is_established == ((calling, called) == ("SCANNER", "HEPAR"))
            if assoc.is_established:
                assoc.release()
        # Who is rejected knows it before we have noted it.
        wait_until(lambda: tally.flush() or len(rejections(services)) == 3, "all are told")
    finally:
        receiver.stop()
    assert set(rejections(services)) == {
        ("ae:WHO", "127.0.0.1", "no peer with the role 'source' has the AE title 'WHO'", 1),
        ("ae:FAR", "127.0.0.1", "'FAR' may not call from 127.0.0.1", 1),
        ("ae:SCANNER", "127.0.0.1", "called AE title not recognized", 1),
    }


def rejected(title: str) -> AuditEntry:
    return AuditEntry(
        event=AuditEvent.ASSOCIATION_REJECTED,
        actor=f"ae:{title}",
        address="10.0.0.66",
        outcome=AuditOutcome.MINOR_FAILURE,
        detail={"reason": "not known"},
    )


def test_a_flood_of_callers_does_not_flood_the_trail(hold, monkeypatch: pytest.MonkeyPatch):
    services = hold(late=12).services
    now_s = 1000.0
    monkeypatch.setattr("node.auditing.time.monotonic", lambda: now_s)
    tally = Tally(services.audit, 60.0, most=3)
    for _ in range(500):
        tally.add(rejected("WHO"))
    tally.flush()
    for _ in range(2000):
        tally.add(rejected("WHO"))
        tally.flush()
    assert [count for *_, count in rejections(services)] == [500]
    now_s += 61
    tally.flush()
    assert [count for *_, count in rejections(services)] == [500, 2000]
    for number in range(1000):
        tally.add(rejected(f"TITLE{number}"))
    tally.flush()
    later = rejections(services)[2:]
    assert [(actor, count) for actor, _, _, count in later] == [
        ("ae:TITLE0", 1),
        ("ae:TITLE1", 1),
        ("ae:", 998),
    ]
    now_s += 61
    tally.flush()
    tally.flush()
    assert len(tally._windows) == 0, "nothing is kept of those that call no more"
    tally.add(rejected("WHO"))
    tally.flush(all_of_it=True)
    assert sum(count for *_, count in rejections(services)) == 500 + 2000 + 1000 + 1


def test_what_was_counted_is_kept_where_it_cannot_be_written(hold):
    services = hold(late=12).services
    tally = Tally(services.audit, 60.0)
    tally.add(rejected("WHO"))
    rename(services, "audit", "lost")
    tally.flush()
    tally.add(rejected("WHO"))
    rename(services, "lost", "audit")
    tally.flush()
    assert [count for *_, count in rejections(services)] == [2]


def rename(services, old: str, new: str) -> None:
    with services.database.write() as session:
        session.execute(text(f"ALTER TABLE {old} RENAME TO {new}"))


def test_a_trail_that_takes_no_line_is_trouble(hold):
    services = hold(late=12).services
    forwarder = Forwarder(services, "me")
    forwarder.check()
    assert forwarder.trouble == ""
    rename(services, "audit", "lost")
    forwarder.check()
    assert forwarder.trouble.startswith("audit trail: no line can be added: ")
    rename(services, "lost", "audit")
    forwarder.check()
    assert forwarder.trouble == ""
    assert list(services.audit.read()) == []


# Queries


def test_a_pull_that_fails_is_told(hold, free_port):
    peer = {"ae_title": "PACS", "host": "127.0.0.1", "port": free_port()}
    services = hold(late=12, peers={"pacs": peer}).services
    with pytest.raises(PeerUnreachable):
        pull_study(services, services.settings.peers["pacs"], "1.2.3", actor="user:anna")
    [line] = services.audit.read()
    assert (line.event, line.actor) == (AuditEvent.QUERY_SENT, "user:anna")
    assert (line.outcome, line.study_uid) == (AuditOutcome.SERIOUS_FAILURE, "1.2.3")
    assert "cannot be reached" in line.detail["error"]
    assert (line.detail["purpose"], line.detail["by"]) == ("pull", "get")
    assert line.detail["query"] == {
        "QueryRetrieveLevel": "SERIES",
        "StudyInstanceUID": "1.2.3",
        "Modality": "CT",
    }


def test_what_is_told_has_its_outcome(hold):
    services = hold(late=12).services
    with told(services.audit, rejected("WHO")) as detail:
        detail["count"] = 5
    [line] = services.audit.read()
    assert line.detail == {"reason": "not known", "count": 5}


# The command line


@pytest.fixture
def command(hold, tmp_path: Path) -> Callable[..., object]:
    """Call `hepar audit` and others for a node with a received series."""
    held = hold()
    folder = f"data_dir={tmp_path / 'data'}"

    def call(*arguments: str, code: int = 0) -> str:
        done = CliRunner().invoke(app, [*arguments, "--set", folder])
        assert done.exit_code == code, done.output
        return done.output

    call.held = held
    return call


@pytest.fixture
def trail(command) -> AuditTrail:
    return command.held.services.audit


def last(trail: AuditTrail) -> AuditRecord:
    return trail.list_entries(limit=1)[0]


def add_line(trail: AuditTrail, study_uid: str, patient_id: str = "P 1") -> None:
    entry = AuditEntry(
        event=AuditEvent.MODEL_RUN, actor="worker", study_uid=study_uid, patient_id=patient_id
    )
    trail.append(entry, utc_now())


def test_lines_are_listed_and_that_is_a_line_too(command, trail: AuditTrail):
    add_line(trail, "1.2.3")
    add_line(trail, "1.2.4", "P 2")
    found = json.loads(command("audit", "list", "--json", "--study", "1.2.3"))
    assert [(line["study_uid"], line["event"]) for line in found] == [("1.2.3", "model-run")]
    read = last(trail)
    assert read.event is AuditEvent.AUDIT_READ
    assert read.actor.startswith("user:")
    assert read.detail == {"command": "list", "study_uid": "1.2.3"}
    assert len(json.loads(command("audit", "list", "--json", "--event", "model-run"))) == 2
    assert len(json.loads(command("audit", "list", "--json", "--patient", "P 2"))) == 1
    assert json.loads(command("audit", "list", "--json", "--until", "2020-01-01")) == []
    assert len(json.loads(command("audit", "list", "--json", "--since", "2020-01-01T00:00"))) == 7
    assert "P 2" in command("audit", "list", "--actor", "worker")
    assert "no time" in command("audit", "list", "--since", "yesterday", code=2)


def test_an_export_is_whole(command, trail: AuditTrail, tmp_path: Path):
    add_line(trail, "1.2.3")
    target = tmp_path / "audit.jsonl"
    assert "2 lines written" in command("audit", "export", "-o", str(target))
    lines = [json.loads(line) for line in target.read_text().splitlines()]
    assert [line["digest"] for line in lines] == [line.digest for line in trail.read()]
    assert lines[1]["event"] == "audit-read"
    assert lines[1]["detail"]["format"] == "jsonl"
    assert target.stat().st_mode & 0o077 == 0
    assert "already" in command("audit", "export", "-o", str(target), code=2)
    dicom = command("audit", "export", "--format", "dicom", "-o", "-").splitlines()
    assert len(dicom) == 3
    assert all(line.startswith("<85>1 ") and line.endswith("</AuditMessage>") for line in dicom)
    assert command("audit", "export", "-o", "-", "--until", "2020-01-01") == ""


def test_a_change_is_found(command, trail: AuditTrail):
    assert "there is none" in command("audit", "verify")
    for study in ("1.2.3", "1.2.4", "1.2.5"):
        add_line(trail, study)
    assert f"up to line 3, digest {last(trail).digest}" in " ".join(
        command("audit", "verify").split()
    )
    with command.held.services.database.write() as session:
        session.execute(text("DROP TRIGGER audit_no_update"))
        session.execute(text("UPDATE audit SET patient_id = 'P 9' WHERE id = 2"))
    assert "Line 2 of" in command("audit", "verify", code=1)


def test_sending_needs_a_server(command, tmp_path: Path):
    done = CliRunner().invoke(app, ["audit", "send", "--set", f"data_dir={tmp_path / 'data'}"])
    assert isinstance(done.exception, WrongCall)


def test_actions_are_told(command, trail: AuditTrail):
    job = command.held.queue()
    command("jobs", "cancel", str(job.id))
    command("jobs", "retry", str(job.id))
    retry, cancel = trail.list_entries([AuditEvent.ACTION])
    assert (cancel.detail["action"], cancel.detail["job"]) == ("cancel job", job.id)
    assert retry.detail["action"] == "retry job"
    assert retry.study_uid == job.study_uid
    assert retry.actor.startswith("user:")


def test_looks_at_patient_data_are_told(command, trail: AuditTrail):
    command("series", "list")
    assert list(trail.read()) == []
    command("series", "list", "--json")
    assert last(trail).event is AuditEvent.DATA_VIEWED
    command("series", "show", command.held.series_uid, "--json")
    assert last(trail).study_uid == dcmread(command.held.paths[0]).StudyInstanceUID


def test_a_backup_takes_data_away(command, trail: AuditTrail, tmp_path: Path):
    command("db", "backup", str(tmp_path / "hepar.backup"))
    assert last(trail).event is AuditEvent.DATA_EXPORTED
    assert last(trail).detail["to"] == str(tmp_path / "hepar.backup")

"""A CT series goes in, SEG and SR lie in the archive: real process, real sender, real archive."""

import json
import re
import shutil
import urllib.request
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from browsing import PASSWORD, Browser
from pydicom import dcmread
from pydicom.uid import generate_uid

from benchmarks.peers import wait_until
from dicom_io.ct import CtIdentity, write_enhanced_ct
from dicom_io.seg_reader import read_labels
from dicom_io.series import read_series
from inference.manifest import find_package
from inference.measure import dice
from storage.states import DeliveryState, JobState

pytestmark = [pytest.mark.peer, pytest.mark.timeout(600)]

LIVER_DICE = 0.9


def send(storescu, folder: Path, port: int, *options: str) -> None:
    done = storescu(folder, port, *options)
    assert done.returncode == 0, done.stdout + done.stderr


def test_storescu_to_orthanc(make_node, orthanc, storescu, synthetic_ct, tmp_path: Path):
    node = make_node(orthanc.toml)
    send(storescu, synthetic_ct.folder, node.port)
    job = node.wait_for_state(JobState.DELIVERED)
    stored = orthanc.instances()
    assert set(stored) == {"SEG", "SR", "OT"}

    source = dcmread(synthetic_ct.paths[0])
    for content in stored.values():
        result = dcmread(BytesIO(content))
        for keyword in ("PatientID", "PatientName", "StudyInstanceUID", "AccessionNumber"):
            assert result[keyword].value == source[keyword].value
        assert result.SeriesInstanceUID != source.SeriesInstanceUID

    (tmp_path / "seg.dcm").write_bytes(stored["SEG"])
    series = read_series(synthetic_ct.paths)
    found = read_labels(tmp_path / "seg.dcm", series).array
    truth = synthetic_ct.phantom.labels.match_geometry(series.volume).array
    assert dice(found > 0, truth > 0) > LIVER_DICE

    report = json.loads((node.services.files.result_folder(job.id) / "report.json").read_text())
    assert report["liver"]["volume_ml"] == pytest.approx(
        np.count_nonzero(found == 1) * np.prod(series.volume.spacing) / 1000, rel=1e-3
    )
    history = [(e.from_state, e.to_state) for e in node.services.jobs.events(job.id)]
    assert [to for _, to in history] == [
        JobState.QUEUED,
        JobState.RUNNING,
        JobState.PRODUCED,
        JobState.DELIVERING,
        JobState.DELIVERED,
    ]
    assert str(source.PatientName) not in node.log
    assert source.PatientID not in node.log


def test_with_postgresql(make_node, postgresql, storescp, storescu, synthetic_ct):
    """The database is also away for a while, in the middle of the work: nothing is lost."""
    url = postgresql.new_database()
    storescp.stop()
    node = make_node(storescp.toml + f'\n[database]\nurl = "{url}"\n')
    send(storescu, synthetic_ct.folder, node.port)
    node.wait_for_state(JobState.RUNNING)
    postgresql.stop()
    assert node.hepar("doctor", "--running").returncode == 1
    refused = storescu(synthetic_ct.folder, node.port)
    assert refused.returncode != 0, "what cannot be indexed is not answered with Success"
    postgresql.run()
    node.wait_for_state(JobState.DELIVERING)
    postgresql.stop()
    storescp.start()
    postgresql.run()
    job = node.wait_for_state(JobState.DELIVERED)
    assert {dcmread(path).Modality for path in storescp.files()} == {"SEG", "SR", "OT"}
    assert len(storescp.files()) == 3
    states = [event.to_state for event in node.services.jobs.events(job.id)]
    assert (states[0], states[-1]) == (JobState.QUEUED, JobState.DELIVERED)
    wait_until(node.is_ready, "every role is back")
    doctor = json.loads(node.hepar("doctor", "--json").stdout)
    [database] = [check for check in doctor if check["check"] == "database"]
    assert database["detail"].startswith("postgresql, version ")
    assert database["detail"].endswith(f", writable, schema is current, last job {job.id}")
    assert "s3cret" not in node.log


def test_enhanced_ct_goes_the_same_way(
    shared_node, shared_archive, storescu, synthetic_ct, tmp_path: Path
):
    folder = tmp_path / "enhanced"
    folder.mkdir()
    volume = synthetic_ct.phantom.volume
    write_enhanced_ct(volume, folder / "enhanced.dcm", CtIdentity.from_seed(1))
    send(storescu, folder, shared_node.port)
    shared_node.wait_for_state(JobState.DELIVERED)
    [seg] = [path for path in shared_archive.files() if dcmread(path).Modality == "SEG"]
    series = read_series(list(folder.iterdir()))
    truth = synthetic_ct.phantom.labels.match_geometry(series.volume).array
    assert dice(read_labels(seg, series).array > 0, truth > 0) > LIVER_DICE


def test_a_mixture_of_gaussians_marks_tumor(make_node, storescp, storescu, synthetic_ct):
    node = make_node(storescp.toml + '\n[inference]\ntumor_engine = "gmm"\n')
    send(storescu, synthetic_ct.folder, node.port)
    job = node.wait_for_state(JobState.DELIVERED)
    assert job.model_name.endswith("+gmm")
    objects = {dataset.Modality: dataset for dataset in map(dcmread, storescp.files())}
    series = read_series(synthetic_ct.paths)
    truth = synthetic_ct.phantom.labels.match_geometry(series.volume).array
    [seg] = [path for path in storescp.files() if dcmread(path).Modality == "SEG"]
    assert dice(read_labels(seg, series).array > 0, truth > 0) > LIVER_DICE
    [algorithm] = objects["SEG"].SegmentSequence[0].SegmentationAlgorithmIdentificationSequence
    assert algorithm.AlgorithmName == job.model_name
    assert job.model_digest in algorithm.AlgorithmParameters
    assert "tumor_engine=gmm" in str(objects["SR"])


def test_administrator_commands_and_pages(make_node, storescp, storescu, synthetic_ct):
    node = make_node(storescp.toml)
    send(storescu, synthetic_ct.folder, node.port)
    job = node.wait_for_state(JobState.DELIVERED)
    [listed] = json.loads(node.hepar("jobs", "list", "--json").stdout)
    assert (listed["id"], listed["state"]) == (job.id, "DELIVERED")
    shown = json.loads(node.hepar("jobs", "show", str(job.id), "--json").stdout)
    assert [d["state"] for d in shown["deliveries"]] == ["DELIVERED"]
    assert {r["role"] for r in shown["results"]} == {"seg", "sr", "summary"}
    text = node.hepar("jobs", "show", str(job.id)).stdout
    assert "liver without lesions" in text
    [series] = json.loads(node.hepar("series", "list", "--json").stdout)
    assert series["decision"] == "process"

    before = {path.name: path.read_bytes() for path in storescp.files()}
    assert node.hepar("jobs", "resend", str(job.id)).returncode == 0
    node.wait_for_state(JobState.DELIVERED)
    assert {path.name: path.read_bytes() for path in storescp.files()} == before
    assert node.services.jobs.get(job.id).attempts == 1

    cancel = node.hepar("jobs", "cancel", str(job.id))
    assert cancel.returncode == 1
    assert "DELIVERED" in cancel.stderr
    assert node.hepar("jobs", "show", "999").returncode == 1

    assert node.hepar("doctor", "--running").returncode == 0
    doctor = node.hepar("doctor", "--quick", "--json", "--set", "peers.scanner.port=1")
    verdicts = {c["check"]: c["verdict"] for c in json.loads(doctor.stdout)}
    assert verdicts["peer archive"] == verdicts["model"] == verdicts["role worker"] == "good"
    assert verdicts[f"port {node.port}"] == verdicts["peer scanner: calls"] == "good"
    assert verdicts["peer scanner"] == "remark"
    assert doctor.returncode == 0
    assert node.hepar("echo", "archive").returncode == 0

    web = f"http://127.0.0.1:{node.settings.web.port}"
    for page in ("healthz", "readyz"):
        with urllib.request.urlopen(f"{web}/{page}") as answer:
            assert answer.status == 200
    counted = [
        'hepar_associations_total{outcome="accepted"}',
        'hepar_received_bytes_total{source="SCANNER"}',
        'hepar_job_attempt_duration_seconds_count{outcome="produced"}',
        'hepar_delivery_attempts_total{destination="archive",outcome="delivered"}',
        'hepar_process_starts_total{role="web"}',
    ]
    wait_until(lambda: all(_metric(web, name) for name in counted), "the processes are counted")
    assert _metric(web, 'hepar_role_processes{role="worker"}') == 1
    added = node.hepar("users", "add", "anna", "--password-stdin", given=f"{PASSWORD}\n")
    assert added.returncode == 0, added.stderr
    browser = Browser(web).log_in("anna")
    assert "DELIVERED" in browser.get("/jobs").text
    assert browser.get(f"/jobs/{job.id}/preview.png").content.startswith(b"\x89PNG")
    browser.close()


def _metric(web: str, series: str) -> float:
    """Give a value from the node's page of metrics; 0 where it has none."""
    with urllib.request.urlopen(f"{web}/metrics") as answer:
        lines = answer.read().decode().splitlines()
    return sum(float(line.rsplit(" ", 1)[1]) for line in lines if line.startswith(f"{series} "))


def test_dead_destination_costs_no_second_inference(shared_node, shared_archive, storescu, make_ct):
    node = shared_node
    shared_archive.stop()
    send(storescu, make_ct(2).folder, node.port)
    job = node.wait_for_state(JobState.DELIVERING)
    [delivery] = node.services.deliveries.list_deliveries(job.id)
    assert delivery.state is DeliveryState.PENDING
    shared_archive.start()
    job = node.wait_for_state(JobState.DELIVERED)
    assert job.attempts == 1
    [delivery] = node.services.deliveries.list_deliveries(job.id)
    assert delivery.attempts >= 2
    assert len(shared_archive.files()) == 3


def test_another_model_processes_a_series_again(
    shared_node, shared_archive, storescu, make_ct, tmp_path: Path
):
    node, shipped = shared_node, find_package("hepar-liver-ct")
    package = shutil.copytree(shipped.folder, tmp_path / "package")
    manifest = package / "manifest.toml"
    manifest.write_text(
        manifest.read_text().replace(f'"{shipped.manifest.version}"', '"99.0.0"', 1)
    )
    send(storescu, make_ct(6).folder, node.port)
    first = node.wait_for_state(JobState.DELIVERED)
    before = {dcmread(path).Modality: dcmread(path) for path in shared_archive.files()}
    added = node.hepar("model", "add", str(package))
    assert added.returncode == 0, added.stderr
    model = "hepar-liver-ct@99.0.0"
    asked = node.hepar("jobs", "reprocess", str(first.id), "--model", model)
    assert asked.returncode == 0, asked.stderr
    second = node.wait_for_state(JobState.DELIVERED)
    assert (second.id, second.model_version) == (first.id + 1, "99.0.0")
    assert node.services.jobs.get(first.id).state is JobState.SUPERSEDED
    old = {one.SOPInstanceUID for one in before.values()}
    stored = [dcmread(path) for path in shared_archive.files()]
    after = {one.Modality: one for one in stored if one.SOPInstanceUID not in old}
    assert set(after) == set(before) == {"SEG", "SR", "OT"}
    for modality, earlier in before.items():
        description = f"{earlier.SeriesDescription} (hepar-liver-ct 99.0.0)"
        assert after[modality].SeriesDescription == description
        assert after[modality].SeriesInstanceUID != earlier.SeriesInstanceUID
    assert after["SEG"].PixelData == before["SEG"].PixelData, "its networks are the same"
    [named] = after["SR"].PredecessorDocumentsSequence[0].ReferencedSeriesSequence
    [instance] = named.ReferencedSOPSequence
    assert instance.ReferencedSOPInstanceUID == before["SR"].SOPInstanceUID
    removed = node.hepar("model", "remove", model)
    assert removed.returncode == 0, removed.stderr


EVERYTHING = """profile = "everything"
[profiles.everything]
objects = ["seg", "sr", "overlay", "rtstruct", "pdf", "key-objects"]
"""


def test_each_destination_has_its_own_fate(make_node, storescp, storescu, synthetic_ct, free_port):
    """And its own profile: one gets all that there is, from files that it can compare."""
    dead = f'[peers.dead]\nae_title = "DEAD"\nhost = "127.0.0.1"\nport = {free_port()}\n'
    node = make_node(storescp.toml + EVERYTHING + dead + 'roles = ["destination"]\n')
    send(storescu, synthetic_ct.folder, node.port)
    job = node.wait_for_state(JobState.DELIVERING)

    def states() -> dict[str, DeliveryState]:
        return {d.destination: d.state for d in node.services.deliveries.list_deliveries(job.id)}

    wait_until(lambda: states()["archive"] is DeliveryState.DELIVERED, "the living one has it")
    assert states()["dead"] is DeliveryState.PENDING
    stored = [dcmread(path) for path in storescp.files()]
    assert {one.Modality for one in stored} == {"SEG", "SR", "OT", "RTSTRUCT", "DOC", "KO"}
    results = node.services.jobs.results(job.id, "everything")
    assert {one.SOPInstanceUID for one in stored} == {one.sop_instance_uid for one in results}
    theirs = node.services.jobs.results(job.id, "ohif")
    assert {one.role for one in theirs} == {"seg", "sr", "summary"}
    shown = node.hepar("jobs", "show", str(job.id))
    assert "everything" in shown.stdout
    assert "Checks before sending" in shown.stdout


def test_skipped_series_says_why(shared_node, storescu, synthetic_ct, tmp_path: Path):
    folder = tmp_path / "localizer"
    folder.mkdir()
    ds = dcmread(synthetic_ct.paths[0])
    ds.ImageType = ["ORIGINAL", "PRIMARY", "LOCALIZER"]
    ds.save_as(folder / "scout.dcm")
    send(storescu, folder, shared_node.port)

    def settled() -> list:
        series = shared_node.services.catalog.list_series(settled=True)
        return [one for one in series if one.series_uid == ds.SeriesInstanceUID]

    [series] = wait_until(settled, "the series is settled")
    assert series.decision == "skip"
    assert "localizer" in series.reason
    assert shared_node.job() is None
    tested = shared_node.hepar("rules", "test", str(folder), "--json")
    [decision] = json.loads(tested.stdout)
    assert (decision["action"], decision["rule"]) == ("skip", "localizer")


def _judgement(report: Path) -> str:
    """Give the code that a report on a rejected series ends with."""
    evaluations = dcmread(report).ContentSequence[-1]
    return str(evaluations.ContentSequence[0].ConceptCodeSequence[0].CodeValue)


def _wait_for_answers(node, job, archive) -> dict[str, Path]:
    """Wait for report and picture that say why a series was rejected, by modality."""

    def delivered() -> bool:
        [delivery] = node.services.deliveries.list_deliveries(job.id)
        return delivery.state is DeliveryState.DELIVERED

    wait_until(delivered, "the archive knows why")
    answers = {dcmread(path).Modality: path for path in archive.files()}
    assert set(answers) == {"SR", "OT"}
    return answers


def test_gap_is_rejected_with_its_code(
    shared_node, shared_archive, storescu, make_ct, tmp_path: Path
):
    node = shared_node
    folder = tmp_path / "gap"
    folder.mkdir()
    in_order = sorted(
        make_ct(3).paths, key=lambda p: dcmread(p, stop_before_pixels=True).InstanceNumber
    )
    for path in [*in_order[:20], *in_order[21:]]:
        shutil.copy(path, folder)
    send(storescu, folder, node.port)
    job = node.wait_for_state(JobState.REJECTED)
    assert job.reason_code == "MISSING_SLICE"
    assert job.reason
    answers = _wait_for_answers(node, job, shared_archive)
    report = answers["SR"]
    assert _judgement(report) == "missing-slice"
    # The missing slice arrives late: the series opens again and is processed after all.
    late = tmp_path / "late"
    late.mkdir()
    shutil.copy(in_order[20], late)
    send(storescu, late, node.port)
    wait_until(lambda: node.job().id != job.id, "there is a second job")
    node.wait_for_state(JobState.DELIVERED)
    stored = [dcmread(path) for path in shared_archive.files() if path not in answers.values()]
    [newer] = [one for one in stored if one.Modality == "SR"]
    assert {one.Modality for one in stored} == {"SEG", "SR", "OT"}
    [named] = newer.PredecessorDocumentsSequence[0].ReferencedSeriesSequence
    [instance] = named.ReferencedSOPSequence
    assert instance.ReferencedSOPInstanceUID == dcmread(report).SOPInstanceUID


@pytest.mark.real
def test_3d_ircadb_patient_1(make_node, orthanc, storescu, real_series, tmp_path: Path):
    folder = real_series("3Dircadb1.1")
    node = make_node(orthanc.toml)
    send(storescu, folder / "PATIENT_DICOM", node.port)
    node.wait_for_state(JobState.DELIVERED)
    stored = orthanc.instances()
    (tmp_path / "seg.dcm").write_bytes(stored["SEG"])
    source = read_series(sorted((folder / "PATIENT_DICOM").iterdir()))
    found = read_labels(tmp_path / "seg.dcm", source).array
    assert dice(found > 0, _ircad_mask(folder, "liver", source)) > LIVER_DICE


def _ircad_mask(folder: Path, name: str, source) -> np.ndarray:
    """Read a mask series of 3D-IRCADb onto the slices of the source, by position."""
    by_position = {}
    for path in (folder / "MASKS_DICOM" / name).iterdir():
        ds = dcmread(path)
        by_position[round(float(ds.ImagePositionPatient[2]), 2)] = ds.pixel_array > 0
    positions = [round(float(ds.ImagePositionPatient[2]), 2) for ds in source.datasets]
    return np.stack([by_position[z] for z in positions])


@pytest.mark.real
def test_crlm_ct_1004(shared_node, shared_archive, storescu, real_series):
    send(storescu, real_series("CRLM-CT-1004") / "image", shared_node.port)
    job = shared_node.wait_for_state(JobState.DELIVERED)
    assert len(shared_archive.files()) == 3
    assert 500 < job.summary["summary"]["liver_volume_with_lesions_ml"] < 4000


@pytest.mark.real
def test_three_slices_are_too_few(shared_node, shared_archive, storescu, real_series):
    send(storescu, real_series("dcmqi_ct-3slice") / "ct", shared_node.port)
    job = shared_node.wait_for_state(JobState.REJECTED)
    assert job.reason_code == "TOO_FEW_SLICES"
    answers = _wait_for_answers(shared_node, job, shared_archive)
    assert _judgement(answers["SR"]) == "too-few-slices"
    assert re.search(r"\b3\b", job.reason)


@pytest.mark.real
def test_jpeg_2000_series(shared_node, shared_archive, storescu, real_series, tmp_path: Path):
    """The published files lack UIDs, so they are refused; with UIDs they go through."""
    node = shared_node
    published = real_series("totalsegmentator_example") / "example_ct_dicom"
    known = node.services.catalog.list_series()
    refused = storescu(published, node.port, "-xs")
    assert "Success" not in refused.stdout
    assert node.services.catalog.list_series() == known

    folder = tmp_path / "completed"
    folder.mkdir()
    study, series = generate_uid(), generate_uid()
    for number, path in enumerate(sorted(published.iterdir())):
        ds = dcmread(path)
        ds.StudyInstanceUID, ds.SeriesInstanceUID = study, series
        ds.SOPClassUID = "1.2.840.10008.5.1.4.1.1.2"
        ds.SOPInstanceUID = generate_uid()
        ds.file_meta.MediaStorageSOPClassUID = ds.SOPClassUID
        ds.file_meta.MediaStorageSOPInstanceUID = ds.SOPInstanceUID
        ds.save_as(folder / f"{number}.dcm", enforce_file_format=True)
    done = storescu(folder, node.port, "-xv")
    assert done.returncode == 0, done.stdout + done.stderr
    node.wait_for_state(JobState.DELIVERED)
    assert len(shared_archive.files()) == 3


def test_hepar_send_is_a_sender_too(shared_node, make_ct):
    node, ct = shared_node, make_ct(4)
    sent = node.hepar(
        "send",
        str(ct.folder),
        "--to",
        f"HEPAR@127.0.0.1:{node.port}",
        "--set",
        "node.ae_title=SCANNER",
    )
    assert sent.returncode == 0, sent.stderr
    assert f"{len(ct.paths)} of {len(ct.paths)} stored" in sent.stdout
    node.wait_for_state(JobState.DELIVERED)
    refused = node.hepar("echo", f"HEPAR@127.0.0.1:{node.port}", "--set", "node.ae_title=NOBODY")
    assert refused.returncode == 1
    assert "Calling AE title not recognised" in " ".join(refused.stderr.split())

"""The page of one job: slices, results, deliveries, and what operators do there."""

import io
import json
import re
import shutil
import threading
import zipfile
from datetime import timedelta

import numpy as np
import pytest
from doubles import BoxSegmenter, Held, write_package
from pydicom import dcmread, uid

from config import Settings
from dicom_io.ct import write_ct_series, write_enhanced_ct
from dicom_io.headers import read_header
from dicom_io.seg_reader import read_labels
from dicom_io.series import read_series
from inference.errors import LiverNotFound
from inference.labels import Label
from inference.phantom import PhantomSettings, make_phantom
from node.clock import utc_now
from node.models import add_model
from node.services import open_services
from node.worker import Worker
from storage.database import upgrade_database
from storage.states import AuditEvent, DeliveryState, JobState, UserRole, Work

PEERS = {
    name: {"ae_title": name.upper(), "host": "127.0.0.1", "roles": ["destination"]}
    for name in ("archive", "second")
}


class NoLiver(BoxSegmenter):
    def segment(self, volume, progress):
        raise LiverNotFound("no liver")


def work(held, segmenter=None):
    Worker(held.services, segmenter or BoxSegmenter(), threading.Event()).work_once()


def deliver(held, *names):
    deliveries, now = held.services.deliveries, utc_now()
    for name in names:
        found = deliveries.claim_due("sender", destination=name, lease_s=60, now=now)
        deliveries.delivered(found.id, "sender", now)


SECTIONS = {"peers": PEERS, "results": {"plausibility": {"max_tumor_burden": 0.01}}}


@pytest.fixture(scope="module")
def finished(tmp_path_factory, small_ct):
    """The data folder of a node with one job whose results wait for two destinations."""
    settings = Settings(data_dir=tmp_path_factory.mktemp("node") / "data", **SECTIONS)
    settings.data_dir.mkdir()
    upgrade_database(settings.database_url)
    with open_services(settings) as services:
        series_uid = read_header(small_ct[0]).series_instance_uid
        held = Held(services=services, series_uid=series_uid, paths=small_ct)
        for path in small_ct:
            held.receive(path)
        held.queue()
        work(held)
    return settings.data_dir


@pytest.fixture
def held(finished, tmp_path, small_ct, free_port):
    """A copy of it."""
    shutil.copytree(finished, tmp_path / "data")
    settings = Settings(data_dir=tmp_path / "data", web={"port": free_port()}, **SECTIONS)
    with open_services(settings) as services:
        series_uid = read_header(small_ct[0]).series_instance_uid
        yield Held(services=services, series_uid=series_uid, paths=small_ct)


@pytest.fixture
def operator(held, serve):
    return serve(held)("olga", UserRole.OPERATOR)


def source_of(held):
    paths = held.services.catalog.instance_paths(held.series_uid)
    return read_series([held.services.files.absolute(path) for path in paths])


def slices_of(browser, job_id=1):
    answer = browser.get(f"/jobs/{job_id}/slices")
    assert answer.status_code == 200, answer.text
    return answer.json()


def pixels(browser, path, kind):
    answer = browser.get(path)
    assert answer.status_code == 200, answer.text
    return np.frombuffer(answer.content, kind)


def actions(held, event):
    return [line.detail for line in held.services.audit.list_entries([event])]


def test_the_page_tells_the_whole_story(held, serve):
    page = serve(held)("anna", UserRole.VIEWER).get("/jobs/1").text
    for words in (
        "PRODUCED",
        "1 lesion segmented",
        "Doubtful",
        "RECIST",
        "Comprehensive 3D SR Storage",
        "archive",
        "attempt 1",
        "encode and check",
        "rule: test",
        "Phantom",
    ):
        assert words in page
    assert "/jobs/1/retry" not in page, "a viewer looks"
    assert held.services.audit.list_entries([AuditEvent.DATA_VIEWED])[0].detail["job"] == 1


def test_slices_are_the_windowless_source_from_head_to_feet(held, operator):
    volume = source_of(held).volume
    listed = slices_of(operator)
    assert [one["number"] for one in listed["slices"]] == list(range(1, 13))
    assert [one["index"] for one in listed["slices"]] == list(range(11, -1, -1))
    assert listed["slices"][0]["edges"] == ["R", "L", "A", "P"]
    assert listed["slices"][0]["spacing_mm"] == [12.0, 12.0]
    assert listed["slices"][0]["position_mm"] == pytest.approx(
        (volume.affine @ [11, 0, 0, 1])[2], abs=0.01
    )
    for index, plane in enumerate(volume.array):
        found = pixels(operator, f"/jobs/1/slices/{index}/hu", "<i2")
        assert np.array_equal(found.reshape(plane.shape), plane)


def test_contours_are_those_of_the_segmentation_that_is_sent(held, operator):
    source = source_of(held)
    labels = read_labels(held.services.files.result_folder(1) / "seg.dcm", source).array
    assert (labels == Label.TUMOR).sum() == 2 * 4 * 4
    listed = slices_of(operator)
    assert listed["has_overlay"]
    assert listed["lesions"][0]["long_axis"]["slice_index"] in (4, 5)
    for index, plane in enumerate(labels):
        found = pixels(operator, f"/jobs/1/slices/{index}/labels", np.uint8)
        assert np.array_equal(found.reshape(plane.shape), plane)


def test_whoever_cannot_unpack_gets_plain_pixels(held, operator):
    path = "/jobs/1/slices/3/hu"
    assert operator.get(path).headers["content-encoding"] == "gzip"
    plain = operator.get(path, headers={"Accept-Encoding": "identity"})
    assert "content-encoding" not in plain.headers
    assert plain.content == operator.get(path).content
    assert plain.headers["cache-control"] == "no-store"


@pytest.mark.parametrize("kind", ["enhanced", "compressed"])
def test_other_forms_of_ct(hold, serve, free_port, tmp_path, kind):
    volume = make_phantom(
        PhantomSettings(seed=2, shape=(12, 32, 32), spacing_mm=(10.0, 12.0, 12.0), lesions=())
    ).volume
    paths = [tmp_path / "ct.dcm"]
    if kind == "enhanced":
        write_enhanced_ct(volume, paths[0])
    else:
        syntax = uid.JPEGLSLossless
        paths = write_ct_series(volume, tmp_path / "ct", transfer_syntax_uid=syntax)
    services = hold(web={"port": free_port()}, late=12).services
    held = Held(
        services=services, series_uid=read_header(paths[0]).series_instance_uid, paths=paths
    )
    for path in paths:
        held.receive(path)
    held.queue()
    work(held)
    browser = serve(held)("anna")
    source = source_of(held)
    labels = read_labels(services.files.result_folder(1) / "seg.dcm", source).array
    assert [one["number"] for one in slices_of(browser)["slices"]] == list(range(1, 13))
    for index in (0, 4, 11):
        hu = pixels(browser, f"/jobs/1/slices/{index}/hu", "<i2")
        assert np.array_equal(hu, source.volume.array[index].ravel())
        found = pixels(browser, f"/jobs/1/slices/{index}/labels", np.uint8)
        assert np.array_equal(found, labels[index].ravel())


@pytest.mark.parametrize("path", ["12/hu", "-1/hu", "12/labels", "99/labels"])
def test_there_is_no_such_slice(operator, path):
    answer = operator.get(f"/jobs/1/slices/{path}", headers={"Accept": "application/json"})
    assert answer.status_code == 404
    assert "no slice" in answer.json()["detail"]


def test_many_slices_are_one_line_of_the_audit_trail(held, operator):
    slices_of(operator)
    for index in range(12):
        operator.get(f"/jobs/1/slices/{index}/hu")
        operator.get("/jobs/1/parts/head")
    assert len(actions(held, AuditEvent.DATA_VIEWED)) == 1


def test_a_rejected_job_shows_what_came_and_why(hold, serve, free_port):
    held = hold(web={"port": free_port()}, peers=PEERS)
    held.queue()
    work(held, NoLiver())
    browser = serve(held)("anna", UserRole.OPERATOR)
    page = browser.get("/jobs/1").text
    assert "LIVER_NOT_FOUND" in page
    assert "Nothing was measured" in page
    listed = slices_of(browser)
    assert not listed["has_overlay"]
    assert "no segmentation" in listed["notes"][0]
    assert len(pixels(browser, "/jobs/1/slices/3/hu", "<i2")) == 32 * 32
    assert browser.get("/jobs/1/slices/3/labels").status_code == 404


def test_a_job_under_way_shows_its_slices_and_goes_on_by_itself(hold, serve, free_port):
    held = hold(web={"port": free_port()})
    held.queue()
    held.services.pauses.suspend(Work.PROCESSING, "user:olga", "", utc_now())
    browser = serve(held)("anna", UserRole.OPERATOR)
    page = browser.get("/jobs/1").text
    assert 'data-every="2"' in page
    assert "Processing is suspended" in page
    assert "when the job is done" in slices_of(browser)["notes"][0]
    held.services.pauses.resume(Work.PROCESSING)
    assert held.services.jobs.claim("worker", lease_s=60, now=utc_now())
    part = browser.get("/jobs/1/parts/head").text
    assert "<progress" in part
    assert "<html" not in part
    assert browser.get("/jobs/1/parts/other").status_code == 422


def test_a_file_that_is_gone_is_a_sentence(held, operator):
    slices_of(operator)
    held.services.files.remove_instances(held.services.catalog.instance_paths(held.series_uid))
    answer = operator.get("/jobs/1/slices/3/hu", headers={"Accept": "application/json"})
    assert answer.status_code == 404
    assert "removed" in answer.json()["detail"]


def remove(held, later):
    """Do as retention does once its time has come."""
    retention, now = held.services.retention, utc_now() + later
    for removal in retention.plan(now).removals:
        assert retention.remove(removal, now)
    retention.finish()


def test_results_that_were_removed_are_a_sentence(hold, serve, free_port):
    peers = {"archive": PEERS["archive"]}
    held = hold(web={"port": free_port()}, retention={"results_days": 1.0}, peers=peers)
    held.queue()
    work(held)
    deliver(held, "archive")
    operator = serve(held)("olga", UserRole.OPERATOR)
    assert slices_of(operator)["has_overlay"]
    remove(held, timedelta(days=2))
    assert held.services.jobs.get(1).results_removed_at is not None
    page = operator.get("/jobs/1").text
    assert "The files were removed on" in page
    assert "make the results again" in page
    assert "Send again" not in page
    listed = slices_of(operator)
    assert not listed["has_overlay"]
    assert any("results were removed" in note for note in listed["notes"])
    for path in ("results.zip", "report.pdf", "preview.png"):
        answer = operator.get(f"/jobs/1/{path}")
        assert answer.status_code == 404
        assert "retry makes them again" in answer.text


def test_a_series_that_was_removed_is_a_sentence(hold, serve, free_port):
    held = hold(web={"port": free_port()}, retention={"instances_days": 1.0})
    held.queue()
    work(held)
    operator = serve(held)("olga", UserRole.OPERATOR)
    assert slices_of(operator)["slices"]
    remove(held, timedelta(days=2))
    listed = slices_of(operator)
    assert listed["slices"] == []
    assert "All files of the series were removed" in listed["notes"][0]
    assert operator.get("/jobs/1").status_code == 200


def test_a_series_that_has_changed_is_said_to_have(hold, serve, free_port):
    held = hold(web={"port": free_port()}, late=1)
    held.queue()
    work(held)
    held.receive(held.paths[-1])
    held.queue()
    browser = serve(held)("anna", UserRole.OPERATOR)
    page = browser.get("/jobs/1").text
    assert "SUPERSEDED" in page
    assert 'href="/jobs/2"' in page
    assert "nothing to do for this job" in page
    listed = slices_of(browser)
    assert len(listed["slices"]) == 12
    assert listed["lesions"] == [], "their slices are counted otherwise now"
    assert any("other instances" in note for note in listed["notes"])
    labels = read_labels_by_hand(browser, listed)
    assert labels.sum() > 0, "contours lie by their place, not by their number"
    assert 'href="/jobs/1"' in browser.get("/jobs/2").text


def read_labels_by_hand(browser, listed):
    return np.array(
        [
            pixels(browser, f"/jobs/1/slices/{one['index']}/labels", np.uint8)
            for one in listed["slices"]
        ]
    )


def test_an_object_is_downloaded_as_it_is_sent(held, operator):
    operator.get("/jobs/1")
    [seg] = [one for one in held.services.jobs.results(1) if one.role == "seg"]
    assert f"/jobs/1/results/{seg.id}" in operator.page
    answer = operator.get(f"/jobs/1/results/{seg.id}")
    assert "hepar-job-1-seg.dcm" in answer.headers["content-disposition"]
    assert dcmread(io.BytesIO(answer.content)).SOPInstanceUID == seg.sop_instance_uid
    assert actions(held, AuditEvent.DATA_EXPORTED) == [
        {"action": "download", "job": 1, "files": ["seg.dcm"]}
    ]
    assert operator.get("/jobs/1/results/999").status_code == 404


def test_everything_is_downloaded_at_once(held, operator):
    folder = held.services.files.result_folder(1)
    archive = zipfile.ZipFile(io.BytesIO(operator.get("/jobs/1/results.zip").content))
    assert archive.testzip() is None
    names = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    assert {name.removeprefix("hepar-job-1/") for name in archive.namelist()} == names
    for name in names:
        assert archive.read(f"hepar-job-1/{name}") == (folder / name).read_bytes()
    [line] = actions(held, AuditEvent.DATA_EXPORTED)
    assert set(line["files"]) == names


def test_the_objects_of_one_series_are_downloaded(hold, serve, free_port):
    peers = {"archive": PEERS["archive"] | {"profile": "orthanc"}}
    held = hold(web={"port": free_port()}, peers=peers)
    held.queue()
    work(held)
    browser = serve(held)("anna")
    [path] = re.findall(
        r'href="/jobs/1/(results\.zip\?series=[\d.]+)"', browser.get("/jobs/1").text
    )
    archive = zipfile.ZipFile(io.BytesIO(browser.get(f"/jobs/1/{path}").content))
    assert len(archive.namelist()) > 1
    assert {name.split("/")[1] for name in archive.namelist()} == {"overlay"}


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("preview.png", "image/png"),
        ("montage.png", "image/png"),
        ("report.pdf", "application/pdf"),
        ("report.html", "text/html"),
        ("report.json", "application/json"),
    ],
)
def test_reports_and_pictures_are_shown(held, operator, name, kind):
    answer = operator.get(f"/jobs/1/{name}")
    assert answer.headers["content-type"].startswith(kind)
    assert answer.content == (held.services.files.result_folder(1) / name).read_bytes()
    assert actions(held, AuditEvent.DATA_VIEWED) == [{"action": "view", "page": name, "job": 1}]
    saved = operator.get(f"/jobs/1/{name}?save=true")
    assert f"hepar-job-1-{name}" in saved.headers["content-disposition"]
    assert actions(held, AuditEvent.DATA_EXPORTED)[0]["files"] == [name]


def test_the_report_runs_nothing(operator):
    policy = operator.get("/jobs/1/report.html").headers["content-security-policy"]
    assert "sandbox" in policy
    assert "script-src" not in policy
    assert "default-src 'none'" in policy


def test_no_other_file_is_shown(operator):
    for name in ("seg.dcm", "..%2f..%2fhepar.db", "%2e%2e"):
        assert operator.get(f"/jobs/1/{name}").status_code == 404


def test_viewers_see_pictures_where_patients_are_hidden(hold, serve, free_port):
    held = hold(web={"port": free_port(), "hide_patients": True})
    held.queue()
    work(held)
    viewer = serve(held)("vera", UserRole.VIEWER)
    page = viewer.get("/jobs/1").text
    assert "hidden from viewers" in page
    assert "Phantom" not in page
    assert "report.pdf" not in page
    [result, *_] = held.services.jobs.results(1)
    for path in (f"results/{result.id}", "results.zip", "report.html", "report.pdf", "report.json"):
        assert viewer.get(f"/jobs/1/{path}").status_code == 403
    for path in ("preview.png", "montage.png", "slices", "slices/3/hu", "slices/3/labels"):
        assert viewer.get(f"/jobs/1/{path}").status_code == 200


@pytest.mark.parametrize("action", ["retry", "cancel", "resend"])
def test_viewers_change_nothing(held, serve, action):
    viewer = serve(held)("vera", UserRole.VIEWER)
    viewer.get("/jobs/1")
    assert viewer.post(f"/jobs/1/{action}").status_code == 403
    assert held.services.jobs.get(1).state is JobState.PRODUCED


def test_an_operator_cancels_and_retries(held, operator):
    operator.get("/jobs/1")
    assert "Job 1 is canceled" in operator.post("/jobs/1/cancel").text
    assert held.services.jobs.events(1)[-1].actor == "user:olga"
    assert "deliver the results to the destinations" in operator.page
    assert "is tried again; it is DELIVERING" in operator.post("/jobs/1/retry").text
    answer = operator.post("/jobs/1/retry")
    assert answer.status_code == 409
    assert "cannot be retried" in answer.text
    done = [line["action"] for line in actions(held, AuditEvent.ACTION)]
    assert done == ["retry job", "cancel job"]


def test_an_operator_sends_again(held, operator):
    deliver(held, *PEERS)
    operator.get("/jobs/1")
    assert "go to second once more" in operator.post("/jobs/1/resend", to="second").text
    deliveries = held.services.deliveries
    states = {one.destination: one.state for one in deliveries.list_deliveries(1)}
    assert states == {"archive": DeliveryState.DELIVERED, "second": DeliveryState.PENDING}
    assert "archive, second" in operator.post("/jobs/1/resend").text
    assert operator.post("/jobs/1/resend", to="nowhere").status_code == 422
    [all_of_them, one] = actions(held, AuditEvent.ACTION)
    assert one == {"action": "resend job", "job": 1, "to": "second"}
    assert all_of_them["to"] == "archive, second"


def test_a_failed_delivery_says_why_and_when_next(held, operator):
    deliveries, now = held.services.deliveries, utc_now()
    found = deliveries.claim_due("sender", destination="archive", lease_s=60, now=now)
    later = now + timedelta(hours=1)
    deliveries.attempt_failed(found.id, "sender", "connection refused", later, now)
    page = operator.get("/jobs/1").text
    assert "connection refused" in page
    assert later.strftime("%Y-%m-%d %H:%M") in page


def test_measurements_for_programs_are_those_of_the_page(held, operator):
    report = json.loads(operator.get("/jobs/1/report.json").content)
    assert report["summary"]["sentence"] in operator.get("/jobs/1").text


def test_operators_have_another_model_process_the_series(held, operator, tmp_path):
    other = add_model(held.services, write_package(tmp_path / "other", name="other").folder)
    browser = operator
    assert 'id="job-reprocess"' in browser.get("/jobs/1").text
    answer = browser.post("/jobs/1/reprocess", model=other.reference)
    assert answer.url.path == "/jobs/2"
    assert other.reference.replace("@", " ") in answer.text
    assert held.services.jobs.get(1).state is JobState.SUPERSEDED
    assert held.services.jobs.events(2)[0].actor == "user:olga"
    browser.get("/jobs/2")
    assert browser.post("/jobs/2/reprocess", model="nothing").status_code == 422
    line = held.services.audit.list_entries([AuditEvent.ACTION])[0]
    assert line.detail["model"] == other.reference.replace("@", " ")

"""Rules: what they ask for, what they decided, and the tester, which keeps nothing."""

import re
import tempfile
from io import BytesIO

import pytest
from pydicom import dcmread

from config import RuleAction
from dicom_io.description import SeriesDescription
from dicom_io.rules import Decision
from node.clock import utc_now
from node.web import app as web_app
from node.web.body_limit import MAX_BYTES
from storage.states import AuditEvent, UserRole

RULES = [
    {"name": "lungs", "action": "skip", "when": {"SeriesDescription": {"matches": "(?i)lung"}}},
    {"name": "for Phantom", "action": "skip", "when": {"PatientName": "Somebody^Else"}},
    {
        "name": "wanted",
        "action": "process",
        "reason": "A CT that we want.",
        "when": {"Modality": "CT", "InstanceCount": {"min": 2}, "CallingAETitle": "SCANNER"},
    },
]


@pytest.fixture
def held(hold, free_port):
    return hold(
        web={"port": free_port(), "hide_patients": True},
        peers={"scanner": {"ae_title": "SCANNER", "host": "127.0.0.1", "roles": ["source"]}},
        rules=RULES,
    )


@pytest.fixture
def visit(held, serve):
    return serve(held)


def upload(browser, files, calling=""):
    """Send files as the form of the page does."""
    token = re.search(r'name="form_token" value="([^"]+)"', browser.get("/rules").text)[1]
    return browser.client.post(
        "/rules/try",
        data={"form_token": token, "calling_ae_title": calling},
        files=[("files", (name, content)) for name, content in files],
    )


def text_of(html: str) -> str:
    return " ".join(re.sub(r"<[^>]+>", " ", html).split())


def test_the_rules_stand_in_order_with_their_conditions_and_figures(held, visit):
    held.queue()
    page = text_of(visit("anna", UserRole.VIEWER).get("/rules").text)
    assert re.search(
        r"1 lungs skip SeriesDescription matches .* 3 wanted A CT that we want. process Modality",
        page,
    )
    assert "and InstanceCount is at least 2 and CallingAETitle is" in page
    assert "Rules that are no longer in the settings decided: test 1." in page
    assert "Which rule would decide?" in page


def test_files_are_tried_and_each_condition_is_told(held, visit, tmp_path_factory, monkeypatch):
    temporary = tmp_path_factory.mktemp("temporary")
    monkeypatch.setattr(tempfile, "tempdir", str(temporary))
    before = set(held.services.files.data_dir.rglob("*"))
    files = [(path.name, path.read_bytes()) for path in held.paths[:3]]
    answer = upload(visit("anna"), files, calling="SCANNER")
    assert answer.status_code == 200
    shown = text_of(answer.text)
    assert "process by rule wanted" in shown
    assert "lungs SeriesDescription matches" in shown
    assert "InstanceCount is at least 2 3 yes" in shown
    assert re.search(r"PatientName is &#39;Somebody\^Else&#39; \S+ no", shown)
    assert set(held.services.files.data_dir.rglob("*")) == before
    assert list(temporary.iterdir()) == []
    [line] = held.services.audit.list_entries([AuditEvent.ACTION])
    assert line.detail["action"] == "test rules"
    assert line.patient_id == ""


def test_an_unknown_sender_fulfills_no_condition(held, visit):
    files = [(path.name, path.read_bytes()) for path in held.paths[:3]]
    shown = text_of(upload(visit("anna"), files).text)
    assert "skip No rule matches" in shown
    assert "CallingAETitle is &#39;SCANNER&#39; nothing no" in shown


def test_files_of_no_use_are_named_beside_the_others(held, visit):
    whole = held.paths[0].read_bytes()
    files = [
        ("notes.txt", b"no DICOM at all"),
        ("cut.dcm", whole[: len(whole) // 2]),
        ("<b>.dcm", b""),
        ("good.dcm", whole),
        ("noseries.dcm", without_series(held.paths[0])),
    ]
    answer = upload(visit("anna"), files)
    assert answer.status_code == 200
    shown = text_of(answer.text)
    assert "notes.txt: not a DICOM file" in shown
    assert "cut.dcm: " in shown
    assert "noseries.dcm: the UID is empty" in shown
    assert "<b>.dcm" not in answer.text
    assert "Instances 1" in shown


def without_series(path) -> bytes:
    dataset = dcmread(path)
    del dataset.SeriesInstanceUID
    buffer = BytesIO()
    dataset.save_as(buffer)
    return buffer.getvalue()


def test_no_file_is_told(visit):
    answer = upload(visit("anna"), [])
    assert answer.status_code == 422
    assert "Choose at least one" in answer.text


def test_too_many_bytes_are_refused_while_they_come(held, serve, monkeypatch):
    monkeypatch.setattr(web_app, "MAX_UPLOAD_BYTES", 100_000)
    browser = serve(held)("anna")
    announced = upload(browser, [("large.dcm", bytes(200_000))])
    assert announced.status_code == 413
    assert "more than 0.1 MB" in announced.text
    browser.get("/rules")

    def pieces():
        yield b'--x\r\nContent-Disposition: form-data; name="files"; filename="a"\r\n\r\n'
        for _ in range(20):
            yield bytes(10_000)

    kind = {"Content-Type": "multipart/form-data; boundary=x"}
    unannounced = browser.client.post("/rules/try", content=pieces(), headers=kind)
    assert unannounced.status_code == 413


def test_other_forms_are_small(visit):
    browser = visit("anna")
    browser.get("/users")
    assert browser.post("/users", name="x" * (MAX_BYTES + 1)).status_code == 413


def test_too_many_files_are_refused(visit):
    answer = upload(visit("anna"), [(f"{n}", b"x") for n in range(1001)])
    assert answer.status_code == 400
    assert "Too many files. Maximum number of files is 1000." in answer.text


def test_strangers_cannot_send_files(held, visit):
    browser = visit()
    browser.get("/login")
    content = held.paths[0].read_bytes()
    answer = browser.client.post(
        "/rules/try", files={"files": ("a.dcm", content)}, follow_redirects=False
    )
    assert answer.headers["location"] == "/login"


def test_files_from_another_site_are_not_taken(held, visit):
    browser = visit("anna")
    content = held.paths[0].read_bytes()
    assert browser.client.post("/rules/try", files={"files": ("a", content)}).status_code == 403


@pytest.fixture
def described(held):
    """A received series of which the node knows whose it is."""
    catalog = held.services.catalog
    catalog.settle(
        catalog.get_series(held.series_uid),
        Decision(action=RuleAction.PROCESS, rule="wanted", reason="for a test"),
        job=None,
        now=utc_now(),
        described=SeriesDescription(patient_id="PAT-77", accession_number="ACC-5"),
    )
    return held


@pytest.mark.parametrize("text", ["PAT-77", "ACC-5", "uid"])
def test_a_received_series_is_found_and_tried(described, visit, text):
    browser = visit("anna")
    uid = described.series_uid
    wanted = uid if text == "uid" else text
    found = browser.get("/rules", params={"text": wanted}).text
    assert f"/rules?series={uid}" in found
    assert "patient PAT-77" in found
    shown = text_of(browser.get("/rules", params={"series": uid}).text)
    assert "process by rule wanted" in shown
    assert "InstanceCount is at least 2 12 yes" in shown
    assert "Decided then process: for a test" in shown
    viewed = described.services.audit.list_entries([AuditEvent.DATA_VIEWED])
    assert [line.detail["action"] for line in viewed] == ["view", "search series"]
    assert viewed[0].patient_id == "PAT-77"


def test_patient_data_are_hidden_from_viewers(described, visit):
    browser = visit("anna", UserRole.VIEWER)
    uid = described.series_uid
    assert "No series has exactly" in browser.get("/rules", params={"text": "PAT-77"}).text
    found = browser.get("/rules", params={"text": uid}).text
    assert "PAT-77" not in found
    shown = text_of(browser.get("/rules", params={"series": uid}).text)
    assert "PAT-77" not in shown
    assert "PatientName is &#39;Somebody^Else&#39; hidden no" in shown
    assert "Modality is &#39;CT&#39; CT yes" in shown
    assert "Phantom" not in shown.replace("for Phantom", "")


def test_files_that_are_gone_are_told(held, visit):
    browser = visit("anna")
    for path in held.services.files.data_dir.glob("instances/*/*/*.dcm"):
        path.unlink()
    answer = browser.get("/rules", params={"series": held.series_uid})
    assert answer.status_code == 422
    assert "cannot be read" in answer.text
    assert browser.get("/rules", params={"series": "1.2.3"}).status_code == 404


def test_a_page_that_renews_itself_writes_no_audit_line(held, visit):
    browser = visit("anna")
    before = len(held.services.audit.list_entries())
    assert browser.get("/rules/live", headers={"X-Live": "1"}).status_code == 200
    assert len(held.services.audit.list_entries()) == before

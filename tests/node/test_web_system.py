"""The system page: what is checked, what is shown to whom, and that no secret is."""

import re
import time
from dataclasses import replace
from datetime import timedelta
from io import BytesIO

import pytest
from certificates import certify
from pypdf import PdfReader

from config import load_settings
from config.web import WebTlsSettings
from node.clock import utc_now
from node.doctor_apart import check_node_apart
from node.health import Verdict
from node.metrics_files import FOLDER
from node.system_report import list_certificates
from storage.states import AuditEvent, UserRole, Work

PEERS = {
    "pacs": {
        "url": "http://127.0.0.1:1/dicom-web",
        "token": "very secret",
        "roles": ["destination"],
    }
}


@pytest.fixture
def held(hold, free_port):
    return hold(web={"port": free_port()}, node={"port": free_port()}, peers=PEERS)


@pytest.fixture
def visit(held, serve):
    return serve(held)


def text_of(html: str) -> str:
    return " ".join(re.sub(r"<[^>]+>", " ", html).split())


def test_processes_queue_disk_and_database_are_shown(held, visit):
    services, now = held.services, utc_now()
    held.queue()
    services.heartbeats.beat("receiver", host="node1", pid=41, now=now)
    services.heartbeats.beat("scheduler", host="node1", pid=42, now=now, detail="poll of pacs: no")
    services.heartbeats.beat("worker", host="node2", pid=43, now=now - timedelta(hours=1))
    services.pauses.suspend(Work.PROCESSING, "user:anna", "new model", now)
    shown = text_of(visit("anna", UserRole.VIEWER).get("/system").text)
    assert "2 checks are bad: role worker, role web." in shown
    assert re.search(r"receiver node1 41 \S+ \S+ runs", shown)
    assert "trouble poll of pacs: no" in shown
    assert re.search(r"worker node2 43 \S+ \S+ silent", shown)
    assert re.search(r"QUEUED 1 job, the oldest since", shown)
    assert "processing is suspended since" in shown
    assert "sqlite, journal mode wal" in shown
    assert "Schema 0006" in shown
    assert re.search(r"Name hepar-liver-ct \d", shown)
    assert re.search(r"Python 3\.\d+", shown)
    assert "what goes over the network is not encrypted" in shown


def test_the_memory_of_gpus_is_what_workers_publish(held, visit):
    folder = held.services.files.data_dir / FOLDER
    folder.mkdir(exist_ok=True)
    labels = 'device="0",host="node2"'
    (folder / "worker.prom").write_text(
        "# HELP hepar_device_memory_used_bytes x\n# TYPE hepar_device_memory_used_bytes gauge\n"
        f"hepar_device_memory_used_bytes{{{labels}}} 2e9\n"
        "# HELP hepar_device_memory_bytes x\n# TYPE hepar_device_memory_bytes gauge\n"
        f"hepar_device_memory_bytes{{{labels}}} 150e9\n"
    )
    assert "GPU 0 of node2: 2.0 GB of 150.0 GB" in text_of(visit("anna").get("/system").text)


@pytest.mark.parametrize(
    ("role", "path", "status"),
    [
        (UserRole.VIEWER, "/system/settings", 403),
        (UserRole.OPERATOR, "/system/settings", 403),
        (UserRole.ADMINISTRATOR, "/system/settings", 200),
        (UserRole.VIEWER, "/system/retention", 403),
        (UserRole.OPERATOR, "/system/retention", 200),
        (UserRole.VIEWER, "/system/conformance.md", 403),
        (UserRole.OPERATOR, "/system/conformance.md", 200),
        (UserRole.VIEWER, "/system/live", 200),
    ],
)
def test_roles_reach_so_far(visit, role, path, status):
    browser = visit("anna", role)
    assert browser.get(path).status_code == status
    if path not in ("/system/live",):
        assert (f'href="{path}"' in browser.get("/system").text) == (status == 200)


def test_settings_have_value_default_and_origin_and_no_secret(held, serve, tmp_path):
    file = tmp_path / "hepar.toml"
    file.write_text('[receive]\nquiet_s = 9.0\n[database]\nurl = "postgresql://u:pass@h/n"\n')
    loaded = load_settings(file, environ={"HEPAR_LOG__LEVEL": "DEBUG"})
    settings = loaded.settings.model_copy(
        update={"web": held.services.settings.web, "peers": held.services.settings.peers}
    )
    services = replace(held.services, settings=settings, origins=loaded.origins)
    page = serve(replace(held, services=services))("anna").get("/system/settings").text
    rows = {
        key: text_of(row)
        for key, row in re.findall(r'<tr[^>]*><th scope="row"><code>([^<]+)(.*?)</tr>', page)
    }
    assert f"9.0 5.0 file {file}" in rows["receive.quiet_s"]
    assert "DEBUG INFO environment HEPAR_LOG__LEVEL" in rows["log.level"]
    assert "120.0 120.0 default" in rows["receive.max_wait_s"]
    assert "********** none file" in rows["database.url"]
    assert "**********" in rows["peers.pacs.token"]
    assert "very secret" not in page
    assert "u:pass" not in page


def test_retention_is_looked_at_and_removes_nothing(hold, serve, free_port):
    held = hold(web={"port": free_port()}, retention={"unused_days": 1e-9})
    browser = serve(held)("anna", UserRole.OPERATOR)
    assert "Nobody has looked" in browser.get("/system/retention").text
    browser.post("/system/retention")
    assert "it is being received" in wait_for(browser, "/system/retention", "would have gone")
    assert held.services.catalog.instance_paths(held.series_uid)
    assert "would have stayed" in text_of(browser.get("/system/retention/live").text)


def wait_for(browser, path: str, text: str) -> str:
    for _ in range(600):
        shown = text_of(browser.get(path).text)
        if text in shown:
            return shown
        time.sleep(0.2)
    raise AssertionError(shown)


def test_operators_have_everything_checked(held, visit):
    assert visit("ben", UserRole.VIEWER).get("/system").text.count("<button id=") == 0
    browser = visit("anna", UserRole.OPERATOR)
    browser.get("/system")
    begin = time.monotonic()
    browser.post("/system/check")
    assert time.monotonic() - begin < 3, "no request waits for it"
    assert browser.post("/system/check").status_code == 409
    shown = wait_for(browser, "/system/live", "Everything was checked")
    assert "all digests right" in shown
    assert re.search(r"device good \S+ \S+ on cpu", shown)
    assert re.search(r"peer pacs bad .* cannot be reached", shown)
    [line] = held.services.audit.list_entries([AuditEvent.ACTION])
    assert line.detail == {"action": "check everything"}


def test_a_doctor_who_dies_is_told(held, monkeypatch):
    monkeypatch.setattr("node.doctor_apart._LIMIT_S", 0.0)
    [check] = check_node_apart(held.services.settings)
    assert check.verdict is Verdict.BAD
    assert "did not come to their end" in check.detail


def test_the_conformance_statement_is_given_in_both_forms(visit):
    browser = visit("anna", UserRole.OPERATOR)
    statement = browser.get("/system/conformance.md")
    assert "HEPAR-conformance.md" in statement.headers["content-disposition"]
    assert statement.text.startswith("# DICOM conformance statement")
    pdf = browser.get("/system/conformance.pdf")
    assert pdf.headers["content-type"] == "application/pdf"
    assert "HEPAR" in PdfReader(BytesIO(pdf.content)).pages[0].extract_text()


@pytest.mark.peer
def test_certificates_have_days_left(hold, serve, free_port, tmp_path):
    authority = certify(tmp_path, "authority")
    ours = certify(tmp_path, "node", by=authority)
    tls = {"certificate": ours.certificate, "key": ours.key, "authorities": authority.certificate}
    broken = {"certificate": ours.certificate, "key": tmp_path / "missing.key"}
    held = hold(web={"port": free_port()}, node={"tls": {"port": free_port(), **tls}})
    browser = serve(held)("anna")
    shown = text_of(browser.get("/system").text)
    assert re.search(r"node\.tls \d+ days left ?, until", shown)
    settings = held.services.settings
    web = settings.web.model_copy(update={"tls": WebTlsSettings(**broken)})
    _, https = list_certificates(settings.model_copy(update={"web": web}))
    assert https.section == "web.tls"
    assert https.days_left is None
    assert "missing.key" in https.problem

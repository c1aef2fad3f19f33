"""People look after a node in a real Chromium: each page, each action, and what never happens."""

import base64
import shutil
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import BytesIO
from pathlib import Path

import httpx
import numpy as np
import pytest
from playwright.sync_api import Browser, Locator, Page, expect
from pydicom import dcmread
from told_people import Hook

from benchmarks.peers import NodeProcess, Orthanc, SyntheticCt, find_free_port
from benchmarks.people import (
    PASSWORD,
    Person,
    add_user,
    axe_script,
    make_first_user,
    setup_path,
    visit,
)
from benchmarks.viewers.browser import open_browser
from dicom_io.ct import CtIdentity, write_ct_series
from dicom_io.seg_reader import read_labels
from dicom_io.series import read_series
from inference.manifest import find_package
from node.models import add_model
from storage.states import JobState, UserRole

pytestmark = [pytest.mark.peer, pytest.mark.timeout(600)]

OTHER_MODEL = "99.0.0"
OTHERS = """
[peers.gone]
ae_title = "GONE"
host = "127.0.0.1"
port = {port}
roles = ["source"]
[alerts.webhook]
url = "{url}"
"""
SOON_MS = 30_000
WORKED_MS = 120_000
"""A job may take so long where the machine has more to do."""


@pytest.fixture(scope="module")
def chromium(program: Callable[[str], str]) -> Iterator[Browser]:
    program("chromium")
    with open_browser() as browser:
        yield browser


@pytest.fixture(scope="module")
def archive(make_shared_orthanc: Callable[[], Orthanc]) -> Orthanc:
    return make_shared_orthanc()


@pytest.fixture(scope="module")
def hook() -> Iterator[Hook]:
    hook = Hook()
    hook.start()
    yield hook
    hook.stop()


@pytest.fixture(scope="module")
def node(make_shared_node: Callable[..., NodeProcess], archive: Orthanc, hook: Hook) -> NodeProcess:
    """Start a node that gives up soon, with an archive that is there and a peer that is not."""
    both = archive.toml.replace('["destination"]', '["source", "destination"]')
    toml = both + OTHERS.format(port=find_free_port(), url=hook.url)
    started = make_shared_node(toml, environ={"HEPAR_DELIVERY__GIVE_UP_H": "0.0008"})
    archive.know(started.port)
    return started


@pytest.fixture(scope="module")
def origin(node: NodeProcess) -> str:
    return node.settings.web.address


@dataclass
class Staff:
    """Those who are at the pages; all of them are watched."""

    browser: Browser
    origin: str
    people: list[Person] = field(default_factory=list)

    def newcomer(self) -> Person:
        """Let somebody sit down who is not logged in."""
        self.people.append(visit(self.browser, self.origin))
        return self.people[-1]


@pytest.fixture(scope="module")
def staff(chromium: Browser, origin: str) -> Staff:
    return Staff(browser=chromium, origin=origin)


@pytest.fixture(autouse=True)
def nothing_else_happened(staff: Staff) -> Iterator[None]:
    """No page writes errors into the console, breaks its own rules or calls another host."""
    yield
    problems = [problem for person in staff.people for problem in person.problems]
    for person in staff.people:
        person.problems.clear()
    assert problems == []


@pytest.fixture(scope="module")
def administrator(staff: Staff, node: NodeProcess) -> Person:
    person = staff.newcomer()
    make_first_user(person, node.log, "ada")
    expect(person.page.locator(".who")).to_contain_text("ada administrator")
    return person


@pytest.fixture(scope="module")
def operator(staff: Staff, administrator: Person) -> Person:
    add_user(administrator, "olga", UserRole.OPERATOR.value)
    return staff.newcomer().log_in("olga")


@pytest.fixture(scope="module")
def viewer(staff: Staff, administrator: Person) -> Person:
    add_user(administrator, "vera", UserRole.VIEWER.value)
    return staff.newcomer().log_in("vera")


@pytest.fixture(scope="module")
def send(
    synthetic_ct: SyntheticCt, node: NodeProcess, storescu, tmp_path_factory
) -> Callable[[int], list[Path]]:
    """Send the CT as that of another patient."""

    def send_patient(seed: int) -> list[Path]:
        folder = tmp_path_factory.mktemp("patient")
        identity = CtIdentity.from_seed(seed)
        paths = write_ct_series(synthetic_ct.phantom.volume, folder, identity=identity)
        done = storescu(folder, node.port)
        assert done.returncode == 0, done.stdout + done.stderr
        return paths

    return send_patient


@dataclass(frozen=True, kw_only=True)
class Sent:
    """The first series, and what was seen of it."""

    paths: list[Path]
    job_id: int
    lanes: list[str]
    """Where *Now* had it, in this order."""


FOLLOW = """() => {
  window.lanes = [];
  setInterval(() => {
    for (const lane of document.querySelectorAll('.lane')) {
      const name = lane.ariaLabel;
      if (lane.querySelector('li .top-line') && !lanes.includes(name)) lanes.push(name);
    }
  }, 50);
}"""


@pytest.fixture(scope="module")
def sent(operator: Person, node: NodeProcess, send) -> Sent:
    """Send a series while an operator looks at *Now*, and follow it there."""
    page = operator.go("/")
    page.evaluate(FOLLOW)
    paths = send(1)
    ended = page.locator(".lane[aria-label=Ended] li").first
    expect(ended).to_contain_text("DELIVERED", timeout=WORKED_MS)
    # A page that had been loaded anew would have forgotten them.
    lanes = page.evaluate("window.lanes")
    return Sent(paths=paths, job_id=node.services.jobs.list_jobs(limit=1)[0].id, lanes=lanes)


def state_of(page: Page) -> Locator:
    return page.locator("#job-title .state")


def test_the_first_user_comes_by_the_link_of_the_log(administrator, staff, node):
    assert "/setup" not in administrator.page.url
    somebody = staff.newcomer()
    with somebody.refused(403):
        page = somebody.go(setup_path(node.log))
    expect(page.get_by_role("alert")).to_contain_text("no longer good")


def test_people_log_in_and_out(administrator, staff):
    somebody = staff.newcomer()
    with somebody.refused(401):
        somebody.log_in("ada", "wrong")
        expect(somebody.page.get_by_role("alert")).to_have_text("Name or password is wrong.")
    page = somebody.page
    assert page.get_by_label("Name").input_value() == "ada"
    somebody.go("/system?a=b")
    page.get_by_label("Name").fill("ada")
    page.get_by_label("Password").fill(PASSWORD)
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", level=1)).to_have_text("System")
    assert page.url.endswith("/system?a=b"), "it leads to where the person wanted to go"
    page.get_by_role("button", name="Log out").click()
    expect(page.get_by_role("status")).to_have_text("You are logged out.")
    somebody.go("/jobs")
    assert "/login" in page.url


def test_forms_of_other_origins_are_refused(administrator, origin):
    """The other is on the same host, so the browser sends our cookies along."""
    token = administrator.go("/users").locator("[name=form_token]").first.input_value()
    for guess in ("", token[::-1]):
        fields = {"form_token": guess, "name": "mallory", "role": "administrator"}
        fields |= {"password": PASSWORD, "again": PASSWORD}
        with serve_forgery(f"{origin}/users", **fields) as elsewhere:
            page = administrator.page.context.new_page()
            page.goto(elsewhere)
            expect(page.get_by_role("alert")).to_contain_text("too old, or not ours")
            assert page.url == f"{origin}/users"
            page.close()
    assert "mallory" not in administrator.go("/users").content()


class Forgery(BaseHTTPRequestHandler):
    """A page elsewhere that makes its visitors send a form of ours."""

    page = ""

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/html")
        self.end_headers()
        self.wfile.write(self.page.encode())

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@contextmanager
def serve_forgery(target: str, **fields: str) -> Iterator[str]:
    inputs = "".join(f'<input name="{name}" value="{value}">' for name, value in fields.items())
    page = f'<form method="post" action="{target}">{inputs}</form>'
    page += "<script>document.forms[0].submit()</script>"
    handler = type("Handler", (Forgery,), {"page": page})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()
        thread.join()


def test_a_series_is_followed_from_receipt_to_delivery(sent):
    assert sent.lanes[0] == "Receiving"
    assert sent.lanes[-1] == "Ended"
    assert "Running" in sent.lanes


def test_slices_are_looked_through(sent, viewer, node):
    """By wheel, keys and slider; contours come and go; a lesion is jumped to."""
    page = viewer.go(f"/jobs/{sent.job_id}")
    place = page.locator("#viewer-place")
    button = page.locator("#lesion-1")
    expect(button).to_be_enabled()
    expect(place).to_contain_text(button.inner_text())
    page.get_by_label("Slice, from head to feet").fill("10")
    expect(place).to_contain_text("(11 of 50)")
    stage = page.get_by_label("Slice", exact=True)
    stage.hover()
    page.mouse.wheel(0, 120)
    expect(place).to_contain_text("(12 of 50)")
    stage.focus()
    page.keyboard.press("ArrowUp")
    expect(place).to_contain_text("(11 of 50)")
    page.keyboard.press("End")
    expect(place).to_contain_text("(50 of 50)")
    button.click()
    expect(place).to_contain_text(button.inner_text())
    [lesion, *_] = node.services.jobs.get(sent.job_id).summary["lesions"]
    from_feet = sorted(map(dcmread, sent.paths), key=lambda one: one.ImagePositionPatient[2])
    jumped_to = from_feet[lesion["long_axis"]["slice_index"]]
    assert button.inner_text() == f"Image {jumped_to.InstanceNumber}"

    assert colored(page) > 100
    page.keyboard.press("o")
    expect(page.get_by_label("Show", exact=True)).not_to_be_checked()
    assert colored(page) == 0
    page.get_by_label("Show", exact=True).check()
    page.locator("#viewer-form").select_option("filled")
    assert colored(page) > 1000


COUNT_COLORED = """() => {
  const canvas = document.getElementById('viewer-canvas');
  const {data} = canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height);
  let count = 0;
  for (let at = 0; at < data.length; at += 4) {
    const [red, green, blue] = data.subarray(at, at + 3);
    if (Math.max(red, green, blue) - Math.min(red, green, blue) > 40) count++;
  }
  return count;
}"""


def colored(page: Page) -> int:
    """Count the pixels of the slice that are not gray, when it is drawn."""
    page.evaluate("() => new Promise(requestAnimationFrame)")
    page.evaluate("() => new Promise(requestAnimationFrame)")
    return page.evaluate(COUNT_COLORED)


def test_results_are_downloaded(sent, operator, archive, tmp_path):
    page = operator.go(f"/jobs/{sent.job_id}")
    with page.expect_download() as download:
        page.locator("#results").get_by_role("link", name="Segmentation").click()
    download.value.save_as(tmp_path / "seg.dcm")
    assert dcmread(tmp_path / "seg.dcm") == dcmread(BytesIO(archive.instances()["SEG"]))
    labels = read_labels(tmp_path / "seg.dcm", read_series(sent.paths)).array
    assert np.count_nonzero(labels) > 1000


def test_a_delivery_that_failed_is_sent_again(operator, archive, node, send, sent):
    archive.stop()
    node.begin_anew()
    send(2)
    job = node.wait_for_state(JobState.FAILED)
    page = operator.go(f"/jobs/{job.id}")
    row = page.locator("#deliveries tbody tr")
    expect(state_of(page)).to_have_text("FAILED")
    expect(row).to_contain_text("FAILED")
    expect(row).to_contain_text("archive")
    page = operator.go("/")
    alerts = page.get_by_role("list", name="Open alerts")
    expect(alerts).to_contain_text("archive", timeout=SOON_MS)
    archive.start()
    archive.know(node.port)  # which it has forgotten
    page = operator.go("/jobs")
    page.get_by_role("link", name="Failed").click()
    page.get_by_role("link", name=str(job.id), exact=True).click()
    page.get_by_role("button", name="Retry").click()
    assert operator.asked[-1].startswith(f"Retry job {job.id}? This will deliver the results")
    page.evaluate("window.here = true")
    expect(state_of(page)).to_have_text("DELIVERED", timeout=SOON_MS)
    expect(row).to_contain_text("DELIVERED")
    assert page.evaluate("window.here"), "seen without reload"
    assert job.attempts == node.services.jobs.get(job.id).attempts
    page.get_by_role("button", name="Send again").click()
    expect(page.get_by_role("status").first).to_contain_text("go to archive once more")
    expect(state_of(page)).to_have_text("DELIVERED", timeout=SOON_MS)


def test_jobs_are_canceled_and_series_processed_with_another_model(
    operator, node, send, sent, tmp_path
):
    shipped = find_package("hepar-liver-ct")
    package = shutil.copytree(shipped.folder, tmp_path / "package")
    manifest = package / "manifest.toml"
    text = manifest.read_text(encoding="utf-8")
    manifest.write_text(text.replace(f'"{shipped.manifest.version}"', f'"{OTHER_MODEL}"', 1))
    add_model(node.services, package)

    with suspended(operator, "processing"):
        node.begin_anew()
        send(3)
        job = node.wait_for_state(JobState.QUEUED)
        page = operator.go(f"/jobs/{job.id}")
        expect(page.locator("#job-standing")).to_contain_text("Processing is suspended")
        page.get_by_role("button", name="Cancel").click()
        expect(state_of(page)).to_have_text("CANCELED")
        page = operator.go(f"/jobs/{sent.job_id}")
        page.get_by_label("Model", exact=True).select_option(f"hepar-liver-ct@{OTHER_MODEL}")
        page.get_by_role("button", name="Process with this model").click()
        expect(page.locator("#job-head")).to_contain_text(OTHER_MODEL)
        expect(state_of(page)).to_have_text("QUEUED")
        again = page.url
    page.goto(again)
    expect(page.locator("#job-progress")).to_be_visible(timeout=SOON_MS)
    expect(state_of(page)).to_have_text("DELIVERED", timeout=WORKED_MS)
    operator.go(f"/jobs/{sent.job_id}")
    expect(state_of(page)).to_have_text("SUPERSEDED")


@contextmanager
def suspended(person: Person, work: str) -> Iterator[None]:
    page = person.go("/")
    page.get_by_role("region", name=work).get_by_text("Suspend", exact=True).click()
    page.get_by_label("Why").locator("visible=true").fill("the archive moves")
    page.get_by_role("button", name=f"Suspend {work}").click()
    banner = f"{work.capitalize()} is suspended by {person.name}"
    expect(page.locator("main")).to_contain_text(banner)
    person.go("/system")
    expect(page.locator("main")).to_contain_text(banner)
    yield
    page = person.go("/")
    page.get_by_role("button", name=f"Resume {work}").click()
    expect(page.locator("main")).not_to_contain_text(banner)


def test_rules_are_tried_on_a_dropped_file_and_on_a_received_series(viewer, sent):
    page = viewer.go("/rules")
    content = base64.b64encode(sent.paths[0].read_bytes()).decode()
    dropped = page.evaluate_handle(DROPPED, content)
    page.locator("form[data-drop]").dispatch_event("drop", {"dataTransfer": dropped})
    outcome = page.get_by_label("Outcome of the test")
    expect(outcome).to_contain_text("process")
    expect(outcome).to_contain_text("decides")
    page.locator("ul.choices a").first.click()
    expect(outcome).to_contain_text("Decided then")
    page.get_by_label("Patient ID, accession number or UID").fill("HP0001")
    page.keyboard.press("Enter")
    expect(page.locator("ul.choices li")).to_have_count(1)


DROPPED = """content => {
  const bytes = Uint8Array.from(atob(content), one => one.charCodeAt());
  const dropped = new DataTransfer();
  dropped.items.add(new File([bytes], 'one.dcm'));
  return dropped;
}"""


def test_peers_are_asked_for_a_sign_of_life(operator, viewer):
    page = operator.go("/peers")
    for name, answer in (("archive", "good"), ("gone", "remark")):
        page.get_by_role("button", name=f"Echo {name}").click()
        card = page.get_by_role("region", name=name)
        expect(card.locator("[aria-live]")).to_contain_text(answer, timeout=SOON_MS)
    expect(viewer.go("/peers").get_by_role("button", name="Echo gone")).to_have_count(0)


def test_studies_are_pulled_by_their_numbers(operator, archive, node, synthetic_ct, sent, storescu):
    """They are looked up, chosen, fetched and worked on."""
    folder = synthetic_ct.folder
    done = storescu(folder, archive.port, called="ORTHANC", calling="HEPAR")
    assert done.returncode == 0, done.stdout + done.stderr
    node.begin_anew()
    page = operator.go("/pull")
    page.get_by_label("PACS").select_option("archive")
    page.get_by_label("Numbers", exact=True).fill("HP0000\nHP0404")
    page.get_by_role("button", name="Look them up").click()
    expect(page.locator("#ticked")).to_have_text("1 of 1 studies ticked", timeout=SOON_MS)
    page.get_by_role("button", name="Retrieve now").click()
    rows = page.locator("main table tbody")
    expect(rows).to_contain_text("DONE", timeout=WORKED_MS)
    expect(rows.get_by_role("link", name="Job")).to_be_visible(timeout=SOON_MS)
    node.wait_for_state(JobState.DELIVERED)


def test_jobs_are_searched_and_several_sent_again(operator, sent):
    page = operator.go("/jobs")
    page.keyboard.press("/")
    page.keyboard.type("HEPAR-PHANTOM-2")
    page.keyboard.press("Enter")
    rows = page.locator("#jobs tbody tr")
    expect(rows).to_have_count(1)
    assert "PHANTOM" not in page.url, "no address holds patient data"
    rows.get_by_role("checkbox").check()
    page.get_by_role("button", name="Send again").click()
    expect(page.locator(".outcomes")).to_contain_text("1 done")
    with page.expect_download() as download:
        page.get_by_role("link", name="Export as CSV").click()
    assert "HEPAR-PHANTOM-2" in download.value.path().read_text(encoding="utf-8")


def test_models_have_their_papers(operator, sent):
    page = operator.go("/models")
    page.get_by_role("link", name="hepar-liver-ct", exact=True).first.click()
    expect(page.locator("main")).to_contain_text("Model card")
    page.get_by_role("button", name="Verify its files").click()
    expect(page.get_by_role("status").first).to_be_visible()


def test_everything_is_checked(operator):
    page = operator.go("/system")
    page.get_by_role("button", name="Check everything").click()
    expect(page.locator("#checks")).to_contain_text("Everything was checked", timeout=WORKED_MS)
    expect(page.locator("#checks").get_by_role("row", name="peer archive good")).to_be_visible()
    for kind in ("PDF", "Markdown"):
        with page.expect_download() as download:
            page.get_by_role("link", name=kind).click()
        assert download.value.path().stat().st_size > 10_000
    page.get_by_role("link", name="Retention").click()
    page.get_by_role("button", name="Look what would go now").click()
    expect(page.locator("main")).to_contain_text("would have stayed")


def test_settings_are_found(administrator):
    page = administrator.go("/system/settings")
    page.keyboard.press("/")
    page.keyboard.type("delivery.give_up")
    rows = page.locator("#settings tbody tr").locator("visible=true")
    expect(rows).to_have_count(1)
    expect(rows).to_contain_text("HEPAR_DELIVERY__GIVE_UP_H")


def test_users_come_and_go(administrator, staff):
    add_user(administrator, "nora", UserRole.VIEWER.value)
    nora = staff.newcomer().log_in("nora")
    expect(nora.page.locator(".who")).to_contain_text("viewer")
    page = administrator.go("/users")
    row = page.get_by_role("row", name="nora")
    row.get_by_label("Role of nora").select_option(UserRole.OPERATOR.value)
    row.get_by_role("button", name="Set", exact=True).first.click()
    nora.go("/peers")
    expect(nora.page.locator(".who")).to_contain_text("operator")
    row.get_by_role("button", name="Shut out").click()
    expect(row).to_contain_text("shut out since")
    nora.go("/peers")
    assert "/login" in nora.page.url
    with nora.refused(401):
        nora.log_in("nora")
        expect(nora.page.get_by_role("alert")).to_be_visible()


def test_a_program_uses_a_token(operator, origin):
    page = operator.go("/account")
    page.get_by_label("What for").fill("the ward's screen")
    page.get_by_role("button", name="Make a token").click()
    token = {"Authorization": f"Bearer {page.locator('code.secret').inner_text()}"}
    assert httpx.get(f"{origin}/rules", headers=token).status_code == 200
    page.get_by_role("button", name="Revoke").click()
    expect(page.locator("main")).to_contain_text("A token lets a program use the API")
    assert httpx.get(f"{origin}/rules", headers=token).status_code == 303


def test_viewers_look_and_do_nothing(viewer, sent):
    menu = viewer.go("/").locator("nav").first
    for hidden in ("Pull", "Users", "Audit"):
        expect(menu.get_by_role("link", name=hidden)).to_have_count(0)
    for path in ("/", "/jobs", f"/jobs/{sent.job_id}", "/peers", "/system", "/models"):
        page = viewer.go(path)
        expect(page.locator("main form[method=post]:not([role=search]) button")).to_have_count(0)
    for path in ("/users", "/audit", "/system/settings", "/pull"):
        with viewer.refused(403):
            page = viewer.go(path)
        expect(page.get_by_role("alert")).to_contain_text("vera is viewer")


def test_what_was_done_is_in_the_audit_trail(administrator, operator):
    operator.go("/peers").get_by_role("button", name="Echo archive").click()
    page = administrator.go("/audit")
    page.get_by_label("By", exact=True).fill("user:olga")
    page.get_by_role("button", name="Show").click()
    newest = page.locator("main table tbody tr").first
    expect(newest).to_contain_text("echo peer")
    expect(newest).to_contain_text("user:olga")
    page.get_by_role("button", name="Verify").click()
    expect(page.locator("main")).to_contain_text("Verified", timeout=SOON_MS)
    with page.expect_download() as download:
        page.get_by_role("link", name="Export").click()
    assert b"echo peer" in download.value.path().read_bytes()


PAGES = (
    ("/login", "", "button"),
    ("/", "olga", "summary"),
    ("/jobs", "olga", "[data-search]"),
    ("/jobs/1", "olga", "#download-all"),
    ("/pull", "olga", "button[formaction]"),
    ("/rules", "olga", "form[data-drop] button"),
    ("/peers", "olga", "#echo-archive"),
    ("/models", "olga", "main a"),
    ("/models/hepar-liver-ct@" + OTHER_MODEL, "ada", "main button"),
    ("/system", "olga", "#check-all"),
    ("/system/settings", "ada", "[data-search]"),
    ("/system/retention", "olga", "main button"),
    ("/users", "ada", "form[action='/users'] button"),
    ("/audit", "ada", "main button"),
    ("/account", "olga", "form[action='/account/tokens'] button"),
    ("/nowhere", "olga", "main a"),
)
"""Each page, whose it is, and the thing to do there."""


@pytest.mark.parametrize(("path", "name", "action"), PAGES)
def test_nobody_is_kept_out(path, name, action, administrator, operator, staff, sent):
    """Neither by colors, missing names, a small screen, nor without a mouse."""
    if not axe_script().exists():
        pytest.skip("axe is not installed (docker/install-viewers installs it)")
    person = {"ada": administrator, "olga": operator}.get(name) or staff.newcomer()
    with person.refused(404) if path == "/nowhere" else nullcontext():
        page = person.go(path)
        page.wait_for_load_state("networkidle")
    assert person.find_barriers() == []
    assert person.find_dark_barriers() == []
    assert person.tab_to(action) == []
    assert person.find_narrow_barriers() == []

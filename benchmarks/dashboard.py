"""``python -m benchmarks.dashboard docs/pictures``: the pictures of the pages in the documentation.

A node of its own and Orthanc as its archive work on synthetic patients; an operator has retried,
canceled and asked, so that every page has something to show.
"""

import argparse
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path

from PIL import Image
from playwright.sync_api import expect

from benchmarks.peers import NODE_TOML, NodeProcess, Orthanc, find_free_port
from benchmarks.people import PHONE, Person, add_user, make_first_user, visit
from benchmarks.viewers.browser import open_browser
from config import PeerSettings
from dicom_io.ct import CtIdentity, write_ct_series
from inference.phantom import PhantomSettings, make_phantom
from node.scu import send_files
from storage.states import JobState, UserRole

_MAX_BYTES = 200_000
_COLORS = 256
_SPACING_MM = (5.0, 1.4, 1.4)
_SHAPE = (50, 256, 256)
_PATIENTS = 5
_ONLY_IN_ARCHIVE = (20, 21)
_SIZE = {"width": 1280, "height": 1000}
_TALL = {"width": 1280, "height": 1330}
_LIMIT_MS = 120_000
_SETTLE_MS = 300
_MORE_TOML = """
[peers.pacs]
ae_title = "ORTHANC"
host = "127.0.0.1"
port = {port}
roles = ["source", "destination"]
[peers.workstation]
ae_title = "READING1"
host = "127.0.0.1"
port = {closed_port}
roles = ["source"]
"""


def main() -> None:
    """Start all that it takes, and take the pictures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, help="where the pictures go")
    folder = parser.parse_args().folder
    with tempfile.TemporaryDirectory() as work, _node_in(Path(work)) as (node, archive):
        for seed in range(_PATIENTS):
            node.begin_anew()
            is_short = seed == 1
            _send(node, Path(work), seed, count=3 if is_short else None)
            node.wait_for_state(JobState.REJECTED if is_short else JobState.DELIVERED)
        for seed in _ONLY_IN_ARCHIVE:
            for path in _write_patient(Path(work), seed):
                archive.store(path)
        with open_browser() as browser:
            person = visit(browser, node.settings.web.address, viewport=_SIZE)
            make_first_user(person, node.log, "ada")
            add_user(person, "olga", UserRole.OPERATOR.value)
            add_user(person, "vera", UserRole.VIEWER.value)
            _take_all(person, folder)
            _send(node, Path(work), _PATIENTS)
            _send(node, Path(work), _PATIENTS + 1)
            _take_now(person, folder / "page-now.png")
    assert not person.problems, person.problems


@contextmanager
def _node_in(folder: Path) -> Iterator[tuple[NodeProcess, Orthanc]]:
    program = shutil.which("Orthanc")
    assert program is not None, "Orthanc is not installed (docker/install-test-peers installs it)"
    archive = Orthanc(
        program=program,
        folder=folder / "orthanc",
        port=find_free_port(),
        http_port=find_free_port(),
    )
    own = folder / "node"
    own.mkdir()
    port = find_free_port()
    toml = NODE_TOML.format(port=port, web_port=find_free_port())
    toml += _MORE_TOML.format(port=archive.port, closed_port=find_free_port())
    node = NodeProcess(folder=own, port=port, toml=toml)
    try:
        archive.start()
        node.start()
        archive.know(port)
        yield node, archive
    finally:
        node.close()
        archive.stop()


def _write_patient(folder: Path, seed: int) -> list[Path]:
    phantom = make_phantom(PhantomSettings(seed=seed, shape=_SHAPE, spacing_mm=_SPACING_MM))
    identity = CtIdentity.from_seed(seed)
    return write_ct_series(phantom.volume, folder / f"ct{seed}", identity=identity)


def _send(node: NodeProcess, folder: Path, seed: int, *, count: int | None = None) -> None:
    """Send the slices of a patient, or the first of them."""
    paths = _write_patient(folder, seed)
    sender = node.settings.node.model_copy(update={"ae_title": "SCANNER"})
    receiver = PeerSettings(ae_title="HEPAR", host="127.0.0.1", port=node.port)
    assert all(sent.stored for sent in send_files(sender, receiver, paths[:count]))


def _take_all(person: Person, folder: Path) -> None:
    """Open each page as an administrator would, and keep what is seen."""
    folder.mkdir(parents=True, exist_ok=True)
    job = f"/jobs/{_PATIENTS}"
    page = person.go("/system")
    page.get_by_role("button", name="Check everything").click()
    expect(page.locator("#checks")).to_contain_text("Everything was checked", timeout=_LIMIT_MS)
    person.go("/system")
    _take(person, folder / "page-system.png")
    for name in ("users", "jobs"):
        person.go(f"/{name}")
        _take(person, folder / f"page-{name}.png")
    page.set_viewport_size(_TALL)
    page = person.go(job)
    page.locator("#lesion-1:not(:disabled)").click()
    page.evaluate("scrollTo(0, 0)")
    _take(person, folder / "page-job.png")
    page.emulate_media(color_scheme="dark")
    _take(person, folder / "page-dark.png")
    page.emulate_media(color_scheme="light")
    page.set_viewport_size(PHONE)
    page.evaluate("document.getElementById('viewer').scrollIntoView()")
    _take(person, folder / "page-phone.png")
    page.set_viewport_size(_SIZE)
    _take_peers(person, folder / "page-peers.png")
    page = person.go("/rules")
    page.locator("ul.choices a").first.click()
    _take(person, folder / "page-rules.png")
    page = person.go("/pull")
    page.get_by_label("PACS").select_option("pacs")
    page.get_by_label("Numbers", exact=True).fill("HP0020\nHP0021\nHP0099")
    page.get_by_role("button", name="Look them up").click()
    expect(page.locator("#ticked")).to_contain_text("2", timeout=_LIMIT_MS)
    _take(person, folder / "page-pull.png")


def _take_peers(person: Person, path: Path) -> None:
    page = person.go("/peers")
    for name in ("pacs", "workstation"):
        page.get_by_role("button", name=f"Echo {name}").click()
        answer = page.get_by_role("region", name=name).locator("[aria-live] .state")
        expect(answer).to_be_visible(timeout=_LIMIT_MS)
    _take(person, path)


def _take_now(person: Person, path: Path) -> None:
    """Look at *Now* while a series is worked on and another waits."""
    page = person.go("/")
    expect(page.get_by_label("Running").locator("progress")).to_be_visible(timeout=_LIMIT_MS)
    _take(person, path)


def _take(person: Person, path: Path) -> None:
    """Keep what a person sees, in few colors, as pages have few."""
    page = person.page
    page.wait_for_load_state("networkidle")
    page.wait_for_timeout(_SETTLE_MS)
    picture = Image.open(BytesIO(page.screenshot()))
    few = picture.convert("RGB").quantize(
        _COLORS, Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE
    )
    few.save(path, optimize=True)
    assert path.stat().st_size <= _MAX_BYTES, f"{path} has {path.stat().st_size} bytes"


if __name__ == "__main__":
    main()

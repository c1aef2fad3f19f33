"""A node's stores with one small received series, without processes."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from browsing import Browser, add_user
from doubles import WRITTEN, Held
from listening import Listening
from pydicom.uid import generate_uid

from config import Settings
from dicom_io.ct import write_ct_series
from dicom_io.ct_attributes import CtIdentity
from dicom_io.headers import read_header
from inference.phantom import PhantomSettings, make_phantom
from node.metrics import Metrics
from node.scp import Receiver
from node.services import open_services
from node.web.server import WebServer
from storage.catalog import Catalog
from storage.database import open_database, upgrade_database
from storage.files import FileStore
from storage.proofs import Proofs
from storage.states import UserRole


@pytest.fixture(scope="session")
def small_ct(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    phantom = make_phantom(
        PhantomSettings(seed=1, shape=(12, 32, 32), spacing_mm=(10.0, 12.0, 12.0), lesions=())
    )
    return write_ct_series(phantom.volume, tmp_path_factory.mktemp("small"))


@pytest.fixture(scope="session")
def write(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., list[Path]]:
    """Write a small series with another identity."""
    shape, spacing_mm = (WRITTEN, 16, 16), (10.0, 24.0, 24.0)
    volume = make_phantom(
        PhantomSettings(seed=3, shape=shape, spacing_mm=spacing_mm, lesions=())
    ).volume

    def make(**identity: str) -> list[Path]:
        new = {"study_instance_uid": generate_uid(), "series_instance_uid": generate_uid()}
        folder = tmp_path_factory.mktemp("series")
        return write_ct_series(volume, folder, identity=CtIdentity(**(new | identity)))

    return make


@pytest.fixture
def hold(tmp_path: Path, small_ct: list[Path]) -> Callable[..., Held]:
    """Open stores with further settings, and receive all but the last `late` slices."""

    def make(*, late: int = 0, **sections) -> Held:
        settings = Settings(data_dir=tmp_path / "data", **sections)
        settings.data_dir.mkdir()
        upgrade_database(settings.database_url)
        held = Held(
            services=open_services(settings),
            series_uid=read_header(small_ct[0]).series_instance_uid,
            paths=small_ct,
        )
        for path in small_ct[: len(small_ct) - late]:
            held.receive(path)
        return held

    return make


@pytest.fixture
def serve(
    hold: Callable[..., Held], free_port: Callable[[], int]
) -> Iterator[Callable[..., Callable[..., Browser]]]:
    """Serve the pages of held stores; gives what opens browsers on them, logged in or not."""
    servers, browsers = [], []

    def start(held: Held) -> Callable[..., Browser]:
        server = WebServer(held.services)
        server.start()
        servers.append(server)

        def visit(name: str = "", role: UserRole = UserRole.ADMINISTRATOR, **options) -> Browser:
            browser = Browser(held.services.settings.web.address, **options)
            browsers.append(browser)
            if name:
                add_user(held.services, name, role)
                browser.log_in(name)
            return browser

        return visit

    yield start
    for one in browsers:
        one.close()
    for server in servers:
        server.stop()


@pytest.fixture
def listen(tmp_path: Path, free_port: Callable[[], int]) -> Iterator[Callable[..., Listening]]:
    running = []

    def start(**sections) -> Listening:
        settings = Settings(
            data_dir=tmp_path / "data",
            node={"port": free_port(), **sections.pop("node", {})},
            peers={
                "scanner": {"ae_title": "SCANNER", "host": "127.0.0.1", "roles": ["source"]},
                "far": {"ae_title": "FAR", "host": "192.0.2.1", "roles": ["source"]},
                "archive": {
                    "ae_title": "ARCHIVE",
                    "host": "127.0.0.1",
                    "roles": ["destination"],
                    "proofs": ["commitment"],
                },
                **sections.pop("peers", {}),
            },
            receive={"min_free_bytes": 0, **sections.pop("receive", {})},
        )
        files = FileStore(settings.data_dir)
        upgrade_database(settings.database_url)
        database = open_database(settings.database_url)
        catalog, proofs = Catalog(database), Proofs(database)
        metrics = Metrics()
        receiver = Receiver(settings, files=files, catalog=catalog, proofs=proofs, metrics=metrics)
        running.append(receiver)
        return Listening(
            settings=settings,
            receiver=receiver,
            port=receiver.start()[0],
            files=files,
            catalog=catalog,
            metrics=metrics,
        )

    yield start
    for receiver in running:
        receiver.stop()

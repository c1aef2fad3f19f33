"""What all tests share: real data, real programs, databases, free ports."""

import os
import shutil
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from benchmarks.peers import find_free_port

if TYPE_CHECKING:
    from benchmarks.peers import Orthanc
    from benchmarks.postgresql import PostgreSql

NO_SKIP = os.environ.get("HEPAR_TEST_NO_SKIP") == "1"


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item, call):
    """Where nothing may skip (CI), a skipped test is a failed one."""
    outcome = yield
    report = outcome.get_result()
    if NO_SKIP and report.skipped and not hasattr(report, "wasxfail"):
        report.outcome = "failed"
        report.longrepr = f"skipped where nothing may skip: {report.longrepr}"


@pytest.fixture(autouse=True)
def _plain_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """No test depends on the settings of whoever runs it."""
    for name in list(os.environ):
        if name.startswith("HEPAR_") and not name.startswith("HEPAR_TEST_"):
            monkeypatch.delenv(name)


@pytest.fixture(scope="session")
def test_data() -> Path:
    """The folder of HEPAR_TEST_DATA, with ``dicom/*.zip`` and ``train/``."""
    folder = os.environ.get("HEPAR_TEST_DATA")
    if not folder:
        pytest.skip("HEPAR_TEST_DATA is not set: no real series")
    return Path(folder)


@pytest.fixture(scope="session")
def real_series(test_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Give the unpacked folder of a ZIP file in ``dicom/``, by its name without ``.zip``."""
    root = tmp_path_factory.mktemp("real")

    def unpack(name: str) -> Path:
        folder = root / name
        if not folder.exists():
            with zipfile.ZipFile(test_data / "dicom" / f"{name}.zip") as archive:
                archive.extractall(root)
            for inner in folder.glob("*.zip"):
                with zipfile.ZipFile(inner) as archive:
                    archive.extractall(folder)
        return folder

    return unpack


@pytest.fixture(scope="session")
def program() -> Callable[[str], str]:
    """Give the path of a program from a Debian package, or skip and say which is missing."""

    def find(name: str) -> str:
        path = shutil.which(name)
        if path is None:
            pytest.skip(f"{name} is not installed (docker/install-test-peers installs it)")
        return path

    return find


@pytest.fixture(scope="session")
def postgresql() -> Iterator["PostgreSql"]:
    """Give a running PostgreSQL, or skip and say what is missing."""
    pytest.importorskip("psycopg", reason="psycopg comes with the extra 'postgresql'")
    from benchmarks.postgresql import PostgreSql, find_programs

    programs = find_programs()
    if programs is None:
        pytest.skip("postgresql is not installed (docker/install-test-peers installs it)")
    server = PostgreSql(programs=programs)
    try:
        server.start()
        yield server
    finally:
        server.stop()
        shutil.rmtree(server.folder)


@pytest.fixture(
    scope="session", params=["sqlite", pytest.param("postgresql", marks=pytest.mark.peer)]
)
def dialect(request: pytest.FixtureRequest) -> str:
    """Give the name of a database; a test that asks for it runs once on each."""
    return request.param


@pytest.fixture(scope="session")
def new_url(
    dialect: str, request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Callable[[], str]:
    """Give the URL of a new database without tables."""
    if dialect == "sqlite":
        return lambda: f"sqlite:///{tmp_path_factory.mktemp('sqlite') / 'hepar.db'}"
    server = request.getfixturevalue("postgresql")
    return lambda: server.new_database(template="template0")


@pytest.fixture
def free_port() -> Callable[[], int]:
    """Find TCP ports of loopback that nobody listens on."""
    return find_free_port


@pytest.fixture
def working_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Run the test inside an empty folder."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@contextmanager
def orthancs_in(folder: Path, program: Callable[[str], str]) -> Iterator[Callable[..., "Orthanc"]]:
    """Start archives; they are stopped at the end."""
    from benchmarks.peers import Orthanc

    servers: list[Orthanc] = []

    def make(**more: object) -> Orthanc:
        own = folder / f"orthanc{len(servers)}"
        ports = {"port": find_free_port(), "http_port": find_free_port()}
        servers.append(Orthanc(program=program("Orthanc"), folder=own, **ports, **more))
        servers[-1].start()
        return servers[-1]

    yield make
    for server in servers:
        server.stop()


@pytest.fixture
def make_orthanc(
    tmp_path: Path, program: Callable[[str], str]
) -> Iterator[Callable[..., "Orthanc"]]:
    """Start archives of the test's own."""
    with orthancs_in(tmp_path, program) as make:
        yield make


@pytest.fixture(scope="module")
def make_shared_orthanc(
    tmp_path_factory: pytest.TempPathFactory, program: Callable[[str], str]
) -> Iterator[Callable[..., "Orthanc"]]:
    """Start archives that the tests of a module share."""
    with orthancs_in(tmp_path_factory.mktemp("shared"), program) as make:
        yield make


@pytest.fixture
def orthanc(make_orthanc: Callable[..., "Orthanc"]) -> "Orthanc":
    """Give an archive that is spoken to by DIMSE."""
    return make_orthanc()


@pytest.fixture
def web_archive(make_orthanc: Callable[..., "Orthanc"]) -> "Orthanc":
    """Give an archive that is spoken to by DICOMweb, with a password."""
    from benchmarks.peers import DICOMWEB_PLUGIN

    if not DICOMWEB_PLUGIN.exists():
        pytest.skip("orthanc-dicomweb is not installed (docker/install-test-peers installs it)")
    return make_orthanc(plugins=(DICOMWEB_PLUGIN,), password="right")

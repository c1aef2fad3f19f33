"""Fixtures of the real process and its real peers, on free ports of loopback."""

import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from benchmarks.peers import (
    NODE_TOML,
    SENDER,
    NodeProcess,
    StoreScp,
    SyntheticCt,
    find_free_port,
)
from dicom_io.ct import CtIdentity, write_ct_series
from inference.phantom import PhantomSettings, make_phantom


@contextmanager
def nodes_in(folder: Path) -> Iterator[Callable[..., NodeProcess]]:
    """Start nodes with further TOML text; they are stopped at the end."""
    nodes: list[NodeProcess] = []

    def make(extra_toml: str = "", **more: object) -> NodeProcess:
        own = folder / f"node{len(nodes)}"
        own.mkdir()
        port = find_free_port()
        toml = NODE_TOML.format(port=port, web_port=find_free_port()) + extra_toml
        node = NodeProcess(folder=own, port=port, toml=toml, **more)
        nodes.append(node)
        node.start()
        return node

    yield make
    for node in nodes:
        node.close()


@contextmanager
def storescp_in(folder: Path, program: str) -> Iterator[StoreScp]:
    archive = StoreScp(program=program, folder=folder / "archive", port=find_free_port())
    archive.start()
    yield archive
    archive.stop()


@pytest.fixture
def make_node(tmp_path: Path) -> Iterator[Callable[..., NodeProcess]]:
    """Start nodes of the test's own."""
    with nodes_in(tmp_path) as make:
        yield make


@pytest.fixture(scope="module")
def make_shared_node(
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Callable[..., NodeProcess]]:
    """Start nodes that the tests of a module share."""
    with nodes_in(tmp_path_factory.mktemp("shared")) as make:
        yield make


@pytest.fixture
def storescp(tmp_path: Path, program: Callable[[str], str]) -> Iterator[StoreScp]:
    with storescp_in(tmp_path, program("storescp")) as archive:
        yield archive


@pytest.fixture(scope="module")
def common_archive(
    tmp_path_factory: pytest.TempPathFactory, program: Callable[[str], str]
) -> Iterator[StoreScp]:
    with storescp_in(tmp_path_factory.mktemp("shared"), program("storescp")) as archive:
        yield archive


@pytest.fixture(scope="module")
def common_node(
    make_shared_node: Callable[[str], NodeProcess], common_archive: StoreScp
) -> NodeProcess:
    return make_shared_node(common_archive.toml)


@pytest.fixture
def shared_archive(common_archive: StoreScp) -> StoreScp:
    """Give the empty archive of `shared_node`."""
    if common_archive.process is None:
        common_archive.start()
    for path in common_archive.files():
        path.unlink()
    return common_archive


@pytest.fixture
def shared_node(common_node: NodeProcess, shared_archive: StoreScp) -> NodeProcess:
    """Give a node that has worked for other tests; each sends it a patient of its own."""
    del shared_archive  # it is emptied
    common_node.begin_anew()
    return common_node


@pytest.fixture
def make_ct(synthetic_ct: SyntheticCt, tmp_path: Path) -> Callable[[int], SyntheticCt]:
    """Write the synthetic CT as that of another patient."""

    def make(seed: int) -> SyntheticCt:
        folder, phantom = tmp_path / f"patient{seed}", synthetic_ct.phantom
        paths = write_ct_series(phantom.volume, folder, identity=CtIdentity.from_seed(seed))
        return SyntheticCt(phantom=phantom, folder=folder, paths=paths)

    return make


@pytest.fixture(scope="session")
def synthetic_ct(tmp_path_factory: pytest.TempPathFactory) -> SyntheticCt:
    phantom = make_phantom(
        PhantomSettings(seed=5, shape=(50, 160, 160), spacing_mm=(5.0, 2.2, 2.2))
    )
    folder = tmp_path_factory.mktemp("ct")
    return SyntheticCt(
        phantom=phantom, folder=folder, paths=write_ct_series(phantom.volume, folder)
    )


@pytest.fixture(scope="session")
def storescu(program: Callable[[str], str]) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Send a folder with dcmtk's storescu."""
    sender = program("storescu")

    def send(
        folder: Path, port: int, *options: str, calling: str = SENDER, called: str = "HEPAR"
    ) -> subprocess.CompletedProcess[str]:
        command = [sender, *options, "-aet", calling, "-aec", called]
        command += ["+sd", "+r", "127.0.0.1", str(port), str(folder)]
        return subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)

    return send

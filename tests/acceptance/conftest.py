"""Fixtures of the real process and its real peers, on free ports of loopback."""

import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from benchmarks.peers import (
    NODE_TOML,
    SENDER,
    NodeProcess,
    StoreScp,
    SyntheticCt,
)
from dicom_io.ct import write_ct_series
from inference.phantom import PhantomSettings, make_phantom


@pytest.fixture
def make_node(tmp_path: Path, free_port: Callable[[], int]) -> Iterator[Callable[..., NodeProcess]]:
    """Start nodes with further TOML text; they are stopped at the end."""
    nodes: list[NodeProcess] = []

    def make(extra_toml: str = "", **more: object) -> NodeProcess:
        folder = tmp_path / f"node{len(nodes)}"
        folder.mkdir()
        port = free_port()
        toml = NODE_TOML.format(port=port, web_port=free_port()) + extra_toml
        node = NodeProcess(folder=folder, port=port, toml=toml, **more)
        nodes.append(node)
        node.start()
        return node

    yield make
    for node in nodes:
        node.close()


@pytest.fixture
def storescp(
    tmp_path: Path, program: Callable[[str], str], free_port: Callable[[], int]
) -> Iterator[StoreScp]:
    archive = StoreScp(program=program("storescp"), folder=tmp_path / "archive", port=free_port())
    archive.start()
    yield archive
    archive.stop()


@pytest.fixture(scope="session")
def synthetic_ct(tmp_path_factory: pytest.TempPathFactory) -> SyntheticCt:
    phantom = make_phantom(
        PhantomSettings(seed=5, shape=(50, 160, 160), spacing_mm=(5.0, 2.2, 2.2))
    )
    folder = tmp_path_factory.mktemp("ct")
    return SyntheticCt(
        phantom=phantom, folder=folder, paths=write_ct_series(phantom.volume, folder)
    )


@pytest.fixture
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

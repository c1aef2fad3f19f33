"""A node's stores with one small received series, without processes."""

from collections.abc import Callable
from pathlib import Path

import pytest
from doubles import Held

from config import Settings
from dicom_io.ct import write_ct_series
from dicom_io.headers import read_header
from inference.phantom import PhantomSettings, make_phantom
from node.services import open_services
from storage.database import upgrade_database


@pytest.fixture(scope="session")
def small_ct(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    phantom = make_phantom(
        PhantomSettings(seed=1, shape=(12, 32, 32), spacing_mm=(10.0, 12.0, 12.0), lesions=())
    )
    return write_ct_series(phantom.volume, tmp_path_factory.mktemp("small"))


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

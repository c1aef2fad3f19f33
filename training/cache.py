"""Scans on their grids, kept on disk: one ``.npz`` file a scan and grid.

A file is named by the scan, by a digest of what it was made from, and by the grid. So a changed
source makes a new file; what is there under the right name is right. Nothing is ever deleted: the
folder can be removed at any time, and is filled again.
"""

import hashlib
import os
import zipfile
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np

from training.errors import DataSetError
from training.grids import GRIDS, Gridded

_GRIDS_VERSION = 1
"""To be counted up when `training.grids` gives other arrays for the same scan."""
_DIGEST_CHARACTERS = 12


def digest_files(files: Iterable[Path]) -> str:
    """Give a short digest of the names, sizes and times of change of files, in any order.

    Raises
    ------
    OSError
        A file is not there.
    """
    digest = hashlib.sha256(str(_GRIDS_VERSION).encode())
    for path in sorted(files):
        status = path.stat()
        digest.update(f"\n{path.name} {status.st_size} {status.st_mtime_ns}".encode())
    return digest.hexdigest()[:_DIGEST_CHARACTERS]


def has_grids(folder: Path, name: str) -> bool:
    """Tell whether all grids of a scan are in the cache."""
    return all(_path(folder, name, grid).exists() for grid in GRIDS)


def write_grids(folder: Path, name: str, grids: Mapping[str, Gridded]) -> None:
    """Put the grids of a scan into the cache; a crash leaves no half file under its name.

    Parameters
    ----------
    folder:
        The cache; made when it is not there.
    name:
        Of the scan.
    grids:
        As from `training.grids.make_grids`.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for grid, gridded in grids.items():
        _write(_path(folder, name, grid), gridded)


def read_grid(folder: Path, name: str, grid: str) -> Gridded:
    """Read one grid of a scan.

    Raises
    ------
    DataSetError
        The file is missing or damaged.
    """
    path = _path(folder, name, grid)
    try:
        with path.open("rb") as file, np.load(file) as stored:
            slices_mm, rows_mm, columns_mm = (float(value) for value in stored["spacing_mm"])
            return Gridded(
                levels=stored["levels"],
                labels=stored["labels"],
                spacing_mm=(slices_mm, rows_mm, columns_mm),
            )
    except (OSError, EOFError, KeyError, ValueError, zipfile.BadZipFile) as error:
        raise DataSetError(f"{path}: {error}; delete it, it is made again") from error


def _path(folder: Path, name: str, grid: str) -> Path:
    return folder / f"{name}_{grid}.npz"


def _write(path: Path, gridded: Gridded) -> None:
    # The number of the process keeps two runs that fill the same cache apart.
    temporary = path.with_name(f"{path.name}.{os.getpid()}.part")
    try:
        with temporary.open("wb") as file:
            np.savez_compressed(
                file,
                levels=gridded.levels,
                labels=gridded.labels,
                spacing_mm=np.array(gridded.spacing_mm),
            )
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)

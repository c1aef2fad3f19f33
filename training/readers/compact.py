"""The compact set of this project: small files that lie on the training grids already."""

import csv
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Self

import numpy as np
import SimpleITK
from numpy.typing import NDArray

from dicom_io.nifti import read_nifti
from inference.labels import Label
from inference.volume import Volume
from training.errors import DataSetError
from training.grids import GRIDS, Gridded, levels_to_hu
from training.readers.entries import ScanEntry
from training.readers.geometry import read_as_labels

TABLE = "cases.csv"


@dataclass(frozen=True, kw_only=True)
class CompactEntry(ScanEntry):
    """A row of the table."""

    folder: Path
    grids: tuple[str, ...]
    """Those that the scan is there on."""

    @property
    def files(self) -> tuple[Path, ...]:
        """Image and labels on the grid that `read` reads: the fine one, where there is one."""
        return self._files(self.grids[-1])

    def _files(self, grid: str) -> tuple[Path, Path]:
        image, labels = (
            self.folder / grid / f"{self.case_id}_{part}.nii.gz" for part in ("ct", "label")
        )
        return image, labels

    def _load(self) -> tuple[Volume, NDArray[np.uint8]]:
        image, labels = self.files
        levels = read_nifti(image)
        hu = np.rint(levels_to_hu(levels.array.astype(np.uint8))).astype(np.int16)
        return levels.with_array(hu), read_as_labels(read_nifti(labels), levels, Label.TUMOR)

    def on_grid(self, grid: str) -> Self:
        """Give the same scan, to be read on another of its grids."""
        return replace(self, grids=(grid,))

    def read_grid(self, grid: str) -> Gridded:
        """Read the arrays of one of its grids as they are.

        Raises
        ------
        DataSetError
            A file is missing or cannot be read.
        """
        try:
            image, labels = (SimpleITK.ReadImage(str(path)) for path in self._files(grid))
        except RuntimeError as error:
            raise DataSetError(f"{self.folder}: {self.case_id}: {error}") from error
        x_mm, y_mm, z_mm = image.GetSpacing()
        return Gridded(
            levels=SimpleITK.GetArrayFromImage(image).astype(np.uint8),
            labels=SimpleITK.GetArrayFromImage(labels).astype(np.uint8),
            spacing_mm=(z_mm, y_mm, x_mm),
        )


def list_compact(folder: Path) -> list[ScanEntry]:
    """List the rows of ``cases.csv``, whose files lie in ``coarse`` and ``fine``.

    Columns: ``case_id``, ``patient`` (the case, where there is none), ``fold``, ``tumor_labels``
    (yes or no), ``coarse_size`` and ``fine_size`` (empty where the scan is not on that grid).
    Images hold levels of 0 to 127 (`training.grids`), labels 0, liver 1, tumor 2.

    Raises
    ------
    DataSetError
        The table cannot be read, or lacks a column.
    """
    path = folder / TABLE
    try:
        with path.open(encoding="utf-8", newline="") as table:
            return [_entry(folder, row) for row in csv.DictReader(table)]
    except (OSError, KeyError, ValueError) as error:
        raise DataSetError(f"{path}: {error!r}") from error


def _entry(folder: Path, row: Mapping[str, str]) -> CompactEntry:
    grids = tuple(grid for grid in GRIDS if row[f"{grid}_size"])
    if not grids:
        raise ValueError(f"{row['case_id']} is on no grid")
    return CompactEntry(
        case_id=row["case_id"],
        patient_id=row.get("patient") or row["case_id"],
        tumors_known=row["tumor_labels"] == "yes",
        fold=int(row["fold"]) if row["fold"] else None,
        folder=folder,
        grids=grids,
    )

"""What a data set is to its users: scans that are listed at once and read one by one."""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dicom_io.errors import DicomIOError
from inference.volume import Volume
from training.errors import DataSetError
from training.scans import LabeledScan


class Kind(StrEnum):
    """The layouts that are known."""

    COMPACT = "compact"
    """The compact set of this project: scans that lie on the training grids already."""
    MSD = "msd"
    """Task03_Liver of the Medical Segmentation Decathlon."""
    LITS = "lits"
    """The Liver Tumor Segmentation Benchmark."""
    IRCADB = "3dircadb"
    """3D-IRCADb-01."""
    CHAOS = "chaos"
    """The CT part of the Combined Healthy Abdominal Organ Segmentation challenge."""
    TOTALSEGMENTATOR = "totalsegmentator"
    """The training data of TotalSegmentator."""
    PLAIN = "plain"
    """Folders of images and of labels with the same names."""


@dataclass(frozen=True, kw_only=True)
class ScanEntry(ABC):
    """One scan of a data set, not read yet."""

    case_id: str
    patient_id: str
    """The same in each data set that has scans of this patient, as far as that is known."""
    tumors_known: bool
    fold: int | None = None

    @property
    @abstractmethod
    def files(self) -> tuple[Path, ...]:
        """All files that `read` reads."""

    @abstractmethod
    def _load(self) -> tuple[Volume, NDArray[np.uint8]]:
        """Read the scan and its labels, of one shape."""

    def read(self) -> LabeledScan:
        """Read the scan.

        Returns
        -------
        LabeledScan
            With the case, patient and fold of this entry.

        Raises
        ------
        DataSetError
            A file is missing or damaged, or image and labels do not lie on one grid; the message
            begins with the case.
        """
        try:
            volume, labels = self._load()
        except (DataSetError, DicomIOError, OSError, RuntimeError, ValueError) as error:
            message = f"{self.case_id}: {error}; repair the case or take it out of its folder"
            raise DataSetError(message) from error
        return LabeledScan(
            case_id=self.case_id,
            patient_id=self.patient_id,
            volume=volume,
            labels=labels,
            tumors_known=self.tumors_known,
            fold=self.fold,
        )


@dataclass(frozen=True, kw_only=True)
class DataSet:
    """The scans of one folder."""

    kind: Kind
    name: str
    """As its publishers call it."""
    license: str | None
    """As stated where it is published; none where that is not known."""
    folder: Path
    entries: tuple[ScanEntry, ...]
    names_folds: bool = False
    """Whether the data set itself says which fold a scan belongs to."""

    def __len__(self) -> int:
        return len(self.entries)

    def __iter__(self) -> Iterator[ScanEntry]:
        return iter(self.entries)

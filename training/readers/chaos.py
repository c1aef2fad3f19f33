"""The CT part of CHAOS: DICOM scans, and masks of the liver as one PNG file a slice."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from dicom_io.headers import read_header
from dicom_io.series import read_series
from inference.labels import Label
from inference.volume import Volume
from training.errors import DataSetError
from training.readers.entries import ScanEntry
from training.readers.patients import assign_fold

_SCAN = "DICOM_anon"
_MASKS = "Ground"
_PATTERNS = ("Train_Sets/CT/*", "CT/*", "*/Train_Sets/CT/*")


@dataclass(frozen=True, kw_only=True)
class ChaosEntry(ScanEntry):
    """A patient of the CT part of CHAOS."""

    folder: Path

    @property
    def files(self) -> tuple[Path, ...]:
        """The DICOM files and the PNG files."""
        return (*self._slices, *self._masks)

    @property
    def _slices(self) -> list[Path]:
        return _list(self.folder / _SCAN, ".dcm")

    @property
    def _masks(self) -> list[Path]:
        return _list(self.folder / _MASKS, ".png")

    def _load(self) -> tuple[Volume, NDArray[np.uint8]]:
        slices, masks = self._slices, self._masks
        if len(slices) != len(masks):
            raise DataSetError(f"{len(slices)} DICOM files, but {len(masks)} masks")
        series = read_series(slices)
        uids = [read_header(path).sop_instance_uid for path in slices]
        mask_of = dict(zip(uids, masks, strict=True))
        labels = np.zeros(series.volume.array.shape, dtype=np.uint8)
        for plane, uid in zip(labels, series.sop_instance_uids, strict=True):
            plane[_read_mask(mask_of[uid], plane.shape)] = Label.LIVER
        return series.volume, labels


def list_chaos(folder: Path) -> list[ScanEntry]:
    """List the CT training scans of CHAOS: ``Train_Sets/CT/N`` with ``DICOM_anon`` and ``Ground``.

    The masks are matched as published: the n-th PNG file by name belongs to the n-th DICOM file by
    name. Some scans are numbered from head to feet, some from feet to head; Image Position
    (Patient) of the DICOM file says where both lie. The scans are of people who wanted to
    donate a part of their liver, so that there are no tumors, and that is known. (All this from
    memory of the data set; Kavur et al., CHAOS Challenge, Medical Image Analysis 69 (2021) 101950.)
    """
    found = {path for pattern in _PATTERNS for path in folder.glob(pattern)}
    return [
        ChaosEntry(
            case_id=f"chaos-{path.name}",
            patient_id=f"chaos{path.name:>02}",
            tumors_known=True,
            fold=assign_fold(f"chaos{path.name:>02}"),
            folder=path,
        )
        for path in sorted(found, key=_number)
        if (path / _SCAN).is_dir()
    ]


def _number(path: Path) -> tuple[int, str]:
    return int(path.name) if path.name.isdecimal() else 0, path.name


def _list(folder: Path, suffix: str) -> list[Path]:
    files = [
        path
        for path in folder.glob("*")
        if path.suffix.lower() == suffix and not path.name.startswith(".")
    ]
    if not files:
        raise DataSetError(f"{folder} holds no {suffix} files")
    return sorted(files)


def _read_mask(path: Path, shape: tuple[int, ...]) -> NDArray[np.bool_]:
    """Read one PNG file: black, and the liver in white."""
    try:
        with Image.open(path) as image:
            mask = np.asarray(image.convert("L")) > 0
    except (OSError, SyntaxError) as error:  # Pillow's word for a damaged chunk
        raise DataSetError(f"{path.name}: {error}") from error
    if mask.shape != shape:
        found, expected = (" x ".join(map(str, size)) for size in (mask.shape, shape))
        raise DataSetError(f"{path.name} has {found} pixels, the CT {expected}")
    return mask

"""3D-IRCADb-01: DICOM scans and DICOM masks, in folders or in the ZIP files of the publisher."""

import re
import tempfile
import zipfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np
from numpy.typing import NDArray

from dicom_io.series import read_series
from inference.labels import Label
from inference.volume import Volume
from training.errors import DataSetError
from training.readers.entries import ScanEntry
from training.readers.geometry import place_mask
from training.readers.patients import assign_fold, ircadb_patient

_CASE = re.compile(r"3Dircadb1\.(\d+)", re.IGNORECASE)
_SCAN = "PATIENT_DICOM"
_MASKS = "MASKS_DICOM"
_LIVER = "liver"
_CYSTS = ("liverkyst", "livercyst")
_TUMORS = ("livertumo",)
_LEAST_SLICES = 2


@dataclass(frozen=True, kw_only=True)
class IrcadbEntry(ScanEntry):
    """A patient of 3D-IRCADb-01."""

    folder: Path

    @property
    def files(self) -> tuple[Path, ...]:
        """All files of the scan and of all masks, or the ZIP files with them."""
        return tuple(file for part in (_SCAN, _MASKS) for file in _list_part(self.folder, part))

    def _load(self) -> tuple[Volume, NDArray[np.uint8]]:
        with tempfile.TemporaryDirectory() as temporary:
            scan = _open_part(self.folder, _SCAN, Path(temporary), lambda _: True)
            masks = _open_part(self.folder, _MASKS, Path(temporary), _is_wanted)
            volume = _read_volume(scan)
            return volume, _read_labels(masks, volume)


def list_ircadb(folder: Path) -> list[ScanEntry]:
    """List the patients of 3D-IRCADb-01: ``3Dircadb1.N`` with ``PATIENT_DICOM``, ``MASKS_DICOM``.

    Each of the two is a folder or a ZIP file of that name, as published. Of the masks, ``liver`` is
    the liver with all that is in it, what begins with ``livertumo`` is tumor; cysts
    (``liverkyst``) are liver. Tumors are known: a patient without such a mask has none. Slices are
    found by their Image Position (Patient), not by the names of the files (Soler et al., 3D image
    reconstruction for comparison of algorithm database, IRCAD, 2010).
    """
    # Some programs unpack into one more folder of the same name: then the inner one counts.
    numbered = {
        int(match[1]): path
        for path in (folder.resolve(), *folder.glob("*"), *folder.glob("*/*"))
        if (match := _CASE.fullmatch(path.name)) and path.is_dir()
    }
    return [
        IrcadbEntry(
            case_id=f"ircadb-{number}",
            patient_id=ircadb_patient(number),
            tumors_known=True,
            fold=assign_fold(ircadb_patient(number)),
            folder=path,
        )
        for number, path in sorted(numbered.items())
    ]


def _list_part(folder: Path, part: str) -> list[Path]:
    if (folder / part).is_dir():
        return [path for path in (folder / part).rglob("*") if path.is_file()]
    return [_zip_of(folder, part)]


def _zip_of(folder: Path, part: str) -> Path:
    path = folder / f"{part}.zip"
    if not path.exists():
        raise DataSetError(f"{folder} has neither {part} nor {part}.zip")
    return path


def _open_part(folder: Path, part: str, temporary: Path, is_wanted: Callable[[str], bool]) -> Path:
    """Give the folder of a part; from a ZIP file, unpack the wanted sub-folders of it."""
    if (folder / part).is_dir():
        return folder / part
    path = _zip_of(folder, part)
    try:
        with zipfile.ZipFile(path) as archive:
            for name in archive.namelist():
                if is_wanted(PurePosixPath(name).parent.name):
                    archive.extract(name, temporary)
    except (zipfile.BadZipFile, zlib.error) as error:
        raise DataSetError(f"{path}: {error}") from error
    if not (temporary / part).is_dir():
        raise DataSetError(f"{path} holds no folder {part}")
    return temporary / part


def _is_wanted(mask: str) -> bool:
    return mask.lower() == _LIVER or mask.lower().startswith((*_CYSTS, *_TUMORS))


def _read_labels(masks: Path, volume: Volume) -> NDArray[np.uint8]:
    folders = {path.name.lower(): path for path in masks.iterdir() if path.is_dir()}
    if _LIVER not in folders:
        found = ", ".join(sorted(folders)) or "nothing"
        raise DataSetError(f"{masks.name} has no folder {_LIVER}, only {found}")
    labels = np.zeros(volume.array.shape, dtype=np.uint8)
    for name, folder in folders.items():
        if name == _LIVER or name.startswith(_CYSTS):
            labels[_read_mask(folder, volume)] = Label.LIVER
    for name, folder in folders.items():
        if name.startswith(_TUMORS):
            labels[_read_mask(folder, volume)] = Label.TUMOR
    return labels


def _read_mask(folder: Path, volume: Volume) -> NDArray[np.bool_]:
    try:
        return place_mask(_read_volume(folder), volume)
    except DataSetError as error:
        raise DataSetError(f"{folder.name}: {error}") from error


def _read_volume(folder: Path) -> Volume:
    files = [path for path in sorted(folder.iterdir()) if not path.name.startswith(".")]
    return read_series(files, min_slices=_LEAST_SLICES).volume

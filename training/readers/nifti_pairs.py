"""Data sets of NIfTI files: an image and its labels per scan.

The headers of the files alone say how a scan lies: some LiTS volumes are stored upside down or
mirrored, and are read as their affine has it.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dicom_io.nifti import NIFTI_SUFFIXES, read_nifti
from inference.labels import Label
from inference.volume import Volume
from training.errors import DataSetError
from training.readers.entries import ScanEntry
from training.readers.geometry import read_as_labels
from training.readers.patients import assign_fold, lits_patient

TUMORS_UNKNOWN = "tumors_unknown.txt"
_LITS_IMAGE = re.compile(r"volume-(\d+)\.nii(\.gz)?")
_LITS_LABEL = re.compile(r"segmentation-(\d+)\.nii(\.gz)?")
_LITS_FOLDERS = ("", "*/", "*/*/")
_MSD_IMAGE = re.compile(r"liver_(\d+)\.nii(\.gz)?")
_PLAIN_FOLDERS = (("images", "labels"), ("imagesTr", "labelsTr"))
_FIRST_CHANNEL = "_0000"
"""Ending of the only channel of a CT in the raw data of nnU-Net."""
_TOTALSEGMENTATOR_LIVER = "segmentations/liver"


@dataclass(frozen=True, kw_only=True)
class NiftiPair(ScanEntry):
    """An image in HU and a label image on the same grid."""

    image: Path
    labels: Path
    highest: Label = Label.TUMOR
    """The largest value in the label image."""

    @property
    def files(self) -> tuple[Path, ...]:
        """Both files."""
        return self.image, self.labels

    def _load(self) -> tuple[Volume, NDArray[np.uint8]]:
        volume = read_nifti(self.image)
        return volume, read_as_labels(read_nifti(self.labels), volume, self.highest)


def list_lits(folder: Path) -> list[ScanEntry]:
    """List the training volumes of LiTS: ``volume-N.nii`` and ``segmentation-N.nii``.

    Both may be compressed, and lie in the folder or up to two folders below it, apart or together.
    Values of the labels: 0, liver 1, tumor 2 (Bilic et al., The Liver Tumor Segmentation
    Benchmark, Medical Image Analysis 84 (2023) 102680).

    Raises
    ------
    DataSetError
        A volume has no segmentation, or there are two with one number.
    """
    images, labels = (
        _by_number((path for where in _LITS_FOLDERS for path in folder.glob(where + name)), form)
        for name, form in (("volume-*", _LITS_IMAGE), ("segmentation-*", _LITS_LABEL))
    )
    entries: list[ScanEntry] = []
    for number, image in images.items():
        if number not in labels:
            raise DataSetError(f"{image}: segmentation-{number}.nii is missing")
        patient = lits_patient(number)
        entries.append(
            NiftiPair(
                case_id=f"lits-{number}",
                patient_id=patient,
                tumors_known=True,
                fold=assign_fold(patient),
                image=image,
                labels=labels[number],
            )
        )
    return entries


def list_msd(folder: Path) -> list[ScanEntry]:
    """List the training scans of Task03_Liver of the Medical Segmentation Decathlon.

    ``imagesTr/liver_N.nii.gz`` and ``labelsTr/liver_N.nii.gz``; values of the labels: 0, liver 1,
    tumor 2 (Antonelli et al., The Medical Segmentation Decathlon, Nature Communications 13 (2022)
    4128).

    Raises
    ------
    DataSetError
        A scan has no labels.
    """
    images = _by_number(folder.glob("imagesTr/*"), _MSD_IMAGE)
    return [
        NiftiPair(
            case_id=f"msd-{number}",
            patient_id=lits_patient(number),
            tumors_known=True,
            fold=assign_fold(lits_patient(number)),
            image=image,
            labels=_get_nifti(folder / "labelsTr" / f"liver_{number}"),
        )
        for number, image in images.items()
    ]


def list_totalsegmentator(folder: Path) -> list[ScanEntry]:
    """List the training scans of TotalSegmentator.

    ``sNNNN/ct.nii.gz`` and ``sNNNN/segmentations/liver.nii.gz``, 0 and liver 1. Tumors are part of
    the liver and not annotated; some scans show no liver (Wasserthal et al., TotalSegmentator,
    Radiology: Artificial Intelligence 5 (2023) e230024).

    Raises
    ------
    DataSetError
        A scan has no mask of the liver.
    """
    entries: list[ScanEntry] = []
    for image in sorted([*folder.glob("s*/ct.nii.gz"), *folder.glob("s*/ct.nii")]):
        case = f"tseg-{image.parent.name}"
        entries.append(
            NiftiPair(
                case_id=case,
                patient_id=case,
                tumors_known=False,
                fold=assign_fold(case),
                image=image,
                labels=_get_nifti(image.parent / _TOTALSEGMENTATOR_LIVER),
                highest=Label.LIVER,
            )
        )
    return entries


def list_plain(folder: Path) -> list[ScanEntry]:
    """List images and labels of the same name in two folders.

    The folders are ``images`` and ``labels``, or ``imagesTr`` and ``labelsTr``; an image may end
    with ``_0000``, as nnU-Net has it (Isensee et al., Nature Methods 18 (2021) 203-211). Values of
    the labels: 0, liver 1, tumor 2. Each scan is taken for another patient. A scan whose name
    stands in a line of ``tumors_unknown.txt`` has tumors labeled 1, or none that were looked for.

    Raises
    ------
    DataSetError
        An image has no labels, or a line names no scan.
    """
    for images, labels in _PLAIN_FOLDERS:
        paths = [path for path in sorted(folder.glob(f"{images}/*")) if _is_nifti(path)]
        if paths:
            return _list_pairs(folder, paths, folder / labels)
    return []


def _list_pairs(folder: Path, images: Sequence[Path], labels: Path) -> list[ScanEntry]:
    named: dict[str, Path] = {}
    for image in images:
        name = _name_pair(image, labels)
        if name in named:
            raise DataSetError(f"{image} and {named[name]}: two images of {name}")
        named[name] = image
    unknown = _read_names(folder / TUMORS_UNKNOWN)
    strangers = sorted(unknown - named.keys())
    if strangers:
        raise DataSetError(f"{folder / TUMORS_UNKNOWN}: no scan is named {strangers[0]}")
    return [
        NiftiPair(
            case_id=name,
            patient_id=name,
            tumors_known=name not in unknown,
            fold=assign_fold(name),
            image=image,
            labels=_get_nifti(labels / name),
        )
        for name, image in named.items()
    ]


def _name_pair(image: Path, labels: Path) -> str:
    """Give the name of a scan, which is that of its labels."""
    name = image.name.removesuffix(".gz").removesuffix(".nii")
    return name if _find_nifti(labels / name) else name.removesuffix(_FIRST_CHANNEL)


def _is_nifti(path: Path) -> bool:
    """Tell images from the ``._`` files that macOS leaves in archives."""
    return path.name.endswith(NIFTI_SUFFIXES) and not path.name.startswith(".")


def _by_number(files: Iterable[Path], form: re.Pattern[str]) -> dict[int, Path]:
    """Give the files of a form by the number in their names, in its order."""
    found: dict[int, Path] = {}
    for path in files:
        match = form.fullmatch(path.name)
        if match is None:
            continue
        number = int(match[1])
        if number in found:
            raise DataSetError(f"{path} and {found[number]}: two files of number {number}")
        found[number] = path
    return dict(sorted(found.items()))


def _find_nifti(stem: Path) -> Path | None:
    paths = (stem.with_name(stem.name + suffix) for suffix in reversed(NIFTI_SUFFIXES))
    return next((path for path in paths if path.exists()), None)


def _get_nifti(stem: Path) -> Path:
    path = _find_nifti(stem)
    if path is None:
        raise DataSetError(f"{stem}.nii.gz is missing")
    return path


def _read_names(path: Path) -> set[str]:
    """Read the lines of a text file that need not be there."""
    if not path.exists():
        return set()
    lines = path.read_text(encoding="utf-8").splitlines()
    return {line.strip() for line in lines if line.strip()}

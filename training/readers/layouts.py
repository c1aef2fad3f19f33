"""The known layouts, and which of them a folder has."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from training.errors import DataSetError
from training.readers.chaos import list_chaos
from training.readers.compact import TABLE, list_compact
from training.readers.entries import DataSet, Kind, ScanEntry
from training.readers.ircadb import list_ircadb
from training.readers.nifti_pairs import list_lits, list_msd, list_plain, list_totalsegmentator


@dataclass(frozen=True, kw_only=True)
class Layout:
    """How a data set is laid out."""

    name: str
    license: str | None
    tree: str
    """What is looked for, in words."""
    list_entries: Callable[[Path], list[ScanEntry]]
    """Lists the scans of a folder; none where it has another layout."""


LAYOUTS = {
    Kind.COMPACT: Layout(
        name="compact set",
        license=None,
        tree="cases.csv, with coarse/CASE_ct.nii.gz, coarse/CASE_label.nii.gz, the same in fine",
        list_entries=lambda folder: list_compact(folder) if (folder / TABLE).exists() else [],
    ),
    Kind.MSD: Layout(
        name="Medical Segmentation Decathlon, Task03_Liver",
        license="CC BY-SA 4.0",
        tree="imagesTr/liver_N.nii.gz, labelsTr/liver_N.nii.gz",
        list_entries=list_msd,
    ),
    Kind.LITS: Layout(
        name="LiTS",
        license="CC BY-NC-ND 4.0",
        tree="volume-N.nii, segmentation-N.nii, also in sub-folders",
        list_entries=list_lits,
    ),
    Kind.IRCADB: Layout(
        name="3D-IRCADb-01",
        license="CC BY-NC-ND 4.0",
        tree="3Dircadb1.N/PATIENT_DICOM, 3Dircadb1.N/MASKS_DICOM/liver, or both as ZIP files",
        list_entries=list_ircadb,
    ),
    Kind.CHAOS: Layout(
        name="CHAOS, CT",
        license="CC BY-NC-SA 4.0",
        tree="Train_Sets/CT/N/DICOM_anon/*.dcm, Train_Sets/CT/N/Ground/*.png",
        list_entries=list_chaos,
    ),
    Kind.TOTALSEGMENTATOR: Layout(
        name="TotalSegmentator",
        license="CC BY 4.0",
        tree="sNNNN/ct.nii.gz, sNNNN/segmentations/liver.nii.gz",
        list_entries=list_totalsegmentator,
    ),
    Kind.PLAIN: Layout(
        name="images and labels",
        license=None,
        tree="images/NAME.nii.gz (or NAME_0000.nii.gz), labels/NAME.nii.gz; or imagesTr, labelsTr",
        list_entries=list_plain,
    ),
}
"""By kind. Licenses are as remembered; what counts stands where a data set is published."""


def open_data_set(folder: Path, kind: Kind | None = None) -> DataSet:
    """List the scans of a folder without reading any.

    Parameters
    ----------
    folder:
        The top of a data set as published, see `LAYOUTS`.
    kind:
        Its layout, where it is to be told, not found.

    Raises
    ------
    DataSetError
        The folder has no known layout, or several, or a file is missing.
    """
    if not folder.is_dir():
        raise DataSetError(f"{folder} is no folder")
    kinds = tuple(LAYOUTS) if kind is None else (kind,)
    found = {each: entries for each in kinds if (entries := LAYOUTS[each].list_entries(folder))}
    if Kind.MSD in found:
        found.pop(Kind.PLAIN, None)  # whose folders may have the same names
    if len(found) != 1:
        raise DataSetError(_explain(folder, kinds, tuple(found)))
    ((kind, entries),) = found.items()
    return DataSet(
        kind=kind,
        name=LAYOUTS[kind].name,
        license=LAYOUTS[kind].license,
        folder=folder,
        entries=tuple(entries),
        names_folds=kind is Kind.COMPACT,
    )


def _explain(folder: Path, kinds: tuple[Kind, ...], found: tuple[Kind, ...]) -> str:
    if found:
        names = " and ".join(LAYOUTS[kind].name for kind in found)
        return f"{folder} holds {names}; give each a folder of its own"
    trees = "".join(f"\n  {LAYOUTS[kind].name}: {LAYOUTS[kind].tree}" for kind in kinds)
    return f"{folder} holds no scans in a layout that is known here:{trees}"

"""The paths that a command was given, as series and volumes."""

from pathlib import Path

from dicom_io.nifti import NIFTI_SUFFIXES, read_nifti
from dicom_io.series import find_series, read_series
from inference.volume import Volume
from node.errors import UnusableInput


def is_nifti(source: Path) -> bool:
    """Tell by its name whether a path is a NIfTI file.

    Raises
    ------
    UnusableInput
        When there is no such path.
    """
    if not source.exists():
        raise UnusableInput(f"There is no file or folder {source}.")
    return source.name.lower().endswith(NIFTI_SUFFIXES)


def choose_series(source: Path, series_uid: str | None) -> list[Path]:
    """Give the files of the only series under a path, or of the one that is named.

    Raises
    ------
    UnusableInput
        When there is no series, not that one, or a choice of several.
    """
    found = find_series(source)
    if not found:
        raise UnusableInput(f"No DICOM instance was found under {source}.")
    if series_uid is not None:
        if series_uid not in found:
            listed = "\n  ".join(found)
            raise UnusableInput(f"Series {series_uid} is not there. Series found:\n  {listed}")
        return found[series_uid]
    if len(found) > 1:
        listed = "\n  ".join(f"{uid}  {len(paths)} instances" for uid, paths in found.items())
        raise UnusableInput(
            f"{len(found)} series were found under {source}; choose one with --series:\n  {listed}"
        )
    return next(iter(found.values()))


def read_volume(source: Path, series_uid: str | None = None) -> Volume:
    """Read a scan or a mask from a NIfTI file or from the slices of a DICOM series.

    Returns
    -------
    Volume
        (slices, rows, columns) int16.

    Raises
    ------
    UnusableInput
        See `choose_series`.
    dicom_io.errors.DicomIOError
        The file or the series cannot be used.
    """
    if is_nifti(source):
        return read_nifti(source)
    return read_series(choose_series(source, series_uid), min_slices=2).volume

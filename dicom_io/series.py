"""Files of one series to a checked volume in Hounsfield units.

Nothing is repaired and no slice is left out: a series that is not one regular stack of CT slices is
refused with a coded reason. Geometry decides, not the attributes that describe it: a series
with a Gantry/Detector Tilt (0018,1120) other than zero is fine if its slices are not sheared,
because scanners leave the attribute in tilt-corrected reconstructions.
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pydicom.dataset import Dataset
from pydicom.uid import UID

from dicom_io.errors import (
    DicomIOError,
    InvalidUid,
    RejectionReason,
    UndecodableInstance,
    UnsuitableSeries,
)
from dicom_io.frames import list_frames
from dicom_io.headers import check_uid, read_attributes, read_header
from dicom_io.pixels import decode_frames
from dicom_io.stack import arrange
from dicom_io.transfer_syntaxes import MULTI_FRAME_SOP_CLASSES, STORAGE_SOP_CLASSES
from dicom_io.uids import derive_uid
from dicom_io.values import read_integer, read_text, read_texts
from inference.volume import Volume

logger = logging.getLogger(__name__)

_MIN_STACK = 2
_PREFIX = b"DICM"
_PREFIX_OFFSET = 128
_MEDIA_DIRECTORY = "DICOMDIR"
"""File ID of the Basic Directory object (PS3.10 8.6)."""
_CT_MODALITY = "CT"
_LOCALIZER = "LOCALIZER"


@dataclass(frozen=True, kw_only=True, eq=False)
class SourceSeries:
    """A CT series that can be segmented."""

    datasets: tuple[Dataset, ...]
    """Without pixel data; in the order of the slices of `volume`, or one multi-frame data set."""
    volume: Volume
    """Array (slices, rows, columns) int16, HU. Slices follow the slice normal (row cosines x column
    cosines); the frame of reference is that of the series, or derived from its UID where it has
    none."""
    frame_sources: tuple[tuple[str, int | None], ...]
    """Per slice: SOP Instance UID, and frame number from 1 (none for single-frame images)."""

    @property
    def study_instance_uid(self) -> str:
        """Study Instance UID."""
        return read_text(self.datasets[0], "StudyInstanceUID")

    @property
    def series_instance_uid(self) -> str:
        """Series Instance UID."""
        return read_text(self.datasets[0], "SeriesInstanceUID")

    @property
    def sop_instance_uids(self) -> tuple[str, ...]:
        """SOP Instance UIDs in the order of `datasets`."""
        return tuple(read_text(dataset, "SOPInstanceUID") for dataset in self.datasets)

    @property
    def is_multiframe(self) -> bool:
        """Whether the slices are frames of one instance."""
        return self.frame_sources[0][1] is not None


def read_series(paths: Sequence[Path], *, min_slices: int = 10) -> SourceSeries:
    """Read the files of one series.

    Parameters
    ----------
    paths
        All instances of the series, in any order.
    min_slices
        A series with fewer slices is refused; never less than 2.

    Raises
    ------
    UnsuitableSeries
        If the series cannot be segmented, with the reason.
    InvalidUid
        If a UID is not valid (instances received by the node were checked before).
    OSError
        If a file cannot be read.
    """
    datasets = [_read_dataset(path) for path in paths]
    _check_kind(datasets)
    _check_belonging(datasets)
    frames = list_frames(datasets)
    if len(frames) < max(min_slices, _MIN_STACK):
        detail = f"{len(frames)} slices, at least {max(min_slices, _MIN_STACK)} are needed"
        raise UnsuitableSeries(RejectionReason.TOO_FEW_SLICES, detail)
    frame_of_reference_uid = _frame_of_reference(datasets)
    stack = arrange(frames)
    ordered = [frames[index] for index in stack.order]
    syntaxes = [read_text(dataset.file_meta, "TransferSyntaxUID") for dataset in datasets]
    array = decode_frames(ordered, paths, syntaxes)
    unique = dict.fromkeys(frame.dataset_index for frame in ordered)
    return SourceSeries(
        datasets=tuple(datasets[index] for index in unique),
        volume=Volume(
            array=array,
            affine=stack.affine,
            coordinate_system="PATIENT",
            frame_of_reference_uid=frame_of_reference_uid,
        ),
        frame_sources=tuple(
            (read_text(datasets[frame.dataset_index], "SOPInstanceUID"), frame.frame_number)
            for frame in ordered
        ),
    )


def find_series(path: Path) -> dict[str, list[Path]]:
    """Find the DICOM files under a folder, or take one file, by Series Instance UID.

    Files that are not DICOM, and media directories (DICOMDIR), are passed over; their number is
    logged. A DICOM file that cannot be used stops the search, because to leave it out could leave a
    slice out.

    Returns
    -------
    dict[str, list[Path]]
        Sorted paths by Series Instance UID, itself sorted; the same for the same folder.

    Raises
    ------
    UndecodableInstance, MismatchingInstance, InvalidUid
        As `headers.read_header`, naming the file.
    OSError
        If something cannot be read, or does not exist.
    """
    files = sorted(file for file in path.rglob("*") if file.is_file()) if path.is_dir() else [path]
    instances = [file for file in files if file == path or _is_instance(file)]
    series: dict[str, list[Path]] = {}
    for file in instances:
        try:
            header = read_header(file)
        except DicomIOError as error:
            raise type(error)(f"{file}: {error}") from error
        series.setdefault(header.series_instance_uid, []).append(file)
    passed_over = len(files) - len(instances)
    logger.info("found %d series; %d files are not DICOM instances", len(series), passed_over)
    return dict(sorted(series.items()))


def _is_instance(path: Path) -> bool:
    """Whether a file has the DICOM prefix (PS3.10 7.1) and is no media directory."""
    if path.name.upper() == _MEDIA_DIRECTORY:
        return False
    with path.open("rb") as file:
        return file.read(_PREFIX_OFFSET + len(_PREFIX))[_PREFIX_OFFSET:] == _PREFIX


def _read_dataset(path: Path) -> Dataset:
    try:
        return read_attributes(path)
    except UndecodableInstance as error:
        detail = f"{path.name}: {error}"
        raise UnsuitableSeries(RejectionReason.UNDECODABLE_PIXELS, detail) from error


def _check_kind(datasets: Sequence[Dataset]) -> None:
    """Refuse what is not CT, not a scan or not grayscale."""
    for dataset in datasets:
        sop_class_uid = read_text(dataset, "SOPClassUID")
        if sop_class_uid not in STORAGE_SOP_CLASSES:
            detail = f"SOP class {UID(sop_class_uid).name or 'missing'}"
            raise UnsuitableSeries(RejectionReason.NOT_CT, detail)
        modality = read_text(dataset, "Modality")
        if modality != _CT_MODALITY:
            detail = f"modality {modality or 'missing'}"
            raise UnsuitableSeries(RejectionReason.NOT_CT, detail)
        photometric = read_text(dataset, "PhotometricInterpretation")
        samples = read_integer(dataset, "SamplesPerPixel")
        if photometric != "MONOCHROME2" or samples != 1:
            detail = f"photometric interpretation {photometric or 'missing'}"
            raise UnsuitableSeries(RejectionReason.NOT_GRAYSCALE, detail)
    localizers = sum(_LOCALIZER in read_texts(dataset, "ImageType") for dataset in datasets)
    if localizers:
        detail = f"{localizers} of {len(datasets)} instances"
        raise UnsuitableSeries(RejectionReason.LOCALIZER, detail)


def _check_belonging(datasets: Sequence[Dataset]) -> None:
    """Refuse instances that are not one series, or not one stack in one multi-frame instance."""
    for keyword in ("StudyInstanceUID", "SeriesInstanceUID", "SOPClassUID", "PatientID"):
        values = {read_text(dataset, keyword) for dataset in datasets}
        if len(values) > 1:
            detail = f"{len(values)} different values of {keyword}"
            raise UnsuitableSeries(RejectionReason.MIXED_SERIES, detail)
        if keyword.endswith("InstanceUID") and values:
            check_uid(values.pop())
    uids = [check_uid(read_text(dataset, "SOPInstanceUID")) for dataset in datasets]
    repeated = len(uids) - len(set(uids))
    if repeated:
        detail = f"{repeated} instances are given more than once"
        raise UnsuitableSeries(RejectionReason.DUPLICATE_POSITION, detail)
    multi_frame = [d for d in datasets if read_text(d, "SOPClassUID") in MULTI_FRAME_SOP_CLASSES]
    if len(multi_frame) > 1:
        detail = f"{len(multi_frame)} multi-frame instances"
        raise UnsuitableSeries(RejectionReason.SEVERAL_STACKS, detail)
    if multi_frame and (read_integer(multi_frame[0], "InConcatenationTotalNumber") or 1) > 1:
        detail = "the instance is one part of a concatenation"
        raise UnsuitableSeries(RejectionReason.SEVERAL_STACKS, detail)


def _frame_of_reference(datasets: Sequence[Dataset]) -> str:
    """Return the frame of reference of the series, or derive one where no slice names any."""
    uids = {read_text(dataset, "FrameOfReferenceUID") for dataset in datasets}
    if len(uids) > 1:
        detail = f"{len(uids - {''})} frames of reference"
        if "" in uids:
            detail += ", and slices without one"
        raise UnsuitableSeries(RejectionReason.MIXED_FRAME_OF_REFERENCE, detail)
    uid = uids.pop()
    if not uid:
        series_uid = read_text(datasets[0], "SeriesInstanceUID")
        return derive_uid("frame-of-reference", series_uid)
    try:
        return check_uid(uid)
    except InvalidUid as error:
        detail = f"FrameOfReferenceUID: {error}"
        raise UnsuitableSeries(RejectionReason.NO_POSITION, detail) from error

"""The image planes of the source, restated for the results that cite them.

A source may break the standard in places that do not make it unsuitable: numbers of 18 characters,
a missing frame of reference. The results must not, so the planes are read as numbers and written
again.
"""

from dataclasses import dataclass

from pydicom import Dataset
from pydicom.valuerep import DSfloat

from dicom_io.frames import Frame, list_frames
from dicom_io.identity import IDENTITY, conformant_elements
from dicom_io.series import SourceSeries
from dicom_io.values import read_text
from inference.volume import Volume

_EQUIPMENT = (
    "Manufacturer",
    "ManufacturerModelName",
    "InstitutionName",
    "StationName",
    "DeviceSerialNumber",
    "SoftwareVersions",
)
"""The scanner, which becomes Contributing Equipment of the results."""


def list_planes(source: SourceSeries) -> tuple[Frame, ...]:
    """Give the source frame of each slice of the volume, with the plane that it states.

    The volume's affine follows an even grid; the stated positions may differ from it by rounding,
    and what cites a frame must lie where the frame says it lies.
    """
    uids = source.sop_instance_uids
    frames = {
        (uids[frame.dataset_index], frame.frame_number): frame
        for frame in list_frames(source.datasets)
    }
    return tuple(frames[frame_source] for frame_source in source.frame_sources)


@dataclass(frozen=True, kw_only=True, eq=False)
class SourceImages:
    """The source in a form that highdicom takes: conformant, and no more than it needs."""

    datasets: tuple[Dataset, ...]
    """One per slice in the order of the volume, or one multi-frame instance; no identity."""
    slices: tuple[int | None, ...]
    """The volume's slice of each frame, None for a frame outside the volume."""


def build_source_images(source: SourceSeries) -> SourceImages:
    """Restate the source instances with numbers that fit their VR."""
    first = source.datasets[0]
    if source.is_multiframe:
        frames = list_frames(source.datasets)
        slice_of = {number: index for index, (_, number) in enumerate(source.frame_sources)}
        datasets = [_multi_frame(source, first, frames)]
        slices = tuple(slice_of.get(frame.frame_number) for frame in frames)
    else:
        planes = list_planes(source)
        datasets = [
            _single_frame(source, dataset, plane, planes[0])
            for dataset, plane in zip(source.datasets, planes, strict=True)
        ]
        slices = tuple(range(len(datasets)))
    _add_identity_placeholders(datasets[0])
    for element in conformant_elements(first, _EQUIPMENT):
        datasets[0].add(element)
    return SourceImages(datasets=tuple(datasets), slices=slices)


def _reference(source: SourceSeries, dataset: Dataset) -> Dataset:
    """Start an image that says which instance it is, and of which grid."""
    image = Dataset()
    image.SOPClassUID = read_text(dataset, "SOPClassUID")
    image.SOPInstanceUID = read_text(dataset, "SOPInstanceUID")
    image.StudyInstanceUID = source.study_instance_uid
    image.SeriesInstanceUID = source.series_instance_uid
    image.FrameOfReferenceUID = source.volume.frame_of_reference_uid
    image.Modality = "CT"
    image.Rows, image.Columns = source.volume.shape[1:3]
    return image


def _single_frame(source: SourceSeries, dataset: Dataset, plane: Frame, first: Frame) -> Dataset:
    image = _reference(source, dataset)
    image.ImagePositionPatient = decimal_strings(plane.position_mm)
    _add_grid(image, image, source.volume, first)
    return image


def _multi_frame(source: SourceSeries, dataset: Dataset, frames: list[Frame]) -> Dataset:
    image = _reference(source, dataset)
    image.NumberOfFrames = len(frames)
    measures, orientation, shared = Dataset(), Dataset(), Dataset()
    _add_grid(measures, orientation, source.volume, frames[0])
    shared.PixelMeasuresSequence = [measures]
    shared.PlaneOrientationSequence = [orientation]
    image.SharedFunctionalGroupsSequence = [shared]
    image.PerFrameFunctionalGroupsSequence = [_positioned_frame(frame) for frame in frames]
    return image


def _positioned_frame(frame: Frame) -> Dataset:
    position, item = Dataset(), Dataset()
    position.ImagePositionPatient = decimal_strings(frame.position_mm)
    item.PlanePositionSequence = [position]
    return item


def _add_grid(measures: Dataset, orientation: Dataset, volume: Volume, frame: Frame) -> None:
    """Set spacing and orientation.

    A voxel of the mask is as thick as the distance of the slices, whatever the nominal thickness of
    the source, which may overlap or leave gaps: receivers multiply by either attribute.
    """
    distance_mm = DSfloat(float(volume.spacing_between_slices), auto_format=True)
    measures.PixelSpacing = decimal_strings(frame.pixel_spacing_mm)
    measures.SliceThickness = distance_mm
    measures.SpacingBetweenSlices = distance_mm
    orientation.ImageOrientationPatient = decimal_strings(frame.orientation)


def decimal_strings(values: tuple[float, ...]) -> list[DSfloat]:
    """Write numbers as VR DS has them, in 16 characters at most (PS3.5 6.2)."""
    return [DSfloat(value, auto_format=True) for value in values]


def _add_identity_placeholders(image: Dataset) -> None:
    """Leave identity empty: `stamp_identity` gives it to the finished object."""
    for keyword in (*IDENTITY, "PositionReferenceIndicator"):
        setattr(image, keyword, None)

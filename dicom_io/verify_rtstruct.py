"""Does a written RT Structure Set hold the masks that it was made from? Asked of the file.

The contours are filled here by counting crossings, which shares no code with their tracing.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset, dcmread

from dicom_io.errors import ResultMismatch
from dicom_io.frames import Frame
from dicom_io.series import SourceSeries
from dicom_io.source_images import list_planes
from dicom_io.values import first_item, read_items, read_text, read_texts
from dicom_io.verify import POSITION_TOLERANCE_MM, VOLUME_TOLERANCE, check_identity
from inference.findings import Findings
from inference.labels import Label
from inference.volume import Volume

RTSTRUCT_CHECKS = ("patient and study", "references", "structures", "planes", "each voxel")
"""What `check_rtstruct` compares."""
_LONGEST_DECIMAL = 16
"""Characters of a DS (PS3.5 6.2)."""
_FLOAT_NOISE_MM = 1e-6
_Floats = NDArray[np.float64]


def check_rtstruct(path: Path, source: SourceSeries, labels: Volume, findings: Findings) -> None:
    """Compare a written RTSTRUCT with masks and source, voxel for voxel and plane for plane.

    Parameters
    ----------
    path
        The structure set.
    source
        The series.
    labels
        Array (slices, rows, columns) with the values of `inference.labels.Label`.
    findings
        The lesions of those labels.

    Raises
    ------
    ResultMismatch
        With the first difference found.
    """
    rtstruct = dcmread(path)
    check_identity(rtstruct, source)
    _check_references(rtstruct, source)
    _check_rois(rtstruct, findings)
    liver, lesions = _fill_contours(rtstruct, source)
    _compare(liver, labels.array > 0, "liver")
    _compare(lesions, findings.lesion_map.array, "lesions")


def read_structures(path: Path, source: SourceSeries) -> Volume:
    """Read a structure set of ours onto the grid of the series that it was made from.

    Returns
    -------
    Volume
        (slices, rows, columns) uint8 with the values of `inference.labels.Label`.

    Raises
    ------
    ResultMismatch
        A contour does not lie on the image that it names, or that is none of the series.
    """
    liver, lesions = _fill_contours(dcmread(path), source)
    labels = np.where(liver > 0, np.uint8(Label.LIVER), np.uint8(Label.BACKGROUND))
    labels[lesions > 0] = Label.TUMOR
    return source.volume.with_array(labels)


def _fill_contours(
    rtstruct: Dataset, source: SourceSeries
) -> tuple[NDArray[np.uint8], NDArray[np.uint16]]:
    """Give the mask of the liver with its lesions, and the number of each lesion in its voxels."""
    reader = _ContourReader(source=source, planes=list_planes(source))
    liver = np.zeros(source.volume.shape, np.uint8)
    lesions = np.zeros(source.volume.shape, np.uint16)
    for item in rtstruct.ROIContourSequence:
        number = int(item.ReferencedROINumber)
        for contour in read_items(item, "ContourSequence"):
            if number == 1:
                reader.fill(contour, liver, 1)
            else:
                reader.fill(contour, lesions, number - 1)
    return liver, lesions


def _check_references(rtstruct: Dataset, source: SourceSeries) -> None:
    """Compare frame of reference, study, series and images with the source."""
    [frame] = rtstruct.ReferencedFrameOfReferenceSequence
    [study] = frame.RTReferencedStudySequence
    [series] = study.RTReferencedSeriesSequence
    images = {str(image.ReferencedSOPInstanceUID) for image in series.ContourImageSequence}
    frames = {
        str(rtstruct.FrameOfReferenceUID),
        str(frame.FrameOfReferenceUID),
        *(str(roi.ReferencedFrameOfReferenceUID) for roi in rtstruct.StructureSetROISequence),
    }
    if frames != {source.volume.frame_of_reference_uid}:
        raise ResultMismatch("RTSTRUCT has another frame of reference than the source")
    if (study.ReferencedSOPInstanceUID, series.SeriesInstanceUID) != (
        source.study_instance_uid,
        source.series_instance_uid,
    ):
        raise ResultMismatch("RTSTRUCT names another study or series than the source")
    if images != set(source.sop_instance_uids):
        raise ResultMismatch(f"RTSTRUCT lists {len(images)} images other than the source")


def _check_rois(rtstruct: Dataset, findings: Findings) -> None:
    """Compare names and volumes, and look for contours and an observation of each ROI."""
    expected = {1: ("Liver", findings.organ_volume_ml)} | {
        1 + lesion.number: (f"Liver lesion {lesion.number}", lesion.volume_ml)
        for lesion in findings.lesions
    }
    written = {
        int(item.ROINumber): (str(item.ROIName), float(item.ROIVolume))
        for item in rtstruct.StructureSetROISequence
    }
    described = [
        [int(item.ReferencedROINumber) for item in items]
        for items in (rtstruct.ROIContourSequence, rtstruct.RTROIObservationsSequence)
    ]
    for numbers in (list(written), *described):
        if numbers != list(expected):
            raise ResultMismatch(f"RTSTRUCT has ROIs {numbers}, not {list(expected)}")
    for number, (name, volume_ml) in expected.items():
        found_name, found_ml = written[number]
        if found_name != name:
            raise ResultMismatch(f"RTSTRUCT calls ROI {number} {found_name!r}, not {name!r}")
        if abs(found_ml - volume_ml) > VOLUME_TOLERANCE * max(1.0, volume_ml):
            raise ResultMismatch(f"RTSTRUCT gives {name} {found_ml} ml, not {volume_ml:.4f} ml")


@dataclass(frozen=True, kw_only=True, eq=False)
class _ContourReader:
    """Puts contours back on the grid of the images that they name."""

    source: SourceSeries
    planes: tuple[Frame, ...]

    def fill(self, contour: Dataset, into: NDArray[np.integer], value: int) -> None:
        """Set the pixels inside a contour, none of which may be set."""
        if contour.ContourGeometricType != "CLOSED_PLANAR":
            raise ResultMismatch(f"RTSTRUCT has a contour of type {contour.ContourGeometricType}")
        index = self._slice_of(contour)
        points = _in_plane(_points_mm(contour), self.planes[index])
        rows, columns = _inside(points, into.shape[1:])
        if into[index, rows, columns].any():
            raise ResultMismatch(f"RTSTRUCT has contours that overlap in slice index {index}")
        into[index, rows, columns] = value

    def _slice_of(self, contour: Dataset) -> int:
        image = first_item(contour, "ContourImageSequence") or Dataset()
        frame_number = image.get("ReferencedFrameNumber")
        key = (
            read_text(image, "ReferencedSOPInstanceUID"),
            None if frame_number is None else int(frame_number),
        )
        if key not in self.source.frame_sources:
            raise ResultMismatch("RTSTRUCT has a contour on an image that is not of the source")
        return self.source.frame_sources.index(key)


def _points_mm(contour: Dataset) -> _Floats:
    texts = read_texts(contour, "ContourData")
    if max(map(len, texts), default=0) > _LONGEST_DECIMAL:
        raise ResultMismatch("RTSTRUCT has a coordinate of more than 16 characters")
    if len(texts) != 3 * int(contour.NumberOfContourPoints):
        raise ResultMismatch(f"RTSTRUCT has a contour with {len(texts)} coordinates")
    return np.array(texts, dtype=np.float64).reshape(-1, 3)


def _in_plane(points_mm: _Floats, plane: Frame) -> _Floats:
    """Give (row, column) of points that lie in a plane."""
    along_row, down_column = np.reshape(plane.orientation, (2, 3))
    normal = np.cross(along_row, down_column)
    row_spacing_mm, column_spacing_mm = plane.pixel_spacing_mm
    axes = np.array([down_column * row_spacing_mm, along_row * column_spacing_mm, normal])
    places = np.linalg.solve(axes.T, (points_mm - plane.position_mm).T).T
    off_mm = float(np.abs(places[:, 2]).max())
    if off_mm > POSITION_TOLERANCE_MM + _FLOAT_NOISE_MM:
        raise ResultMismatch(f"RTSTRUCT has a contour {off_mm:.4f} mm off the image that it names")
    return np.asarray(places[:, :2])


def _inside(polygon: _Floats, shape: tuple[int, int]) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Give rows and columns of the pixels whose centers are inside, by the even-odd rule.

    A line through the centers of a row crosses edges; each crossing turns inside and outside for
    all that is right of it.
    """
    first = np.floor(polygon.min(axis=0)).astype(int)
    rows, columns = np.ceil(polygon.max(axis=0)).astype(int) - first + 1
    if (first < -1).any() or first[0] + rows > shape[0] + 1 or first[1] + columns > shape[1] + 1:
        raise ResultMismatch("RTSTRUCT has a contour that leaves the image that it names")
    start = polygon - first
    end = np.roll(start, -1, axis=0)
    low = np.ceil(np.minimum(start[:, 0], end[:, 0])).astype(int)
    high = np.ceil(np.maximum(start[:, 0], end[:, 0])).astype(int)
    edge = np.repeat(np.arange(len(start)), high - low)
    row = np.arange(len(edge)) + np.repeat(high - np.cumsum(high - low), high - low)
    start, end = start[edge], end[edge]
    slope = (end[:, 1] - start[:, 1]) / (end[:, 0] - start[:, 0])
    column = np.floor(start[:, 1] + (row - start[:, 0]) * slope).astype(int) + 1
    turns = np.bincount(row * (columns + 1) + column, minlength=rows * (columns + 1))
    is_inside = np.cumsum(turns.reshape(rows, columns + 1), axis=1) % 2 == 1
    inside_rows, inside_columns = np.nonzero(is_inside)
    return inside_rows + first[0], inside_columns + first[1]


def _compare(found: NDArray[np.integer], expected: NDArray[np.generic], name: str) -> None:
    wrong = np.flatnonzero(np.any(found != expected, axis=(1, 2)))
    if wrong.size:
        differing = int(np.count_nonzero(found[wrong] != expected[wrong]))
        raise ResultMismatch(
            f"RTSTRUCT differs from the {name} in {differing} voxels of {wrong.size} slices, "
            f"the first of index {wrong[0]}"
        )

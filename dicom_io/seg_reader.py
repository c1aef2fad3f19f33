"""A SEG of ours back into labels, by an independent decoder (highdicom)."""

from pathlib import Path

import highdicom as hd
import numpy as np
from numpy.typing import NDArray

from dicom_io.codes import LIVER
from dicom_io.errors import ResultMismatch
from dicom_io.seg_frames import most_probable
from dicom_io.series import SourceSeries
from inference.labels import Label
from inference.volume import Volume


def read_labels(path: Path, source: SourceSeries) -> Volume:
    """Read a SEG onto the grid of its source.

    Parameters
    ----------
    path
        A SEG without overlapping segments, with the anatomy codes of `dicom_io.seg`.
    source
        The series that it was made from.

    Returns
    -------
    Volume
        (slices, rows, columns) uint8 with the values of `inference.labels.Label`; where the SEG
        holds probabilities, a voxel is what it probably is.

    Raises
    ------
    ResultMismatch
        Its frames do not lie on the grid of the source, in patient space.
    """
    seg = hd.seg.segread(path)
    combine = seg.segmentation_type != hd.seg.SegmentationTypeValues.FRACTIONAL
    try:
        found = seg.get_volume(combine_segments=combine).match_geometry(source.volume)
    except (RuntimeError, ValueError) as error:
        message = f"SEG does not lie on the grid of the source: {error}"
        raise ResultMismatch(message) from error
    labels = {number: _label(seg, number) for number in seg.segment_numbers}
    read = _combined if combine else most_probable
    return source.volume.with_array(read(found.array, labels))


def _label(seg: hd.seg.Segmentation, number: int) -> Label:
    is_liver = seg.get_segment_description(number).segmented_property_type == LIVER
    return Label.LIVER if is_liver else Label.TUMOR


def _combined(numbers: NDArray[np.integer], labels: dict[int, Label]) -> NDArray[np.uint8]:
    table = np.zeros(max(labels) + 1, dtype=np.uint8)
    for number, label in labels.items():
        table[number] = label
    found: NDArray[np.uint8] = table[numbers]
    return found

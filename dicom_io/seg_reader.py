"""A SEG of ours back into labels, by an independent decoder (highdicom)."""

from pathlib import Path

import highdicom as hd
import numpy as np

from dicom_io.codes import LIVER
from dicom_io.series import SourceSeries
from inference.labels import Label
from inference.volume import Volume


def read_labels(path: Path, source: SourceSeries) -> Volume:
    """Read a SEG onto the grid of its source.

    Parameters
    ----------
    path
        A BINARY SEG without overlapping segments, with the anatomy codes of `dicom_io.seg`.
    source
        The series that it was made from.

    Returns
    -------
    Volume
        (slices, rows, columns) uint8 with the values of `inference.labels.Label`.
    """
    seg = hd.seg.segread(path)
    numbers = seg.get_volume(combine_segments=True).match_geometry(source.volume)
    table = np.zeros(seg.number_of_segments + 1, dtype=np.uint8)
    for number in seg.segment_numbers:
        is_liver = seg.get_segment_description(number).segmented_property_type == LIVER
        table[number] = Label.LIVER if is_liver else Label.TUMOR
    return source.volume.with_array(table[numbers.array])

"""What a report says is read back as it was measured."""

import numpy as np
import pytest
from pydicom import dcmread

from dicom_io.errors import ResultMismatch
from dicom_io.sr_reader import read_figures
from dicom_io.verify import walk


def test_volume_count_and_lines_are_those_that_were_measured(case, written):
    _, sr = written
    figures = read_figures(dcmread(sr), case.source)
    assert figures.liver_ml == pytest.approx(case.findings.organ_volume_ml, rel=1e-3)
    assert figures.lesion_count == len(case.findings.lesions)
    axes = [region.long_axis for region in (case.findings.liver, *case.findings.lesions)]
    assert len(figures.lines) == len(axes)
    affine = case.source.volume.affine
    for axis in axes:
        index = [axis.slice_index, *np.add(axis.start, axis.end) / 2, 1]
        middle_mm = (affine @ index)[:3]
        nearest = min(
            figures.lines, key=lambda line: np.linalg.norm(np.subtract(line.middle_mm, middle_mm))
        )
        assert nearest.middle_mm == pytest.approx(middle_mm, abs=1e-3)
        assert nearest.length_mm == pytest.approx(axis.length_mm, abs=1e-3)


def test_a_line_on_another_image_is_refused(case, written):
    sr = dcmread(written[1])
    line = next(item for item in walk(sr) if item.ValueType == "SCOORD")
    line.ContentSequence[0].ReferencedSOPSequence[0].ReferencedSOPInstanceUID = "1.2.3"
    with pytest.raises(ResultMismatch, match="an image that is not of the source"):
        read_figures(sr, case.source)


def test_a_report_without_the_volume_is_refused(case, written):
    sr = dcmread(written[1])
    sr.ContentSequence = []
    with pytest.raises(ResultMismatch, match="says nothing of Volume of liver"):
        read_figures(sr, case.source)

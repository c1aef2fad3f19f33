"""The shipped model on a patient that its training never saw, read from DICOM."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pydicom
import pytest
from numpy.typing import NDArray

from config.inference import InferenceSettings
from dicom_io.series import SourceSeries, read_series
from inference.measure import dice
from inference.segment import load_segmenter

pytestmark = pytest.mark.real

MASKS = ("liver", *(f"livertumor{number:02d}" for number in range(1, 8)))


def read_mask(folder: Path, series: SourceSeries) -> NDArray[np.bool_]:
    """Give a mask series, which has the slice positions of the source, on the source grid."""
    datasets = [pydicom.dcmread(path) for path in folder.iterdir()]
    planes = {float(dataset.ImagePositionPatient[2]): dataset.pixel_array for dataset in datasets}
    return np.stack([planes[float(ds.ImagePositionPatient[2])] > 0 for ds in series.datasets])


def test_the_liver_of_an_unseen_patient(real_series: Callable[[str], Path]) -> None:
    folder = real_series("3Dircadb1.1")
    series = read_series(sorted((folder / "PATIENT_DICOM").iterdir()))
    masks = folder / "MASKS_DICOM"
    truth = np.any([read_mask(masks / name, series) for name in MASKS], axis=0)
    labels = load_segmenter(InferenceSettings(device="cpu")).segment(series.volume).labels
    assert np.array_equal(labels.affine, series.volume.affine)
    assert dice(labels.array > 0, truth) >= 0.93

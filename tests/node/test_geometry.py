"""Through every reader and writer of the node: what comes out lies where it went in."""

import tempfile
from pathlib import Path

import highdicom as hd
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from config import ResultSettings
from dicom_io.ct import write_ct_series
from dicom_io.results import ResultContext, write_results
from dicom_io.seg_reader import read_labels
from dicom_io.series import read_series
from inference.findings import RunRecord, Segmentation
from inference.labels import Label
from inference.manifest import ModelIdentity
from inference.measure import measure
from inference.volume import Volume
from node.clock import utc_now

SHAPE = (12, 20, 24)
MODEL = ModelIdentity(name="test", version="1", digest="0" * 64, license="for tests")
RUN = RunRecord(device="cpu", backend="none", precision="none", timings_s={})


def scan(direction: np.ndarray, spacing_mm: tuple[float, float, float]) -> tuple[Volume, Volume]:
    """A box liver with one lesion, at different distances from each border of the grid."""
    labels = np.zeros(SHAPE, np.uint8)
    labels[2:9, 4:17, 3:19] = Label.LIVER
    labels[3:6, 6:9, 5:10] = Label.TUMOR
    hu = np.array([-50, 100, 50], np.int16)[labels]
    hu += (np.arange(hu.size).reshape(SHAPE) % 7).astype(np.int16)
    affine = np.eye(4)
    affine[:3, :3] = direction * spacing_mm
    affine[:3, 3] = (-120.5, -80.25, 333.0)
    return (
        Volume(hu, affine, coordinate_system="PATIENT"),
        Volume(labels, affine, coordinate_system="PATIENT"),
    )


def right_handed(direction: np.ndarray) -> np.ndarray:
    """Turn axes so that the slice axis is row cosines x column cosines, as DICOM has it."""
    slices, rows, columns = direction.T
    return np.stack([np.cross(columns, rows), rows, columns], axis=1) if slices.any() else direction


def patient_points(labels: Volume, value: int) -> np.ndarray:
    """Patient coordinates of all voxels of a label, in a fixed order, to 0.01 mm."""
    points = labels.map_indices_to_reference(np.argwhere(labels.array == value))
    return np.unique(np.round(points, 2) + 0.0, axis=0)


AXIAL = np.array([[0, 0, 1], [0, 1, 0], [1, 0, 0]], float)
TURNS = {
    "axial": Rotation.identity(),
    "prone": Rotation.from_euler("z", 180, degrees=True),
    "feet first": Rotation.from_euler("y", 180, degrees=True),
    "coronal": Rotation.from_euler("x", 90, degrees=True),
    "sagittal": Rotation.from_euler("y", 90, degrees=True),
    "oblique": Rotation.from_euler("xyz", (20, -35, 12), degrees=True),
}


def check_round_trip(turn: Rotation, spacing_mm: tuple[float, float, float]) -> None:
    direction = right_handed(turn.as_matrix() @ AXIAL)
    volume, truth = scan(direction, spacing_mm)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        source = read_series(write_ct_series(volume, folder / "ct"))
        labels = truth.match_geometry(source.volume)
        segmentation = Segmentation(labels=labels, model=MODEL, run=RUN)
        findings = measure(source.volume, labels)
        (folder / "out").mkdir()
        context = ResultContext(
            settings=ResultSettings(), created_at=utc_now(), software_version="1"
        )
        write_results(source, segmentation, findings, folder / "out", context)
        found = read_labels(folder / "out" / "seg.dcm", source)
        seg = hd.seg.segread(folder / "out" / "seg.dcm")
    for value in (Label.LIVER, Label.TUMOR):
        expected = patient_points(truth, value)
        assert np.allclose(patient_points(found, value), expected, atol=0.02)
        own = seg.get_volume(combine_segments=True)
        assert np.allclose(patient_points(own, int(value)), expected, atol=0.02)
    [lesion] = findings.lesions
    assert lesion.volume_ml == pytest.approx(45 * np.prod(spacing_mm) / 1000)
    center = truth.map_indices_to_reference(np.array([[4.0, 7.0, 7.0]]))[0]
    assert lesion.centroid_mm == pytest.approx(center, abs=0.01)


@pytest.mark.parametrize("name", TURNS)
def test_each_position_of_the_patient(name: str):
    check_round_trip(TURNS[name], (2.5, 0.7, 0.9))


@settings(max_examples=8, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    angles=st.tuples(*[st.floats(-180, 180) for _ in range(3)]),
    spacing_mm=st.tuples(st.floats(0.5, 10), st.floats(0.3, 3), st.floats(0.3, 3)),
)
def test_any_orientation_and_spacing(angles, spacing_mm):
    check_round_trip(Rotation.from_euler("xyz", angles, degrees=True), spacing_mm)

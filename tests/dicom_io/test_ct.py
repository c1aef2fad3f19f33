"""Synthetic CT instances: complete, readable by others, geometry and pixels unharmed."""

import shutil
import subprocess

import highdicom as hd
import numpy as np
import pytest
from pydicom import dcmread, uid

from dicom_io.ct import CtIdentity, write_ct_series, write_enhanced_ct
from dicom_io.ct_encoding import WRITABLE_TRANSFER_SYNTAXES
from dicom_io.errors import DicomIOError
from inference.volume import Volume

AXIAL = np.array([[0, 0, 0.7, -80], [0, 0.8, 0, 31.25], [2.5, 0, 0, -412.5], [0, 0, 0, 1]])
CORONAL = np.array([[0, 0, 0.9, -80], [3.0, 0, 0, -20], [0, -1.1, 0, 55], [0, 0, 0, 1]])
TURN = np.deg2rad(20)
OBLIQUE = AXIAL.copy()
OBLIQUE[:3, :3] = (
    np.array([[np.cos(TURN), 0, np.sin(TURN)], [0, 1, 0], [-np.sin(TURN), 0, np.cos(TURN)]])
    @ AXIAL[:3, :3]
)


def make_volume(affine=AXIAL, low=-1024, high=3071, shape=(12, 36, 33)):
    array = np.random.default_rng(5).integers(low, high, size=shape, endpoint=True)
    return Volume(array.astype(np.int16), affine, coordinate_system="PATIENT")


def read_slices(paths):
    return [dcmread(path) for path in paths]


def hounsfield(dataset):
    return dataset.pixel_array * dataset.RescaleSlope + dataset.RescaleIntercept


@pytest.mark.parametrize("affine", [AXIAL, CORONAL, OBLIQUE], ids=["axial", "coronal", "oblique"])
def test_each_file_is_its_slice_at_its_place(tmp_path, affine):
    volume = make_volume(affine)
    datasets = read_slices(write_ct_series(volume, tmp_path))
    for index, dataset in enumerate(datasets):
        assert np.array_equal(hounsfield(dataset), volume.array[index])
        position = np.array(dataset.ImagePositionPatient, float)
        along_row, down_column = np.array(dataset.ImageOrientationPatient, float).reshape(2, 3)
        row_mm, column_mm = map(float, dataset.PixelSpacing)
        there = position + 3 * column_mm * along_row + 5 * row_mm * down_column
        assert there == pytest.approx((affine @ (index, 5, 3, 1))[:3], abs=1e-6)
        assert float(dataset.SliceThickness) == pytest.approx(volume.spacing[0])


def test_series_is_one_series_with_shuffled_names(tmp_path):
    paths = write_ct_series(make_volume(), tmp_path, identity=CtIdentity.from_seed(3))
    datasets = read_slices(paths)
    assert paths != sorted(paths)
    assert sorted(paths) == sorted(tmp_path.iterdir())
    assert {d.SeriesInstanceUID for d in datasets} == {CtIdentity.from_seed(3).series_instance_uid}
    assert len({d.SOPInstanceUID for d in datasets}) == len(datasets) == 12
    assert [d.InstanceNumber for d in datasets] == list(range(12, 0, -1))
    assert datasets[0].PatientID != CtIdentity().patient_id


def test_same_call_gives_the_same_bytes(tmp_path):
    first = write_ct_series(make_volume(), tmp_path / "first")
    second = write_ct_series(make_volume(), tmp_path / "second")
    assert [path.read_bytes() for path in first] == [path.read_bytes() for path in second]


@pytest.mark.parametrize(
    ("low", "high", "bits_stored", "representation"),
    [(-1024, 3071, 12, 0), (-1025, 3071, 16, 1), (-2000, 30000, 16, 1)],
)
def test_pixels_take_the_bits_they_need(tmp_path, low, high, bits_stored, representation):
    volume = make_volume(low=low, high=high)
    volume.array[0, 0, :2] = low, high
    datasets = read_slices(write_ct_series(volume, tmp_path))
    assert {d.BitsStored for d in datasets} == {bits_stored}
    assert {d.PixelRepresentation for d in datasets} == {representation}
    assert np.array_equal(hounsfield(datasets[0]), volume.array[0])


@pytest.mark.parametrize("syntax", WRITABLE_TRANSFER_SYNTAXES, ids=lambda u: uid.UID(u).keyword)
@pytest.mark.parametrize("low", [-1024, -2000], ids=["12 bits", "16 bits"])
def test_every_transfer_syntax_keeps_the_pixels(tmp_path, syntax, low):
    volume = make_volume(low=low, shape=(3, 36, 33))
    datasets = read_slices(write_ct_series(volume, tmp_path, transfer_syntax_uid=syntax))
    assert {d.file_meta.TransferSyntaxUID for d in datasets} == {syntax}
    for index, dataset in enumerate(datasets):
        assert np.array_equal(hounsfield(dataset), volume.array[index])


def test_unknown_transfer_syntax_is_refused(tmp_path):
    with pytest.raises(ValueError, match="cannot write in transfer syntax"):
        write_ct_series(make_volume(), tmp_path, transfer_syntax_uid=uid.JPEGBaseline8Bit)


def test_image_too_small_for_the_encoder_is_refused(tmp_path):
    volume = make_volume(shape=(1, 8, 8))
    with pytest.raises(DicomIOError, match="no encoder can compress"):
        write_ct_series(volume, tmp_path, transfer_syntax_uid=uid.JPEG2000Lossless)


def test_values_beyond_16_bits_are_refused(tmp_path):
    volume = make_volume()
    volume = volume.with_array(np.full(volume.shape, 32000, np.int16))
    with pytest.raises(ValueError, match="do not fit into 16 bits"):
        write_ct_series(volume, tmp_path)


@pytest.mark.parametrize("affine", [AXIAL, CORONAL, OBLIQUE], ids=["axial", "coronal", "oblique"])
@pytest.mark.parametrize("syntax", [uid.ExplicitVRLittleEndian, uid.RLELossless])
def test_highdicom_reads_the_multi_frame_image(tmp_path, affine, syntax):
    volume = make_volume(affine)
    write_enhanced_ct(volume, tmp_path / "image.dcm", transfer_syntax_uid=syntax)
    image = hd.imread(tmp_path / "image.dcm")
    found = image.get_volume(apply_real_world_transform=False, apply_modality_transform=True)
    placed = Volume(
        volume.array,
        volume.affine,
        coordinate_system="PATIENT",
        frame_of_reference_uid=CtIdentity().frame_of_reference_uid,
    )
    assert np.array_equal(found.match_geometry(placed, tol=1e-4).array, volume.array)


def assert_valid(path):
    program = shutil.which("dciodvfy")
    if program is None:
        pytest.skip("dciodvfy (Debian package dicom3tools) is not installed")
    checked = subprocess.run([program, "-new", path], capture_output=True, text=True, check=False)
    problems = [line for line in checked.stderr.splitlines() if line.startswith(("Error", "Warn"))]
    assert problems == []


@pytest.mark.peer
@pytest.mark.parametrize("syntax", [uid.ExplicitVRLittleEndian, uid.JPEG2000Lossless])
def test_dciodvfy_finds_nothing_in_a_slice(tmp_path, syntax):
    assert_valid(write_ct_series(make_volume(), tmp_path, transfer_syntax_uid=syntax)[0])


@pytest.mark.peer
def test_dciodvfy_finds_nothing_in_a_multi_frame_image(tmp_path):
    write_enhanced_ct(make_volume(), tmp_path / "image.dcm")
    assert_valid(tmp_path / "image.dcm")

"""NIfTI in and out: values and places survive, what has no clear geometry is refused."""

import gzip
import struct

import numpy as np
import pytest
import SimpleITK
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dicom_io.errors import UnsuitableNifti
from dicom_io.nifti import read_nifti, write_nifti
from inference.volume import Volume

QFORM_CODE_BYTE, SFORM_CODE_BYTE, SFORM_BYTE = 252, 254, 280


def _volume(array, affine=None):
    if affine is None:
        affine = np.array([[0, 0, 0.8, -100], [0, 0.7, 0, -120], [2.5, 0, 0, -300], [0, 0, 0, 1.0]])
    return Volume(array=array, affine=affine, coordinate_system="PATIENT")


@pytest.fixture
def scan():
    """A small scan, no two voxels alike."""
    return _volume((np.arange(210, dtype=np.int16) * 13 - 1024).reshape(5, 6, 7))


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
def test_scan_comes_back(scan, tmp_path, suffix):
    path = tmp_path / f"scan{suffix}"
    write_nifti(scan, path)
    read = read_nifti(path)
    np.testing.assert_array_equal(read.array, scan.array)
    np.testing.assert_allclose(read.affine, scan.affine, atol=1e-4)
    assert read.array.dtype == np.int16


def test_file_says_ras_to_others(scan, tmp_path):
    """The bytes of the header, read without ITK: NIfTI-1 srow_x, srow_y, srow_z."""
    write_nifti(scan, tmp_path / "scan.nii")
    header = (tmp_path / "scan.nii").read_bytes()
    sform = np.array(struct.unpack_from("<12f", header, SFORM_BYTE)).reshape(3, 4)
    column, row, slice_, origin = sform.T
    np.testing.assert_allclose(column, [-0.8, 0, 0], atol=1e-6)
    np.testing.assert_allclose(row, [0, -0.7, 0], atol=1e-6)
    np.testing.assert_allclose(slice_, [0, 0, 2.5], atol=1e-6)
    np.testing.assert_allclose(origin, [100, 120, -300], atol=1e-6)


def test_labels_keep_type_and_values(scan, tmp_path):
    labels = _volume(np.random.default_rng(0).integers(0, 3, (5, 6, 7)).astype(np.uint8))
    write_nifti(labels, tmp_path / "labels.nii.gz")
    image = SimpleITK.ReadImage(str(tmp_path / "labels.nii.gz"))
    assert image.GetPixelID() == SimpleITK.sitkUInt8
    np.testing.assert_array_equal(SimpleITK.GetArrayFromImage(image), labels.array)


@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    seed=st.integers(0, 2**32 - 1),
    spacing=st.tuples(*[st.floats(0.3, 10)] * 3),
    origin=st.tuples(*[st.floats(-2000, 2000)] * 3),
    aligned=st.booleans(),
)
def test_any_orientation_comes_back(tmp_path, seed, spacing, origin, aligned):
    random = np.random.default_rng(seed)
    directions, _ = np.linalg.qr(random.normal(size=(3, 3)))
    if aligned:
        directions = np.eye(3)[random.permutation(3)] * random.choice([-1, 1], 3)
    affine = np.eye(4)
    affine[:3, :3] = directions * spacing
    affine[:3, 3] = origin
    scan = _volume(random.integers(-1024, 3000, (3, 4, 5)).astype(np.int16), affine)
    write_nifti(scan, tmp_path / "scan.nii")
    read = read_nifti(tmp_path / "scan.nii")
    np.testing.assert_array_equal(read.array, scan.array)
    np.testing.assert_allclose(read.affine, affine, atol=2e-3)


def test_broken_numbers_are_rounded_and_air_is_the_least(tmp_path):
    values = np.full((3, 4, 5), 40.4, np.float32)
    values[0, 0, :3] = -3024, -1000.6, 2999.5
    write_nifti(_volume(values), tmp_path / "scan.nii.gz")
    read = read_nifti(tmp_path / "scan.nii.gz").array
    assert read[0, 0].tolist() == [-1024, -1001, 3000, 40, 40]


def _poke(form, offset, values):
    def change(data):
        changed = bytearray(data)
        struct.pack_into(form, changed, offset, *values)
        return bytes(changed)

    return change


SHEARED = (-0.8, 0, 0.4, 100, 0, -0.7, 0, 120, 0, 0, 2.5, -300)
WRONG_SCALE = (-0.8, 0, 0, 100, 0, -0.7, 0, 120, 0, 0, 3.5, -300)


def _sheared_sform_only(data):
    return _poke("<hh", QFORM_CODE_BYTE, (0, 1))(_poke("<12f", SFORM_BYTE, SHEARED)(data))


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (_poke("<12f", SFORM_BYTE, SHEARED), "the sform is sheared"),
        (_sheared_sform_only, "the sform is sheared"),
        (_poke("<12f", SFORM_BYTE, WRONG_SCALE), "contradicts the voxel sizes"),
        (_poke("<hh", QFORM_CODE_BYTE, (0, 0)), "the orientation is unknown"),
        (lambda data: data[:-10], "cut short, 762 of 772 bytes"),
        (lambda data: data[:200], "not a NIfTI image"),
        (lambda data: b"", "not a NIfTI image"),
        (lambda data: b"garbage" * 200, "not a NIfTI image"),
    ],
)
def test_unusable_file_is_refused(scan, tmp_path, damage, message):
    path = tmp_path / "scan.nii"
    write_nifti(scan, path)
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(UnsuitableNifti, match=message):
        read_nifti(path)


def test_gzip_cut_short_is_refused(scan, tmp_path):
    path = tmp_path / "scan.nii.gz"
    write_nifti(scan, path)
    path.write_bytes(path.read_bytes()[:-12])
    with pytest.raises(UnsuitableNifti, match=r"scan\.nii\.gz: "):
        read_nifti(path)


def test_gzip_of_a_short_file_is_refused(scan, tmp_path):
    path = tmp_path / "scan.nii.gz"
    write_nifti(scan, path)
    path.write_bytes(gzip.compress(gzip.decompress(path.read_bytes())[:-10]))
    with pytest.raises(UnsuitableNifti, match="cut short"):
        read_nifti(path)


@pytest.mark.parametrize(
    ("array", "is_vector", "message"),
    [
        (np.zeros((2, 3, 4, 5), np.int16), False, "4 dimensions, 1 values each"),
        (np.zeros((3, 4, 5, 3), np.uint8), True, "3 dimensions, 3 values each"),
        (np.zeros((4, 5), np.int16), False, "2 dimensions"),
        (np.full((3, 4, 5), np.nan, np.float32), False, "not a number"),
        (np.full((3, 4, 5), 1e6, np.float32), False, "no Hounsfield units"),
    ],
)
def test_what_is_no_ct_scan_is_refused(tmp_path, array, is_vector, message):
    image = SimpleITK.GetImageFromArray(array, isVector=is_vector)
    SimpleITK.WriteImage(image, str(tmp_path / "image.nii"))
    with pytest.raises(UnsuitableNifti, match=message):
        read_nifti(tmp_path / "image.nii")


def test_missing_file_is_an_os_error(tmp_path):
    with pytest.raises(FileNotFoundError):
        read_nifti(tmp_path / "scan.nii")


def test_folder_that_is_not_there_is_an_os_error(scan, tmp_path):
    with pytest.raises(OSError, match="cannot be written"):
        write_nifti(scan, tmp_path / "nowhere" / "scan.nii")


def test_other_suffix_is_refused(scan, tmp_path):
    with pytest.raises(ValueError, match=r"scan\.mha does not end with \.nii or \.nii\.gz"):
        write_nifti(scan, tmp_path / "scan.mha")


def test_big_endian_numbers(tmp_path):
    """ITK writes the byte order of the machine only, so the file is turned by hand."""
    values = np.arange(60, dtype=np.float32).reshape(3, 4, 5)
    write_nifti(_volume(values), tmp_path / "scan.nii")
    data = bytearray((tmp_path / "scan.nii").read_bytes())
    for form in ("i0", "8h40", "3h68", "8f76", "3f108", "f120", "f124", "2h252", "18f256"):
        kind = form.lstrip("0123456789")[0]
        count, offset = form.split(kind)
        layout = f"{count or 1}{kind}"
        values_there = struct.unpack_from(f"<{layout}", data, int(offset))
        struct.pack_into(f">{layout}", data, int(offset), *values_there)
    data[352:] = values.astype(">f4").tobytes()
    (tmp_path / "scan.nii").write_bytes(data)
    np.testing.assert_array_equal(read_nifti(tmp_path / "scan.nii").array, values)
    data[352:356] = np.array([np.nan], ">f4").tobytes()
    (tmp_path / "scan.nii").write_bytes(data)
    with pytest.raises(UnsuitableNifti, match="not a number"):
        read_nifti(tmp_path / "scan.nii")

"""NIfTI files to volumes and back.

NIfTI says RAS (x to the right, y to anterior); SimpleITK turns that into our LPS. The axes stay as
they are in the file, in reverse order: its third axis becomes the slices, its second the
rows, its first the columns.
"""

import gzip
import math
import zlib
from pathlib import Path

import numpy as np
import SimpleITK
from numpy.typing import NDArray

from dicom_io.errors import UnsuitableNifti
from dicom_io.hounsfield import round_to_hu
from inference.volume import Volume

NIFTI_SUFFIXES = (".nii", ".nii.gz")
_FLOAT_TYPES = {"16": "f4", "64": "f8"}
"""NIfTI datatype codes of floating-point voxels."""
_AFFINE_TOLERANCE_MM = 1e-3
_PRINTED_PRECISION = 1e-5
"""ITK hands on the numbers of the sform with six digits."""
_SHEARED = (
    "the sform is sheared or contradicts the voxel sizes; resample the image to a rectangular grid"
)
_RAS_TO_LPS = np.diag([-1.0, -1.0, 1.0])


def read_nifti(path: Path) -> Volume:
    """Read a CT scan.

    Parameters
    ----------
    path
        A .nii or .nii.gz file of one three-dimensional image in HU, whole or broken numbers.

    Returns
    -------
    Volume
        Array (slices, rows, columns) int16, HU, nothing below -1024; affine LPS in mm.

    Raises
    ------
    UnsuitableNifti
        If the file is not NIfTI, not one scalar 3D image, says nothing of its orientation, is
        sheared, or holds values that are no HU.
    OSError
        If the file cannot be read.
    """
    reader = _open(path)
    _check_image(reader, path)
    affine = _read_affine(reader, path)
    _check_voxels(reader, path)
    try:
        array = SimpleITK.GetArrayFromImage(reader.Execute())
    except RuntimeError as error:
        raise UnsuitableNifti(f"{path.name}: the voxels cannot be read: {error}") from error
    try:
        hu = round_to_hu(array.astype(np.float32, copy=False))
    except ValueError as error:
        raise UnsuitableNifti(f"{path.name}: {error}") from error
    return Volume(array=hu, affine=affine, coordinate_system="PATIENT")


def write_nifti(volume: Volume, path: Path) -> None:
    """Write a volume, its values and type as they are, with its geometry.

    Parameters
    ----------
    volume
        Array (slices, rows, columns), a scan or labels.
    path
        Ends with .nii or .nii.gz.

    Raises
    ------
    ValueError
        If the path ends otherwise.
    OSError
        If the file cannot be written.
    """
    _check_suffix(path)
    image = SimpleITK.GetImageFromArray(volume.array)
    affine = np.asarray(volume.affine)[:, [2, 1, 0, 3]]
    spacing = np.linalg.norm(affine[:3, :3], axis=0)
    image.SetSpacing(spacing.tolist())
    image.SetDirection((affine[:3, :3] / spacing).ravel().tolist())
    image.SetOrigin(affine[:3, 3].tolist())
    try:
        SimpleITK.WriteImage(image, str(path), useCompression=True)
    except RuntimeError as error:
        raise OSError(f"{path} cannot be written: {error}") from error


def _check_suffix(path: Path) -> None:
    if not path.name.lower().endswith(NIFTI_SUFFIXES):
        raise ValueError(f"{path.name} does not end with {' or '.join(NIFTI_SUFFIXES)}")


def _open(path: Path) -> SimpleITK.ImageFileReader:
    """Read the header."""
    _require_file(path)
    reader = SimpleITK.ImageFileReader()
    reader.SetImageIO("NiftiImageIO")
    reader.SetFileName(str(path))
    try:
        reader.ReadImageInformation()
    except RuntimeError as error:
        sheared = "orthonormal" in str(error)
        detail = _SHEARED if sheared else "not a NIfTI image"
        raise UnsuitableNifti(f"{path.name}: {detail}") from error
    return reader


def _require_file(path: Path) -> None:
    """Raise the OSError that SimpleITK would hide."""
    with path.open("rb"):
        pass


def _check_image(reader: SimpleITK.ImageFileReader, path: Path) -> None:
    if reader.GetDimension() != 3 or reader.GetNumberOfComponents() != 1:
        detail = f"{reader.GetDimension()} dimensions, {reader.GetNumberOfComponents()} values each"
        raise UnsuitableNifti(f"{path.name}: {detail}; one three-dimensional CT scan is needed")
    if reader.GetMetaData("sform_code") == "0" and reader.GetMetaData("qform_code") == "0":
        raise UnsuitableNifti(
            f"{path.name}: the orientation is unknown, both qform_code and sform_code are 0"
        )


def _check_voxels(reader: SimpleITK.ImageFileReader, path: Path) -> None:
    """Refuse missing voxels and broken numbers, which ITK turns into zeros without a word."""
    offset = int(float(reader.GetMetaData("vox_offset")))
    count = math.prod(reader.GetSize())
    expected = offset + count * int(reader.GetMetaData("bitpix")) // 8
    try:
        content = path.read_bytes()
        if path.suffix.lower() == ".gz":
            content = gzip.decompress(content)
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise UnsuitableNifti(f"{path.name}: {error}") from error
    if len(content) < expected:
        raise UnsuitableNifti(f"{path.name}: cut short, {len(content)} of {expected} bytes")
    float_type = _FLOAT_TYPES.get(reader.GetMetaData("datatype"))
    if float_type is not None:
        byte_order = "<" if content[0] else ">"  # it begins with its header size, 348 or 540
        voxels = np.frombuffer(content, f"{byte_order}{float_type}", count, offset)
        if not np.isfinite(voxels).all():
            raise UnsuitableNifti(f"{path.name}: voxels that are not a number; they are no HU")


def _read_affine(reader: SimpleITK.ImageFileReader, path: Path) -> NDArray[np.float64]:
    """Return index (slice, row, column) to LPS in mm; what ITK read must be what the sform says."""
    affine = np.eye(4)
    affine[:3, :3] = np.reshape(reader.GetDirection(), (3, 3)) * reader.GetSpacing()
    affine[:3, 3] = reader.GetOrigin()
    if reader.GetMetaData("sform_code") != "0":
        rows = [reader.GetMetaData(f"srow_{axis}").split() for axis in "xyz"]
        stated = _RAS_TO_LPS @ np.array(rows, dtype=np.float64)
        if not np.allclose(stated, affine[:3], rtol=_PRINTED_PRECISION, atol=_AFFINE_TOLERANCE_MM):
            raise UnsuitableNifti(f"{path.name}: {_SHEARED}")
    return affine[:, [2, 1, 0, 3]]

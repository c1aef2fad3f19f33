"""Data sets into files in the transfer syntax asked for, compressed where need be."""

import tempfile
from pathlib import Path

import gdcm
from pydicom import dcmread, dcmwrite, uid
from pydicom.dataset import Dataset, FileMetaDataset

from dicom_io.errors import DicomIOError

_NATIVE = (
    uid.ExplicitVRLittleEndian,
    uid.ImplicitVRLittleEndian,
    uid.DeflatedExplicitVRLittleEndian,
    uid.ExplicitVRBigEndian,
)
_COMPRESSED_BY_PYDICOM = (uid.RLELossless, uid.JPEGLSLossless, uid.JPEG2000Lossless)
_COMPRESSED_BY_GDCM: dict[str, int] = {
    uid.JPEGLosslessSV1: gdcm.TransferSyntax.JPEGLosslessProcess14_1,
    uid.JPEGLossless: gdcm.TransferSyntax.JPEGLosslessProcess14,
}
WRITABLE_TRANSFER_SYNTAXES: tuple[str, ...] = (
    *_NATIVE,
    *_COMPRESSED_BY_PYDICOM,
    *_COMPRESSED_BY_GDCM,
)
"""Every transfer syntax in which `save_instance` can write; all are lossless."""


def save_instance(dataset: Dataset, path: Path, transfer_syntax_uid: str) -> None:
    """Write a data set with its file meta information (PS3.10 7.1).

    Parameters
    ----------
    dataset
        With `PixelData` as bytes in little endian, not compressed; it is changed.
    path
        The file to write; its folder exists.
    transfer_syntax_uid
        One of `WRITABLE_TRANSFER_SYNTAXES`.

    Raises
    ------
    ValueError
        When there is no encoder for the transfer syntax.
    DicomIOError
        When the encoder fails; JPEG 2000 needs at least 32 rows and columns.
    """
    if transfer_syntax_uid not in WRITABLE_TRANSFER_SYNTAXES:
        message = f"cannot write in transfer syntax {transfer_syntax_uid}"
        raise ValueError(message)
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = uid.ExplicitVRLittleEndian
    if transfer_syntax_uid in _COMPRESSED_BY_GDCM:
        _compress_with_gdcm(dataset, transfer_syntax_uid)
    elif transfer_syntax_uid in _COMPRESSED_BY_PYDICOM:
        _compress_with_pydicom(dataset, transfer_syntax_uid)
    elif transfer_syntax_uid == uid.ExplicitVRBigEndian:
        _swap_pixel_bytes(dataset)
    dataset.file_meta.TransferSyntaxUID = uid.UID(transfer_syntax_uid)
    dcmwrite(path, dataset, enforce_file_format=True)


def _swap_pixel_bytes(dataset: Dataset) -> None:
    """Turn 16-bit pixels from little to big endian."""
    pixels = bytearray(dataset.PixelData)
    pixels[0::2], pixels[1::2] = pixels[1::2], pixels[0::2]
    dataset.PixelData = bytes(pixels)
    dataset["PixelData"].VR = "OW"


def _compress_with_pydicom(dataset: Dataset, transfer_syntax_uid: str) -> None:
    try:
        dataset.compress(transfer_syntax_uid, generate_instance_uid=False)
    except RuntimeError as error:
        message = f"no encoder can compress the image in transfer syntax {transfer_syntax_uid}"
        raise DicomIOError(message) from error


def _compress_with_gdcm(dataset: Dataset, transfer_syntax_uid: str) -> None:
    """Compress the pixels with GDCM, which does it from file to file."""
    with tempfile.TemporaryDirectory() as folder:
        native, compressed = Path(folder, "native.dcm"), Path(folder, "compressed.dcm")
        dcmwrite(native, dataset, enforce_file_format=True)
        reader = gdcm.ImageReader()
        reader.SetFileName(str(native))
        change = gdcm.ImageChangeTransferSyntax()
        change.SetTransferSyntax(gdcm.TransferSyntax(_COMPRESSED_BY_GDCM[transfer_syntax_uid]))
        writer = gdcm.ImageWriter()
        writer.SetFileName(str(compressed))
        if not reader.Read():
            raise DicomIOError("GDCM cannot read the image to be compressed")
        change.SetInput(reader.GetImage())
        if not change.Change():
            message = f"GDCM cannot compress in transfer syntax {transfer_syntax_uid}"
            raise DicomIOError(message)
        writer.SetFile(reader.GetFile())
        writer.SetImage(change.GetOutput())
        if not writer.Write():
            raise DicomIOError("GDCM cannot write the compressed image")
        dataset.PixelData = dcmread(compressed).PixelData
    dataset["PixelData"].VR = "OB"
    dataset["PixelData"].is_undefined_length = True

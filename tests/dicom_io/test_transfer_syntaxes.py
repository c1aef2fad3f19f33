"""One slice through every transfer syntax that we accept."""

import base64
import subprocess

import gdcm
import numpy as np
import pytest
from pydicom import uid
from pydicom.encaps import encapsulate
from pydicom.pixels import get_decoder

from dicom_io.headers import read_header
from dicom_io.series import read_series
from dicom_io.transfer_syntaxes import (
    ACCEPTED_TRANSFER_SYNTAXES,
    DECODING_PLUGINS,
    STORAGE_SOP_CLASSES,
)

SHAPE = (2, 64, 64)

HTJ2K_STREAMS = {
    uid.HTJ2KLossless: """
/0//UQApQAAAAAAQAAAAEAAAAAAAAAAAAAAAEAAAABAAAAAAAAAAAAABDwEB/1AACAACAAAAC/9SAAwAAAABAAIEBEAB/1wA
CiCQmJiYkJCY/2QAFgABT3BlbkpQSCBWZXIgMC45LjAu/5AACgAAAAAAegAB/5PAABdO/39H/Of+L/vn/oX+kX+Nf8RH0d/d
58y/7CHyj3o4/AD1l0IAMbgAwAAKmAABVhwOh/OqcQJ1ABZasGDhwEIB7LYAwAAV0AAFogRBEARBEOfKenpwgngA7Gw2m81m
s/2IQHv2IQHsugD/2Q==""",
    uid.HTJ2KLosslessRPCL: """
/0//UQApQAAAAAAQAAAAEAAAAAAAAAAAAAAAEAAAABAAAAAAAAAAAAABDwEB/1AACAACAAAAC/9SAAwAAgABAAIEBEAB/1wA
CiCQmJiYkJCY/2QAFgABT3BlbkpQSCBWZXIgMC45LjAu/5AACgAAAAAAegAB/5PAABdO/39H/Of+L/vn/oX+kX+Nf8RH0d/d
58y/7CHyj3o4/AD1l0IAMbgAwAAKmAABVhwOh/OqcQJ1ABZasGDhwEIB7LYAwAAV0AAFogRBEARBEOfKenpwgngA7Gw2m81m
s/2IQHv2IQHsugD/2Q==""",
    uid.HTJ2K: """
/0//UQApQAAAAAAQAAAAEAAAAAAAAAAAAAAAEAAAABAAAAAAAAAAAAABDwEB/1AACAACAAAAJ/9SAAwAAgABAAIEBEAA/1wA
ESKEuIUhhSGFjXz2fPZ8mf9kABYAAU9wZW5KUEggVmVyIDAuOS4wLv+QAAoAAAAAAIsAAf+TwABdOFOgOM/iz/HOx6enc+YZ
5PRwijNfN28yCZtJzJMm+/IA9ZdCADG4AMAAV0AAWkC2FJLYpRDyQySwCpt3ABgRL4QXhBfChfAAEICm7Wo4AMAArYABa4Ao
iqJfBT9p+0/YuRoAVlWLF15cvLh4cfF+Tkp0+Sm7WtVqPAD/2Q==""",
}
"""16 x 16 unsigned 16-bit images with the value (17 row + 5 column) * 7 mod 4096, encoded with
OpenJPH 0.9 (ojph_compress), as neither pydicom nor dcmtk encode HTJ2K."""


def _smooth(shape):
    """HU of a soft image with a little texture; negative values included."""
    z, y, x = np.indices(shape)
    return np.rint(300 * np.sin(x / 9 + z) + 200 * np.cos(y / 7) + (x * 31 + y * 17) % 7).astype(
        int
    )


def _compress(syntax, **options):
    def encode(dataset, path, program):
        dataset.compress(syntax, generate_instance_uid=False, **options)
        dataset.save_as(path, enforce_file_format=True)

    return encode


def _native(syntax):
    def encode(dataset, path, program):
        dataset.file_meta.TransferSyntaxUID = syntax
        if syntax == uid.ExplicitVRBigEndian:
            dataset.PixelData = np.frombuffer(dataset.PixelData, "<u2").byteswap().tobytes()
        dataset.save_as(path, enforce_file_format=True)

    return encode


def _dcmtk(*command):
    def encode(dataset, path, program):
        plain = path.with_suffix(".plain")
        dataset.save_as(plain, enforce_file_format=True)
        subprocess.run([program(command[0]), *command[1:], plain, path], check=True)

    return encode


def _gdcm_lossless_jpeg(dataset, path, program):
    plain = path.with_suffix(".plain")
    dataset.save_as(plain, enforce_file_format=True)
    reader, change, writer = (
        gdcm.ImageReader(),
        gdcm.ImageChangeTransferSyntax(),
        gdcm.ImageWriter(),
    )
    reader.SetFileName(str(plain))
    assert reader.Read()
    change.SetTransferSyntax(gdcm.TransferSyntax(gdcm.TransferSyntax.JPEGLosslessProcess14_1))
    change.SetInput(reader.GetImage())
    assert change.Change()
    writer.SetFileName(str(path))
    writer.SetFile(reader.GetFile())
    writer.SetImage(change.GetOutput())
    assert writer.Write()


peer = pytest.mark.peer
ENCODERS = [
    (uid.ExplicitVRLittleEndian, _native(uid.ExplicitVRLittleEndian), 0),
    (uid.ImplicitVRLittleEndian, _native(uid.ImplicitVRLittleEndian), 0),
    (uid.DeflatedExplicitVRLittleEndian, _native(uid.DeflatedExplicitVRLittleEndian), 0),
    (uid.ExplicitVRBigEndian, _native(uid.ExplicitVRBigEndian), 0),
    (uid.JPEGLosslessSV1, _gdcm_lossless_jpeg, 0),
    (uid.JPEGLSLossless, _compress(uid.JPEGLSLossless), 0),
    (uid.JPEGLSNearLossless, _compress(uid.JPEGLSNearLossless, jls_error=3), 3),
    (uid.JPEG2000Lossless, _compress(uid.JPEG2000Lossless), 0),
    (uid.JPEG2000, _compress(uid.JPEG2000, j2k_cr=[4]), 3),
    (uid.RLELossless, _compress(uid.RLELossless), 0),
    pytest.param(uid.JPEGLosslessSV1, _dcmtk("dcmcjpeg", "+e1"), 0, marks=peer),
    pytest.param(uid.JPEGLossless, _dcmtk("dcmcjpeg", "+el", "+sv", "4"), 0, marks=peer),
    pytest.param(uid.JPEGLSLossless, _dcmtk("dcmcjpls"), 0, marks=peer),
    pytest.param(uid.RLELossless, _dcmtk("dcmcrle"), 0, marks=peer),
    pytest.param(uid.DeflatedExplicitVRLittleEndian, _dcmtk("dcmconv", "+td"), 0, marks=peer),
    pytest.param(uid.ExplicitVRBigEndian, _dcmtk("dcmconv", "+te", "+tb"), 0, marks=peer),
]


@pytest.mark.parametrize("signed", [False, True], ids=["unsigned", "signed"])
@pytest.mark.parametrize(("syntax", "encode", "tolerance"), ENCODERS)
def test_pixels_come_out_equal(ct, tmp_path, program, syntax, encode, tolerance, signed):
    hu = _smooth(SHAPE)
    datasets = ct.slices(hu, intercept=0 if signed else -1024)
    paths = []
    for index, dataset in enumerate(datasets):
        if signed:
            dataset.PixelRepresentation = 1
            dataset.PixelData = hu[index].astype("<i2").tobytes()
        paths.append(tmp_path / f"{index}.dcm")
        encode(dataset, paths[-1], program)
    assert read_header(paths[0]).transfer_syntax_uid == syntax
    read = read_series(paths, min_slices=2).volume.array
    assert np.abs(read.astype(int) - hu).max() <= tolerance


@pytest.mark.parametrize(
    ("syntax", "tolerance"),
    [(uid.HTJ2KLossless, 0), (uid.HTJ2KLosslessRPCL, 0), (uid.HTJ2K, 6)],
)
def test_htj2k(ct, ct_files, syntax, tolerance):
    row, column = np.indices((16, 16))
    stored = (17 * row + 5 * column) * 7 % 4096
    datasets = ct.slices(np.zeros((2, 16, 16)))
    for dataset in datasets:
        dataset.PixelData = encapsulate([base64.b64decode(HTJ2K_STREAMS[syntax])])
        dataset["PixelData"].VR = "OB"
        dataset.file_meta.TransferSyntaxUID = syntax
    read = read_series(ct_files(datasets), min_slices=2).volume.array
    assert np.abs(read.astype(int) - (stored - 1024)).max() <= tolerance


def test_each_accepted_transfer_syntax_has_a_case():
    cases = {getattr(case, "values", case)[0] for case in ENCODERS} | set(HTJ2K_STREAMS)
    assert cases == set(ACCEPTED_TRANSFER_SYNTAXES)


def test_each_decoding_plugin_is_installed():
    for syntax, plugin in DECODING_PLUGINS.items():
        decoder = get_decoder(syntax)
        assert decoder.is_native if not plugin else plugin in decoder.available_plugins


def test_storage_sop_classes():
    assert [uid.UID(sop_class).name for sop_class in STORAGE_SOP_CLASSES] == [
        "CT Image Storage",
        "Enhanced CT Image Storage",
        "Legacy Converted Enhanced CT Image Storage",
    ]

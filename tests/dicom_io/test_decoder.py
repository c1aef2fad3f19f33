"""Decoders that crash, lie or take too much: only the series that brought it about is refused."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from pydicom import uid

from benchmarks.hostile.files import Picture, claim, make_pictures, make_samples
from dicom_io.decoder import DecoderPool
from dicom_io.errors import DecoderFailed
from dicom_io.transfer_syntaxes import DECODING_PLUGINS

JPEG, JPEG_LS, JPEG_2000 = uid.JPEGLosslessSV1, uid.JPEGLSLossless, uid.JPEG2000Lossless


@pytest.fixture(scope="module")
def pictures(tmp_path_factory) -> dict[str, Picture]:
    samples = make_samples(tmp_path_factory.mktemp("samples"))
    return {picture.transfer_syntax_uid: picture for picture in make_pictures(samples)}


@pytest.fixture(scope="module")
def pool() -> Iterator[DecoderPool]:
    with DecoderPool() as decoders:
        yield decoders


def changed(stream: bytes, position: int, value: int) -> bytes:
    return stream[:position] + bytes([value]) + stream[position + 1 :]


def seventeen_bits(picture: Picture) -> bytes:
    """GDCM has no code for a precision of 17 bits, and jumps there."""
    return changed(picture.stream, picture.stream.index(b"\xff\xc3") + 4, 17)


def one_byte_too_many(picture: Picture) -> bytes:
    """pylibjpeg-rle panics, which is no `Exception` in Python, where a run leads over the end."""
    return changed(picture.stream, 64, 129)


DEADLY = [
    pytest.param(JPEG, seventeen_bits, "SIG", id="JPEG"),
    pytest.param(uid.RLELossless, one_byte_too_many, "exit code 1", id="RLE"),
]


def decode(pool: DecoderPool, picture: Picture, path: Path, stream: bytes):
    picture.write(path, stream)
    plugin = DECODING_PLUGINS[picture.transfer_syntax_uid]
    [frame] = pool.decode(path, [0], plugin=plugin, shape=(32, 32))
    return frame


@pytest.mark.parametrize(("syntax", "spoil", "end"), DEADLY)
def test_the_end_of_a_decoder_is_an_error(pictures, pool, tmp_path, syntax, spoil, end):
    picture, path = pictures[syntax], tmp_path / "frame.dcm"
    with pytest.raises(DecoderFailed, match=f"the decoder broke down .{end}"):
        decode(pool, picture, path, spoil(picture))
    assert decode(pool, picture, path, picture.stream).shape == (32, 32)


@pytest.mark.parametrize("syntax", [JPEG, JPEG_LS, JPEG_2000])
def test_a_stream_that_claims_gigabytes_is_refused(pictures, pool, tmp_path, syntax):
    picture = pictures[syntax]
    with pytest.raises(DecoderFailed):
        decode(pool, picture, tmp_path / "frame.dcm", claim(picture, 65535, 65535))


def test_another_size_than_that_of_the_image_is_refused(pictures, pool, tmp_path):
    path = tmp_path / "frame.dcm"
    pictures[JPEG].write(path, pictures[JPEG].stream)
    with pytest.raises(DecoderFailed, match=r"holds uint16 of shape \[32, 32\]"):
        list(pool.decode(path, [0], plugin="gdcm", shape=(16, 64)))


def test_a_file_that_is_gone_is_no_fault_of_the_series(pool, tmp_path):
    with pytest.raises(FileNotFoundError):
        list(pool.decode(tmp_path / "gone.dcm", [0], plugin="gdcm", shape=(32, 32)))


def test_decoders_end_with_their_pool(pictures, tmp_path):
    picture, path = pictures[JPEG_LS], tmp_path / "frame.dcm"
    before = _children()
    with DecoderPool() as pool:
        for _ in range(3):
            decode(pool, picture, path, picture.stream)
        assert len(_children() - before) == 1, "an idle one is used again"
    assert _children() <= before


def _children() -> set[str]:
    return set(Path(f"/proc/{os.getpid()}/task/{os.getpid()}/children").read_text().split())

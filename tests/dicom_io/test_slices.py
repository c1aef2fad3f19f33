"""One slice after the other: pixels as `read_series` gives them, labels as `read_labels` does."""

from dataclasses import replace

import numpy as np
import pytest
from pydicom import dcmread, uid

from config.results import ProfileSettings
from dicom_io import codes
from dicom_io.ct import write_ct_series, write_enhanced_ct
from dicom_io.decoder import DecoderPool
from dicom_io.errors import RejectionReason, ResultMismatch, UnsuitableSeries
from dicom_io.pixels import decode_frame
from dicom_io.seg_frames import LIVER_CODE, open_seg
from dicom_io.seg_reader import read_labels
from dicom_io.series import read_series
from dicom_io.slices import list_slices
from inference.labels import Label


@pytest.fixture(scope="module")
def decoders():
    with DecoderPool() as pool:
        yield pool


def decode(slices, decoders):
    return np.array(
        [decode_frame(one.frame, one.path, one.transfer_syntax_uid, decoders) for one in slices]
    )


def write(results, folder, kind):
    volume = results.volume()
    if kind == "enhanced":
        write_enhanced_ct(volume, folder / "ct.dcm")
        return [folder / "ct.dcm"]
    syntax = {"plain": uid.ExplicitVRLittleEndian, "compressed": uid.RLELossless}[kind]
    return write_ct_series(volume, folder, transfer_syntax_uid=syntax)


@pytest.mark.parametrize("kind", ["plain", "compressed", "enhanced"])
def test_slices_are_those_of_the_volume(results, tmp_path, decoders, kind):
    paths = write(results, tmp_path, kind)
    source, found = read_series(paths), list_slices(paths[::-1])
    assert np.array_equal(decode(found.slices, decoders), source.volume.array)
    numbers = [one.number for one in found.slices]
    assert numbers == list(range(12, 0, -1)), "viewers count from head to feet"
    assert found.axis_name == ("z", "head")
    assert [found.slices[index].number for index in found.reading_order] == list(range(1, 13))
    middle = source.volume.affine @ [4, (30 - 1) / 2, (37 - 1) / 2, 1]
    assert found.slices[4].center_mm == pytest.approx(middle[:3])
    assert found.slices[4].edges == ("R", "L", "A", "P")


@pytest.mark.parametrize(
    "axes",
    [
        [[0, 0, 1], [0, 1, 0], [1, 0, 0]],
        [[0, 0, 1], [0, -1, 0], [-1, 0, 0]],
        [[0, 1, 0], [0, 0, -1], [1, 0, 0]],
    ],
    ids=["supine", "prone", "coronal"],
)
def test_sides_are_named_as_the_patient_lies(results, tmp_path, axes):
    """`axes` are the directions of slices, rows downwards and columns to the right."""
    volume = results.volume(np.array(axes, float).T)
    found = list_slices(write_ct_series(volume, tmp_path))
    one = found.slices[0]
    row, column = np.reshape(one.frame.orientation, (2, 3))
    along = {"R": (-1, 0, 0), "L": (1, 0, 0), "A": (0, -1, 0), "P": (0, 1, 0)}
    along |= {"F": (0, 0, -1), "H": (0, 0, 1)}
    for letters, direction in zip(one.edges, (-row, row, -column, column), strict=True):
        assert along[letters] == pytest.approx(direction, abs=1e-6)


def test_a_gap_and_a_damaged_file_hide_nothing_else(results, tmp_path, decoders):
    paths = write_ct_series(results.volume(), tmp_path)
    paths[5].write_bytes(paths[5].read_bytes()[:1000])
    paths[7].unlink()
    found = list_slices(paths)
    assert [one.path for one in found.slices] == [
        paths[i] for i in (0, 1, 2, 3, 4, 6, 8, 9, 10, 11)
    ]
    assert len(found.problems) == 2
    assert "cut short" in found.problems[0]


def test_no_slice_is_no_error(tmp_path):
    found = list_slices([tmp_path / "gone.dcm"])
    assert found.slices == ()
    assert found.reading_order == ()


def test_a_frame_that_claims_to_be_huge_is_not_decoded(results, tmp_path, decoders):
    [one, *_] = list_slices(write_ct_series(results.volume(), tmp_path)).slices
    huge = replace(one.frame, shape=(60_000, 60_000))
    with pytest.raises(UnsuitableSeries) as refused:
        decode_frame(huge, one.path, one.transfer_syntax_uid, decoders)
    assert refused.value.reason is RejectionReason.TOO_LARGE


PROFILES = {
    "binary": ProfileSettings(objects=("seg",)),
    "labelmap": ProfileSettings(objects=("seg",), segmentation="labelmap"),
    "fractional": ProfileSettings(objects=("seg",), segmentation="fractional", lesions="together"),
    "empty frames": ProfileSettings(objects=("seg",), empty_frames=True),
}


@pytest.mark.parametrize("enhanced", [False, True], ids=["series", "enhanced"])
@pytest.mark.parametrize("name", PROFILES)
def test_labels_of_a_slice_are_those_of_the_whole(results, tmp_path, name, enhanced):
    case = results.case(results.source(enhanced=enhanced)).with_profiles(own=PROFILES[name])
    labels = case.segmentation.labels
    noise = np.arange(labels.array.size).reshape(labels.shape) % 140
    probabilities = {
        label: labels.with_array(np.where(labels.array == label, 255 - noise, noise).astype("u1"))
        for label in (Label.LIVER, Label.TUMOR)
    }
    segmentation = replace(case.segmentation, probabilities=probabilities)
    [written] = replace(case, segmentation=segmentation).write_all(tmp_path / "out").files
    whole = read_labels(written.path, case.source).array
    seg = open_seg(written.path)
    for index, plane in enumerate(whole):
        place = (case.source.volume.affine @ [index, 0, 0, 1])[:3]
        assert np.array_equal(seg.labels_at(tuple(place)), plane)
    assert not seg.labels_at((0.0, 0.0, 0.0)).any(), "nothing lies elsewhere"


def test_the_liver_is_known_by_its_code():
    assert codes.LIVER.value == LIVER_CODE


def test_what_is_no_segmentation_or_is_cut_short_is_told(written, tmp_path):
    seg, sr = written
    with pytest.raises(ResultMismatch):
        open_seg(sr)
    short = tmp_path / "seg.dcm"
    short.write_bytes(seg.read_bytes()[:-900])
    last = dcmread(seg).PerFrameFunctionalGroupsSequence[-1]
    place = tuple(map(float, last.PlanePositionSequence[0].ImagePositionPatient))
    with pytest.raises(ResultMismatch, match="cut short"):
        open_seg(short).labels_at(place)

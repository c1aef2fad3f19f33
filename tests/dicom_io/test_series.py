"""Reading a series: what comes out, and which series are refused with which reason."""

import copy
import logging
import shutil

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydicom import config, uid
from pydicom.datadict import dictionary_VR, tag_for_keyword
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset

from dicom_io.errors import InvalidUid, MismatchingInstance, RejectionReason, UnsuitableSeries
from dicom_io.errors import UndecodableInstance as Undecodable
from dicom_io.series import find_series, read_series
from dicom_io.uids import derive_uid


def _change(index=None, **values):
    """Set attributes of one slice, or of all; None deletes them."""

    def apply(ct):
        datasets = ct.slices()
        for dataset in datasets if index is None else [datasets[index]]:
            for keyword, value in values.items():
                if value is None:
                    delattr(dataset, keyword)
                else:
                    tag = tag_for_keyword(keyword)
                    element = DataElement(
                        tag, dictionary_VR(tag), value, validation_mode=config.IGNORE
                    )
                    dataset[keyword] = element
        return datasets

    return apply


def _change_frame(index=None, **values):
    """Set attributes in the functional groups of one frame, or of all."""

    def apply(ct):
        dataset = ct.enhanced()
        items = dataset.PerFrameFunctionalGroupsSequence
        for item in items if index is None else [items[index]]:
            for group in (element.value[0] for element in item):
                for keyword, value in values.items():
                    if keyword in group and value is None:
                        delattr(group, keyword)
                    elif keyword in group:
                        setattr(group, keyword, value)
        return [dataset]

    return apply


def _move(shift):
    """Move the slices by a function of their index, in mm, LPS."""

    def apply(ct):
        datasets = ct.slices()
        for index, dataset in enumerate(datasets):
            moved = np.array(dataset.ImagePositionPatient, float) + shift(index)
            dataset.ImagePositionPatient = [round(float(value), 6) for value in moved]
        return datasets

    return apply


def _without(*indices):
    return lambda ct: [d for index, d in enumerate(ct.slices()) if index not in indices]


def _two_phases(ct):
    second = ct.slices()
    for dataset in second:
        _rename(dataset, f"{dataset.SOPInstanceUID}.2")
    return ct.slices() + second


def _rename(dataset, sop_instance_uid):
    dataset.SOPInstanceUID = sop_instance_uid
    dataset.file_meta.MediaStorageSOPInstanceUID = sop_instance_uid


def _as_class(sop_class_uid):
    def apply(ct):
        datasets = ct.slices()
        for dataset in datasets:
            dataset.SOPClassUID = dataset.file_meta.MediaStorageSOPClassUID = sop_class_uid
        return datasets

    return apply


def _two_enhanced(ct):
    first, second = ct.enhanced(), ct.enhanced()
    _rename(second, f"{second.SOPInstanceUID}.2")
    return [first, second]


def _concatenation(ct):
    dataset = ct.enhanced()
    dataset.InConcatenationNumber, dataset.InConcatenationTotalNumber = 1, 2
    return [dataset]


def _too_few_groups(ct):
    dataset = ct.enhanced()
    dataset.NumberOfFrames = 13
    return [dataset]


def _enhanced_phases(ct):
    dataset = ct.enhanced()
    items = dataset.PerFrameFunctionalGroupsSequence
    for item, other in zip(items[6:], items[:6], strict=True):
        item.PlanePositionSequence = copy.deepcopy(other.PlanePositionSequence)
    return [dataset]


def _cut_pixels(ct):
    datasets = ct.slices()
    datasets[4].PixelData = datasets[4].PixelData[:-20]
    return datasets


def _broken_stream(ct):
    datasets = ct.slices()
    datasets[4].compress(uid.JPEGLSLossless, generate_instance_uid=False)
    datasets[4].PixelData = datasets[4].PixelData[:40] + b"\0" * (len(datasets[4].PixelData) - 40)
    return datasets


def _unknown_syntax(ct):
    datasets = ct.slices()
    datasets[4].compress(uid.JPEGLSLossless, generate_instance_uid=False)
    datasets[4].file_meta.TransferSyntaxUID = uid.JPEGBaseline8Bit
    return datasets


R = RejectionReason
AXIAL_TILTED = [1.0, 0, 0, 0, float(np.cos(0.3)), float(-np.sin(0.3))]
REFUSED = [
    (R.TOO_FEW_SLICES, lambda ct: [], "0 slices"),
    (R.TOO_FEW_SLICES, lambda ct: ct.slices()[:9], "9 slices, at least 10"),
    (R.TOO_FEW_SLICES, lambda ct: [ct.enhanced(ct.pattern((3, 6, 8)))], "3 slices"),
    (R.NOT_CT, _as_class(uid.MRImageStorage), "SOP class MR Image Storage"),
    (R.NOT_CT, _change(Modality="MR"), "modality MR"),
    (R.NOT_CT, _change(3, Modality=None), "modality missing"),
    (R.LOCALIZER, _change(ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"]), "12 of 12"),
    (R.LOCALIZER, _change(0, ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"]), "1 of 12"),
    (R.NOT_GRAYSCALE, _change(PhotometricInterpretation="MONOCHROME1"), "MONOCHROME1"),
    (R.NOT_GRAYSCALE, _change(PhotometricInterpretation=None), "missing"),
    (R.NOT_GRAYSCALE, _change(SamplesPerPixel=3, PhotometricInterpretation="RGB"), "RGB"),
    (R.MIXED_SERIES, _change(2, SeriesInstanceUID="2.25.7"), "2 different values of Series"),
    (R.MIXED_SERIES, _change(2, StudyInstanceUID="2.25.7"), "values of StudyInstanceUID"),
    (R.MIXED_SERIES, _change(2, PatientID="P-2"), "values of PatientID"),
    (R.MIXED_SERIES, lambda ct: [*ct.slices(), ct.enhanced()], "values of SOPClassUID"),
    (R.MIXED_FRAME_OF_REFERENCE, _change(2, FrameOfReferenceUID="2.25.7"), "2 frames of"),
    (R.MIXED_FRAME_OF_REFERENCE, _change(2, FrameOfReferenceUID=None), "slices without one"),
    (R.MIXED_ORIENTATION, _change(2, ImageOrientationPatient=AXIAL_TILTED), "cosines differ"),
    (R.MIXED_GRID, _change(2, PixelSpacing=[0.7, 0.81]), "0.7 x 0.8 mm to 0.7 x 0.81 mm"),
    (R.MIXED_GRID, _change(2, Rows=3, Columns=16), "3 x 16, 6 x 8"),
    (R.SEVERAL_STACKS, _two_enhanced, "2 multi-frame instances"),
    (R.SEVERAL_STACKS, _concatenation, "part of a concatenation"),
    (R.SEVERAL_STACKS, _change_frame(5, StackID="2"), "2 stack IDs"),
    (R.NO_POSITION, _change(2, ImagePositionPatient=None), "ImagePositionPatient is missing"),
    (R.NO_POSITION, _change(2, ImageOrientationPatient=[1, 0, 0]), "ImageOrientationPatient"),
    (R.NO_POSITION, _change(ImageOrientationPatient=[1, 0, 0, 1, 0, 0]), "perpendicular"),
    (R.NO_POSITION, _change(ImageOrientationPatient=[2, 0, 0, 0, 2, 0]), "unit vectors"),
    (R.NO_POSITION, _change(PixelSpacing=[0, 0]), "PixelSpacing is not positive"),
    (R.NO_POSITION, _change(PixelSpacing=None), "PixelSpacing is missing"),
    (R.NO_POSITION, _change(FrameOfReferenceUID="1.02"), "FrameOfReferenceUID: not a valid UID"),
    (R.NO_POSITION, _change_frame(5, ImagePositionPatient=None), "frame 6: ImagePosition"),
    (R.NO_POSITION, _too_few_groups, "12 per-frame functional groups for 13 frames"),
    (R.DUPLICATE_POSITION, _two_phases, "24 slices lie at only 12 positions"),
    (R.DUPLICATE_POSITION, _enhanced_phases, "12 slices lie at only 6 positions"),
    (R.DUPLICATE_POSITION, lambda ct: [*ct.slices(), ct.slices()[3]], "given more than once"),
    (R.MISSING_SLICE, _without(5), "1 missing at a slice distance of 2.50 mm"),
    (R.MISSING_SLICE, _without(5), "1 between -290.0 and -285.0 mm"),
    (R.MISSING_SLICE, _without(2, 7), "2 missing"),
    (R.IRREGULAR_SPACING, _move(lambda i: [0, 0, 1.2 * (i > 5)]), "from 2.50 to 3.70 mm"),
    (R.IRREGULAR_SPACING, _move(lambda i: [0, 0, 0.3 * (i % 2)]), "from 2.20 to 2.80 mm"),
    (R.IRREGULAR_SPACING, _move(lambda i: [0, 0, 0.02 * i * i]), "slice distances"),
    (R.IRREGULAR_SPACING, _move(lambda i: [5.0 * (i % 2), 0, 0]), "shifted within their plane"),
    (R.GANTRY_TILT, _move(lambda i: [0, 2.5 * np.tan(0.2) * i, 0]), "tilted by 11.5 degrees"),
    (R.NO_RESCALE, _change(2, RescaleSlope=None), "instance 2.25.1994.1.1.3"),
    (R.NO_RESCALE, _change(RescaleIntercept=None), "instance"),
    (R.NO_RESCALE, _change(RescaleSlope=0), "instance"),
    (R.NO_RESCALE, _change_frame(2, RescaleSlope=None), "frame 3"),
    (R.NOT_HU, _change(RescaleType="MGML"), "RescaleType is MGML"),
    (R.NOT_HU, _change_frame(2, RescaleType="HU_MOD"), "frame 3: RescaleType is HU_MOD"),
    (R.NOT_HU, _change(RescaleSlope=100), "no Hounsfield units"),
    (R.UNDECODABLE_PIXELS, _change(4, PixelData=None), "no pixel data"),
    (R.UNDECODABLE_PIXELS, _change(4, Rows=None), "no Rows or Columns"),
    (R.UNDECODABLE_PIXELS, _cut_pixels, ".dcm"),
    (R.UNDECODABLE_PIXELS, _broken_stream, ".dcm"),
    (R.UNDECODABLE_PIXELS, _unknown_syntax, "1.2.840.10008.1.2.4.50"),
    (R.TOO_LARGE, _change(Rows=65535, Columns=65535), "12 x 65535 x 65535 voxels"),
]


@pytest.mark.parametrize(("reason", "make", "detail"), REFUSED)
def test_unsuitable_series_is_refused_with_reason_and_facts(ct, ct_files, reason, make, detail):
    with pytest.raises(UnsuitableSeries) as refusal:
        read_series(ct_files(make(ct)))
    assert refusal.value.reason is reason
    assert detail in refusal.value.detail
    assert str(refusal.value).startswith(reason.sentence)


def test_each_reason_of_reading_has_a_case():
    assert {reason for reason, _, _ in REFUSED} == set(R) - {R.LIVER_NOT_FOUND}


ACCEPTED = [
    ("positions rounded to 0.1 mm", _move(lambda i: [0, 0, [0, 0.05, -0.05][i % 3]])),
    ("tilt attribute, upright slices", _change(GantryDetectorTilt="12.5")),
    ("no rescale type", _change(RescaleType=None)),
    ("unspecified rescale type", _change(RescaleType="US")),
    ("orientation with float noise", _change(3, ImageOrientationPatient=[1, 1e-7, 0, 0, 1, 0])),
]


@pytest.mark.parametrize("make", [make for _, make in ACCEPTED], ids=[name for name, _ in ACCEPTED])
def test_harmless_oddities_are_read(ct, ct_files, make):
    volume = read_series(ct_files(make(ct))).volume
    np.testing.assert_array_equal(volume.array, ct.pattern())
    np.testing.assert_allclose(volume.affine, ct.affine(), atol=0.06)


def test_slices_are_sorted_along_the_normal_and_lose_their_pixels(ct, ct_files):
    series = read_series(ct_files(ct.slices()[::-1]))
    heights = [float(dataset.ImagePositionPatient[2]) for dataset in series.datasets]
    assert heights == sorted(heights)
    assert series.sop_instance_uids == tuple(f"{ct.series_uid}.{n}" for n in range(1, 13))
    assert series.frame_sources == tuple((name, None) for name in series.sop_instance_uids)
    assert not any("PixelData" in dataset for dataset in series.datasets)
    assert series.study_instance_uid == ct.study_uid
    assert series.series_instance_uid == ct.series_uid
    assert series.volume.frame_of_reference_uid == ct.frame_uid
    assert not series.is_multiframe
    assert series.volume.array.dtype == np.int16


def test_missing_frame_of_reference_is_derived_from_the_series(ct, ct_files):
    series = read_series(ct_files(_change(FrameOfReferenceUID=None)(ct)))
    expected = derive_uid("frame-of-reference", ct.series_uid)
    assert series.volume.frame_of_reference_uid == expected


def test_invalid_series_uid_is_no_matter_of_suitability(ct, ct_files):
    with pytest.raises(InvalidUid):
        read_series(ct_files(_change(SeriesInstanceUID="../../etc")(ct)))


def test_enhanced_ct_frames_are_sorted_and_rescaled_one_by_one(ct, ct_files):
    order = [5, 3, 0, 11, 7, 1, 2, 10, 9, 8, 6, 4]
    series = read_series(ct_files([ct.enhanced(order=order)]))
    np.testing.assert_array_equal(series.volume.array, ct.pattern())
    np.testing.assert_allclose(series.volume.affine, ct.affine())
    assert series.is_multiframe
    assert len(series.datasets) == 1
    expected = tuple((series.sop_instance_uids[0], order.index(k) + 1) for k in range(12))
    assert series.frame_sources == expected


def test_frames_of_a_large_compressed_enhanced_ct_find_their_places(ct, ct_files):
    pattern = ct.pattern((40, 6, 8))
    order = list(np.random.default_rng(3).permutation(40))
    dataset = ct.enhanced(pattern, order=order)
    dataset.compress(uid.RLELossless, generate_instance_uid=False)
    np.testing.assert_array_equal(read_series(ct_files([dataset])).volume.array, pattern)


def _padded(value, *, intercept=-1024, limit=None, signed=False):
    """A stack with the stored padding value in the first pixel of each slice."""

    def make(ct):
        datasets = ct.slices(np.full((12, 6, 8), 50), intercept=intercept)
        for dataset in datasets:
            dataset.PixelRepresentation = int(signed)
            pixels = np.frombuffer(dataset.PixelData, "<u2").copy()
            pixels[0] = value % 65536
            dataset.PixelData = pixels.tobytes()
            dataset.PixelPaddingValue = value
            if limit is not None:
                dataset.PixelPaddingRangeLimit = limit
        return datasets

    return make


@pytest.mark.parametrize(
    ("make", "hu"),
    [
        (_padded(-2000, intercept=-500, signed=True), -1024),
        (_padded(0, intercept=-8192), -1024),
        (_padded(65535), -1024),
        (_padded(65535, limit=65530), -1024),
        (_padded(0, intercept=0), 0),
    ],
    ids=["below air", "far below air", "above bone", "range above bone", "water stays"],
)
def test_padding_becomes_no_odd_hu(ct, ct_files, make, hu):
    array = read_series(ct_files(make(ct))).volume.array
    assert array[0, 0, 0] == hu
    assert (array.reshape(12, -1)[:, 1:] == 50).all()


def test_padding_written_as_unsigned_in_signed_pixels(ct, ct_files):
    datasets = _padded(-2000, intercept=-500, signed=True)(ct)
    for dataset in datasets:
        dataset["PixelPaddingValue"].VR = "US"
        dataset.PixelPaddingValue = 63536
    assert read_series(ct_files(datasets)).volume.array.min() == -1024


def test_high_bits_beyond_bits_stored_are_ignored(ct, ct_files):
    datasets = ct.slices(np.minimum(ct.pattern(), 3071))
    for dataset in datasets:
        dataset.BitsStored, dataset.HighBit = 12, 11
        overlay = np.frombuffer(dataset.PixelData, "<u2") | np.uint16(0x8000)
        dataset.PixelData = overlay.tobytes()
    np.testing.assert_array_equal(read_series(ct_files(datasets)).volume.array, ct.pattern())


def _axis_directions():
    """All 48 ways to lay the array axes along the patient axes."""
    for permutation in ([0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]):
        for signs in np.ndindex(2, 2, 2):
            yield np.eye(3)[permutation].T * (1 - 2 * np.array(signs))


def _check_voxels(volume, hu, affine):
    """Each voxel has its HU at its LPS point, whatever the order of the slices."""
    to_written = np.linalg.inv(affine) @ volume.affine
    indices = np.array(list(np.ndindex(volume.array.shape)))
    written = (np.c_[indices, np.ones(len(indices))] @ to_written.T)[:, :3]
    np.testing.assert_allclose(written, np.rint(written), atol=1e-3)
    np.testing.assert_array_equal(
        volume.array[tuple(indices.T)], hu[tuple(np.rint(written).astype(int).T)]
    )


@pytest.mark.parametrize("directions", list(_axis_directions()))
def test_every_axis_orientation_is_read_in_place(ct, ct_files, directions):
    affine = ct.affine(directions=directions)
    hu = ct.pattern((3, 4, 5))
    volume = read_series(ct_files(ct.slices(hu, affine)), min_slices=2).volume
    _check_voxels(volume, hu, affine)
    row, column = affine[:3, 2], affine[:3, 1]
    assert np.cross(row, column) @ volume.affine[:3, 0] > 0


@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    seed=st.integers(0, 2**32 - 1),
    spacing=st.tuples(st.floats(0.3, 10), st.floats(0.2, 2), st.floats(0.2, 2)),
    origin=st.tuples(*[st.floats(-2000, 2000)] * 3),
    multi_frame=st.booleans(),
)
def test_any_geometry_is_read_in_place(ct, tmp_path, seed, spacing, origin, multi_frame):
    random = np.random.default_rng(seed)
    directions, _ = np.linalg.qr(random.normal(size=(3, 3)))
    affine = ct.affine(spacing, origin, directions)
    shape = tuple(random.integers(2, 5, 3))
    slopes = [float(slope) for slope in random.choice([0.5, 1, 2], shape[0])]
    hu = random.integers(-512, 1500, shape) * 2
    if multi_frame:
        datasets = [ct.enhanced(hu, affine, order=random.permutation(shape[0]))]
    else:
        datasets = list(random.permutation(ct.slices(hu, affine, slopes=slopes)))
    volume = read_series(ct.write(datasets, tmp_path / str(seed)), min_slices=2).volume
    _check_voxels(volume, np.maximum(hu, -1024), affine)
    shutil.rmtree(tmp_path / str(seed))


class TestFindSeries:
    def test_groups_by_series_sorted_and_counts_what_is_not_dicom(
        self, ct, tmp_path, caplog: pytest.LogCaptureFixture
    ):
        first = ct.write(ct.slices(), tmp_path / "b" / "deep")
        other = ct.slices()[:2]
        for dataset in other:
            dataset.SeriesInstanceUID = "2.25.1"
        second = ct.write(other, tmp_path / "a")
        (tmp_path / "notes.txt").write_text("not DICOM")
        (tmp_path / "DICOMDIR").write_bytes(bytes(128) + b"DICM")
        with caplog.at_level(logging.INFO):
            found = find_series(tmp_path)
        assert list(found) == ["2.25.1", ct.series_uid]
        assert found == {"2.25.1": sorted(second), ct.series_uid: sorted(first)}
        assert "found 2 series; 2 files are not DICOM instances" in caplog.text

    def test_one_file(self, ct, ct_files):
        path = ct_files([ct.enhanced()])[0]
        assert find_series(path) == {ct.series_uid: [path]}

    def test_one_file_that_is_not_dicom(self, tmp_path):
        (tmp_path / "notes.txt").write_text("not DICOM")
        with pytest.raises(Undecodable, match=r"notes\.txt: not a DICOM file"):
            find_series(tmp_path / "notes.txt")

    def test_damaged_slice_is_not_left_out(self, ct, tmp_path):
        paths = ct.write(ct.slices(), tmp_path)
        paths[-1].write_bytes(paths[-1].read_bytes()[:-7])
        with pytest.raises(Undecodable, match=f"{paths[-1].name}: the file is cut short"):
            find_series(tmp_path)

    def test_empty_folder(self, tmp_path):
        assert find_series(tmp_path) == {}


@pytest.mark.real
class TestRealSeries:
    @pytest.mark.parametrize(
        ("name", "folder", "shape", "spacing"),
        [
            ("3Dircadb1.1", "PATIENT_DICOM", (129, 512, 512), (1.6, 0.57, 0.57)),
            ("CRLM-CT-1004", "image", (41, 512, 512), (5.0, 0.796875, 0.796875)),
        ],
    )
    def test_volume(self, real_series, name, folder, shape, spacing):
        ((_, paths),) = find_series(real_series(name) / folder).items()
        volume = read_series(paths).volume
        assert volume.array.shape == shape
        np.testing.assert_allclose(volume.spacing, spacing, rtol=1e-4)
        assert volume.affine[2, 0] > 0
        assert volume.array.min() == -1024
        assert -200 < np.median(volume.array[len(volume.array) // 2, 200:300, 200:300]) < 200

    def test_three_slices_are_too_few(self, real_series):
        ((_, paths),) = find_series(real_series("dcmqi_ct-3slice") / "ct").items()
        with pytest.raises(UnsuitableSeries) as refusal:
            read_series(paths)
        assert refusal.value.reason is R.TOO_FEW_SLICES

    def test_instances_without_identity_are_refused(self, real_series):
        folder = real_series("totalsegmentator_example") / "example_ct_dicom"
        with pytest.raises(MismatchingInstance, match="the data set has no SOPClassUID"):
            find_series(folder)


def test_dataset_stays_as_received(ct, ct_files):
    original = ct.slices()
    read = read_series(ct_files(original)).datasets[0]
    expected = Dataset()
    expected.update({e.tag: e for e in original[0] if e.keyword != "PixelData"})
    assert read == expected

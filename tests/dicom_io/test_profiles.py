"""Which objects a profile gets, and in which form."""

import subprocess
from dataclasses import replace

import highdicom as hd
import numpy as np
import pytest
import SimpleITK
from pydicom import dcmread

from config.results import ProfileSettings, ResultRole, ready_made_profiles
from dicom_io import codes
from dicom_io.errors import ResultMismatch
from dicom_io.result_classes import class_of, classes_of
from dicom_io.results import name_content, write_results
from dicom_io.segments import plan_segments
from dicom_io.verify import check_seg
from inference.labels import Label

PDF = b"%PDF-1.4 a report"
OWN = {
    "everything": ProfileSettings(objects=[r for r in ResultRole if r is not ResultRole.SUMMARY]),
    "labelmap": ProfileSettings(segmentation="labelmap"),
    "fractional": ProfileSettings(segmentation="fractional", lesions="together"),
    "together": ProfileSettings(lesions="together"),
    "all-frames": ProfileSettings(empty_frames=True, objects=("seg",)),
}
PROFILES = ready_made_profiles() | OWN
FALSE_ALARMS = (
    "Information Object Not found",
    "SegmentNumber not monotonically",
    "Shall not be present for Referenced SOP Class that is not segmentation",
)
"""Of dciodvfy, which is older than Label Map Segmentation Storage."""


def with_probabilities(case):
    """Probabilities that contradict the labels nowhere, and differ from voxel to voxel."""
    labels = case.segmentation.labels
    noise = np.arange(labels.array.size).reshape(labels.shape) % 100
    probabilities = {
        label: labels.with_array(np.where(labels.array == label, 255 - noise, noise).astype("u1"))
        for label in (Label.LIVER, Label.TUMOR)
    }
    return replace(case, segmentation=replace(case.segmentation, probabilities=probabilities))


def write(case, folder, **profiles):
    folder.mkdir(parents=True, exist_ok=True)
    context = replace(case.context, profiles=profiles)
    return write_results(case.source, case.segmentation, case.findings, folder, context, PDF)


@pytest.fixture(scope="module")
def whole(case):
    return with_probabilities(case)


@pytest.fixture(scope="module")
def everything(whole, tmp_path_factory):
    """All profiles in one folder, as of a node with many destinations."""
    return write(whole, tmp_path_factory.mktemp("all"), **PROFILES)


ROLES = {
    "ohif": {"seg": 1, "sr": 1, "summary": 1},
    "slicer": {"seg": 1, "sr": 1},
    "orthanc": {"seg": 1, "sr": 1, "overlay": 11, "pdf": 1},
    "sc-only": {"overlay": 11},
    "rt": {"rtstruct": 1},
    "everything": {"seg": 1, "sr": 1, "overlay": 11, "rtstruct": 1, "pdf": 1, "key-objects": 1},
    "labelmap": {"seg": 1, "sr": 1, "summary": 1},
    "fractional": {"seg": 1, "sr": 1, "summary": 1},
    "together": {"seg": 1, "sr": 1, "summary": 1},
    "all-frames": {"seg": 1},
}


@pytest.mark.parametrize("name", PROFILES)
def test_a_profile_gets_the_objects_that_it_names(everything, name):
    found = [one.role.value for one in everything.files if name in one.profiles]
    assert {role: found.count(role) for role in found} == ROLES[name]


def test_profiles_that_want_the_same_share_it(everything):
    assert len({one.sop_instance_uid for one in everything.files}) == len(everything.files)
    shared = {(one.role.value, one.profiles) for one in everything.files}
    assert ("seg", ("ohif", "orthanc", "everything")) in shared
    assert ("seg", ("slicer", "all-frames")) in shared
    assert ("sr", ("slicer",)) in shared
    series = {one.series_instance_uid: one.role for one in everything.files}
    assert len(series) == 5 + 5 + 2 + 3, "each form is a series of its own"


def test_what_is_cited_is_sent_before_what_cites_it(everything):
    for name in PROFILES:
        files = [one for one in everything.files if name in one.profiles]
        sent = [one.sop_instance_uid for one in files]
        for one in files:
            if one.role is ResultRole.SR:
                cited = [uid for *_, uid, _ in hd.sr.srread(one.path).get_evidence()]
                [seg] = [one.sop_instance_uid for one in files if one.role is ResultRole.SEG]
                assert seg in cited
                assert sent.index(seg) < sent.index(one.sop_instance_uid)


def test_each_file_was_checked(everything):
    checked = {check.file for check in everything.checks}
    folder = everything.files[0].path.parent
    names = {one.path.relative_to(folder).parts[0] for one in everything.files}
    assert checked == names
    assert all(check.checked and check.seconds >= 0 for check in everything.checks)


def test_a_profile_alone_gives_the_objects_that_it_gives_among_others(whole, everything, tmp_path):
    """So a destination that is added later gets what it would have got."""
    for name, profile in PROFILES.items():
        alone = write(whole, tmp_path / name, **{name: profile}).files
        expected = {
            one.sop_instance_uid: one.path.read_bytes()
            for one in everything.files
            if name in one.profiles
        }
        assert {one.sop_instance_uid: one.path.read_bytes() for one in alone} == expected


def test_validators_find_no_error(everything, program):
    for one in everything.files:
        done = subprocess.run(
            [program("dciodvfy"), one.path], check=False, capture_output=True, text=True
        )
        errors = [line for line in done.stderr.splitlines() if line.startswith("Error")]
        if one.profiles == ("labelmap",):
            errors = [line for line in errors if not any(alarm in line for alarm in FALSE_ALARMS)]
        assert errors == [], one.path.name


def path_of(everything, role, name):
    return next(one.path for one in everything.files if one.role is role and name in one.profiles)


def seg_of(everything, name):
    return path_of(everything, ResultRole.SEG, name)


@pytest.mark.parametrize("name", ["ohif", "slicer", "labelmap", "together"])
def test_another_decoder_finds_each_voxel(whole, everything, name):
    seg = hd.seg.segread(seg_of(everything, name))
    found = seg.get_volume(combine_segments=True).match_geometry(whole.source.volume)
    expected = plan_segments(
        whole.segmentation.labels,
        whole.findings,
        whole.context.settings,
        form=PROFILES[name].lesions,
        content_key="any",
    )
    np.testing.assert_array_equal(found.array, expected.numbers.array)


def test_another_decoder_finds_each_probability(whole, everything):
    seg = hd.seg.segread(seg_of(everything, "fractional"))
    assert seg.SegmentationFractionalType == "PROBABILITY"
    found = seg.get_volume().match_geometry(whole.source.volume)
    for index, label in enumerate((Label.LIVER, Label.TUMOR)):
        np.testing.assert_allclose(
            found.array[..., index],
            whole.segmentation.probabilities[label].array / 255,
            atol=1e-6,
        )


def test_every_frame_is_kept_where_that_is_wanted(whole, everything):
    seg = dcmread(seg_of(everything, "slicer"))
    assert seg.NumberOfFrames == len(seg.SegmentSequence) * whole.source.volume.shape[0]


def test_3d_slicers_reader_gives_the_whole_grid_with_the_profile_for_it(
    whole, everything, venv_program, tmp_path
):
    """dcmqi, with which 3D Slicer reads SEG, crops to the frames that there are."""
    sizes = {}
    for name in ("ohif", "slicer"):
        command = [venv_program("segimage2itkimage"), "-t", "nrrd", "--mergeSegments"]
        command += ["--inputDICOM", str(seg_of(everything, name)), "--prefix", name]
        command += ["--outputDirectory", str(tmp_path)]
        subprocess.run(command, check=True, capture_output=True)
        [path] = tmp_path.glob(f"{name}*.nrrd")
        sizes[name] = SimpleITK.ReadImage(str(path)).GetSize()[::-1]
    assert sizes["slicer"] == whole.source.volume.shape
    assert sizes["ohif"][0] < whole.source.volume.shape[0]


def test_the_background_of_a_labelmap_is_described_last(everything):
    """OHIF takes colors by the place of the item."""
    items = dcmread(seg_of(everything, "labelmap")).SegmentSequence
    assert [item.SegmentNumber for item in items] == [1, 2, 3, 4, 0]


def groups_of(everything, name):
    path = path_of(everything, ResultRole.SR, name)
    content = hd.sr.srread(path).content
    return (
        content.get_volumetric_roi_measurement_groups(),
        content.get_planar_roi_measurement_groups(),
    )


def test_lesions_in_one_segment_are_measured_one_by_one(whole, everything):
    volumetric, planar = groups_of(everything, "together")
    apart, _ = groups_of(everything, "ohif")
    assert [group.tracking_identifier for group in volumetric] == ["Liver", "Liver lesions"]
    measured = {group.tracking_uid: group for group in planar}
    for group in apart[1:]:
        same = measured[group.tracking_uid]
        assert same.tracking_identifier == group.tracking_identifier
        assert [(m.name, m.value, m.unit) for m in same.get_measurements()] == [
            (m.name, m.value, m.unit) for m in group.get_measurements()
        ]


def image_library(everything, name):
    """Give the items of the group of images, or none."""
    report = dcmread(path_of(everything, ResultRole.SR, name))
    return [
        item
        for library in report.ContentSequence
        if library.ConceptNameCodeSequence[0].CodeValue == "111028"
        for group in library.ContentSequence
        for item in group.ContentSequence
    ]


def numbers_of(items):
    """Give the numbers among content items by the meaning of their names."""
    return {
        item.ConceptNameCodeSequence[0].CodeMeaning: float(
            item.MeasuredValueSequence[0].NumericValue
        )
        for item in items
        if item.ValueType == "NUM"
    }


def test_the_image_library_says_of_each_source_image_where_it_lies(whole, everything):
    listed = {
        item.ReferencedSOPSequence[0].ReferencedSOPInstanceUID: numbers_of(item.ContentSequence)
        for item in image_library(everything, "slicer")
        if item.ValueType == "IMAGE"
    }
    assert listed == {
        image.SOPInstanceUID: {
            f"Image Position (Patient) {axis}": pytest.approx(float(place))
            for axis, place in zip("XYZ", image.ImagePositionPatient, strict=True)
        }
        for image in whole.source.datasets
    }
    assert image_library(everything, "ohif") == []


def test_what_its_images_have_in_common_stands_there_once(whole, everything):
    first = whole.source.datasets[0]
    common = numbers_of(image_library(everything, "slicer"))
    vertical, horizontal = first.PixelSpacing
    assert common["Vertical Pixel Spacing"] == pytest.approx(vertical)
    assert common["Horizontal Pixel Spacing"] == pytest.approx(horizontal)
    assert common["Pixel Data Rows"] == first.Rows
    assert common["Pixel Data Columns"] == first.Columns
    distance_mm = pytest.approx(whole.source.volume.spacing_between_slices)
    assert common["Spacing between slices"] == common["Slice Thickness"] == distance_mm
    cosines = [common[name] for name in common if name.startswith("Image Orientation")]
    assert cosines == pytest.approx([float(cosine) for cosine in first.ImageOrientationPatient])


def test_enhanced_ct_in_every_profile(results, tmp_path):
    case = with_probabilities(results.case(results.source(enhanced=True)))
    written = write(case, tmp_path / "out", **PROFILES)
    assert {one.role for one in written.files} == set(ResultRole)


def test_no_lesion_in_every_profile(results, tmp_path):
    case = with_probabilities(results.case(lesions=[]))
    written = write(case, tmp_path / "out", **PROFILES)
    roles = {one.role for one in written.files}
    assert roles == set(ResultRole) - {ResultRole.KEY_OBJECTS}, "there is nothing to point at"


@pytest.mark.parametrize("name", ["labelmap", "fractional", "slicer"])
def test_a_changed_voxel_is_found(whole, everything, tmp_path, name):
    """Of the forms that `test_verify` does not know."""
    seg = dcmread(seg_of(everything, name))
    middle = len(seg.PixelData) // 2
    value = (seg.PixelData[middle] + 1) % 256
    seg.PixelData = seg.PixelData[:middle] + bytes([value]) + seg.PixelData[middle + 1 :]
    seg.save_as(tmp_path / "seg.dcm")
    planned = plan_segments(
        whole.segmentation.labels,
        whole.findings,
        whole.context.settings,
        form=PROFILES[name].lesions,
        content_key=name_content(whole.source, whole.segmentation),
    )
    with pytest.raises(ResultMismatch, match=r"differs from the plan|overlaps"):
        check_seg(
            tmp_path / "seg.dcm",
            whole.source,
            planned,
            PROFILES[name],
            whole.segmentation.probabilities,
        )


def test_each_object_is_filed_under_what_the_table_says(everything):
    """The conformance statement is made of that table."""
    for one in everything.files:
        written, kind = dcmread(one.path), class_of(one.role, PROFILES[one.profiles[0]])
        assert (written.SOPClassUID, written.Modality) == (kind.sop_class, kind.modality)
    stated = {kind.sop_class for kind in classes_of(PROFILES.values())}
    assert {one.sop_class_uid for one in everything.files} == stated


def items_of(dataset):
    """Give each item of each sequence, however deep."""
    for element in dataset:
        for item in element.value if element.VR == "SQ" else ():
            yield item
            yield from items_of(item)


def test_each_private_code_is_listed(everything):
    written = {
        (item.CodeValue, item.CodeMeaning)
        for one in everything.files
        for item in items_of(dcmread(one.path))
        if "CodeValue" in item and item.CodingSchemeDesignator == codes.PRIVATE_SCHEME
    }
    assert written
    assert written <= {(code.value, code.meaning) for code in codes.list_codes()}

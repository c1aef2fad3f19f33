import subprocess
from dataclasses import replace

import numpy as np
import pytest
import SimpleITK
from pydicom import dcmread
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian
from pydicom.valuerep import DSfloat
from scipy.spatial.transform import Rotation

from dicom_io.ct import write_ct_series
from dicom_io.errors import ResultMismatch
from dicom_io.provenance import InstanceUids, SeriesHistory
from dicom_io.results import write_object
from dicom_io.rtstruct import build_rtstruct
from dicom_io.segments import LESION_COLORS, LIVER_COLOR
from dicom_io.series import read_series
from dicom_io.uids import derive_uid
from dicom_io.values import read_texts
from dicom_io.verify_rtstruct import check_rtstruct
from inference.findings import Doubt, DoubtCode
from inference.labels import Label
from inference.volume import Volume

AXIAL = np.array([[0, 0, 1], [0, 1, 0], [1, 0, 0]], float)
POSITIONS = {
    "head first, supine": Rotation.identity(),
    "prone": Rotation.from_euler("z", 180, degrees=True),
    "feet first": Rotation.from_euler("y", 180, degrees=True),
    "coronal": Rotation.from_euler("x", 90, degrees=True),
    "sagittal": Rotation.from_euler("y", 90, degrees=True),
    "oblique": Rotation.from_euler("xyz", (20, -35, 12), degrees=True),
}


def hard_labels(results):
    """What is hard to outline: holes, an island, borders, single pixels, parts, corners."""
    labels = results.labels()
    labels[3, 16:24, 9:16] = Label.BACKGROUND  # a hole
    labels[3, 19:21, 12:14] = Label.LIVER  # an island in it
    labels[3, 19, 12] = Label.TUMOR
    labels[7, 16, 6:26:2] = Label.BACKGROUND  # holes side by side
    labels[8, 6:20:2, 5] = Label.BACKGROUND  # a comb
    labels[10, 25:, 30:] = Label.LIVER  # as far as the border
    labels[0] = Label.LIVER  # all of a slice
    labels[11, 0, 0] = labels[11, 29, 36] = Label.TUMOR  # in the corners
    labels[10, 23:26, 5] = labels[10, 23:26, 7] = labels[9, 23, 5:8] = Label.TUMOR  # two parts
    labels[5, 16, 20] = labels[5, 17, 21] = Label.TUMOR  # touch at a corner
    return labels


@pytest.fixture(scope="module")
def hard(results, case):
    """A case that is hard to outline."""
    return case.with_labels(hard_labels(results))


def write(case, folder):
    """Write and check, as the node does."""
    uids = InstanceUids(
        series_instance_uid=derive_uid("series", "rtstruct"),
        sop_instance_uid=derive_uid("instance", "rtstruct"),
    )
    labels = case.segmentation.labels
    dataset = build_rtstruct(case.basis, labels, case.findings, uids)
    path = folder / "rtstruct.dcm"
    write_object(dataset, path)
    check_rtstruct(path, case.source, labels, case.findings)
    return path


def masks_of(case):
    """ROI number to its mask."""
    masks = {1: case.segmentation.labels.array > 0}
    for lesion in case.findings.lesions:
        masks[1 + lesion.number] = case.findings.lesion_map.array == lesion.number
    return masks


@pytest.fixture(scope="module")
def path(hard, tmp_path_factory):
    """Give the structure set of the hard case; to be read, not to be changed."""
    return write(hard, tmp_path_factory.mktemp("rtstruct"))


@pytest.fixture
def rtstruct(path):
    return dcmread(path)


def name_of(number):
    """Name of an ROI by its number."""
    return "Liver" if number == 1 else f"Liver lesion {number - 1}"


@pytest.mark.peer
@pytest.mark.parametrize("position", POSITIONS)
def test_plastimatch_reads_the_same_voxels(results, hard, program, tmp_path, position):
    volume = results.volume(POSITIONS[position].as_matrix() @ AXIAL)
    source = read_series(write_ct_series(volume, tmp_path / "ct"))
    turned = replace(hard, source=source).with_labels(hard.segmentation.labels.array)
    subprocess.run(
        [
            program("plastimatch"),
            *("convert", "--input", write(turned, tmp_path)),
            *("--referenced-ct", tmp_path / "ct"),
            *("--output-prefix", tmp_path / "masks", "--prefix-format", "nrrd"),
        ],
        check=True,
        capture_output=True,
    )
    inverse = np.linalg.inv(source.volume.affine)
    for number, mask in masks_of(turned).items():
        image = SimpleITK.ReadImage(str(tmp_path / "masks" / f"{name_of(number)}.nrrd"))
        found = np.zeros_like(mask)
        for place in np.argwhere(SimpleITK.GetArrayFromImage(image)):
            position_mm = image.TransformIndexToPhysicalPoint([int(i) for i in place[::-1]])
            index = (inverse @ [*position_mm, 1])[:3]
            np.testing.assert_allclose(index, index.round(), atol=1e-3)
            found[tuple(index.round().astype(int))] = True
        np.testing.assert_array_equal(found, mask)


@pytest.mark.peer
@pytest.mark.parametrize("kind", ["hard", "enhanced", "negative", "bare", "long"])
def test_validators_find_no_error(results, case, hard, program, tmp_path, kind):
    def bare(ds):
        for keyword in ("PatientName", "PatientID", "Manufacturer", "StudyTime"):
            del ds[keyword]

    cases = {
        "hard": lambda: hard,
        "enhanced": lambda: results.case(results.source(enhanced=True)),
        "negative": lambda: results.case(lesions=()),
        "bare": lambda: results.case(results.source(edit=bare)),
        "long": lambda: long_case(results, case),
    }
    path = write(cases[kind](), tmp_path)
    ran = subprocess.run([program("dciodvfy"), path], check=False, capture_output=True, text=True)
    output = ran.stdout + ran.stderr
    assert "RTStructureSet" in output
    assert not [line for line in output.splitlines() if line.startswith(("Error", "Abort"))]
    dumped = subprocess.run([program("drtdump"), path], check=True, capture_output=True, text=True)
    assert "RT Structure Set object" in dumped.stdout
    assert not [line for line in dumped.stderr.splitlines() if line.startswith(("E: ", "W: "))]


def test_object_says_what_it_is(hard, rtstruct):
    expected = {
        "Modality": "RTSTRUCT",
        "SeriesNumber": 9103,
        "SeriesDescription": "AI liver contours for planning, not reviewed",
        "StructureSetLabel": "AI, not reviewed",
        "StructureSetDate": rtstruct.SeriesDate,
        "StructureSetTime": rtstruct.SeriesTime,
        "Manufacturer": "Hepar",
        "SoftwareVersions": ["hepar 0.1.0", "test-model 1.2.0"],
        "ApprovalStatus": "UNAPPROVED",
        "FrameOfReferenceUID": hard.source.volume.frame_of_reference_uid,
        "StudyInstanceUID": hard.source.study_instance_uid,
        "PatientID": "HEPAR-PHANTOM-0",
    }
    assert {keyword: rtstruct[keyword].value for keyword in expected} == expected
    assert "ContentDate" not in rtstruct
    assert "not reviewed by a physician" in rtstruct.StructureSetDescription


def test_source_is_named(hard, rtstruct):
    [frame] = rtstruct.ReferencedFrameOfReferenceSequence
    [study] = frame.RTReferencedStudySequence
    [series] = study.RTReferencedSeriesSequence
    assert frame.FrameOfReferenceUID == hard.source.volume.frame_of_reference_uid
    assert study.ReferencedSOPInstanceUID == hard.source.study_instance_uid
    assert series.SeriesInstanceUID == hard.source.series_instance_uid
    images = [image.ReferencedSOPInstanceUID for image in series.ContourImageSequence]
    assert images == list(hard.source.sop_instance_uids)


def test_each_finding_is_a_region_of_interest(hard, rtstruct):
    lesions = hard.findings.lesions
    assert len(lesions) > len(LESION_COLORS)
    rois = rtstruct.StructureSetROISequence
    assert [roi.ROIName for roi in rois] == [name_of(n + 1) for n in range(len(lesions) + 1)]
    assert all(len(roi.ROIName) <= 16 for roi in rois)
    assert "with its lesions" in rois[0].ROIDescription
    assert all("not reviewed" in roi.ROIDescription for roi in rois)
    assert {roi.ROIGenerationAlgorithm for roi in rois} == {"AUTOMATIC"}
    [algorithm] = rois[-1].ROIDerivationAlgorithmIdentificationSequence
    assert algorithm.AlgorithmName == "test-model"
    volumes_ml = [hard.findings.organ_volume_ml, *(lesion.volume_ml for lesion in lesions)]
    np.testing.assert_allclose([roi.ROIVolume for roi in rois], volumes_ml, rtol=2e-4, atol=6e-4)
    colors = [tuple(item.ROIDisplayColor) for item in rtstruct.ROIContourSequence]
    assert colors[: 1 + len(LESION_COLORS)] == [LIVER_COLOR, *LESION_COLORS]
    liver, *others = rtstruct.RTROIObservationsSequence
    assert liver.RTROIInterpretedType == "ORGAN"
    assert {other.RTROIInterpretedType for other in others} == {""}
    identified = [
        observation.RTROIIdentificationCodeSequence[0].CodeMeaning
        for observation in rtstruct.RTROIObservationsSequence
    ]
    assert identified == ["Liver", *["Neoplasm"] * len(lesions)]


def test_negative_study_has_the_liver_alone(results, tmp_path):
    rtstruct = dcmread(write(results.case(lesions=()), tmp_path))
    assert [roi.ROIName for roi in rtstruct.StructureSetROISequence] == ["Liver"]


def test_a_ring_of_parts_has_a_polygon_for_each(hard, rtstruct):
    """The slice with a hole and an island in it."""
    uid, _ = hard.source.frame_sources[3]
    contours = [
        contour
        for contour in rtstruct.ROIContourSequence[0].ContourSequence
        if contour.ContourImageSequence[0].ReferencedSOPInstanceUID == uid
    ]
    assert len(contours) == 2
    assert {contour.ContourGeometricType for contour in contours} == {"CLOSED_PLANAR"}


def test_contours_of_enhanced_ct_name_their_frames(results, tmp_path):
    case = results.case(results.source(enhanced=True))
    rtstruct = dcmread(write(case, tmp_path))
    for contour in rtstruct.ROIContourSequence[0].ContourSequence:
        [image] = contour.ContourImageSequence
        uid, number = image.ReferencedSOPInstanceUID, int(image.ReferencedFrameNumber)
        index = case.source.frame_sources.index((uid, number))
        z_mm = {float(z) for z in contour.ContourData[2::3]}
        assert z_mm == {case.source.volume.affine[2, 3] + 3.0 * index}


def test_contours_lie_where_the_source_says_not_where_an_even_grid_would_be(results, tmp_path):
    def jitter(ds):
        x, y, z = ds.ImagePositionPatient
        ds.ImagePositionPatient = [x, y, round(float(z) + 0.04 * (-1) ** ds.InstanceNumber, 2)]

    case = results.case(results.source(edit=jitter))
    rtstruct = dcmread(write(case, tmp_path))
    stated_mm = {d.SOPInstanceUID: d.ImagePositionPatient[2] for d in case.source.datasets}
    for contour in rtstruct.ROIContourSequence[0].ContourSequence:
        uid = contour.ContourImageSequence[0].ReferencedSOPInstanceUID
        assert {float(z) for z in contour.ContourData[2::3]} == {float(stated_mm[uid])}


def test_coordinates_are_decimal_strings(results, tmp_path):
    def far(ds):
        x, y, z = ds.ImagePositionPatient
        ds.ImagePositionPatient = [f"{x - 123456.789012345:.10f}", y, f"{z + 1 / 3:.10f}"]

    rtstruct = dcmread(write(results.case(results.source(edit=far)), tmp_path))
    for contour in rtstruct.ROIContourSequence[0].ContourSequence:
        for text in read_texts(contour, "ContourData"):
            assert len(text) <= 16
            DSfloat(text, validation_mode=2)


def long_case(results, case):
    """A comb, whose outline is longer than Explicit VR can say."""
    labels = np.zeros((10, 20, 1024), np.uint8)
    labels[0, :, ::2] = labels[0, 10] = labels[1, 5:15, 10:20] = Label.LIVER
    volume = Volume(
        np.zeros(labels.shape, np.int16), results.volume().affine, coordinate_system="PATIENT"
    )
    return replace(case, source=results.source(volume)).with_labels(labels)


def test_a_contour_that_is_too_long_for_explicit_vr(results, case, tmp_path):
    path = write(long_case(results, case), tmp_path)
    rtstruct = dcmread(path)
    assert rtstruct.file_meta.TransferSyntaxUID == ImplicitVRLittleEndian
    assert len(rtstruct.ROIContourSequence[0].ContourSequence) == 2


def test_others_are_explicit(rtstruct):
    assert rtstruct.file_meta.TransferSyntaxUID == ExplicitVRLittleEndian


def test_what_is_doubtful_or_missing_is_said(case, tmp_path):
    doubt = Doubt(code=DoubtCode.PARTIAL_LIVER, sentence="The liver leaves the scan.")
    history = SeriesHistory(remark="9 of the 12 instances have come.")
    doubted = replace(
        case,
        findings=replace(case.findings, doubts=(doubt,)),
        context=replace(case.context, history=history),
    )
    said = dcmread(write(doubted, tmp_path)).StructureSetDescription
    assert "The series is incomplete: 9 of the 12 instances have come." in said
    assert "Doubtful: The liver leaves the scan." in said


def test_a_repeat_writes_the_same_bytes(hard, path, tmp_path):
    assert write(hard, tmp_path).read_bytes() == path.read_bytes()


def _first(rtstruct):
    return rtstruct.ROIContourSequence[0].ContourSequence[0]


def _shift_by_a_pixel(rtstruct):
    contour = rtstruct.ROIContourSequence[0].ContourSequence[1]
    points_mm = np.array(contour.ContourData, float).reshape(-1, 3)
    contour.ContourData = (points_mm + np.array([1.25, 0, 0])).ravel().tolist()


def _shift_off_the_plane(rtstruct):
    contour = _first(rtstruct)
    x, y, z, *others = contour.ContourData
    contour.ContourData = [x, y, float(z) + 0.001, *others]


def _leave_the_image(rtstruct):
    contour = _first(rtstruct)
    x, *others = contour.ContourData
    contour.ContourData = [float(x) - 500, *others]


def _drop_a_contour(rtstruct):
    del rtstruct.ROIContourSequence[0].ContourSequence[0]


def _repeat_a_contour(rtstruct):
    contours = rtstruct.ROIContourSequence[0].ContourSequence
    contours.append(contours[0])


def _drop_a_coordinate(rtstruct):
    _first(rtstruct).ContourData = _first(rtstruct).ContourData[:-1]


def _write_too_many_digits(rtstruct):
    contour = _first(rtstruct)
    texts = [str(text) for text in contour.ContourData]
    contour["ContourData"]._value = "\\".join([f"{float(texts[0]):.16f}", *texts[1:]])


def _cite_another_image(rtstruct):
    first, *_, last = rtstruct.ROIContourSequence[0].ContourSequence
    first.ContourImageSequence = last.ContourImageSequence


def _cite_a_stranger(rtstruct):
    _first(rtstruct).ContourImageSequence[0].ReferencedSOPInstanceUID = derive_uid("stranger")


def _open(rtstruct):
    _first(rtstruct).ContourGeometricType = "OPEN_PLANAR"


def _drop_an_roi(rtstruct):
    del rtstruct.ROIContourSequence[-1]


def _rename(rtstruct):
    rtstruct.StructureSetROISequence[1].ROIName = "Spleen"


def _swap_lesions(rtstruct):
    _, first, second, *_ = rtstruct.ROIContourSequence
    first.ContourSequence, second.ContourSequence = second.ContourSequence, first.ContourSequence


def _change_volume(rtstruct):
    rtstruct.StructureSetROISequence[1].ROIVolume = 1000


def _change_patient(rtstruct):
    rtstruct.PatientID = "somebody else"


def _change_frame_of_reference(rtstruct):
    rtstruct.FrameOfReferenceUID = derive_uid("elsewhere")


def _change_series(rtstruct):
    study = rtstruct.ReferencedFrameOfReferenceSequence[0].RTReferencedStudySequence[0]
    study.RTReferencedSeriesSequence[0].SeriesInstanceUID = derive_uid("another")


def _forget_an_image(rtstruct):
    study = rtstruct.ReferencedFrameOfReferenceSequence[0].RTReferencedStudySequence[0]
    del study.RTReferencedSeriesSequence[0].ContourImageSequence[0]


@pytest.mark.parametrize(
    ("tamper", "said"),
    [
        (_shift_by_a_pixel, "differs from the liver in"),
        (_shift_off_the_plane, r"0\.0010 mm off the image"),
        (_leave_the_image, "leaves the image"),
        (_drop_a_contour, "differs from the liver in"),
        (_repeat_a_contour, "overlap"),
        (_drop_a_coordinate, "coordinates"),
        (_write_too_many_digits, "more than 16 characters"),
        (_cite_another_image, "mm off the image"),
        (_cite_a_stranger, "not of the source"),
        (_open, "type OPEN_PLANAR"),
        (_drop_an_roi, "has ROIs"),
        (_rename, "'Spleen'"),
        (_swap_lesions, "differs from the lesions in"),
        (_change_volume, "1000"),
        (_change_patient, "PatientID"),
        (_change_frame_of_reference, "frame of reference"),
        (_change_series, "another study or series"),
        (_forget_an_image, "images other than the source"),
    ],
)
def test_a_file_that_is_not_as_it_should_be_is_found(hard, rtstruct, tmp_path, tamper, said):
    tamper(rtstruct)
    rtstruct.save_as(tmp_path / "tampered.dcm")
    with pytest.raises(ResultMismatch, match=said):
        check_rtstruct(
            tmp_path / "tampered.dcm", hard.source, hard.segmentation.labels, hard.findings
        )

"""The pictures as a receiver gets them: whose they are, where they lie, what they show."""

import subprocess
from dataclasses import dataclass, replace

import numpy as np
import pytest
from PIL import Image
from pydicom import dcmread
from scipy import ndimage
from scipy.spatial import KDTree
from scipy.spatial.transform import Rotation

from config.results import ResultSettings
from dicom_io.errors import ResultMismatch
from dicom_io.identity import IDENTITY
from dicom_io.overlay import build_overlay, build_refusal_page
from dicom_io.page_source import image_numbers
from dicom_io.provenance import InstanceUids, ResultBasis
from dicom_io.series import SourceSeries
from dicom_io.source_images import build_source_images
from dicom_io.verify_overlay import check_overlay, check_refusal_page
from inference.findings import Findings
from inference.labels import Label
from inference.measure import measure
from inference.slice_pictures import choose_slices
from inference.volume import Volume

SERIES_UID = "2.25.4711"
AXIAL = np.array([[0, 0, 1], [0, 1, 0], [1, 0, 0]], float)
"""Directions of slices, rows and columns in columns."""
TURNS = {
    "axial": Rotation.identity(),
    "prone": Rotation.from_euler("z", 180, degrees=True),
    "feet first": Rotation.from_euler("y", 180, degrees=True),
    "coronal": Rotation.from_euler("x", 90, degrees=True),
    "sagittal": Rotation.from_euler("y", 90, degrees=True),
    "oblique": Rotation.from_euler("xyz", (20, -35, 12), degrees=True),
}
LETTERS = {
    "axial": ["L", "P"],
    "prone": ["R", "A"],
    "feet first": ["R", "P"],
    "coronal": ["L", "H"],
    "sagittal": ["F", "P"],
}
LESIONS = (np.s_[3:6, 30:44, 20:37], np.s_[5:7, 60:66, 40:49])


@dataclass(frozen=True, kw_only=True, eq=False)
class Overlay:
    """A series of pictures, and what it was made from."""

    source: SourceSeries
    labels: Volume
    findings: Findings
    slices: tuple[int, ...]
    paths: list

    def check(self) -> None:
        check_overlay(self.paths, self.source, self.labels, self.slices)

    @property
    def pictures(self):
        """The data sets of the slices."""
        return [dcmread(path) for path in self.paths[1:]]


def scan(shape=(12, 100, 120), spacing_mm=(3.0, 0.8, 0.8), turn=TURNS["axial"], lesions=LESIONS):
    """A liver that has no symmetry, in grain."""
    labels = np.zeros(shape, np.uint8)
    labels[1:8, 20 : int(0.8 * shape[1]), shape[2] // 10 : int(0.4 * shape[2])] = Label.LIVER
    labels[2:6, 20 : int(0.4 * shape[1]), shape[2] // 10 : int(0.6 * shape[2])] = Label.LIVER
    for lesion in lesions:
        labels[lesion] = Label.TUMOR
    hu = np.array([-60, 90, 30], np.int16)[labels]
    hu = hu + np.random.default_rng(1).normal(0, 12, shape).astype(np.int16)
    affine = np.eye(4)
    affine[:3, :3] = turn.as_matrix() @ AXIAL * spacing_mm
    affine[:3, 3] = (-40.5, -80.25, 333.0)
    return (
        Volume(hu, affine, coordinate_system="PATIENT"),
        Volume(labels, affine, coordinate_system="PATIENT"),
    )


@pytest.fixture(scope="module")
def make_overlay(results, case, tmp_path_factory):
    def make(volume, truth, *, enhanced=False, step_mm=0.0, settings=None) -> Overlay:
        source = results.source(volume, enhanced=enhanced)
        labels = truth.match_geometry(source.volume)
        findings = measure(source.volume, labels)
        basis = ResultBasis(
            source=source,
            images=build_source_images(source),
            settings=settings or ResultSettings(),
            provenance=case.context.provenance(results.model),
            history=case.context.history,
        )
        slices = choose_slices(labels, findings, step_mm, 20)
        folder = tmp_path_factory.mktemp("overlay")
        paths = []
        for dataset in build_overlay(basis, labels, findings, slices, SERIES_UID):
            paths.append(folder / f"{len(paths)}.dcm")
            dataset.save_as(paths[-1], enforce_file_format=True)
        return Overlay(source=source, labels=labels, findings=findings, slices=slices, paths=paths)

    return make


@pytest.fixture(scope="module")
def overlay(make_overlay):
    return make_overlay(*scan())


def points_mm(dataset, indices):
    """Patient coordinates of pixels (row, column), from what the picture says of itself."""
    row_mm, column_mm = map(float, dataset.PixelSpacing)
    cosines = np.array(dataset.ImageOrientationPatient, float)
    steps = np.stack([cosines[3:] * row_mm, cosines[:3] * column_mm])
    return np.array(dataset.ImagePositionPatient, float) + np.asarray(indices) @ steps


def outer_pixels(mask):
    return mask & ~ndimage.binary_erosion(mask)


def check_contours_in_patient_space(dataset, truth, pixel_mm):
    """Colored pixels and the borders of the labels lie at the same places in the patient."""
    rgb = dataset.pixel_array.astype(int)
    greener = rgb[..., 1] - rgb[..., 0]
    [index] = {
        round(i)
        for i, _, _ in truth.map_reference_to_indices(points_mm(dataset, [[0, 0], [50, 60]]))
    }
    organ = truth.map_indices_to_reference(np.argwhere(truth.array > 0).astype(float))
    tumor = truth.array[index] == Label.TUMOR
    for mask, drawn in ((truth.array[index] > 0, greener > 60), (tumor, greener < -60)):
        if not mask.any():
            continue
        pixels = np.argwhere(outer_pixels(mask))
        border = truth.map_indices_to_reference(
            np.column_stack([np.full(len(pixels), index), pixels]).astype(float)
        )
        colored = points_mm(dataset, np.argwhere(drawn))
        distances, _ = KDTree(colored).query(border)
        assert np.mean(distances <= 1.01 * pixel_mm) > 0.9
        back, _ = KDTree(border).query(colored)
        near_organ = KDTree(organ).query(colored)[0] < 3 * pixel_mm  # unlike the legend
        assert np.mean(back[near_organ] <= 1.45 * pixel_mm) > 0.7  # the others are numbers


@pytest.mark.parametrize("spacing_mm", [(3.0, 0.8, 0.8), (2.0, 1.0, 0.7)])
@pytest.mark.parametrize("turn", TURNS)
def test_contours_lie_where_the_labels_are(make_overlay, turn, spacing_mm):
    volume, truth = scan(turn=TURNS[turn], spacing_mm=spacing_mm)
    overlay = make_overlay(volume, truth)
    overlay.check()
    assert len(overlay.slices) == 7
    for dataset in overlay.pictures:
        check_contours_in_patient_space(dataset, truth, max(spacing_mm[1:]))
        assert list(dataset.PatientOrientation) == LETTERS.get(turn, dataset.PatientOrientation)


def test_enhanced_ct_is_cited_by_frame(make_overlay):
    volume, truth = scan()
    overlay = make_overlay(volume, truth, enhanced=True)
    overlay.check()
    for dataset, index in zip(overlay.pictures, overlay.slices, strict=True):
        [image] = dataset.SourceImageSequence
        named = image.ReferencedSOPInstanceUID, int(image.ReferencedFrameNumber)
        assert named == overlay.source.frame_sources[index]
        check_contours_in_patient_space(dataset, truth, 0.8)
    assert image_numbers(overlay.source)[0] == overlay.source.frame_sources[0][1]


MANY = tuple(
    np.s_[2:4, row : row + 5, column : column + 5 + row % 2]
    for row in range(24, 70, 9)
    for column in (16, 24, 32, 40, 48)
)


@pytest.mark.parametrize(
    ("shape", "lesions"),
    [
        ((12, 100, 120), ()),
        ((12, 110, 150), MANY),
        ((12, 37, 31), ()),
        ((12, 33, 35), (np.s_[3:5, 22:24, 13:14],)),
        ((12, 256, 128), LESIONS),
    ],
)
@pytest.mark.parametrize("enhanced", [False, True])
def test_validators_have_nothing_to_say(make_overlay, shape, lesions, enhanced, program):
    overlay = make_overlay(*scan(shape, lesions=lesions), enhanced=enhanced)
    assert len(overlay.findings.lesions) == len(lesions)
    overlay.check()
    for path in (overlay.paths[0], overlay.paths[1], overlay.paths[-1]):
        done = subprocess.run(
            [program("dciodvfy"), path], check=False, capture_output=True, text=True
        )
        assert "Error" not in done.stderr
        assert len(dcmread(path).PixelData) % 2 == 0


def test_other_decoders_see_the_same_picture(make_overlay, program, tmp_path):
    overlay = make_overlay(*scan((12, 37, 45), lesions=()))
    for path in overlay.paths[:2]:
        out = tmp_path / "picture.ppm"
        subprocess.run([program("dcmj2pnm"), "--write-raw-pnm", path, out], check=True)
        with Image.open(out) as image:
            np.testing.assert_array_equal(np.asarray(image), dcmread(path).pixel_array)


def test_pictures_are_of_one_series_in_order(overlay):
    datasets = [dcmread(path) for path in overlay.paths]
    assert [dataset.InstanceNumber for dataset in datasets] == list(range(1, 9))
    assert {dataset.SeriesInstanceUID for dataset in datasets} == {SERIES_UID}
    assert len({dataset.SOPInstanceUID for dataset in datasets}) == len(datasets)
    heights = [float(dataset.ImagePositionPatient[2]) for dataset in datasets[1:]]
    assert heights == sorted(heights, reverse=True)


def test_object_says_what_it_is(overlay):
    page, first, *_ = (dcmread(path) for path in overlay.paths)
    source = overlay.source
    for dataset in (page, first):
        assert dataset.SOPClassUID.name == "Secondary Capture Image Storage"
        assert dataset.ImageType[:2] == ["DERIVED", "SECONDARY"]
        assert dataset.Modality == "OT"
        assert dataset.ConversionType == "WSD"
        assert dataset.BurnedInAnnotation == "NO"
        assert dataset.RecognizableVisualFeatures == "NO"
        assert dataset.LossyImageCompression == "00"
        assert dataset.SeriesNumber == 9102
        assert dataset.SeriesDescription == "AI liver pictures, not reviewed"
        assert dataset.ManufacturerModelName == "test-model"
        assert "not reviewed" in dataset.DerivationDescription
        assert dataset.DateOfSecondaryCapture == dataset.ContentDate == "20261120"
        purposes = [
            item.PurposeOfReferenceCodeSequence[0].CodeMeaning
            for item in dataset.ContributingEquipmentSequence
        ]
        assert purposes == ["Processing Equipment", "Acquisition Equipment"]
        for keyword in (*IDENTITY, "StudyInstanceUID"):
            assert dataset.get(keyword) == source.datasets[0].get(keyword)
        [series] = dataset.ReferencedSeriesSequence
        assert series.SeriesInstanceUID == source.series_instance_uid
    assert "ImagePositionPatient" not in page
    assert page.pixel_array.shape == (1050, 1400, 3)
    assert len(page.SourceImageSequence) == len(source.datasets)
    assert first.FrameOfReferenceUID == source.volume.frame_of_reference_uid
    assert first.SourceImageSequence[0].SpatialLocationsPreserved == "YES"
    cited = {dataset.SOPInstanceUID: dataset for dataset in source.datasets}
    image = cited[first.SourceImageSequence[0].ReferencedSOPInstanceUID]
    assert first.ImagePositionPatient == image.ImagePositionPatient
    assert first.PixelSpacing == image.PixelSpacing
    assert (first.Rows, first.Columns) == (image.Rows, image.Columns)


def test_the_same_result_gives_the_same_bytes(make_overlay):
    first, second = (make_overlay(*scan()) for _ in range(2))
    for one, other in zip(first.paths, second.paths, strict=True):
        assert one.read_bytes() == other.read_bytes()


def shift(dataset, steps):
    moved = np.roll(dataset.pixel_array, steps, (0, 1))
    dataset.PixelData = moved.tobytes()


def flip(dataset, axis):
    dataset.PixelData = np.flip(dataset.pixel_array, axis).tobytes()


def shift_contours(dataset, other):
    """Shift all that is colored by a pixel, over the scan as it is."""
    rgb = dataset.pixel_array.copy()
    colored = np.ptp(rgb.astype(int), axis=2) > 5
    gray = np.where(colored, np.roll(rgb[..., 0], 5, 1), rgb[..., 0])
    moved = np.repeat(gray[..., None], 3, 2)
    moved[np.roll(colored, 1, 1)] = np.roll(rgb, 1, 1)[np.roll(colored, 1, 1)]
    dataset.PixelData = moved.tobytes()


def erase_contours(dataset, other):
    gray = dataset.pixel_array.min(axis=2)
    dataset.PixelData = np.repeat(gray[..., None], 3, 2).tobytes()


def take_pixels(dataset, other):
    dataset.PixelData = other.PixelData


def set_value(keyword, value):
    return lambda dataset, other: setattr(dataset, keyword, value)


def move(dataset, other):
    dataset.ImagePositionPatient[2] = float(dataset.ImagePositionPatient[2]) + 0.01


def cite_another(dataset, other):
    dataset.SourceImageSequence = other.SourceImageSequence


TAMPERINGS = {
    "shifted by a column": (lambda d, o: shift(d, (0, 1)), "shows only"),
    "shifted by a row": (lambda d, o: shift(d, (1, 0)), "shows only"),
    "flipped up and down": (lambda d, o: flip(d, 0), "shows only"),
    "flipped left and right": (lambda d, o: flip(d, 1), "shows only"),
    "contours shifted": (shift_contours, "contours along"),
    "no contours": (erase_contours, "contours along"),
    "pixels of another slice": (take_pixels, "shows only"),
    "cut": (lambda d, o: setattr(d, "PixelData", d.PixelData[:-2]), "bytes"),
    "position": (move, "ImagePositionPatient"),
    "orientation": (set_value("ImageOrientationPatient", [1, 0, 0, 0, -1, 0]), "Orientation"),
    "spacing": (set_value("PixelSpacing", [0.8, 0.81]), "PixelSpacing"),
    "frame of reference": (set_value("FrameOfReferenceUID", "2.25.1"), "frame of reference"),
    "reference": (cite_another, "another source image"),
    "order": (set_value("InstanceNumber", 9), "instance number"),
    "series": (set_value("SeriesInstanceUID", "2.25.2"), "another series"),
    "patient": (set_value("PatientID", "another"), "PatientID"),
}


@pytest.mark.parametrize("name", TAMPERINGS)
def test_what_is_wrong_is_found(overlay, name, tmp_path):
    tamper, words = TAMPERINGS[name]
    dataset, other = dcmread(overlay.paths[4]), dcmread(overlay.paths[7])
    tamper(dataset, other)
    paths = [*overlay.paths]
    paths[4] = tmp_path / "tampered.dcm"
    dataset.save_as(paths[4])
    with pytest.raises(ResultMismatch, match=words):
        replace(overlay, paths=paths).check()


def test_missing_and_exchanged_pictures_are_found(overlay):
    with pytest.raises(ResultMismatch, match="7 pictures for 7 slices"):
        replace(overlay, paths=overlay.paths[:-1]).check()
    first, second, third, *rest = overlay.paths
    with pytest.raises(ResultMismatch, match="instance number"):
        replace(overlay, paths=[first, third, second, *rest]).check()


def test_frayed_labels_are_no_mismatch(make_overlay):
    volume, truth = scan(lesions=())
    labels = truth.array.copy()
    speckled = np.random.default_rng(1).random(labels.shape) < 0.1
    labels[speckled & (labels > 0)] = Label.TUMOR
    labels[:, ::7] = Label.BACKGROUND
    make_overlay(volume, truth.with_array(labels)).check()


def test_only_slices_that_are_asked_for(make_overlay):
    overlay = make_overlay(*scan(), step_mm=100.0)
    assert len(overlay.slices) == 2  # the largest diameters of the lesions
    overlay.check()


def test_a_series_that_was_rejected_gets_a_page_that_says_why(
    ct, ct_files, case, program, tmp_path
):
    instances = [dcmread(path) for path in ct_files(ct.slices())]
    page = build_refusal_page(
        instances,
        ["Not evaluable: slices are missing.", "2 missing"],
        InstanceUids(series_instance_uid=SERIES_UID, sop_instance_uid="2.25.9"),
        settings=ResultSettings(),
        provenance=case.context.provenance(case.segmentation.model),
    )
    path = tmp_path / "page.dcm"
    page.save_as(path, enforce_file_format=True)
    check_refusal_page(path, instances[0])
    written = dcmread(path)
    assert (written.PatientID, written.StudyInstanceUID) == ("P-1", instances[0].StudyInstanceUID)
    cited = {item.ReferencedSOPInstanceUID for item in written.SourceImageSequence}
    assert cited == {instance.SOPInstanceUID for instance in instances}
    assert "could not be evaluated" in written.DerivationDescription
    done = subprocess.run([program("dciodvfy"), path], check=False, capture_output=True, text=True)
    assert "Error" not in done.stderr
    instances[0].PatientID = "another"
    with pytest.raises(ResultMismatch, match="PatientID"):
        check_refusal_page(path, instances[0])

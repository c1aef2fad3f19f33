import subprocess
from collections import defaultdict
from datetime import timedelta, timezone

import highdicom as hd
import numpy as np
import pytest
import SimpleITK
from pydicom import DataElement, Dataset, config, dcmread
from pydicom.valuerep import DA, TM

from dicom_io.ct import write_ct_series
from dicom_io.segments import plan_segments
from dicom_io.series import read_series


def _unit(*vector):
    return np.array(vector, float) / np.linalg.norm(vector)


OBLIQUE_ROW = _unit(0.9, 0.3, -0.2)
OBLIQUE_COLUMN = _unit(*np.cross(_unit(0.1, -0.4, 0.9), OBLIQUE_ROW))
ORIENTATIONS = {  # direction of a row (to the next column), direction of a column
    "axial": ([1, 0, 0], [0, 1, 0]),
    "feet first, prone": ([1, 0, 0], [0, -1, 0]),
    "slices from head to feet": ([-1, 0, 0], [0, 1, 0]),
    "coronal": ([1, 0, 0], [0, 0, -1]),
    "sagittal": ([0, 1, 0], [0, 0, -1]),
    "oblique": (OBLIQUE_ROW, OBLIQUE_COLUMN),
}


def _directions(row, column):
    return np.array([np.cross(row, column), column, row], float).T


def _numbers(case):
    return plan_segments(
        case.segmentation.labels, case.findings, case.context.settings, content_key="any"
    ).numbers.array


def _group(seg, index, keyword):
    own = seg.PerFrameFunctionalGroupsSequence[index]
    return (own if keyword in own else seg.SharedFunctionalGroupsSequence[0])[keyword][0]


def _cited(seg, index):
    """(SOP Instance UID, frame number) that a frame names as its source."""
    item = _group(seg, index, "DerivationImageSequence").SourceImageSequence[0]
    number = item.get("ReferencedFrameNumber")
    return item.ReferencedSOPInstanceUID, None if number is None else int(number)


def _volume_by_references(seg, source):
    """Segment numbers on the source grid, each frame put where it says it comes from (OHIF)."""
    numbers = np.zeros(source.volume.shape, int)
    for index, frame in enumerate(seg.pixel_array):
        place = source.frame_sources.index(_cited(seg, index))
        segment = _group(seg, index, "SegmentIdentificationSequence").ReferencedSegmentNumber
        assert not numbers[place][frame > 0].any(), "segments overlap"
        numbers[place][frame > 0] = segment
    return numbers


@pytest.mark.parametrize("orientation", ORIENTATIONS)
def test_receivers_find_each_voxel_by_position_and_by_reference(results, orientation, tmp_path):
    case = results.case(results.source(results.volume(_directions(*ORIENTATIONS[orientation]))))
    path, _ = case.write(tmp_path)
    expected = _numbers(case)
    seg = dcmread(path)
    np.testing.assert_array_equal(_volume_by_references(seg, case.source), expected)
    by_position = hd.seg.segread(path).get_volume(combine_segments=True)
    on_source = by_position.match_geometry(case.source.volume)
    np.testing.assert_array_equal(on_source.array, expected)
    np.testing.assert_allclose(on_source.affine, case.source.volume.affine, atol=1e-4)


def test_enhanced_ct_is_cited_by_frame(results, tmp_path):
    case = results.case(results.source(enhanced=True))
    path, _ = case.write(tmp_path)
    seg = dcmread(path)
    assert {_cited(seg, i)[1] for i in range(seg.NumberOfFrames)} <= set(range(1, 13))
    np.testing.assert_array_equal(_volume_by_references(seg, case.source), _numbers(case))


def test_enhanced_ct_whose_frames_are_in_disorder(ct, ct_files, results, tmp_path):
    hu = results.volume().array
    order = list(np.random.default_rng(1).permutation(len(hu)))
    dataset = ct.enhanced(hu, ct.affine(results.spacing_mm), order=order)
    case = results.case(read_series(ct_files([dataset])))
    path, _ = case.write(tmp_path)
    seg = dcmread(path)
    np.testing.assert_array_equal(_volume_by_references(seg, case.source), _numbers(case))
    for index in range(seg.NumberOfFrames):
        frame = dataset.PerFrameFunctionalGroupsSequence[_cited(seg, index)[1] - 1]
        assert (
            _group(seg, index, "PlanePositionSequence").ImagePositionPatient
            == frame.PlanePositionSequence[0].ImagePositionPatient
        )


def test_frames_lie_where_the_source_says_not_where_an_even_grid_would_be(results, tmp_path):
    """Scanners round positions; what cites a slice must lie on it."""
    positions = {}

    def jitter(ds):
        x, y, z = ds.ImagePositionPatient
        ds.ImagePositionPatient = [x, y, round(float(z) + 0.04 * (-1) ** ds.InstanceNumber, 2)]
        positions[ds.SOPInstanceUID] = [float(v) for v in ds.ImagePositionPatient]

    path, _ = results.case(results.source(edit=jitter)).write(tmp_path)
    seg = dcmread(path)
    for index in range(seg.NumberOfFrames):
        position = _group(seg, index, "PlanePositionSequence").ImagePositionPatient
        assert [float(v) for v in position] == positions[_cited(seg, index)[0]]


def test_frames_without_a_voxel_are_left_out(case, written):
    seg = dcmread(written[0])
    numbers = _numbers(case)
    planes = sum(int((numbers == n).any(axis=(1, 2)).sum()) for n in range(1, 5))
    assert seg.NumberOfFrames == planes
    assert seg.pixel_array.any(axis=(1, 2)).all()


def test_object_says_what_it_is(case, written):
    seg = dcmread(written[0])
    expected = {
        "SegmentationType": "BINARY",
        "SegmentsOverlap": "NO",
        "SeriesNumber": 9100,
        "SeriesDescription": "AI liver segmentation, not reviewed",
        "Manufacturer": "Hepar",
        "ManufacturerModelName": "test-model",
        "SoftwareVersions": ["hepar 0.1.0", "test-model 1.2.0"],
        "DeviceSerialNumber": "HEPAR",
        "ContentCreatorName": "Hepar^AI",
        "ContentLabel": "LIVER_LESIONS",
        "FrameOfReferenceUID": case.source.volume.frame_of_reference_uid,
        "LossyImageCompression": "00",
    }
    assert {keyword: seg[keyword].value for keyword in expected} == expected
    (reference,) = seg.ReferencedSeriesSequence
    assert reference.SeriesInstanceUID == case.source.series_instance_uid
    measures = seg.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0]
    assert measures.PixelSpacing == [1.5, 1.25]
    assert measures.SpacingBetweenSlices == 3.0
    assert len(seg.PixelData) % 2 == 0
    bits = seg.NumberOfFrames * seg.Rows * seg.Columns
    if (bits + 7) // 8 % 2:
        assert seg.PixelData[-1] == 0, "padding is zero (PS3.5 8.1.1)"


@pytest.mark.parametrize(
    ("tumor_type", "code"), [("neoplasm", "108369006"), ("lesion", "52988006")]
)
def test_segments_are_named_coded_and_colored(case, tmp_path, tumor_type, code):
    path, _ = case.with_settings(tumor_type=tumor_type, max_lesion_segments=1).write(tmp_path)
    liver, lesion, pooled = dcmread(path).SegmentSequence
    assert liver.SegmentLabel == "Liver"
    assert lesion.SegmentLabel == lesion.TrackingID == "Liver lesion 1"
    assert pooled.SegmentLabel == "Other liver lesions"
    assert liver.SegmentedPropertyCategoryCodeSequence[0].CodeMeaning == "Anatomical Structure"
    assert liver.SegmentedPropertyTypeCodeSequence[0].CodeValue == "10200004"
    for segment in (lesion, pooled):
        assert segment.SegmentedPropertyCategoryCodeSequence[0].CodeValue == "49755003"
        assert segment.SegmentedPropertyTypeCodeSequence[0].CodeValue == code
        assert segment.AnatomicRegionSequence[0].CodeValue == "10200004"
    colors = {tuple(s.RecommendedDisplayCIELabValue) for s in (liver, lesion, pooled)}
    assert len(colors) == 3
    algorithm = lesion.SegmentationAlgorithmIdentificationSequence[0]
    assert (algorithm.AlgorithmName, algorithm.AlgorithmVersion) == ("test-model", "1.2.0")
    assert "license=For tests only." in algorithm.AlgorithmParameters
    assert lesion.SegmentAlgorithmType == "AUTOMATIC"


IDENTITY = {
    "PatientName": "Ångström^Åsa",
    "PatientID": "0042 A/7",
    "PatientBirthDate": "19600229",
    "PatientSex": "F",
    "StudyDate": "20260105",
    "StudyTime": "083000.123",
    "AccessionNumber": "A-1",
    "StudyID": "S 1",
    "ReferringPhysicianName": "Müller^Jörg",
    "StudyDescription": "Abdomen, nüchtern",
    "PatientAge": "065Y",
    "PatientWeight": "71.5",
    "IssuerOfPatientID": "Hospital",
}


def _set_identity(ds):
    ds.SpecificCharacterSet = "ISO_IR 100"
    for keyword, value in IDENTITY.items():
        setattr(ds, keyword, value)


@pytest.mark.parametrize(
    ("description", "character_set"),
    [("AI liver, not reviewed", "ISO_IR 100"), ("KI-Leber, nicht geprüft", "ISO_IR 192")],
)
def test_patient_and_study_are_copied_exactly(results, tmp_path, description, character_set):
    case = results.case(results.source(edit=_set_identity))
    described = {"seg_series_description": description, "sr_series_description": description}
    for path in case.with_settings(**described).write(tmp_path):
        written = dcmread(path)
        assert {keyword: str(written[keyword].value) for keyword in IDENTITY} == IDENTITY
        assert written.SpecificCharacterSet == character_set
        assert written.SeriesDescription == description
        assert written.StudyInstanceUID == case.source.study_instance_uid


def _without(*keywords):
    def edit(ds):
        for keyword in keywords:
            ds.pop(keyword, None)

    return edit


def _with(keyword, vr, value):
    def edit(ds):
        ds.add(DataElement(keyword, vr, value, validation_mode=config.IGNORE))

    return edit


def _with_bad_issuer(ds):
    item = Dataset()
    item.add(DataElement("UniversalEntityIDType", "CS", "no code!", validation_mode=config.IGNORE))
    item.LocalNamespaceEntityID = "ER"
    ds.IssuerOfAccessionNumberSequence = [item]


DEFECTS = {
    "missing": (
        [_without("PatientName", "PatientID", "PatientBirthDate", "PatientSex", "StudyTime")],
        {"PatientName": "", "PatientID": "", "StudyTime": "", "AccessionNumber": "HP0000"},
    ),
    "as in 3D-IRCADb": (
        [
            _without("FrameOfReferenceUID", "Manufacturer", "SliceThickness", "StudyID"),
            _with("WindowWidth", "DS", "0"),
            _with("PatientName", "PN", "Phantom^Ada\0"),
        ],
        {"PatientName": "Phantom^Ada", "StudyID": "", "Manufacturer": "Hepar"},
    ),
    "grammar": (
        [
            _with("PatientBirthDate", "DA", "19601340"),
            _with("StudyTime", "TM", "08:30:00"),
            _with("PatientSex", "CS", "W"),
            _with("PatientAge", "AS", "old"),
            _with("TimezoneOffsetFromUTC", "SH", "CET"),
            _with_bad_issuer,
        ],
        {"PatientBirthDate": "", "StudyTime": "", "PatientSex": "", "PatientID": "HEPAR-PHANTOM-0"},
    ),
    "text": (
        [
            _with("AccessionNumber", "SH", "2026-01-05-000000042"),
            _with("SpecificCharacterSet", "CS", "ISO_8859-1"),
        ],
        {"AccessionNumber": "2026-01-05-000000042", "SpecificCharacterSet": "ISO_IR 192"},
    ),
}


@pytest.mark.parametrize("defects", DEFECTS)
def test_defects_of_the_source_do_not_reach_the_results(results, tmp_path, defects):
    edits, expected = DEFECTS[defects]
    source = results.source(edit=lambda ds: [edit(ds) for edit in edits])
    case = results.case(source)
    for path in case.write(tmp_path):
        with config.disable_value_validation():
            found = dcmread(path)
            assert {keyword: str(found[keyword].value or "") for keyword in expected} == expected
            assert defects != "grammar" or "PatientAge" not in found
            for keyword in ("PatientName", "PatientID", "PatientSex", "StudyID"):
                assert keyword in found, "type 2 attributes are there, empty or not"
    seg = dcmread(tmp_path / "seg.dcm")
    np.testing.assert_array_equal(_volume_by_references(seg, source), _numbers(case))
    for issuer in seg.get("IssuerOfAccessionNumberSequence", []):
        assert issuer.dir() == ["LocalNamespaceEntityID"]


def test_numbers_with_too_many_digits_are_shortened_and_still_agree(results, tmp_path):
    def edit(ds):
        x, y, z = (float(value) for value in ds.ImagePositionPatient)
        texts = [f"{value - 1e-9:.14f}"[:18] for value in (x, y, z)]
        _with("ImagePositionPatient", "DS", texts)(ds)
        _with("PixelSpacing", "DS", ["1.4999999999999991", "1.2500000000000002"])(ds)

    case = results.case(results.source(edit=edit))
    path, _ = case.write(tmp_path)
    seg = dcmread(path)
    for index in range(seg.NumberOfFrames):
        position = _group(seg, index, "PlanePositionSequence").ImagePositionPatient
        place = case.source.frame_sources.index(_cited(seg, index))
        expected = (case.source.volume.affine @ [place, 0, 0, 1])[:3]
        np.testing.assert_allclose([float(v) for v in position], expected, atol=1e-4)
        assert all(len(str(value)) <= 16 for value in position)


NAMES = {
    "Japanese": (
        ["", "ISO 2022 IR 87"],
        b"Yamada^Tarou=\x1b$B;3ED\x1b(B^\x1b$BB@O:\x1b(B",
        "Yamada^Tarou=山田^太郎",
    ),
    "Latin-1 undeclared": (None, b"M\xfcller^J\xf6rg", "Müller^Jörg"),
    "Latin-1 declared as UTF-8": ("ISO_IR 192", b"M\xfcller", "M\N{REPLACEMENT CHARACTER}ller"),
}


@pytest.mark.parametrize("name", NAMES)
def test_names_survive_in_any_character_set(results, tmp_path, name):
    character_set, encoded, decoded = NAMES[name]
    paths = write_ct_series(results.volume(), tmp_path / "ct")
    placeholder = b"N" * len(encoded)
    for path in paths:
        dataset = dcmread(path)
        dataset.SpecificCharacterSet = character_set
        dataset.PatientName = placeholder.decode()
        dataset.save_as(path)
        path.write_bytes(path.read_bytes().replace(placeholder, encoded))
    for path in results.case(read_series(paths)).write(tmp_path):
        assert str(dcmread(path).PatientName) == decoded


@pytest.mark.parametrize(("offset", "hours", "minutes"), [("+0100", 1, 0), ("-0330", -3, -30)])
def test_dates_are_those_of_the_job_in_the_zone_of_the_study(
    results, tmp_path, offset, hours, minutes
):
    case = results.case(results.source(edit=_with("TimezoneOffsetFromUTC", "SH", offset)))
    local = case.context.created_at.astimezone(timezone(timedelta(hours=hours, minutes=minutes)))
    for path in case.write(tmp_path):
        written = dcmread(path)
        assert written.TimezoneOffsetFromUTC == offset
        for entity in ("InstanceCreation", "Series", "Content"):
            assert DA(written[f"{entity}Date"].value) == local.date()
            assert TM(written[f"{entity}Time"].value) == local.time()


@pytest.mark.peer
@pytest.mark.parametrize("kind", ["axial", "enhanced", "pooled", "negative", "bare"])
def test_dciodvfy_finds_no_error(results, case, program, tmp_path, kind):
    cases = {
        "axial": lambda: case,
        "enhanced": lambda: results.case(results.source(enhanced=True)),
        "pooled": lambda: case.with_settings(max_lesion_segments=1),
        "negative": lambda: results.case(lesions=()),
        "bare": lambda: results.case(
            results.source(edit=_without("PatientName", "PatientID", "Manufacturer", "StudyTime"))
        ),
    }
    for path in cases[kind]().write(tmp_path):
        ran = subprocess.run(
            [program("dciodvfy"), path], check=False, capture_output=True, text=True
        )
        output = ran.stdout + ran.stderr
        assert not [line for line in output.splitlines() if line.startswith(("Error", "Abort"))]


def test_dcmqi_reads_the_same_voxels(case, written, venv_program, tmp_path):
    subprocess.run(
        [
            venv_program("segimage2itkimage"),
            *("--inputDICOM", str(written[0]), "--outputDirectory", str(tmp_path)),
            *("-t", "nrrd", "--prefix", "s", "--mergeSegments"),
        ],
        check=True,
        capture_output=True,
    )
    expected = _numbers(case)
    (path,) = tmp_path.glob("*.nrrd")
    image = SimpleITK.ReadImage(str(path))
    found = defaultdict(int)
    inverse = np.linalg.inv(case.source.volume.affine)
    array = SimpleITK.GetArrayFromImage(image)
    for place in np.argwhere(array):
        position = image.TransformIndexToPhysicalPoint([int(i) for i in place[::-1]])
        index = tuple(np.rint(inverse @ [*position, 1])[:3].astype(int))
        assert expected[index] == array[tuple(place)]
        found[int(array[tuple(place)])] += 1
    assert dict(found) == {n: int((expected == n).sum()) for n in range(1, 5)}

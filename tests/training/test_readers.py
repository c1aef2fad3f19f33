"""Each layout is written as it is published, read back, and compared voxel for voxel."""

import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pydicom
import pytest
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage

from dicom_io.ct import CtIdentity, write_ct_series
from dicom_io.nifti import write_nifti
from dicom_io.uids import derive_uid
from inference.volume import Volume
from training.errors import DataSetError
from training.grids import make_grids
from training.readers import DataSet, Kind, open_data_set
from training.readers.layouts import LAYOUTS
from training.readers.patients import assign_fold
from training.scans import LabeledScan

SHAPE = (12, 10, 14)
AXIAL = ((0, 0, 1), (0, 1, 0), (1, 0, 0))
"""Directions of slices, rows and columns in LPS."""
UPSIDE_DOWN = ((0, 0, -1), (0, 1, 0), (1, 0, 0))
SAGITTAL_MIRRORED = ((-1, 0, 0), (0, 0, 1), (0, -1, 0))
RIGHT_TO_LEFT = ((0, 0, 1), (0, -1, 0), (-1, 0, 0))


def affine_of(directions: tuple[tuple[int, ...], ...] = AXIAL) -> NDArray[np.float64]:
    affine = np.eye(4)
    affine[:3, :3] = np.array(directions, float).T * (2.5, 0.8, 0.7)
    affine[:3, 3] = (-31.0, 17.5, -200.0)
    return affine


def make_scan(
    number: int, directions: tuple[tuple[int, ...], ...] = AXIAL, tumor: bool = True
) -> tuple[Volume, NDArray[np.uint8]]:
    """HU that differ from voxel to voxel, and labels without any symmetry."""
    rng = np.random.default_rng(number)
    hu = rng.integers(-1000, 1500, SHAPE).astype(np.int16)
    labels = np.zeros(SHAPE, dtype=np.uint8)
    labels[2:9, 1:6, 3:12] = 1
    labels[6:9, 4:6, 3:5] = 0
    if tumor:
        labels[3:5, 2:4, 8:11] = 2
        labels[7, 1, 6] = 2
    return Volume(array=hu, affine=affine_of(directions), coordinate_system="PATIENT"), labels


def write_pair(
    volume: Volume, labels: NDArray[np.uint8], image_path: Path, label_path: Path
) -> None:
    for path, written in ((image_path, volume), (label_path, volume.with_array(labels))):
        path.parent.mkdir(parents=True, exist_ok=True)
        write_nifti(written, path)


def check_scan(
    scan: LabeledScan, volume: Volume, labels: NDArray[np.uint8], **facts: object
) -> None:
    assert scan.volume.array.dtype == np.int16
    assert scan.labels.dtype == np.uint8
    np.testing.assert_array_equal(scan.volume.array, volume.array)
    np.testing.assert_allclose(scan.volume.affine, volume.affine, atol=1e-3)
    np.testing.assert_array_equal(scan.labels, labels)
    assert {name: getattr(scan, name) for name in facts} == facts


# --- NIfTI ---------------------------------------------------------------------------------------


def write_lits(folder: Path, number: int, directions=AXIAL, suffix: str = ".nii") -> None:
    volume, labels = make_scan(number, directions)
    write_pair(
        volume,
        labels,
        folder / "Training Batch 1" / f"volume-{number}{suffix}",
        folder / "Training Batch 2" / f"segmentation-{number}{suffix}",
    )


def test_lits(tmp_path: Path) -> None:
    orientations = {0: UPSIDE_DOWN, 2: RIGHT_TO_LEFT, 10: AXIAL, 28: SAGITTAL_MIRRORED}
    for number, directions in orientations.items():
        write_lits(tmp_path, number, directions, ".nii" if number else ".nii.gz")
    (tmp_path / "test-volume-3.nii").write_bytes(b"")
    data_set = open_data_set(tmp_path)
    assert (data_set.kind, data_set.name) == (Kind.LITS, "LiTS")
    assert "ND" in str(data_set.license)
    patients = ["litsA", "lits02", "lits10", "ircad01"]
    for entry, number, patient in zip(data_set, orientations, patients, strict=True):
        check_scan(
            entry.read(),
            *make_scan(number, orientations[number]),
            case_id=f"lits-{number}",
            patient_id=patient,
            tumors_known=True,
            fold=assign_fold(patient),
        )


def test_decathlon(tmp_path: Path) -> None:
    for number, directions in ((3, RIGHT_TO_LEFT), (29, UPSIDE_DOWN)):
        pair = (tmp_path / part / f"liver_{number}.nii.gz" for part in ("imagesTr", "labelsTr"))
        write_pair(*make_scan(number, directions), *pair)
    for part in ("imagesTr", "labelsTr"):
        (tmp_path / part / "._liver_3.nii.gz").write_bytes(b"left by macOS")
    (tmp_path / "imagesTs").mkdir()
    (tmp_path / "dataset.json").write_text('{"name": "Liver"}', encoding="utf-8")
    data_set = open_data_set(tmp_path)
    assert data_set.kind is Kind.MSD
    first, second = data_set
    check_scan(first.read(), *make_scan(3, RIGHT_TO_LEFT), case_id="msd-3", patient_id="lits03")
    check_scan(second.read(), *make_scan(29, UPSIDE_DOWN), case_id="msd-29", patient_id="ircad02")


def test_totalsegmentator(tmp_path: Path) -> None:
    for number in (4, 11):
        volume, labels = make_scan(number, SAGITTAL_MIRRORED, tumor=False)
        case = tmp_path / f"s{number:04d}"
        write_pair(volume, labels, case / "ct.nii.gz", case / "segmentations" / "liver.nii.gz")
        (case / "segmentations" / "spleen.nii.gz").write_bytes(b"not looked at")
    (tmp_path / "meta.csv").write_text("image_id;age\n", encoding="utf-8")
    data_set = open_data_set(tmp_path)
    assert data_set.kind is Kind.TOTALSEGMENTATOR
    assert [entry.case_id for entry in data_set] == ["tseg-s0004", "tseg-s0011"]
    check_scan(
        data_set.entries[1].read(),
        *make_scan(11, SAGITTAL_MIRRORED, tumor=False),
        tumors_known=False,
        patient_id="tseg-s0011",
    )


@pytest.mark.parametrize("folders", [("images", "labels"), ("imagesTr", "labelsTr")])
def test_plain_folders(tmp_path: Path, folders: tuple[str, str]) -> None:
    images, labels = (tmp_path / name for name in folders)
    write_pair(*make_scan(1, UPSIDE_DOWN), images / "a.nii.gz", labels / "a.nii")
    write_pair(*make_scan(2), images / "b_0000.nii.gz", labels / "b.nii.gz")
    write_pair(*make_scan(3), images / "c_0000.nii", labels / "c_0000.nii")
    (images / "._a.nii.gz").write_bytes(b"left by macOS")
    (tmp_path / "tumors_unknown.txt").write_text("\nb \n", encoding="utf-8")
    data_set = open_data_set(tmp_path)
    assert (data_set.kind, data_set.license) == (Kind.PLAIN, None)
    a, b, c = data_set
    check_scan(a.read(), *make_scan(1, UPSIDE_DOWN), case_id="a", tumors_known=True)
    check_scan(b.read(), *make_scan(2), case_id="b", tumors_known=False)
    check_scan(c.read(), *make_scan(3), case_id="c_0000", tumors_known=True)


# --- DICOM ---------------------------------------------------------------------------------------


def write_series(volume: Volume, folder: Path, names: Callable[[int], str]) -> None:
    """Write slices without a frame of reference; `names` has the index of the slice."""
    identity = CtIdentity(series_instance_uid=derive_uid("test", folder.name))
    for index, path in enumerate(write_ct_series(volume, folder, identity=identity)):
        dataset = pydicom.dcmread(path)
        del dataset.FrameOfReferenceUID
        path.unlink()
        dataset.save_as(folder / names(index))


def masks_of(labels: NDArray[np.uint8]) -> Mapping[str, tuple[slice, NDArray[np.bool_]]]:
    """Masks by folder: the slices that are written, and the mask over all."""
    everywhere = slice(None)
    second = np.zeros_like(labels, dtype=bool)
    second[7, 1, 6] = True
    cyst = np.zeros_like(labels, dtype=bool)
    cyst[8, 5, 11] = True
    return {
        "Liver": (everywhere, (labels > 0) & ~cyst),
        "liverkyst": (everywhere, cyst),
        "livertumor01": (everywhere, (labels == 2) & ~second),
        "LiverTumours2": (slice(6, 9), second),
    }


def write_ircadb(folder: Path, number: int) -> tuple[Volume, NDArray[np.uint8]]:
    volume, labels = make_scan(number)
    case = folder / f"3Dircadb1.{number}"
    write_series(volume, case / "PATIENT_DICOM", lambda index: f"image_{index * 5 % 12}")
    for name, (slices, mask) in masks_of(labels).items():
        affine = np.array(volume.affine)
        affine[:3, 3] += affine[:3, 0] * (slices.start or 0)
        part = Volume(
            array=mask[slices].astype(np.int16) * 255, affine=affine, coordinate_system="PATIENT"
        )
        count = len(part.array)
        last = count - 1
        write_series(
            part, case / "MASKS_DICOM" / name, lambda index, last=last: f"image_{last - index}"
        )
    (case / "MASKS_DICOM" / "bone").mkdir()
    (case / "MASKS_DICOM" / "bone" / "image_0").write_bytes(b"not looked at")
    return volume, labels


def pack(folder: Path) -> None:
    """Replace a folder by a ZIP file of its name, as the publisher packs it."""
    with zipfile.ZipFile(folder.with_name(f"{folder.name}.zip"), "w") as archive:
        for path in sorted(folder.rglob("*"), reverse=True):
            archive.write(path, path.relative_to(folder.parent))
            path.rmdir() if path.is_dir() else path.unlink()
    folder.rmdir()


@pytest.mark.parametrize("packed", [(), ("MASKS_DICOM",), ("PATIENT_DICOM", "MASKS_DICOM")])
def test_ircadb(tmp_path: Path, packed: tuple[str, ...]) -> None:
    volume, labels = write_ircadb(tmp_path, 17)
    for name in packed:
        pack(tmp_path / "3Dircadb1.17" / name)
    data_set = open_data_set(tmp_path)
    assert data_set.kind is Kind.IRCADB
    (entry,) = data_set
    assert entry.files
    check_scan(
        entry.read(),
        volume,
        labels,
        case_id="ircadb-17",
        patient_id="ircad17",
        tumors_known=True,
        fold=assign_fold("ircad17"),
    )
    (alone,) = open_data_set(tmp_path / "3Dircadb1.17")
    assert alone.files == entry.files


def write_chaos(folder: Path, patient: int, reverse: bool) -> tuple[Volume, NDArray[np.uint8]]:
    """Files are numbered from feet to head, or from head to feet."""
    volume, labels = make_scan(patient, tumor=False)
    case = folder / "Train_Sets" / "CT" / str(patient)

    def number(index: int) -> int:
        return len(labels) - 1 - index if reverse else index

    write_series(volume, case / "DICOM_anon", lambda index: f"i{number(index):04d},0000b.dcm")
    (case / "Ground").mkdir()
    for index, plane in enumerate(labels):
        image = Image.fromarray(plane * np.uint8(255))
        image.save(case / "Ground" / f"liver_GT_{number(index):03d}.png")
    return volume, labels


def test_chaos(tmp_path: Path) -> None:
    truths = {2: write_chaos(tmp_path, 2, False), 10: write_chaos(tmp_path, 10, True)}
    magnetic = tmp_path / "Train_Sets" / "MR" / "1" / "T2SPIR"
    for part in ("DICOM_anon", "Ground"):
        (magnetic / part).mkdir(parents=True)
    data_set = open_data_set(tmp_path)
    assert data_set.kind is Kind.CHAOS
    for entry, (number, truth) in zip(data_set, truths.items(), strict=True):
        check_scan(
            entry.read(),
            *truth,
            case_id=f"chaos-{number}",
            patient_id=f"chaos{number:02d}",
            tumors_known=True,
        )


# --- the compact set -----------------------------------------------------------------------------


def test_the_compact_set(data_folder: Path) -> None:
    data_set = open_data_set(data_folder)
    assert data_set.kind is Kind.COMPACT
    assert [(entry.case_id, entry.fold, entry.tumors_known) for entry in data_set] == [
        ("a", 0, True),
        ("b", 0, False),
        ("c", 1, False),
    ]
    scan = data_set.entries[0].read()
    assert scan.volume.spacing == pytest.approx((2.5, 1.0, 1.0))
    hu = [set(scan.volume.array[scan.labels == value].tolist()) for value in range(3)]
    assert hu == [{-97}, {92}, {29}]  # of levels 20, 80 and 60


# --- what cannot be read -------------------------------------------------------------------------


def read_all(folder: Path) -> None:
    for entry in open_data_set(folder):
        entry.read()


def lits_without_label(folder: Path) -> None:
    write_lits(folder, 7)
    (folder / "Training Batch 2" / "segmentation-7.nii").unlink()


def lits_twice(folder: Path) -> None:
    write_lits(folder, 7)
    write_lits(folder / "copy", 7)


def lits_with(**changes: object) -> Callable[[Path], None]:
    """Write a volume whose labels have another shape, place or value."""

    def write(folder: Path) -> None:
        volume, labels = make_scan(7)
        affine = np.array(volume.affine)
        affine[0, 3] += changes.get("shift_mm", 0.0)
        labels = labels[changes.get("part", ...)]
        labels[-1, -1, -1] = changes.get("value", 0)
        write_nifti(volume, folder / "volume-7.nii")
        moved = Volume(array=labels, affine=affine, coordinate_system="PATIENT")
        write_nifti(moved, folder / "segmentation-7.nii")

    return write


def lits_cut_short(folder: Path) -> None:
    write_lits(folder, 7)
    path = folder / "Training Batch 1" / "volume-7.nii"
    path.write_bytes(path.read_bytes()[:-50])


def decathlon_without_label(folder: Path) -> None:
    (folder / "imagesTr").mkdir()
    (folder / "imagesTr" / "liver_5.nii.gz").write_bytes(b"")


def totalsegmentator_without_liver(folder: Path) -> None:
    (folder / "s0001").mkdir()
    (folder / "s0001" / "ct.nii.gz").write_bytes(b"")


def totalsegmentator_with_other_labels(folder: Path) -> None:
    case = folder / "s0001"
    write_pair(*make_scan(1), case / "ct.nii.gz", case / "segmentations" / "liver.nii.gz")


def plain_without_label(folder: Path) -> None:
    (folder / "images").mkdir()
    (folder / "images" / "x_0000.nii.gz").write_bytes(b"")


def plain_twice(folder: Path) -> None:
    for name in ("x.nii", "x.nii.gz"):
        write_pair(*make_scan(1), folder / "images" / name, folder / "labels" / "x.nii")


def plain_with_stranger(folder: Path) -> None:
    write_pair(*make_scan(1), folder / "images" / "x.nii", folder / "labels" / "x.nii")
    (folder / "tumors_unknown.txt").write_text("y\n", encoding="utf-8")


def ircadb_without(name: str) -> Callable[[Path], None]:
    def write(folder: Path) -> None:
        write_ircadb(folder, 4)
        path = folder / "3Dircadb1.4" / name
        path.rename(path.with_name("elsewhere"))

    return write


def ircadb_with_damaged_zip(folder: Path) -> None:
    write_ircadb(folder, 4)
    pack(folder / "3Dircadb1.4" / "MASKS_DICOM")
    (folder / "3Dircadb1.4" / "MASKS_DICOM.zip").write_bytes(b"PK, but no more")


def ircadb_with_zip_of_something_else(folder: Path) -> None:
    write_ircadb(folder, 4)
    pack(folder / "3Dircadb1.4" / "MASKS_DICOM")
    with zipfile.ZipFile(folder / "3Dircadb1.4" / "MASKS_DICOM.zip", "w") as archive:
        archive.writestr("LABELLED_DICOM/image_0", b"")


def ircadb_with_mask(
    shift_mm: tuple[float, float, float] = (0, 0, 0), columns: int = SHAPE[2]
) -> Callable[[Path], None]:
    """Write a patient with one more tumor, elsewhere or of another size."""

    def write(folder: Path) -> None:
        volume, _ = write_ircadb(folder, 4)
        affine = np.array(volume.affine)
        affine[:3, 3] += shift_mm
        mask = np.zeros((*SHAPE[:2], columns), dtype=np.int16)
        mask = Volume(array=mask, affine=affine, coordinate_system="PATIENT")
        write_series(mask, folder / "3Dircadb1.4" / "MASKS_DICOM" / "livertumor9", str)

    return write


def chaos_without_a_mask(folder: Path) -> None:
    write_chaos(folder, 1, False)
    (folder / "Train_Sets" / "CT" / "1" / "Ground" / "liver_GT_000.png").unlink()


def chaos_without_masks(folder: Path) -> None:
    write_chaos(folder, 1, False)
    for path in (folder / "Train_Sets" / "CT" / "1" / "Ground").iterdir():
        path.unlink()


def chaos_with_other_pixels(folder: Path) -> None:
    write_chaos(folder, 1, False)
    image = Image.fromarray(np.zeros((5, 6), dtype=np.uint8))
    image.save(folder / "Train_Sets" / "CT" / "1" / "Ground" / "liver_GT_003.png")


def chaos_with_a_damaged_mask(folder: Path) -> None:
    write_chaos(folder, 1, False)
    (folder / "Train_Sets" / "CT" / "1" / "Ground" / "liver_GT_003.png").write_bytes(b"no picture")


def compact_without_column(folder: Path) -> None:
    (folder / "cases.csv").write_text("case_id,fold\na,0\n", encoding="utf-8")


def compact_without_grid(folder: Path) -> None:
    table = "case_id,fold,tumor_labels,fine_size,coarse_size\na,0,yes,,\n"
    (folder / "cases.csv").write_text(table, encoding="utf-8")


def two_data_sets(folder: Path) -> None:
    write_lits(folder, 7)
    write_chaos(folder, 1, False)


BAD = {
    "lits, label missing": (lits_without_label, r"volume-7\.nii: segmentation-7\.nii is missing"),
    "lits, number twice": (lits_twice, "two files of number 7"),
    "lits, other shape": (
        lits_with(part=np.s_[1:]),
        "lits-7: the labels have 11 x 10 x 14 voxels, the image 12 x 10 x 14; repair the case",
    ),
    "lits, other place": (lits_with(shift_mm=0.5), r"lits-7: .* labels up to 0\.50 mm away"),
    "lits, other label": (lits_with(value=3), "lits-7: labels from 0 to 3, where 0 to 2 are known"),
    "lits, cut short": (lits_cut_short, r"lits-7: volume-7\.nii: cut short"),
    "decathlon, label missing": (decathlon_without_label, r"labelsTr.liver_5\.nii\.gz is missing"),
    "totalsegmentator, no liver": (
        totalsegmentator_without_liver,
        r"s0001.segmentations.liver\.nii\.gz is missing",
    ),
    "totalsegmentator, tumor": (
        totalsegmentator_with_other_labels,
        "tseg-s0001: labels from 0 to 2, where 0 to 1 are known",
    ),
    "plain, label missing": (plain_without_label, r"labels.x\.nii\.gz is missing"),
    "plain, two images": (plain_twice, "two images of x"),
    "plain, unknown case": (plain_with_stranger, r"tumors_unknown\.txt: no scan is named y"),
    "ircadb, no scan": (ircadb_without("PATIENT_DICOM"), "has neither PATIENT_DICOM nor"),
    "ircadb, no masks": (ircadb_without("MASKS_DICOM"), "has neither MASKS_DICOM nor"),
    "ircadb, no liver": (
        ircadb_without("MASKS_DICOM/Liver"),
        "ircadb-4: MASKS_DICOM has no folder liver, only bone, elsewhere, liverkyst",
    ),
    "ircadb, damaged zip": (ircadb_with_damaged_zip, r"MASKS_DICOM\.zip: .*not a zip file"),
    "ircadb, other zip": (ircadb_with_zip_of_something_else, "holds no folder MASKS_DICOM"),
    "ircadb, mask beside": (
        ircadb_with_mask((0, 0.4, 0)),
        r"ircadb-4: livertumor9: .* up to 0\.40 mm away",
    ),
    "ircadb, mask between": (ircadb_with_mask((0, 0, 1.1)), r"livertumor9: .* up to 1\.10 mm"),
    "ircadb, mask above": (
        ircadb_with_mask((0, 0, 5)),
        "livertumor9: 12 slices of the mask begin at slice 2 of 12",
    ),
    "ircadb, other pixels": (
        ircadb_with_mask(columns=9),
        "livertumor9: the slices of the mask have 10 x 9 pixels, those of the CT 10 x 14",
    ),
    "chaos, one mask missing": (chaos_without_a_mask, "chaos-1: 12 DICOM files, but 11 masks"),
    "chaos, all masks missing": (chaos_without_masks, r"chaos-1: .*Ground holds no \.png files"),
    "chaos, other pixels": (
        chaos_with_other_pixels,
        r"chaos-1: liver_GT_003\.png has 5 x 6 pixels, the CT 10 x 14",
    ),
    "chaos, damaged mask": (chaos_with_a_damaged_mask, r"chaos-1: .*liver_GT_003\.png"),
    "compact, no column": (compact_without_column, r"cases\.csv: .*size"),
    "compact, no grid": (compact_without_grid, "a is on no grid"),
    "two data sets": (two_data_sets, "holds LiTS and CHAOS, CT; give each a folder of its own"),
}


@pytest.mark.parametrize("name", BAD)
def test_what_is_wrong_is_named(tmp_path: Path, name: str) -> None:
    write, message = BAD[name]
    write(tmp_path)
    with pytest.raises(DataSetError, match=message):
        read_all(tmp_path)


def test_rounded_headers_do_not_matter(tmp_path: Path) -> None:
    lits_with(shift_mm=0.05)(tmp_path)
    (entry,) = open_data_set(tmp_path)
    np.testing.assert_allclose(entry.read().volume.affine, affine_of(), atol=1e-3)


def test_an_unknown_folder_is_told_what_is_known(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("nothing", encoding="utf-8")
    with pytest.raises(DataSetError, match="no scans in a layout") as caught:
        open_data_set(tmp_path)
    for layout in LAYOUTS.values():
        assert f"{layout.name}: {layout.tree}" in str(caught.value)


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(DataSetError, match="nowhere is no folder"):
        open_data_set(tmp_path / "nowhere")


def test_the_kind_can_be_told(tmp_path: Path) -> None:
    two_data_sets(tmp_path)
    assert open_data_set(tmp_path, Kind.CHAOS).kind is Kind.CHAOS
    with pytest.raises(DataSetError, match="3D-IRCADb-01: 3Dircadb1") as caught:
        open_data_set(tmp_path, Kind.IRCADB)
    assert "volume-N" not in str(caught.value)


def test_listing_reads_no_image(tmp_path: Path) -> None:
    for name in ("volume-1.nii", "segmentation-1.nii"):
        (tmp_path / name).write_bytes(b"no image")
    data_set = open_data_set(tmp_path)
    assert len(data_set) == 1
    with pytest.raises(DataSetError, match=r"lits-1: volume-1\.nii: not a NIfTI image"):
        data_set.entries[0].read()


# --- a real patient ------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def real_ircadb(test_data: Path, tmp_path_factory: pytest.TempPathFactory) -> DataSet:
    """Patient 1 as published, its masks in a ZIP file."""
    root = tmp_path_factory.mktemp("ircadb")
    with zipfile.ZipFile(test_data / "dicom" / "3Dircadb1.1.zip") as archive:
        archive.extractall(root)
    return open_data_set(root)


@pytest.mark.real
def test_a_real_patient(real_ircadb: DataSet, test_data: Path) -> None:
    """Against the volumes and the arrays of the compact set, which others made."""
    (entry,) = real_ircadb
    scan = entry.read()
    voxel_ml = float(np.prod(scan.volume.spacing)) / 1000
    assert (scan.labels > 0).sum() * voxel_ml == pytest.approx(1489.4, abs=0.05)
    assert (scan.labels == 2).sum() * voxel_ml == pytest.approx(111.39, abs=0.005)
    assert ndimage.label(scan.labels == 2, np.ones((3, 3, 3)))[1] == 7
    compact = open_data_set(test_data / "train")
    (same,) = (other for other in compact if other.patient_id == entry.patient_id)
    grids = make_grids(scan)
    for grid, least_dice in (("coarse", 0.98), ("fine", 0.995)):
        expected = same.read_grid(grid)
        assert grids[grid].levels.shape == expected.levels.shape
        assert grids[grid].spacing_mm == pytest.approx(expected.spacing_mm)
        both = (grids[grid].labels > 0) & (expected.labels > 0)
        total = (grids[grid].labels > 0).sum() + (expected.labels > 0).sum()
        assert 2 * both.sum() / total > least_dice
        difference = grids[grid].levels.astype(int) - expected.levels
        assert np.abs(difference).mean() < 1.5


@pytest.mark.real
def test_the_real_compact_set(test_data: Path) -> None:
    data_set = open_data_set(test_data / "train")
    assert len(data_set) == 24
    assert {entry.patient_id for entry in data_set} >= {"ircad01", "litsA", "lits05", "tsegex"}

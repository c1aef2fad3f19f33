"""Folders of data sets to cases: folds, duplicates, the cache, and what is left out."""

import os
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from dicom_io.nifti import write_nifti
from inference.phantom import PhantomSettings, make_phantom
from inference.volume import Volume
from training import dataset
from training.config import DataConfig, PhantomConfig
from training.dataset import (
    Case,
    first_patients,
    phantom_cases,
    read_cases,
    read_mixed_cases,
    select_cases,
)
from training.errors import DataSetError
from training.readers.patients import assign_fold, ircadb_patient, lits_patient

SHAPE = (12, 20, 25)


def write_case(image: Path, labels: Path, *, value: int = 0, liver: bool = True) -> None:
    """Write a scan of 3 mm voxels whose liver and tumor are brighter."""
    truth = np.zeros(SHAPE, dtype=np.uint8)
    if liver:
        truth[2:9, 3:15, 4:20] = 1
        truth[4:6, 5:9, 6:12] = 2
    affine = np.zeros((4, 4))
    affine[2, 0] = affine[1, 1] = affine[0, 2] = 3.0
    affine[3, 3] = 1.0
    hu = (value + 50 * truth).astype(np.int16)
    for path, array in ((image, hu), (labels, truth)):
        path.parent.mkdir(parents=True, exist_ok=True)
        write_nifti(Volume(array=array, affine=affine, coordinate_system="PATIENT"), path)


def write_plain(folder: Path, *names: str, liver: bool = True) -> Path:
    for name in names:
        paths = (folder / part / f"{name}.nii" for part in ("images", "labels"))
        write_case(*paths, liver=liver)
    return folder


def write_lits(folder: Path, *numbers: int) -> Path:
    for number in numbers:
        write_case(folder / f"volume-{number}.nii", folder / f"segmentation-{number}.nii")
    return folder


def by_id(cases: list[Case]) -> dict[str, Case]:
    return {case.case_id: case for case in cases}


def test_any_data_set_gives_cases_on_both_grids(tmp_path: Path) -> None:
    folder = write_plain(tmp_path / "data", "a", "b")
    (folder / "tumors_unknown.txt").write_text("a\nb\n", encoding="utf-8")
    coarse, fine = (
        by_id(read_cases(folder, grid, ("b",), tmp_path / "cache")) for grid in ("coarse", "fine")
    )
    assert coarse["a"].levels.shape == SHAPE
    assert fine["a"].spacing_mm == (3.0, 1.0, 1.0)
    assert [coarse["a"].tumors_known, coarse["b"].tumors_known] == [False, True]
    assert fine["a"].fold == assign_fold("a")
    assert fine["a"].hu[fine["a"].labels == 2].max() == pytest.approx(100, abs=1.6)


def test_the_compact_set_is_read_as_it_is(data_folder: Path, tmp_path: Path) -> None:
    cases = by_id(read_cases(data_folder, "fine", cache=tmp_path / "cache"))
    assert [(case.fold, case.tumors_known) for case in cases.values()] == [
        (0, True),
        (0, False),
        (1, False),
    ]
    assert set(np.unique(cases["a"].levels)) == {20, 60, 80}
    assert cases["a"].spacing_mm == (2.5, 1.0, 1.0)
    assert read_cases(data_folder, "coarse", cache=tmp_path / "cache") == []
    assert not (tmp_path / "cache").exists()


def test_a_missing_file_of_the_compact_set_is_named(data_folder: Path) -> None:
    (data_folder / "fine" / "b_label.nii.gz").unlink()
    with pytest.raises(DataSetError, match="b_label"):
        read_cases(data_folder, "fine")


def test_a_scan_is_read_once_unless_its_files_change(tmp_path: Path) -> None:
    folder, cache = write_plain(tmp_path / "data", "a"), tmp_path / "cache"
    image = folder / "images" / "a.nii"
    status = image.stat()
    (before,) = read_cases(folder, "coarse", cache=cache)
    write_case(image, folder / "labels" / "b.nii", value=30)
    (folder / "labels" / "b.nii").unlink()
    os.utime(image, ns=(status.st_atime_ns, status.st_mtime_ns))
    (same,) = read_cases(folder, "coarse", cache=cache)
    np.testing.assert_array_equal(same.levels, before.levels)
    os.utime(image, ns=(status.st_atime_ns, status.st_mtime_ns + 1))
    (changed,) = read_cases(folder, "coarse", cache=cache)
    assert (changed.levels > before.levels).all()


def test_all_bad_scans_are_named_and_the_good_ones_kept(tmp_path: Path) -> None:
    folder, cache = write_plain(tmp_path / "data", "a", "b", "c"), tmp_path / "cache"
    for name in ("a", "c"):
        (folder / "images" / f"{name}.nii").write_bytes(b"no image")
    with pytest.raises(DataSetError) as caught:
        read_cases(folder, "fine", cache=cache)
    assert [line[:9] for line in str(caught.value).splitlines()] == ["a: a.nii:", "c: c.nii:"]
    assert [path.name[0] for path in cache.iterdir()] == ["b", "b"]


def test_a_scan_without_liver_is_left_out_and_named(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = write_plain(tmp_path / "data", "a")
    write_plain(folder, "leg", "head", liver=False)
    for grid in ("coarse", "fine"):
        (case,) = read_cases(folder, grid, cache=tmp_path / "cache")
        assert case.case_id == "a"
        assert caplog.messages[-1] == "left out, no liver is labeled in them: head leg"


def test_a_file_that_vanishes_is_named(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    (folder / "images").mkdir(parents=True)
    (folder / "images" / "a.nii").symlink_to(tmp_path / "elsewhere.nii")
    (folder / "labels").mkdir()
    (folder / "labels" / "a.nii").write_bytes(b"")
    with pytest.raises(DataSetError, match=r"a: .*No such file"):
        read_cases(folder, "fine", cache=tmp_path / "cache")


# --- folds and patients --------------------------------------------------------------------------


def test_folds_follow_from_the_patient_alone() -> None:
    """Were they to change, a network would be judged on patients that it was trained on."""
    names = ("ircad01", "litsA", "lits02", "chaos01", "tseg-s0000")
    assert [assign_fold(name) for name in names] == [0, 1, 0, 3, 0]
    assert {assign_fold(f"case{number}", 3) for number in range(30)} == {0, 1, 2}


def test_the_folds_of_the_public_sets_are_about_equal() -> None:
    ircadb = Counter(assign_fold(ircadb_patient(number)) for number in range(1, 21))
    lits = Counter(assign_fold(patient) for patient in {lits_patient(n) for n in range(131)})
    assert sorted(ircadb.values()) == [4, 4, 4, 4, 4]
    assert min(lits.values()) > 20
    assert len(lits) == 5


def test_a_patient_is_the_same_in_each_data_set() -> None:
    assert [lits_patient(number) for number in (0, 1, 2, 27, 28, 47, 48, 130)] == [
        "litsA",
        "litsA",
        "lits02",
        "lits27",
        "ircad01",
        "ircad20",
        "lits48",
        "lits130",
    ]


def test_common_patients_are_named_and_keep_one_fold(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    lits = write_lits(tmp_path / "lits", 5, 29, 28)
    decathlon = tmp_path / "decathlon"
    for number in (28, 6):
        parts = (decathlon / part / f"liver_{number}.nii" for part in ("imagesTr", "labelsTr"))
        write_case(*parts)
    compact = tmp_path / "compact"
    write_case(compact / "fine" / "x_ct.nii.gz", compact / "fine" / "x_label.nii.gz")
    table = "case_id,patient,fold,tumor_labels,fine_size,coarse_size\nx,ircad01,3,yes,1,\n"
    (compact / "cases.csv").write_text(table, encoding="utf-8")
    assert assign_fold("ircad01") != 3
    cases = read_mixed_cases([lits, decathlon, compact], "fine", cache=tmp_path / "cache")
    assert {case.case_id: case.fold for case in cases} == {
        "lits-5": assign_fold("lits05"),
        "lits-28": 3,
        "lits-29": assign_fold("ircad02"),
        "msd-6": assign_fold("lits06"),
        "msd-28": 3,
        "x": 3,
    }
    warnings = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert warnings == [
        "LiTS and Medical Segmentation Decathlon, Task03_Liver have 1 patients in common, "
        "who count twice: ircad01",
        "LiTS and compact set have 1 patients in common, who count twice: ircad01",
    ]


def test_two_scans_of_a_patient_lie_in_one_fold(tmp_path: Path) -> None:
    folder = write_lits(tmp_path / "lits", *range(6))
    cases = read_cases(folder, "coarse", cache=tmp_path / "cache")
    assert cases[0].fold == cases[1].fold
    held_out = DataConfig(grid="coarse", held_out_fold=cases[0].fold)
    inside, outside = (select_cases(cases, held_out, held_out=flag) for flag in (True, False))
    assert {"lits-0", "lits-1"} <= by_id(inside).keys()
    assert len(inside) + len(outside) == 6


def make_case(patient_id: str, *, tumor: bool) -> Case:
    labels = np.ones((2, 3, 3), dtype=np.uint8)
    labels[0, 0, 0] = 2 if tumor else 1
    return Case(
        case_id=f"scan of {patient_id}",
        patient_id=patient_id,
        levels=labels,
        labels=labels,
        spacing_mm=(1.0, 1.0, 1.0),
        tumors_known=tumor,
        fold=0,
    )


def test_fewer_patients_are_a_part_of_more_and_have_as_many_tumors() -> None:
    annotated = [make_case(name, tumor=True) for name in ("a", "a", "b", "c")]
    others = [make_case(f"o{number}", tumor=False) for number in range(6)]
    before: set[str] = set()
    for count in range(1, 10):
        chosen = first_patients([*annotated, *others], count)
        patients = {case.patient_id for case in chosen}
        assert len(patients) == count
        assert before < patients
        assert abs(len(patients & {"a", "b", "c"}) - count / 3) < 1
        before = patients
    assert len(chosen) == len(annotated) + len(others)
    with pytest.raises(DataSetError, match="10 patients are asked for, and there are 9"):
        first_patients(annotated + others, 10)


# --- phantoms ------------------------------------------------------------------------------------


def test_phantoms_take_the_same_way(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = PhantomSettings(shape=(60, 80, 80), spacing_mm=(5.0, 4.4, 4.4), lesions=())
    phantom = make_phantom(settings)
    monkeypatch.setattr(dataset, "_draw_phantom", lambda seed: phantom)
    config = PhantomConfig(count=2, first_seed=2000)
    cases = phantom_cases(config, "coarse", tmp_path)
    assert [case.case_id for case in cases] == ["phantom2000", "phantom2001"]
    assert all(case.synthetic and case.tumors_known and case.fold is None for case in cases)
    assert cases[0].levels.shape == (100, 117, 117)
    expected_ml = (phantom.labels.array > 0).sum() * 5.0 * 4.4 * 4.4
    assert (cases[0].labels > 0).sum() * 27.0 == pytest.approx(expected_ml, rel=0.02)
    monkeypatch.setattr(dataset, "_draw_phantom", None)
    (again, _) = phantom_cases(config, "fine", tmp_path)
    assert again.spacing_mm == (5.0, 1.0, 1.0)

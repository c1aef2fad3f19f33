import csv
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("monai", reason="monai comes with the extra 'train'")
pytest.importorskip("matplotlib", reason="matplotlib comes with the extra 'train'")

from inference.labels import Label
from inference.manifest import ModelIdentity
from inference.volume import Volume
from training.calibration import measure_reliability
from training.gallery import Gallery, Structure
from training.report import write_report
from training.report_text import Report
from training.scans import LabeledScan
from training.scores import BoxScore, CaseScore, pool, score_labels
from training.targets import list_targets

MODEL = ModelIdentity(name="test-model", version="1.2.3", digest="abc", license="Free.")
SHAPE = (16, 32, 40)
SPACING_MM = (2.5, 1.5, 1.5)


def scan_of(case_id: str, *, tumor: bool = True, tumors_known: bool = True) -> LabeledScan:
    """A block of liver on the patient's right, with a tumor; slices run from head to feet."""
    labels = np.zeros(SHAPE, dtype=np.uint8)
    labels[3:13, 6:26, 5:25] = Label.LIVER
    labels[6:10, 10:18, 10:18] = Label.TUMOR if tumor else Label.LIVER
    affine = np.zeros((4, 4))
    affine[2, 0], affine[1, 1], affine[0, 2], affine[3, 3] = -2.5, 1.5, 1.5, 1.0
    array = np.array([-100, 100, 40], dtype=np.int16)[labels]
    return LabeledScan(
        case_id=case_id,
        patient_id=case_id,
        volume=Volume(array=array, affine=affine, coordinate_system="PATIENT"),
        labels=labels,
        tumors_known=tumors_known,
        fold=2,
    )


def cut_result(scan: LabeledScan) -> np.ndarray:
    """Leave out a corner of the liver: at the head, in front, on the patient's left."""
    found = scan.labels.copy()
    found[3:6, 6:12, 17:25] = 0
    return found


@pytest.fixture
def scored() -> tuple[tuple[CaseScore, ...], Gallery]:
    gallery, scores = Gallery(limit=2), []
    whole, free = scan_of("whole"), scan_of("free", tumor=False)
    unknown = scan_of("unknown", tumor=False, tumors_known=False)
    results = {"whole": whole.labels, "free": whole.labels, "unknown": cut_result(unknown)}
    reliability = measure_reliability(np.linspace(0, 1, 50, dtype=np.float32), np.eye(50)[0] > 0)
    for scan in (whole, free, unknown):
        score = score_labels(scan, results[scan.case_id])
        gallery.show(scan, results[scan.case_id], score)
        scores.append(replace(score, organ_reliability=reliability))
    empty = np.zeros(SHAPE, np.uint8)
    failed = replace(score_labels(whole, empty), case_id="failed", note="no | liver\nfound")
    return (*scores, failed), gallery


def test_a_report_is_read_again(
    scored: tuple[tuple[CaseScore, ...], Gallery], tmp_path: Path
) -> None:
    cases, gallery = scored
    boxes = (BoxScore(case_id="whole", liver_in_box=0.9, box_ml=1500.0),)
    report = Report(models=(MODEL,), cases=cases, boxes=boxes)
    write_report(tmp_path / "new" / "report", report, gallery.worst)
    folder = tmp_path / "new" / "report"
    names = {"boxplots.png", "calibration.png", "report.md", "scores.csv", "scores.json"}
    assert {path.name for path in folder.iterdir()} == names | {"worst.png"}
    _check_json(json.loads((folder / "scores.json").read_text(encoding="utf-8")))
    with (folder / "scores.csv").open(encoding="utf-8", newline="") as file:
        _check_rows(list(csv.DictReader(file)))
    _check_text((folder / "report.md").read_text(encoding="utf-8"))
    for path in folder.glob("*.png"):
        with Image.open(path) as picture:
            assert min(picture.size) > 400
            assert np.asarray(picture.convert("L")).std() > 10


def _check_json(content: dict) -> None:
    assert content["models"][0]["version"] == "1.2.3"
    assert [case["case_id"] for case in content["cases"]] == ["whole", "free", "unknown", "failed"]
    whole, free, unknown, failed = content["cases"]
    assert (whole["liver"]["dice"], whole["tumor"]["surface_dice"]) == (1.0, 1.0)
    assert whole["lesions"]["large_half_overlap"]["f1"] == 1.0
    assert free["false_tumor_ml"] == pytest.approx(256 * 2.5 * 1.5 * 1.5 / 1000)
    assert (unknown["tumor"], unknown["lesions"], unknown["true_burden"]) == (None, None, None)
    assert (failed["liver"]["dice"], failed["liver"]["assd_mm"]) == (0.0, None)
    assert failed["organ_reliability"] is None
    assert content["pooled"]["cases_without_result"] == 1
    assert content["pooled"]["tumor"]["dice"] == {
        "cases": 2,
        "mean": 0.5,
        "median": 0.5,
        "min": 0.0,
        "max": 1.0,
    }
    assert len(content["targets"]) == 6
    assert content["boxes"][0]["liver_in_box"] == 0.9


def _check_rows(rows: list[dict[str, str]]) -> None:
    assert [row["case_id"] for row in rows] == ["whole", "free", "unknown", "failed"]
    assert [row["liver_dice"] for row in rows][::3] == ["1.0", "0.0"]
    assert [row["tumor_dice"] for row in rows] == ["1.0", "0.0", "", "0.0"]
    assert [row["lesions_any_overlap_detected"] for row in rows] == ["1", "0", "", "0"]
    assert float(rows[0]["organ_calibration_error"]) > 0.4
    assert rows[3]["note"] == "no | liver\nfound"


def _check_text(text: str) -> None:
    assert text.startswith("# Evaluation of test-model 1.2.3\n")
    assert "Cases: 4 of fold 2; tumors annotated in 3 of them; 1 without a result." in text
    assert "| Liver Dice, lowest | at least 0.94 | 0.000 | **no** |" in text
    assert "| False tumor in a tumor-free liver, ml, most | at most 0.5 | 1.440 | **no** |" in text
    assert "0.674 (best of 2017), 0.739 (2018)" in text
    assert "70 hidden test scans and so are not directly comparable" in text
    assert r"no \| liver found |" in text
    for name in ("boxplots", "calibration", "worst"):
        assert f"({name}.png)" in text
    for table in text.split("\n\n"):
        lines = [line.replace(r"\|", "") for line in table.splitlines() if line.startswith("|")]
        assert len({line.count("|") for line in lines}) <= 1


def test_a_report_of_nothing_says_so(tmp_path: Path) -> None:
    write_report(tmp_path, Report(models=(MODEL,), cases=()))
    assert {path.name for path in tmp_path.iterdir()} == {"report.md", "scores.csv", "scores.json"}
    text = (tmp_path / "report.md").read_text(encoding="utf-8")
    assert text.count("not measured") == 6
    assert "nan" not in text


def test_a_report_without_tumors(tmp_path: Path) -> None:
    scan = scan_of("a", tumor=False, tumors_known=False)
    cases = (score_labels(scan, cut_result(scan)),)
    write_report(tmp_path, Report(models=(MODEL,), cases=cases))
    text = (tmp_path / "report.md").read_text(encoding="utf-8")
    assert "Tumor, case by case" not in text
    assert "| Tumor Dice | 0 | - | - | - | - |" in text
    assert (tmp_path / "boxplots.png").exists()


def test_targets_are_reached_at_their_limit(
    scored: tuple[tuple[CaseScore, ...], Gallery],
) -> None:
    cases, _ = scored
    perfect = list_targets(pool(cases[:1]))
    assert [target.is_met for target in perfect] == [True, True, None, True, True, None]
    false_tumor = replace(perfect[-1], value=0.5)
    assert false_tumor.is_met
    assert not replace(false_tumor, value=0.51).is_met
    assert replace(perfect[0], value=0.965).is_met
    assert not replace(perfect[0], value=0.9649).is_met


def test_the_gallery_keeps_the_worst() -> None:
    gallery = Gallery(limit=2)
    for case_id, depth in (("a", 1), ("b", 3), ("c", 2), ("d", 0)):
        scan = scan_of(case_id)
        found = scan.labels.copy()
        found[3 : 3 + depth] = 0
        gallery.show(scan, found, score_labels(scan, found))
    assert [(view.case_id, view.structure) for view in gallery.worst] == [
        ("b", Structure.LIVER),
        ("c", Structure.LIVER),
    ]


def test_the_cuts_go_through_the_error_and_stand_upright() -> None:
    scan, gallery = scan_of("a"), Gallery()
    found = cut_result(scan)
    gallery.show(scan, found, score_labels(scan, found))
    (view,) = gallery.worst
    axial, coronal, sagittal = view.planes
    for plane in view.planes:
        assert plane.hu.shape == plane.truth.shape == plane.found.shape
        assert (plane.truth & ~plane.found).any()
        assert not (plane.found & ~plane.truth).any()
    # What is missing lies in front and on the left (axial: up, right), and at the head (up).
    for plane, right in ((axial, True), (coronal, True), (sagittal, False)):
        (down, across), (middle_down, middle_across) = (
            np.argwhere(mask).mean(axis=0) for mask in (plane.truth & ~plane.found, plane.truth)
        )
        assert down < middle_down
        assert (across > middle_across) == right
    assert axial.size_mm == pytest.approx((39 * 1.5, 32 * 1.5), abs=3)

"""The filter of false tumors: from what packages find in scans they never saw to a package."""

import io
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from rich.console import Console

pytest.importorskip("skl2onnx", reason="skl2onnx comes with the extra 'train'")

from config.inference import InferenceSettings
from inference.candidate_filter import CandidateFilter
from inference.candidates import FEATURES
from inference.errors import LiverNotFound, ModelPackageError
from inference.identity import identify
from inference.labels import Label
from inference.manifest import read_package, verify_package
from inference.preprocess import orient
from inference.segment import BoxProbabilities
from inference.volume import Volume
from training import candidate_training
from training.candidate_training import LabeledCandidates, add_filter, judge_filter
from training.errors import DataSetError
from training.readers import ScanEntry

LABELS = (Label.BACKGROUND, Label.LIVER, Label.TUMOR)
MANIFEST = """
format_version = 1
name = "test-model"
version = "1.2.3"
description = "Thresholds."
license = "Free."
training_data = []
held_out_fold = {fold}

[window]
low_hu = -160.0
high_hu = 240.0

[locator]
kind = "stack"
file = "any.onnx"
sha256 = "{digest}"
labels = ["background", "liver"]
context_slices = 3
context_distance_mm = 3.0
grid = {{ in_plane_mm = 3.0, slice_mm = 3.0 }}

[segmenter]
kind = "stack"
file = "any.onnx"
sha256 = "{digest}"
labels = ["background", "liver", "tumor"]
context_slices = 3
context_distance_mm = 3.0
grid = {{ in_plane_mm = 3.0, slice_mm = 3.0 }}

[postprocessing]
box_margin_mm = 6.0
max_outside_mm = 8.0
min_liver_ml = 5.0
min_tumor_mm3 = 30.0
"""


def write_package(folder: Path, fold: int) -> str:
    folder.mkdir()
    (folder / "any.onnx").write_bytes(b"weights")
    text = MANIFEST.format(fold=fold, digest=sha256(b"weights").hexdigest())
    (folder / "manifest.toml").write_text(text, encoding="utf-8")
    return str(folder)


@dataclass(frozen=True, kw_only=True)
class Scan(ScanEntry):
    """A liver of 100 HU with dark lesions of 5 x 5 x 5 voxels and flat vessels of 130 HU."""

    @property
    def files(self) -> tuple[Path, ...]:
        return ()

    def _load(self) -> tuple[Volume, NDArray[np.uint8]]:
        rng = np.random.default_rng(sum(self.case_id.encode()))
        array = np.full((20, 60, 60), 100, dtype=np.int16)
        labels = np.ones(array.shape, dtype=np.uint8)
        for at in (8, 24, 40):
            array[4:9, 10:15, at : at + 5] = rng.integers(40, 70)
            labels[4:9, 10:15, at : at + 5] = Label.TUMOR
            array[14, 10:50, at : at + 3] = rng.integers(120, 140)
        affine = np.diag((2.0, 1.0, 1.0, 1.0))[[2, 1, 0, 3]]
        return Volume(array=array, affine=affine, coordinate_system="PATIENT"), labels


class Thresholds:
    """Takes for tumor what is not as dense as liver."""

    def probabilities(self, volume: Volume) -> BoxProbabilities:
        scan = orient(volume)
        tumor = np.abs(scan.array.astype(np.float32) - 100) / 100
        values = np.stack([np.zeros_like(tumor), tumor < 0.1, tumor >= 0.1]).astype(np.float32)
        image = ((scan.array + 160) / 400).astype(np.float32)
        return BoxProbabilities(values=values, image=image, axes=scan.axes, label_values=LABELS)


class Blind:
    def probabilities(self, volume: Volume) -> BoxProbabilities:
        raise LiverNotFound("nothing here")


def entries(*patients: str, fold: int) -> list[ScanEntry]:
    return [
        Scan(case_id=f"scan-{name}", patient_id=name, tumors_known=True, fold=fold)
        for name in patients
    ]


def quiet() -> Console:
    return Console(file=io.StringIO())


def test_a_package_gets_a_filter_that_drops_what_is_no_lesion(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[InferenceSettings] = []

    def load(settings: InferenceSettings) -> Thresholds:
        asked.append(settings)
        return Thresholds()

    monkeypatch.setattr(candidate_training, "load_segmenter", load)
    first, second = (write_package(tmp_path / f"p{fold}", fold) for fold in (0, 1))
    scans = [*entries("a", "b", fold=0), *entries("c", "d", fold=1), *entries("e", fold=2)]
    score = add_filter([first, second], scans, second, quiet())
    assert [(settings.model, settings.candidate_filter) for settings in asked] == [
        (first, False),
        (second, False),
    ]
    assert (score.candidates, score.lesions) == (24, 12)
    assert (score.kept, score.kept_lesions) == (12, 12)
    assert (score.precision_before, score.precision_after) == (0.5, 1.0)
    package = read_package(Path(second))
    verify_package(package)
    assert package.manifest.candidates is not None
    assert package.manifest.held_out_fold == 1
    assert {path.name for path in package.folder.iterdir()} == {
        "any.onnx",
        "candidates.onnx",
        "manifest.toml",
    }
    path = package.folder / "manifest.toml"
    whole = path.read_text(encoding="utf-8")
    path.write_text(whole.replace('    "tumor",\n', ""), encoding="utf-8")
    with pytest.raises(ModelPackageError, match="candidates filters tumor"):
        read_package(package.folder)
    path.write_text(whole, encoding="utf-8")
    with_filter, without = (
        identify(InferenceSettings(model=second, candidate_filter=used)) for used in (True, False)
    )
    assert with_filter == package.identity
    assert without.name == "test-model-unfiltered"
    assert without.digest != with_filter.digest
    box = Thresholds().probabilities(scans[4].read().volume)
    chosen = CandidateFilter(package.manifest.candidates, Path(second) / "candidates.onnx")
    assert chosen.apply(box.values, LABELS, box.image, box.spacing_mm) == 3
    assert set(np.unique(np.argwhere(box.values[2] > 0)[:, 0])) == {4, 5, 6, 7, 8}


def test_what_cannot_be_learned_from_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = write_package(tmp_path / "p", 0)
    monkeypatch.setattr(candidate_training, "load_segmenter", lambda settings: Thresholds())
    with pytest.raises(DataSetError, match="no scan with annotated tumors"):
        add_filter([package], entries("a", fold=1), package, quiet())
    with pytest.raises(DataSetError, match="without the patient a"):
        add_filter([package], entries("a", fold=0), package, quiet())
    path = Path(package) / "manifest.toml"
    text = path.read_text(encoding="utf-8")
    path.write_text(text.replace(', "tumor"]', "]"), encoding="utf-8")
    with pytest.raises(DataSetError, match="labels no tumor"):
        add_filter([package], entries("a", fold=0), package, quiet())
    path.write_text(text.replace("held_out_fold = 0", ""), encoding="utf-8")
    with pytest.raises(DataSetError, match="was trained on all folds"):
        add_filter([package], entries("a", fold=0), package, quiet())


def test_a_scan_without_a_liver_is_passed_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = write_package(tmp_path / "p", 0)
    monkeypatch.setattr(candidate_training, "load_segmenter", lambda settings: Blind())
    with pytest.raises(DataSetError, match="no scan with annotated tumors"):
        add_filter([package], entries("a", fold=0), package, quiet())


def test_each_patient_is_judged_by_a_filter_that_never_saw_it() -> None:
    """Features that tell the patients apart, and nothing else, are of no use."""
    rng = np.random.default_rng(0)
    patients = np.repeat([f"p{number}" for number in range(6)], 20)
    lesion = np.tile([True, False], 60)
    noise = rng.normal(size=(120, len(FEATURES))).astype(np.float32)
    noise[:, 0] = np.repeat(np.arange(6), 20)
    useless = judge_filter(
        LabeledCandidates(features=noise, is_lesion=lesion, patient_ids=patients)
    )
    assert useless.precision_after is not None
    assert useless.precision_after < 0.65
    telling = noise.copy()
    telling[:, 1] += 6 * lesion
    useful = judge_filter(
        LabeledCandidates(features=telling, is_lesion=lesion, patient_ids=patients)
    )
    assert useful.kept_lesions >= 0.9 * useful.lesions
    assert useful.precision_after is not None
    assert useful.precision_after > 0.9

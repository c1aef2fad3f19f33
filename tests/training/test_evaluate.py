import io
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from rich.console import Console
from typer.testing import CliRunner, Result

pytest.importorskip("monai", reason="monai comes with the extra 'train'")
pytest.importorskip("matplotlib", reason="matplotlib comes with the extra 'train'")

from config.inference import InferenceSettings
from inference.errors import LiverNotFound
from inference.findings import RunRecord, Segmentation
from inference.labels import Label
from inference.manifest import ModelIdentity
from inference.preprocess import Box, orient
from inference.segment import BoxProbabilities
from inference.volume import Volume
from node.cli import app
from training import evaluate as program
from training.errors import DataSetError
from training.evaluate import evaluate, score_box
from training.gallery import Gallery
from training.scans import LabeledScan

LABELS = (Label.BACKGROUND, Label.LIVER, Label.TUMOR)
SHAPE = (10, 24, 20)
SPACING_MM = (3.0, 1.0, 1.0)


def volume_of(case: int) -> Volume:
    affine = np.zeros((4, 4))
    affine[2, 0], affine[1, 1], affine[0, 2] = SPACING_MM
    affine[:, 3] = (0.0, 0.0, case, 1.0)
    array = np.zeros(SHAPE, dtype=np.int16)
    return Volume(array=array, affine=affine, coordinate_system="PATIENT")


def scan_of(case: int) -> LabeledScan:
    labels = np.zeros(SHAPE, dtype=np.uint8)
    labels[2:8, 4:20, 4:16] = Label.LIVER
    labels[4:6, 8:12, 8 : 12 - case] = Label.TUMOR
    return LabeledScan(
        case_id=f"case{case}",
        patient_id=f"p{case}",
        volume=volume_of(case),
        labels=labels,
        tumors_known=True,
    )


@dataclass
class PerfectSegmenter:
    """Knows the truth of the first case, and does for another what it is told to do."""

    identity: ModelIdentity = field(
        default_factory=lambda: ModelIdentity(name="m", version="1.0.0", digest="0", license="")
    )
    failures: dict[int, Callable[[], None]] = field(default_factory=dict)
    held_out_fold: int | None = None

    @property
    def package(self) -> SimpleNamespace:
        return SimpleNamespace(manifest=SimpleNamespace(held_out_fold=self.held_out_fold))

    def segment(self, volume: Volume) -> Segmentation:
        self._fail(volume)
        run = RunRecord(device="cpu", backend="none", precision="fp32", timings_s={})
        labels = np.resize(scan_of(0).labels, volume.shape)
        return Segmentation(labels=volume.with_array(labels), model=self.identity, run=run)

    def probabilities(self, volume: Volume) -> BoxProbabilities:
        self._fail(volume)
        labels = self.segment(volume).labels.array
        values = np.stack([labels == value for value in LABELS]).astype(np.float32)
        image = np.zeros(values.shape[1:], dtype=np.float32)
        axes = orient(volume).axes
        return BoxProbabilities(values=values, image=image, axes=axes, label_values=LABELS)

    def locate(self, volume: Volume) -> Box:
        self._fail(volume)
        # All but the last of 6 slices, all rows, 9 of 12 columns.
        return (6.0, 20.9), (4.0, 19.0), (4.0, 12.5)

    def _fail(self, volume: Volume) -> None:
        self.failures.get(round(volume.affine[2, 3]), lambda: None)()


def find_no_liver() -> None:
    raise LiverNotFound("too little liver")


def crash() -> None:
    raise RuntimeError("out of luck")


def test_every_case_is_scored(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("INFO"):
        first, second = evaluate(PerfectSegmenter(), [scan_of(0), scan_of(1)])
    assert (first.case_id, first.liver.dice, first.note) == ("case0", 1.0, "")
    assert second.tumor is not None
    assert second.tumor.dice == pytest.approx(2 * 24 / (24 + 32))
    assert second.organ_reliability is not None
    assert second.organ_reliability.expected_calibration_error == 0.0
    assert second.tumor_reliability is not None
    assert second.tumor_reliability.expected_calibration_error == pytest.approx(8 / 1152)
    lines = [record.getMessage() for record in caplog.records]
    assert lines[0].startswith("case0: liver Dice 1.000, tumor Dice 1.000, 1 of 1 lesions, ")
    assert lines[1].startswith("case1: liver Dice 1.000, tumor Dice 0.857, 1 of 1 lesions, ")


@pytest.mark.parametrize(
    ("failure", "note", "trace"),
    [(find_no_liver, "too little liver", False), (crash, "RuntimeError: out of luck", True)],
)
def test_a_failure_counts_as_an_empty_result_and_the_run_goes_on(
    caplog: pytest.LogCaptureFixture, failure: Callable[[], None], note: str, trace: bool
) -> None:
    segmenter = PerfectSegmenter(failures={1: failure})
    with caplog.at_level("INFO"):
        scores = evaluate(segmenter, [scan_of(case) for case in range(3)])
    assert [score.note for score in scores] == ["", note, ""]
    failed = scores[1]
    assert failed.liver.dice == 0.0
    assert failed.liver.assd_mm is None
    assert failed.lesions is not None
    assert (failed.lesions.any_overlap.true, failed.lesions.any_overlap.detected) == (1, 0)
    assert failed.found_burden == 0.0
    assert failed.organ_reliability is None
    assert note in caplog.text
    assert any(record.exc_info for record in caplog.records) == trace


def test_scans_are_read_one_by_one() -> None:
    scored: list[str] = []

    class Listening(Gallery):
        def show(self, scan, found, score):
            scored.append(scan.case_id)

    def read() -> Iterator[LabeledScan]:
        for case in range(3):
            assert len(scored) == case
            yield scan_of(case)

    assert len(evaluate(PerfectSegmenter(), read(), gallery=Listening())) == 3


def test_a_terminal_is_shown_a_bar() -> None:
    for is_terminal in (True, False):
        console = Console(file=io.StringIO(), force_terminal=is_terminal)
        evaluate(PerfectSegmenter(), [scan_of(0)], console=console)
        assert ("evaluating" in console.file.getvalue()) == is_terminal


def test_the_box_of_the_locator() -> None:
    score = score_box(PerfectSegmenter(), scan_of(0))
    assert score.liver_in_box == pytest.approx(5 / 6 * 9 / 12)
    assert score.box_ml == pytest.approx(14.9 * 15.0 * 8.5 / 1000)
    for failure, note in ((find_no_liver, "too little liver"), (crash, "RuntimeError")):
        failed = score_box(PerfectSegmenter(failures={0: failure}), scan_of(0))
        assert failed.liver_in_box == 0.0
        assert failed.note.startswith(note)


@pytest.fixture
def run_command(
    data_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., Result]:
    """Give a function that evaluates packages; their names say which fold they never saw."""

    def load(settings: InferenceSettings) -> PerfectSegmenter:
        return PerfectSegmenter(held_out_fold=int(settings.model) if settings.model else None)

    monkeypatch.setattr(program, "load_segmenter", load)

    def run(*words: str) -> Result:
        paths = ["--data", str(data_folder), "--out", str(tmp_path / "out")]
        return CliRunner().invoke(app, ["evaluate", *words, *paths])

    return run


@pytest.mark.parametrize(
    ("words", "cases"),
    [
        (["1"], ["c"]),
        (["0"], ["a", "b"]),
        (["0", "1"], ["a", "b", "c"]),
        (["0", "--fold", "1"], ["c"]),
        ([""], ["a", "b", "c"]),
    ],
)
def test_each_package_is_judged_on_what_it_never_saw(
    run_command: Callable[..., Result], tmp_path: Path, words: list[str], cases: list[str]
) -> None:
    result = run_command(*words)
    assert result.exit_code == 0, result.output
    assert result.stdout.strip() == str(tmp_path / "out" / "report.md")
    content = json.loads((tmp_path / "out" / "scores.json").read_text(encoding="utf-8"))
    assert [case["case_id"] for case in content["cases"]] == cases
    assert [box["case_id"] for box in content["boxes"]] == cases
    assert f"Cases: {len(cases)} of fold" in (tmp_path / "out" / "report.md").read_text("utf-8")


def test_a_case_can_be_named_free_of_tumors(
    run_command: Callable[..., Result], tmp_path: Path
) -> None:
    assert run_command("1", "--tumor-free", "c").exit_code == 0
    (case,) = json.loads((tmp_path / "out" / "scores.json").read_text("utf-8"))["cases"]
    assert case["tumors_known"]
    assert case["false_tumor_ml"] is not None


def test_a_fold_without_cases_is_an_error(run_command: Callable[..., Result]) -> None:
    result = run_command("1", "--fold", "7")
    assert isinstance(result.exception, DataSetError)
    assert "fold 7" in str(result.exception)

"""The whole way: data sets as published, two short runs, a package, a scan through it."""

from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="torch comes with the extra 'train'")
pytest.importorskip("onnx", reason="onnx comes with the extra 'train'")

from typer.testing import CliRunner, Result

import training
from config.inference import InferenceSettings
from dicom_io.nifti import write_nifti
from inference.errors import LiverNotFound
from inference.manifest import find_package, read_package, verify_package
from inference.segment import load_segmenter
from inference.volume import Volume
from node.cli import app
from training.architectures import build_network
from training.errors import ExperimentError
from training.recipe import read_recipe

# torch warns that this exporter is to be replaced; the new one takes 20 s for such a network.
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")

SHIPPED = Path(training.__file__).parent / "configs"

LOCATOR = """
name = "locator"
labels = ["background", "liver"]

[data]
grid = "coarse"
patch_slices = 16
patch_px = 32

[network]
dimensions = 3
channels = [4, 8]

[optimization]
steps = 2
batch = 2
"""


@pytest.fixture
def recipe_folder(tmp_path: Path, experiment_file: Path, papers_file: Path) -> Path:
    folder = tmp_path / "recipe"
    folder.mkdir()
    papers_file.rename(folder / "papers.toml")
    segmenter = experiment_file.read_text(encoding="utf-8").replace("steps = 1000", "steps = 2")
    for name, text in (("locator", LOCATOR), ("segmenter", segmenter)):
        (folder / f"{name}.toml").write_text(text, encoding="utf-8")
    return folder


@pytest.fixture
def lits_folder(tmp_path: Path) -> Path:
    labels = np.zeros((12, 40, 40), dtype=np.uint8)
    labels[2:10, 5:35, 5:30] = 1
    labels[4:7, 10:20, 10:20] = 2
    affine = np.diag((2.5, 1.0, 1.0, 1.0))[[2, 1, 0, 3]]
    folder = tmp_path / "lits"
    folder.mkdir()
    for number in (2, 3):
        for name, array in (("volume", 60 * labels.astype(np.int16)), ("segmentation", labels)):
            volume = Volume(array=array, affine=affine, coordinate_system="PATIENT")
            write_nifti(volume, folder / f"{name}-{number}.nii")
    return folder


def run_train(recipe: Path, data: Path, tmp_path: Path, *options: str) -> Result:
    paths = {"--data": data, "--out": tmp_path / "out", "--cache": tmp_path / "cases"}
    words = [str(word) for option in paths.items() for word in option]
    phantoms = ["--phantoms", str(tmp_path / "phantoms")]
    return CliRunner().invoke(app, ["train", str(recipe), *words, *phantoms, *options])


def test_one_command_makes_a_package_that_runs(
    recipe_folder: Path, lits_folder: Path, tmp_path: Path
) -> None:
    result = run_train(recipe_folder, lits_folder, tmp_path)
    assert result.exit_code == 0, result.output
    assert result.stdout.strip() == str(tmp_path / "out" / "package")
    for stage in ("locator", "segmenter"):
        for name in ("checkpoint.pt", "experiment.json", "samples.png", "curves.png"):
            assert (tmp_path / "out" / stage / name).stat().st_size > 0
    assert len(list((tmp_path / "cases").iterdir())) == 4
    segmenter = load_segmenter(InferenceSettings(model=str(tmp_path / "out" / "package")))
    manifest = segmenter.package.manifest
    assert (manifest.locator.kind, manifest.segmenter.kind) == ("volume", "stack")
    assert manifest.segmenter.context_slices == 3
    assert manifest.held_out_fold is None
    array = np.zeros((20, 64, 64), dtype=np.int16)
    scan = Volume(array=array, affine=np.diag((2.0, 1.0, 1.0, 1.0)), coordinate_system="PATIENT")
    # That there is no liver is as good an answer from a network that has learned nothing.
    with suppress(LiverNotFound):
        assert segmenter.segment(scan).labels.array.shape == array.shape


def test_stages_can_be_trained_one_by_one(
    recipe_folder: Path, lits_folder: Path, tmp_path: Path
) -> None:
    hold_out = ("--hold-out", "9")
    first = run_train(recipe_folder, lits_folder, tmp_path, "--stage", "locator", *hold_out)
    assert first.exit_code == 0, first.output
    assert "holds not all stages" in " ".join(first.output.split())
    assert not (tmp_path / "out" / "package").exists()
    second = run_train(recipe_folder, lits_folder, tmp_path, "--stage", "segmenter", *hold_out)
    assert second.exit_code == 0, second.output
    assert read_package(tmp_path / "out" / "package").manifest.held_out_fold == 9
    third = run_train(recipe_folder, lits_folder, tmp_path, "--stage", "spleen")
    assert isinstance(third.exception, ExperimentError)


def test_a_segmenter_takes_the_locator_of_another_run(
    recipe_folder: Path, lits_folder: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    first = run_train(recipe_folder, lits_folder, tmp_path, "--stage", "locator")
    assert first.exit_code == 0, first.output
    locator, other = tmp_path / "out" / "locator", tmp_path / "other"
    options = ("--locator", str(locator), "--hold-out", "9")
    result = run_train(recipe_folder, lits_folder, other, *options)
    assert result.exit_code == 0, result.output
    assert not (other / "out" / "locator").exists()
    package = read_package(other / "out" / "package")
    verify_package(package)
    assert package.manifest.locator.kind == "volume"
    assert package.manifest.held_out_fold is None, "the locator was trained on all folds"
    assert "held out different folds" in caplog.text
    wrong = run_train(recipe_folder, lits_folder, other, "--locator", str(tmp_path))
    assert "holds no training run, and there is no model package" in str(wrong.exception)


def test_a_segmenter_takes_the_locator_of_a_package(
    recipe_folder: Path, lits_folder: Path, tmp_path: Path
) -> None:
    options = ("--locator", "hepar-liver-ct", "--hold-out", "4")
    result = run_train(recipe_folder, lits_folder, tmp_path, *options)
    assert result.exit_code == 0, result.output
    package = read_package(tmp_path / "out" / "package")
    verify_package(package)
    shipped = find_package("hepar-liver-ct").manifest
    assert package.manifest.locator == shipped.locator
    assert package.manifest.segmenter != shipped.segmenter
    assert package.manifest.held_out_fold == shipped.held_out_fold == 4
    assert package.manifest.candidates is None, "the filter belongs to the segmenter"


def test_weights_that_no_network_begins_with_are_refused(
    recipe_folder: Path, lits_folder: Path, tmp_path: Path
) -> None:
    result = run_train(recipe_folder, lits_folder, tmp_path, "--encoder-weights", "any.pth")
    assert isinstance(result.exception, ExperimentError)
    assert "begins with any.pth" in str(result.exception)
    assert not (tmp_path / "out").exists()


def test_what_is_missing_is_named_before_anything_is_done(
    recipe_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("training.cli.find_spec", lambda name: None if name == "onnx" else name)
    result = run_train(recipe_folder, tmp_path, tmp_path)
    assert str(result.exception).startswith("onnx not installed: pip install 'hepar[train]'")


def test_shipped_recipes_are_in_order() -> None:
    """Of each segmenter: input channels, million weights, and the loss."""
    found = {}
    for folder in SHIPPED.iterdir():
        recipe = read_recipe(folder.name)
        assert recipe.papers.is_file()
        experiment = recipe.experiments["segmenter"]
        with torch.device("meta"):
            network = build_network(experiment)
        weights = sum(parameter.numel() for parameter in network.parameters())
        loss = "+".join(experiment.optimization.loss)
        found[folder.name] = (network.inputs, round(weights / 1e6, 1), loss)
    published = {
        "unet-2d": (1, 31.0, "bce+dice"),
        "unet-resnet34": (3, 23.8, "cross_entropy"),
        "unet-resnet34-dice-focal": (3, 23.8, "dice+focal"),
        "vnet": (1, 45.6, "dice"),
    }
    assert published.items() <= found.items()
    assert {"hepar-liver-ct", "hepar-liver-ct-3d"} <= found.keys()


def test_an_unknown_recipe_names_the_shipped_ones(tmp_path: Path) -> None:
    with pytest.raises(ExperimentError, match=r"shipped ones: hepar-liver-ct, .*unet-2d, "):
        read_recipe(str(tmp_path))

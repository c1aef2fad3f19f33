"""Each network: two steps, a rest, a third step, a package, a scan through it."""

import logging
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="torch comes with the extra 'train'")
pytest.importorskip("monai", reason="monai comes with the extra 'train'")
pytest.importorskip("onnx", reason="onnx comes with the extra 'train'")

from pydantic import TypeAdapter

from config.inference import InferenceSettings
from inference.manifest import Bilateral, GrayCurve, Stage, View
from inference.segment import load_segmenter
from inference.sliding_window import predict
from inference.view import apply_view
from inference.volume import Volume
from training.architectures import build_network
from training.config import Experiment
from training.dataset import Case
from training.equalize import equalize, equalizing_curve
from training.errors import ExperimentError
from training.export import describe_stage, export_package
from training.grids import LEVELS, WINDOW
from training.monai_networks import ResNetUNet
from training.samples import Sampler
from training.stacks import StackSampler
from training.trainer import Trainer
from training.volumes import VolumeSampler

# torch warns that this exporter is to be replaced; the new one takes 20 s for such a network.
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")

BASE = {
    "name": "segmenter",
    "labels": ("background", "liver", "tumor"),
    "data": {"grid": "fine", "context_slices": 1, "patch_px": 32, "patch_slices": 16},
    "network": {"channels": (4, 8)},
    "optimization": {"steps": 100, "batch": 2},
}
WINDOWS = View(
    curves=(GrayCurve(breaks_hu=(-45.0, 105.0)), GrayCurve(breaks_hu=(-40.0, 160.0))),
)
SMOOTH = Bilateral(spatial_sd_px=1.0, gray_sd_hu=30.0)


def experiment_of(**changes: object) -> Experiment:
    """Change keys, which are named with two underscores between section and key."""
    sections = {name: dict(part) if isinstance(part, dict) else part for name, part in BASE.items()}
    for key, value in changes.items():
        section, _, name = key.partition("__")
        if name:
            sections[section][name] = value
        else:
            sections[section] = value
    return Experiment.model_validate(sections)


def case(rng: np.random.Generator) -> Case:
    labels = np.zeros((12, 40, 44), dtype=np.uint8)
    labels[2:10, 8:32, 6:30] = 1
    labels[4:8, 12:20, 12:20] = 2
    levels = np.array([30, 80, 60])[labels] + rng.normal(0, 4, labels.shape)
    return Case(
        case_id="a",
        patient_id="a",
        levels=np.clip(levels, 0, LEVELS).astype(np.uint8),
        labels=labels,
        spacing_mm=(2.5, 1.0, 1.0),
        tumors_known=True,
        fold=0,
    )


def sampler_of(experiment: Experiment, cases: list[Case]) -> Sampler:
    kind = StackSampler if experiment.network.dimensions == 2 else VolumeSampler
    return kind(experiment, cases, [])


@pytest.fixture
def locator(tmp_path: Path) -> Path:
    """Write the run of a locator that finds liver everywhere."""
    experiment = experiment_of(labels=("background", "liver"), data__grid="coarse")
    network = build_network(experiment)
    with torch.no_grad():
        network.head.weight.zero_()
        network.head.bias.copy_(torch.tensor([0.0, 9.0]))
    folder = tmp_path / "locator"
    folder.mkdir()
    (folder / "experiment.json").write_text(experiment.model_dump_json(), encoding="utf-8")
    torch.save({"network": network.state_dict()}, folder / "checkpoint.pt")
    return folder


NETWORKS = {
    "2D U-Net": ({"optimization__loss": ("bce", "dice")}, {"bce", "organ", "tumor"}),
    "2.5D U-Net, three curves, smoothed": (
        {
            "data__context_slices": 3,
            "data__view": WINDOWS.model_copy(update={"bilateral": SMOOTH}),
            "data__equalized_steps": 8,
        },
        {"cross_entropy", "organ", "tumor"},
    ),
    "U-Net with ResNet-34": (
        {
            "network": {"architecture": "unet-resnet34"},
            "data__view": WINDOWS,
            "data__equalized_steps": 8,
            "optimization__loss": ("focal", "dice"),
        },
        {"focal", "organ", "tumor"},
    ),
    "V-Net": (
        {
            "network": {"architecture": "vnet"},
            "optimization__loss": ("dice",),
            "optimization__bf16": False,
        },
        {"organ", "tumor"},
    ),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_a_network_trains_resumes_exports_and_segments(
    name: str, locator: Path, papers_file: Path, tmp_path: Path
) -> None:
    changes, terms = NETWORKS[name]
    cases = [case(np.random.default_rng(0))]
    experiment = equalize(experiment_of(**changes), cases)
    sampler, run = sampler_of(experiment, cases), tmp_path / "run"
    trainer = Trainer(experiment, sampler, run)
    losses = [trainer.train_step() for _ in range(2)]
    assert set(losses[0]) == terms
    assert all(np.isfinite(list(loss.values())).all() for loss in losses)
    trainer.save()
    again = Trainer(experiment, sampler, run)
    again.train_step()
    assert again.step == 3
    again.save()
    folder = tmp_path / "package"
    package = export_package(locator, run, papers_file, folder)
    assert package.manifest.segmenter.view == experiment.data.view
    array = np.random.default_rng(1).normal(60, 40, (12, 40, 44)).astype(np.int16)
    affine = np.diag((2.5, 1.0, 1.0, 1.0))[[2, 1, 0, 3]]
    scan = Volume(array=array, affine=affine, coordinate_system="PATIENT")
    segmenter = load_segmenter(InferenceSettings(model=str(folder), device="cpu"))
    found = segmenter.probabilities(scan)
    assert found.values.shape[0] == 3
    assert np.allclose(found.values.sum(axis=0), 1, atol=1e-3)
    assert np.ptp(found.values[1]) > 0
    assert segmenter.segment(scan).labels.array.shape == array.shape


@pytest.mark.parametrize("dimensions", [2, 3])
def test_training_and_inference_show_a_scan_alike(dimensions: int) -> None:
    """Each slice has one gray value, so the place of a sample in the plane makes no difference."""
    experiment = experiment_of(
        data__view=WINDOWS.model_copy(update={"bilateral": SMOOTH}),
        data__context_slices=3,
        data__patch_px=64,
        data__slice_mm=2.5,
        data__in_plane_mm=1.0,
        network={"channels": (4, 8), "dimensions": dimensions},
    ).without_changes()
    levels = np.arange(5, 121, dtype=np.uint8)[:, None, None] + np.zeros((40, 44), dtype=np.uint8)
    ramp = replace(case(np.random.default_rng(0)), levels=levels, labels=np.ones_like(levels))
    seen: list[np.ndarray] = []

    def spy(batch: np.ndarray) -> np.ndarray:
        seen.extend(list_channels(batch))
        return np.zeros((len(batch), 3, *batch.shape[2:]), dtype=np.float32)

    papers = {"file": "a.onnx", "sha256": "0" * 64, "labels": experiment.labels, "multiple_px": 2}
    stage = TypeAdapter(Stage).validate_python(papers | describe_stage(experiment))
    image = apply_view(levels.astype(np.float32) / LEVELS, WINDOW, stage.view)
    predict(image, 2.5, stage, spy, lambda _share: None)
    sampler, rng = sampler_of(experiment, [ramp]), np.random.default_rng(0)
    shown = [c for _ in range(20) for c in list_channels(sampler.sample(rng).image.numpy()[None])]
    assert {len(channels) for channels in (*seen, *shown)} == {6 if dimensions == 2 else 2}
    assert np.ptp(shown, axis=0).min() > 0.5
    for channels in shown:
        assert np.abs(np.array(seen) - channels).max(axis=1).min() < 0.015


def list_channels(batch: np.ndarray) -> list[np.ndarray]:
    """Give the channels in the middle of each slice."""
    middle = batch[..., batch.shape[-2] // 2, batch.shape[-1] // 2]
    return list(middle if middle.ndim == 2 else middle[0].T)


def test_the_equalized_channel_has_a_flat_histogram() -> None:
    rng = np.random.default_rng(0)
    scan = case(rng)
    soft = rng.normal(70, 8, scan.levels.shape)
    scan.levels[:] = np.clip(soft, 0, LEVELS).astype(np.uint8)
    scan.levels[:6] = 0
    curve = equalizing_curve([scan], 16)
    assert (curve.breaks_hu[0], curve.breaks_hu[-1]) == (WINDOW.low_hu, WINDOW.high_hu)
    image = scan.levels[6:].astype(np.float32) / LEVELS
    grays = apply_view(image, WINDOW, View(curves=(curve,)))
    counts, _ = np.histogram(grays, bins=5, range=(0, 1))
    assert counts / image.size == pytest.approx(np.full(5, 0.2), abs=0.05)
    before, _ = np.histogram(image, bins=5, range=(0, 1))
    assert before.max() / image.size > 0.6, "or there was nothing to equalize"


def test_a_run_keeps_its_gray_curves(tmp_path: Path) -> None:
    cases = [case(np.random.default_rng(0))]
    asked = experiment_of(data__equalized_steps=4)
    experiment = equalize(asked, cases)
    assert experiment.inputs == asked.inputs == 1
    Trainer(experiment, sampler_of(experiment, cases), tmp_path).save()
    cases[0].levels[:] += 5
    other = equalize(asked, cases)
    with pytest.raises(ExperimentError, match="was shown other gray curves"):
        Trainer(other, sampler_of(other, cases), tmp_path)


# --- an encoder that others trained --------------------------------------------------------------

# As torchvision 0.20 names and shapes them.
TORCHVISION = {
    "conv1.weight": (64, 3, 7, 7),
    "bn1.running_var": (64,),
    "layer1.2.conv2.weight": (64, 64, 3, 3),
    "layer2.0.downsample.0.weight": (128, 64, 1, 1),
    "layer2.0.downsample.1.bias": (128,),
    "layer3.5.bn2.weight": (256,),
    "layer4.2.conv2.weight": (512, 512, 3, 3),
}


@pytest.fixture
def weights() -> dict[str, "torch.Tensor"]:
    torch.manual_seed(5)
    state = ResNetUNet(inputs=3, classes=2).encoder.state_dict()
    assert {name: tuple(state[name].shape) for name in TORCHVISION} == TORCHVISION
    assert sum(v.numel() for k, v in state.items() if "running" not in k) - 36 == 21_284_672
    state = {name: values for name, values in state.items() if "num_batches" not in name}
    return {**state, "fc.weight": torch.zeros(1000, 512), "fc.bias": torch.zeros(1000)}


@pytest.mark.parametrize(("inputs", "said"), [(3, "begins with"), (5, "but for its first layer")])
def test_an_encoder_begins_with_weights_from_a_file(
    weights: dict[str, "torch.Tensor"],
    inputs: int,
    said: str,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    path = tmp_path / "resnet34.pth"
    torch.save(weights, path)
    experiment = experiment_of(
        network={"architecture": "unet-resnet34"}, data__context_slices=inputs
    ).adapted(held_out_fold=None, minutes=None, encoder_weights=path)
    cases = [case(np.random.default_rng(0))]
    with caplog.at_level(logging.INFO):
        trainer = Trainer(experiment, sampler_of(experiment, cases), tmp_path / "run")
    assert said in caplog.text
    trainer.save()
    saved = torch.load(tmp_path / "run" / "checkpoint.pt", weights_only=True)["network"]
    same = {
        name: torch.equal(values, saved[f"encoder.{name}"])
        for name, values in weights.items()
        if not name.startswith("fc") and values.shape == saved[f"encoder.{name}"].shape
    }
    assert all(same.values())
    assert ("conv1.weight" in same) == (inputs == 3)
    path.unlink()
    again = Trainer(experiment, sampler_of(experiment, cases), tmp_path / "run")
    assert again.step == 0, "what a run began with is not needed to go on"


def test_what_is_no_encoder_is_refused(weights: dict[str, "torch.Tensor"], tmp_path: Path) -> None:
    network = ResNetUNet(inputs=3, classes=2)
    path = tmp_path / "weights.pth"
    with pytest.raises(ExperimentError, match=r"weights\.pth holds no weights: .*No such file"):
        network.load_encoder(path)
    path.write_bytes(b"no weights")
    with pytest.raises(ExperimentError, match="holds no weights"):
        network.load_encoder(path)
    del weights["layer4.2.conv2.weight"]
    torch.save(weights, path)
    with pytest.raises(ExperimentError, match=r"no ResNet-34.*1 weights.*layer4\.2\.conv2\.weight"):
        network.load_encoder(path)


# --- what an experiment may say ------------------------------------------------------------------

REFUSALS = {
    "an unknown network": ({"network": {"architecture": "segnet"}}, "segnet"),
    "channels of a V-Net": (
        {"network": {"architecture": "vnet", "channels": (4, 8)}},
        "network.vnet.channels",
    ),
    "three gray curves for a V-Net": (
        {
            "network": {"architecture": "vnet"},
            "data__view": WINDOWS,
            "data__equalized_steps": 8,
        },
        "1, 2, 4, 8 or 16 gray curves, not 3",
    ),
    "a patch that does not fit": (
        {"network": {"architecture": "unet-resnet34"}, "data__patch_px": 48},
        "needs a multiple of 32",
    ),
    "a curve beyond the window": (
        {"data__view": View(curves=(GrayCurve(breaks_hu=(-1000.0, 0.0)),))},
        "reaches beyond the window, -160.0 to 240.0 HU",
    ),
}


@pytest.mark.parametrize("name", REFUSALS)
def test_an_experiment_is_refused_for(name: str) -> None:
    changes, message = REFUSALS[name]
    with pytest.raises(ValueError, match=message):
        experiment_of(**changes)

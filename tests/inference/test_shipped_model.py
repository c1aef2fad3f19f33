"""The model that ships with the node, on a phantom that its training never saw."""

from pathlib import Path

import numpy as np
import pytest

from config.inference import InferenceSettings
from inference import segment as segment_module
from inference.backend import Predictor
from inference.errors import BackendError
from inference.findings import Segmentation
from inference.labels import Label
from inference.manifest import find_package, list_packages, verify_package
from inference.measure import dice
from inference.phantom import Phantom, PhantomSettings, make_phantom
from inference.segment import load_segmenter

NAME = InferenceSettings().model
MAX_BYTES = 25_000_000


@pytest.fixture(scope="module")
def phantom() -> Phantom:
    return make_phantom(PhantomSettings(seed=3, shape=(60, 200, 200), spacing_mm=(5.0, 1.75, 1.75)))


def segment(phantom: Phantom, **settings: str) -> Segmentation:
    segmenter = load_segmenter(InferenceSettings.model_validate({"device": "cpu", **settings}))
    return segmenter.segment(phantom.volume)


@pytest.fixture(scope="module")
def segmentation(phantom: Phantom) -> Segmentation:
    return segment(phantom, backend="openvino", precision="fp32")


def test_the_package_is_whole_and_small() -> None:
    package = find_package(NAME)
    verify_package(package)
    assert package.identity in [shipped.identity for shipped in list_packages()]
    files = list(package.folder.iterdir())
    assert (package.folder / "MODEL_CARD.md") in files
    assert sum(path.stat().st_size for path in files) <= MAX_BYTES


def test_it_finds_liver_and_tumors_of_a_phantom(
    phantom: Phantom, segmentation: Segmentation
) -> None:
    found, truth = segmentation.labels.array, phantom.labels.array
    assert dice(found > 0, truth > 0) >= 0.9
    assert dice(found == Label.TUMOR, truth == Label.TUMOR) > 0.3
    assert set(np.unique(found)) == set(Label)


@pytest.mark.parametrize(("backend", "precision"), [("onnxruntime", "fp32"), ("openvino", "auto")])
def test_other_engines_and_precisions_agree(
    phantom: Phantom, segmentation: Segmentation, backend: str, precision: str
) -> None:
    """Design 7: bf16 must agree with fp32 within a Dice coefficient of 0.99."""
    other = segment(phantom, backend=backend, precision=precision)
    expected, found = segmentation.labels.array, other.labels.array
    assert dice(found > 0, expected > 0) >= 0.99
    assert dice(found == Label.TUMOR, expected == Label.TUMOR) >= 0.9


class BrokenGpu:
    """An engine that starts and then cannot load a network."""

    backend = "onnxruntime"
    device = "cuda"
    precision = "fp32"

    def load(self, path: Path) -> Predictor:
        raise BackendError("no cuDNN")


def test_a_broken_gpu_leaves_the_cpu_unless_it_was_asked_for(
    monkeypatch: pytest.MonkeyPatch, phantom: Phantom
) -> None:
    monkeypatch.setattr(segment_module, "open_engine", lambda _settings: BrokenGpu())
    segmenter = load_segmenter(InferenceSettings(device="auto"))
    assert segmenter.device == "cpu"
    assert segmenter.segment(phantom.volume).run.notes == ("the GPU cannot be used",)
    with pytest.raises(BackendError, match="no cuDNN"):
        load_segmenter(InferenceSettings(device="cuda"))

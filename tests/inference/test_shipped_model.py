"""The model that ships with the node, on a phantom that its training never saw."""

import numpy as np
import pytest

from config.settings import InferenceSettings
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

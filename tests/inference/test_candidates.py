"""Candidate lesions, their features, and the filter that drops some of them."""

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from inference.candidate_filter import CandidateFilter
from inference.candidates import FEATURES, find_candidates
from inference.errors import ModelPackageError
from inference.labels import Label
from inference.manifest import CandidateStage

onnx = pytest.importorskip("onnx", reason="onnx comes with the extra 'train'")

LABELS = (Label.BACKGROUND, Label.LIVER, Label.TUMOR)
SPACING_MM = (2.0, 1.0, 1.0)
LIVER, DARK = 0.65, 0.5
SURE, UNSURE = 0.9, 0.55


def ball(center: tuple[int, int, int], radius_mm: float) -> NDArray[np.bool_]:
    grid = np.indices((24, 48, 60))
    offsets = [(line - at) * mm for line, at, mm in zip(grid, center, SPACING_MM, strict=True)]
    return np.asarray(sum(offset**2 for offset in offsets) <= radius_mm**2)


LARGE, SMALL = ball((12, 24, 20), 7.0), ball((12, 24, 45), 3.0)


@pytest.fixture
def box() -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """A liver with a large dark lesion and a small one that is as bright as the liver."""
    probabilities = np.zeros((3, *LARGE.shape), dtype=np.float32)
    organ = np.zeros(LARGE.shape, dtype=bool)
    organ[2:22, 5:43, 5:55] = True
    probabilities[0] = np.where(organ, 0.02, 0.99)
    for lesion, probability in ((LARGE, SURE), (SMALL, UNSURE)):
        probabilities[2][lesion] = probability
    probabilities[1] = np.where(organ, 1 - probabilities[0] - probabilities[2], 0.01)
    image = np.where(organ, LIVER, 0.3).astype(np.float32)
    image[LARGE] = DARK
    noise = np.random.default_rng(0).normal(0, 0.02, image.shape)
    return probabilities, (image + noise).astype(np.float32)


def test_features_are_those_of_the_lesion(
    box: tuple[NDArray[np.float32], NDArray[np.float32]],
) -> None:
    candidates = find_candidates(box[0], LABELS, box[1], SPACING_MM)
    assert len(candidates) == 2
    assert np.array_equal(candidates.components > 0, LARGE | SMALL)
    large, small = (
        dict(zip(FEATURES, candidates.features[candidates.components[at] - 1], strict=True))
        for at in ((12, 24, 20), (12, 24, 45))
    )
    assert np.exp(large["log_volume_ml"]) == pytest.approx(LARGE.sum() * 2 / 1000)
    assert np.exp(large["log_diameter_mm"]) == pytest.approx(14, abs=1)
    assert large["compactness"] == pytest.approx(1, abs=0.1)
    assert large["elongation"] == pytest.approx(1, abs=0.15)
    assert (large["mean_probability"], small["mean_probability"]) == pytest.approx((SURE, UNSURE))
    assert large["contrast"] == pytest.approx(DARK - LIVER, abs=0.01)
    assert small["contrast"] == pytest.approx(0, abs=0.01)
    assert large["contrast_to_noise"] < -3
    assert 0.01 < large["level_sd"] < 0.03
    assert large["outside_share"] < small["outside_share"] + 0.2


def test_a_lesion_at_the_border_lies_less_deep(
    box: tuple[NDArray[np.float32], NDArray[np.float32]],
) -> None:
    probabilities, image = box
    border = ball((12, 10, 30), 4.0)
    probabilities[2][border], probabilities[1][border] = SURE, 0.05
    candidates = find_candidates(probabilities, LABELS, image, SPACING_MM)
    depth, outside = (
        {
            at: candidates.features[candidates.components[at] - 1, FEATURES.index(name)]
            for at in ((12, 24, 20), (12, 10, 30))
        }
        for name in ("depth_mm", "outside_share")
    )
    assert depth[12, 10, 30] < depth[12, 24, 20]
    assert outside[12, 10, 30] > outside[12, 24, 20]


def test_without_tumor_there_are_no_candidates(
    box: tuple[NDArray[np.float32], NDArray[np.float32]],
) -> None:
    box[0][2] = 0
    candidates = find_candidates(box[0], LABELS, box[1], SPACING_MM)
    assert len(candidates) == 0
    assert candidates.features.shape == (0, len(FEATURES))


def test_a_single_voxel_has_features(
    box: tuple[NDArray[np.float32], NDArray[np.float32]],
) -> None:
    probabilities, image = box
    probabilities[2] = 0
    probabilities[2, 12, 24, 20] = SURE
    candidates = find_candidates(probabilities, LABELS, image, SPACING_MM)
    assert candidates.features.shape == (1, len(FEATURES))
    assert np.isfinite(candidates.features).all()


@pytest.fixture
def filter_file(tmp_path: Path) -> Path:
    """Write a classifier as an ONNX file: the more voxels are sure, the likelier a lesion."""
    helper = onnx.helper
    weights = np.array([[-10.0, 10.0]], dtype=np.float32)
    bias = np.array([7.0, -7.0], dtype=np.float32)
    graph = helper.make_graph(
        [
            helper.make_node("Gemm", ["features", "weights", "bias"], ["scores"]),
            helper.make_node("ArgMax", ["scores"], ["label"], axis=1, keepdims=0),
            helper.make_node("Softmax", ["scores"], ["probabilities"], axis=1),
        ],
        "filter",
        [helper.make_tensor_value_info("features", onnx.TensorProto.FLOAT, [None, 1])],
        [
            helper.make_tensor_value_info("label", onnx.TensorProto.INT64, [None]),
            helper.make_tensor_value_info("probabilities", onnx.TensorProto.FLOAT, [None, 2]),
        ],
        [
            onnx.numpy_helper.from_array(weights, "weights"),
            onnx.numpy_helper.from_array(bias, "bias"),
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    path = tmp_path / "candidates.onnx"
    onnx.save(model, str(path))
    return path


def stage(*features: str, max_volume_ml: float = 100.0) -> CandidateStage:
    return CandidateStage(
        file="candidates.onnx",
        sha256="0" * 64,
        features=features,
        threshold=0.5,
        max_volume_ml=max_volume_ml,
    )


def test_what_is_no_lesion_becomes_liver(
    filter_file: Path, box: tuple[NDArray[np.float32], NDArray[np.float32]]
) -> None:
    probabilities, image = box
    total = probabilities.sum(axis=0)
    chosen = CandidateFilter(stage("mean_probability"), filter_file)
    assert chosen.apply(probabilities, LABELS, image, SPACING_MM) == 1
    found = find_candidates(probabilities, LABELS, image, SPACING_MM)
    assert np.array_equal(found.components > 0, LARGE)
    assert np.allclose(probabilities.sum(axis=0), total)
    assert (probabilities[1][SMALL] > 0.5).all()
    probabilities[2] = 0
    assert chosen.apply(probabilities, LABELS, image, SPACING_MM) == 0


def test_what_is_larger_than_any_false_candidate_known_is_kept(
    filter_file: Path, box: tuple[NDArray[np.float32], NDArray[np.float32]]
) -> None:
    probabilities, image = box
    small_ml = SMALL.sum() * np.prod(SPACING_MM) / 1000
    for limit_ml, dropped in ((0.99 * small_ml, 0), (1.01 * small_ml, 1)):
        chosen = CandidateFilter(stage("mean_probability", max_volume_ml=limit_ml), filter_file)
        assert chosen.apply(probabilities.copy(), LABELS, image, SPACING_MM) == dropped


def test_an_unknown_feature_and_a_damaged_file_are_refused(filter_file: Path) -> None:
    with pytest.raises(ModelPackageError, match="there are no features color, smell"):
        CandidateFilter(stage("smell", "mean_probability", "color"), filter_file)
    filter_file.write_bytes(b"no model")
    with pytest.raises(ModelPackageError, match=r"candidates\.onnx cannot be loaded"):
        CandidateFilter(stage("mean_probability"), filter_file)

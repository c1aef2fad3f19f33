"""Engines, their choice, and what happens when one fails."""

from pathlib import Path

import numpy as np
import onnxruntime
import pytest
from numpy.typing import NDArray

from config.inference import InferenceSettings
from inference import backend, onnx_backend
from inference.backend import Engine, Predictor, ResilientPredictor, open_engine
from inference.errors import BackendError, ModelPackageError
from inference.onnx_backend import OnnxEngine
from inference.openvino_backend import OpenVinoEngine
from inference.segment import load_segmenter

onnx = pytest.importorskip("onnx", reason="onnx comes with the extra 'train'")


@pytest.fixture
def tiny_model(tmp_path: Path) -> Path:
    """Write an ONNX model: one convolution over three slices to two classes, any size."""
    rng = np.random.default_rng(0)
    weights = rng.standard_normal((2, 3, 3, 3)).astype(np.float32)
    helper = onnx.helper
    shape = ["batch", 3, "rows", "columns"]
    graph = helper.make_graph(
        [helper.make_node("Conv", ["image", "weights"], ["logits"], pads=[1, 1, 1, 1])],
        "tiny",
        [helper.make_tensor_value_info("image", onnx.TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("logits", onnx.TensorProto.FLOAT, None)],
        [onnx.numpy_helper.from_array(weights, "weights")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    path = tmp_path / "tiny.onnx"
    onnx.save(model, str(path))
    return path


def noise(batch: int = 3, rows: int = 32, columns: int = 64) -> NDArray[np.float32]:
    return np.random.default_rng(1).random((batch, 3, rows, columns), dtype=np.float32)


def test_openvino_agrees_with_onnx_runtime(tiny_model: Path) -> None:
    first = OpenVinoEngine(precision="fp32", threads=1).load(tiny_model)
    second = OnnxEngine(device="cpu", threads=1).load(tiny_model)
    for image in (noise(), noise(1, 96, 32)):
        assert np.allclose(first(image), second(image), atol=1e-4)


def test_an_answer_outlives_the_next_call(tiny_model: Path) -> None:
    predictor = OpenVinoEngine(precision="fp32", threads=1).load(tiny_model)
    first = predictor(noise())
    kept = first.copy()
    predictor(np.zeros_like(noise()))
    assert np.array_equal(first, kept)


@pytest.mark.parametrize("name", ["openvino", "onnxruntime"])
def test_a_damaged_file_is_a_backend_error(tmp_path: Path, name: str) -> None:
    path = tmp_path / "damaged.onnx"
    path.write_bytes(b"no model")
    engine = open_engine(InferenceSettings(backend=name, device="cpu", threads=1))
    with pytest.raises(BackendError, match=r"cannot load .*damaged\.onnx"):
        engine.load(path)


@pytest.mark.parametrize("name", ["openvino", "onnxruntime"])
def test_a_failing_engine_is_a_backend_error(tiny_model: Path, name: str) -> None:
    engine = open_engine(InferenceSettings(backend=name, device="cpu", threads=1))
    with pytest.raises(BackendError, match="failed"):
        engine.load(tiny_model)(np.zeros((1, 7, 32, 32), dtype=np.float32))


CHOICES: dict[str, tuple[dict[str, str], bool, tuple[str, str]]] = {
    "auto without a GPU": ({}, False, ("openvino", "cpu")),
    "the CPU although there is a GPU": ({"device": "cpu"}, True, ("openvino", "cpu")),
    "OpenVINO although there is a GPU": ({"backend": "openvino"}, True, ("openvino", "cpu")),
    "ONNX Runtime on the CPU": ({"backend": "onnxruntime"}, False, ("onnxruntime", "cpu")),
    "auto with a GPU": ({}, True, ("onnxruntime", "cuda")),
    "CUDA": ({"device": "cuda"}, True, ("onnxruntime", "cuda")),
}
HALF: dict[str, tuple[str, bool, str]] = {
    "auto": ("auto", True, "fp16"),
    "auto without the converter": ("auto", False, "fp32"),
    "fp16": ("fp16", True, "fp16"),
    "fp32": ("fp32", True, "fp32"),
}


@pytest.mark.parametrize("name", CHOICES)
def test_the_engine_is_chosen_by_settings_and_device(
    monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    settings, has_gpu, expected = CHOICES[name]
    monkeypatch.setattr(onnx_backend, "cuda_is_available", lambda: has_gpu)
    monkeypatch.setattr(onnxruntime, "preload_dlls", lambda: None)
    engine = open_engine(InferenceSettings.model_validate(settings))
    assert (engine.backend, engine.device) == expected


@pytest.mark.parametrize("name", HALF)
def test_gpus_compute_in_half_precision_where_the_converter_is_there(
    monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    asked, has_onnx, expected = HALF[name]
    monkeypatch.setattr(onnx_backend, "cuda_is_available", lambda: True)
    monkeypatch.setattr(onnxruntime, "preload_dlls", lambda: None)
    monkeypatch.setattr(backend, "find_spec", lambda _: object() if has_onnx else None)
    settings = InferenceSettings.model_validate({"precision": asked})
    assert open_engine(settings).precision == expected


def test_fp16_without_the_converter_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(onnx_backend, "cuda_is_available", lambda: True)
    monkeypatch.setattr(backend, "find_spec", lambda _: None)
    with pytest.raises(BackendError, match=r"pip install 'hepar\[cuda\]'"):
        open_engine(InferenceSettings(precision="fp16"))


def test_bf16_on_a_gpu_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(onnx_backend, "cuda_is_available", lambda: True)
    with pytest.raises(BackendError, match="bf16 is for CPUs"):
        open_engine(InferenceSettings(precision="bf16"))


def test_a_network_in_half_precision_computes_the_same(tiny_model: Path) -> None:
    single, half = (
        OnnxEngine(device="cpu", threads=1, precision=precision).load(tiny_model)(noise(1))
        for precision in ("fp32", "fp16")
    )
    assert half.dtype == np.float32
    assert not np.array_equal(half, single)
    assert np.allclose(half, single, atol=2e-3)


def test_a_damaged_file_cannot_be_converted(tmp_path: Path) -> None:
    path = tmp_path / "damaged.onnx"
    path.write_bytes(b"no model")
    with pytest.raises(BackendError, match=r"cannot load .*damaged\.onnx"):
        OnnxEngine(device="cpu", threads=1, precision="fp16").load(path)


REFUSALS: dict[str, tuple[dict[str, str], str]] = {
    "OpenVINO on CUDA": ({"backend": "openvino", "device": "cuda"}, "set inference.backend to"),
    "CUDA without a GPU": ({"device": "cuda"}, "install onnxruntime-gpu and the NVIDIA driver"),
    "fp16 without a GPU": ({"precision": "fp16"}, "fp16 is for NVIDIA GPUs"),
    "bf16 with ONNX Runtime": (
        {"backend": "onnxruntime", "device": "cpu", "precision": "bf16"},
        "inference.precision to 'auto'",
    ),
}


@pytest.mark.parametrize("name", REFUSALS)
def test_what_is_not_there_is_refused_with_the_remedy(
    monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    settings, message = REFUSALS[name]
    monkeypatch.setattr(onnx_backend, "cuda_is_available", lambda: False)
    with pytest.raises(BackendError, match=message):
        open_engine(InferenceSettings.model_validate(settings))


class LimitedEngine:
    """Doubles its input, and fails for more slices at once than it has memory for."""

    backend = "limited"
    precision = "fp32"

    def __init__(self, device: str, limit: int) -> None:
        self.device = device
        self.limit = limit
        self.batches: list[int] = []

    def load(self, path: Path) -> Predictor:
        def predict(batch: NDArray[np.float32]) -> NDArray[np.float32]:
            self.batches.append(len(batch))
            if len(batch) > self.limit:
                raise BackendError("out of memory")
            return batch * 2

        return predict


def test_smaller_batches_when_memory_is_short() -> None:
    engine: Engine = (limited := LimitedEngine("cuda", limit=2))
    predictor = ResilientPredictor(Path("any.onnx"), engine)
    image = noise(8)
    assert np.array_equal(predictor(image), image * 2)
    assert predictor.take_notes() == ("batch reduced to 4", "batch reduced to 2")
    limited.batches.clear()
    assert np.array_equal(predictor(image), image * 2)
    assert limited.batches == [2, 2, 2, 2]
    assert predictor.take_notes() == ()


def test_then_the_cpu() -> None:
    predictor = ResilientPredictor(
        Path("any.onnx"), LimitedEngine("cuda", limit=0), lambda: LimitedEngine("cpu", limit=4)
    )
    image = noise(2)
    assert np.array_equal(predictor(image), image * 2)
    assert predictor.engine.device == "cpu"
    assert predictor.take_notes() == ("batch reduced to 1", "went on with limited on cpu")


def test_then_an_error() -> None:
    predictor = ResilientPredictor(Path("any.onnx"), LimitedEngine("cpu", limit=0))
    with pytest.raises(BackendError, match="out of memory"):
        predictor(noise(1))


def test_a_segmenter_is_not_loaded_with_wrong_weights(package_folder: Path) -> None:
    (package_folder / "segmenter.onnx").write_bytes(b"other")
    with pytest.raises(ModelPackageError, match="is not the file that the manifest names"):
        load_segmenter(InferenceSettings(model=str(package_folder)))

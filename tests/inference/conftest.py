"""Model packages for tests: tiny ones on disk, and one whose networks are thresholds."""

from collections.abc import Callable
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from inference.backend import Predictor, ResilientPredictor
from inference.clustering.marker import TumorMarker
from inference.manifest import ModelManifest, ModelPackage, read_package
from inference.segment import Segmenter

MANIFEST = """
format_version = 1
name = "test-model"
version = "1.2.3"
description = "Thresholds."
license = "Free."
training_data = []

[window]
low_hu = -160.0
high_hu = 240.0

[locator]
kind = "stack"
file = "locator.onnx"
sha256 = "{locator}"
labels = ["background", "liver"]
context_slices = 3
context_distance_mm = 3.0

[locator.grid]
in_plane_mm = 3.0
slice_mm = 3.0

[segmenter]
kind = "stack"
file = "segmenter.onnx"
sha256 = "{segmenter}"
labels = ["background", "liver", "tumor"]
context_slices = 5
context_distance_mm = 2.0
tile_px = 96

[segmenter.grid]
in_plane_mm = 1.0
slice_mm = 1.5
native_from_mm = 1.25

[postprocessing]
box_margin_mm = 6.0
max_outside_mm = 8.0
min_liver_ml = 5.0
min_tumor_mm3 = 30.0
"""


def write_package(folder: Path, locator: bytes = b"locator", segmenter: bytes = b"seg") -> Path:
    """Write a package with these bytes as weights."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "locator.onnx").write_bytes(locator)
    (folder / "segmenter.onnx").write_bytes(segmenter)
    text = MANIFEST.format(
        locator=sha256(locator).hexdigest(), segmenter=sha256(segmenter).hexdigest()
    )
    (folder / "manifest.toml").write_text(text, encoding="utf-8")
    return folder


@pytest.fixture
def package_folder(tmp_path: Path) -> Path:
    """Give a valid package folder."""
    return write_package(tmp_path / "package")


@pytest.fixture
def manifest(package_folder: Path) -> ModelManifest:
    """Give a valid manifest."""
    return read_package(package_folder).manifest


def threshold(batch: NDArray[np.float32], limits: tuple[float, ...]) -> NDArray[np.float32]:
    """Give logits of the classes that lie between thresholds of the middle slice."""
    gray = batch[:, batch.shape[1] // 2]
    classes = np.digitize(gray, limits)
    return np.stack(
        [np.where(classes == value, 20.0, 0.0) for value in range(len(limits) + 1)], axis=1
    ).astype(np.float32)


@dataclass
class ThresholdEngine:
    """Loads thresholds instead of networks: organ above -30 HU, tumor above 150 HU."""

    backend: str = "thresholds"
    device: str = "cpu"
    precision: str = "fp32"
    shapes: list[tuple[int, ...]] = field(default_factory=list)

    def load(self, path: Path) -> Predictor:
        limits = (0.325,) if path.stem == "locator" else (0.325, 0.775)

        def predict(batch: NDArray[np.float32]) -> NDArray[np.float32]:
            self.shapes.append(batch.shape)
            return threshold(batch, limits)

        return predict


@pytest.fixture
def threshold_engine() -> ThresholdEngine:
    """Give an engine that tells the shapes of what it was given."""
    return ThresholdEngine()


@pytest.fixture
def make_threshold_segmenter(
    package_folder: Path,
) -> Callable[..., Segmenter]:
    """Give a function that makes a segmenter from an engine."""

    def make(engine: ThresholdEngine | None = None, marker: TumorMarker | None = None) -> Segmenter:
        package: ModelPackage = read_package(package_folder)
        engine = engine or ThresholdEngine()
        stages = package.manifest.stages
        locator, segmenter = (
            ResilientPredictor(package.folder / stage.file, engine) for stage in stages
        )
        return Segmenter(package, locator, segmenter, marker=marker)

    return make

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="torch comes with the extra 'train'")
pytest.importorskip("onnx", reason="onnx comes with the extra 'train'")

from inference.errors import ModelPackageError
from inference.manifest import MANIFEST_NAME, find_package
from inference.openvino_backend import OpenVinoEngine
from training import export
from training.architectures import build_network
from training.config import Experiment
from training.errors import ExportError
from training.networks import UNet

# torch warns that this exporter is to be replaced; the new one takes 20 s for such a network.
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")


@pytest.fixture
def network() -> UNet:
    torch.manual_seed(0)
    return UNet(inputs=5, classes=3, channels=(8, 16, 32)).eval()


def test_the_exported_network_agrees_with_torch(network: UNet, tmp_path: Path) -> None:
    path = tmp_path / "network.onnx"
    export.write_onnx(network, path)
    assert export.check_parity(network, path) < 0.01
    image = np.random.default_rng(0).random((3, 5, 32, 64), dtype=np.float32)
    with torch.inference_mode():
        expected = network(torch.from_numpy(image)).numpy()
    found = OpenVinoEngine(precision="fp32", threads=1).load(path)(image)
    assert np.abs(found - expected).max() < 0.02


def test_a_volume_network_is_exported_with_free_edges(tmp_path: Path) -> None:
    torch.manual_seed(0)
    network = UNet(inputs=1, classes=2, channels=(4, 8), dimensions=3).eval()
    path = tmp_path / "network.onnx"
    export.write_onnx(network, path)
    assert export.check_parity(network, path) < 0.01
    image = np.random.default_rng(0).random((1, 1, 18, 32, 24), dtype=np.float32)
    found = OpenVinoEngine(precision="fp32", threads=1).load(path)(image)
    with torch.inference_mode():
        expected = network(torch.from_numpy(image)).numpy()
    assert np.abs(found - expected).max() < 0.02


def test_weights_take_half_the_space(network: UNet, tmp_path: Path) -> None:
    path = tmp_path / "network.onnx"
    export.write_onnx(network, path)
    values = sum(parameter.numel() for parameter in network.parameters())
    assert path.stat().st_size < 2.6 * values


def test_another_network_is_noticed(network: UNet, tmp_path: Path) -> None:
    path = tmp_path / "network.onnx"
    export.write_onnx(network, path)
    with torch.no_grad():
        network.head.bias += torch.tensor([0.0, 2.0, 0.0])
    with pytest.raises(ExportError, match="differs from torch"):
        export.check_parity(network, path)


def test_a_network_that_gives_no_numbers_is_noticed(network: UNet, tmp_path: Path) -> None:
    with torch.no_grad():
        network.head.bias[0] = torch.nan
    path = tmp_path / "network.onnx"
    export.write_onnx(network, path)
    with pytest.raises(ExportError, match="differs from torch by nan"):
        export.check_parity(network, path)


@pytest.mark.parametrize(
    ("old", "new", "error", "message"),
    [
        ("min_liver_ml = 1.0", "", ModelPackageError, "min_liver_ml"),
        ("[postprocessing]", "[postprocessing", ExportError, "papers.toml"),
    ],
)
def test_papers_that_make_no_manifest(
    papers_file: Path,
    tmp_path: Path,
    old: str,
    new: str,
    error: type[Exception],
    message: str,
) -> None:
    text = papers_file.read_text(encoding="utf-8").replace(old, new)
    papers_file.write_text(text, encoding="utf-8")
    for stage in ("locator", "segmenter"):
        save_run(tmp_path / stage)
    with pytest.raises(error, match=message):
        export.export_package(
            tmp_path / "locator", tmp_path / "segmenter", papers_file, tmp_path / "package"
        )


def test_a_package_of_another_window_is_not_mixed_in(papers_file: Path, tmp_path: Path) -> None:
    save_run(tmp_path / "segmenter")
    shipped = find_package("hepar-liver-ct").folder
    other = shutil.copytree(shipped, tmp_path / "other")
    manifest = (other / MANIFEST_NAME).read_text(encoding="utf-8")
    changed = manifest.replace("high_hu = 240.0", "high_hu = 400.0")
    assert changed != manifest
    (other / MANIFEST_NAME).write_text(changed, encoding="utf-8")
    with pytest.raises(ExportError, match=r"sees -160\.0 to 400\.0 HU; a package has one window"):
        export.export_package(other, tmp_path / "segmenter", papers_file, tmp_path / "package")


def test_scores_come_into_the_manifest(papers_file: Path, tmp_path: Path) -> None:
    for stage in ("locator", "segmenter"):
        save_run(tmp_path / stage)
    runs = (tmp_path / "locator", tmp_path / "segmenter", papers_file)
    cases = [
        {"case_id": "a", "liver": {"dice": 0.9}, "tumor": None, "found_tumor_ml": 1.5},
        {
            "case_id": "b",
            "liver": {"dice": 0.8},
            "tumor": {"dice": 0.5, "true_ml": 3.0},
            "found_tumor_ml": 2.0,
        },
    ]
    scores = tmp_path / "scores.json"
    scores.write_text(json.dumps({"cases": cases}), encoding="utf-8")
    package = export.export_package(*runs, tmp_path / "package", scores)
    assert package.manifest.metrics == {
        "a": {"liver_dice": 0.9, "tumor_ml": 1.5},
        "b": {"liver_dice": 0.8, "tumor_dice": 0.5, "tumor_ml": 2.0, "true_tumor_ml": 3.0},
    }
    scores.write_text("[]", encoding="utf-8")
    with pytest.raises(ExportError, match="no scores"):
        export.export_package(*runs, tmp_path / "package", scores)


def save_run(folder: Path) -> None:
    """Write what a run leaves, without training."""
    experiment = Experiment.model_validate(
        {
            "name": "any",
            "labels": ("background", "liver"),
            "data": {"grid": "coarse"},
            "network": {"channels": (4, 8), "dimensions": 3},
            "optimization": {"steps": 10},
        }
    )
    folder.mkdir()
    (folder / "experiment.json").write_text(experiment.model_dump_json(), encoding="utf-8")
    state = {"network": build_network(experiment).state_dict()}
    torch.save(state, folder / "checkpoint.pt")

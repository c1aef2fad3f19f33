from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="torch comes with the extra 'train'")
pytest.importorskip("onnx", reason="onnx comes with the extra 'train'")

from inference.errors import ModelPackageError
from inference.openvino_backend import OpenVinoEngine
from training import export
from training.errors import ExportError
from training.networks import UNet

# torch warns that this exporter is to be replaced; the new one takes 20 s for such a network.
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")

TEMPLATE = Path(export.__file__).parent / "configs" / "manifest.toml"


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


def test_the_manifest_gets_the_digests(tmp_path: Path) -> None:
    for name in ("locator.onnx", "segmenter.onnx"):
        (tmp_path / name).write_bytes(name.encode())
    package = export.write_manifest(TEMPLATE, tmp_path)
    assert package.manifest.locator.sha256 != package.manifest.segmenter.sha256
    assert "sha256 of" not in (tmp_path / "manifest.toml").read_text(encoding="utf-8")


def test_a_template_without_a_stage_is_refused(tmp_path: Path) -> None:
    (tmp_path / "locator.onnx").write_bytes(b"")
    (tmp_path / "segmenter.onnx").write_bytes(b"")
    template = tmp_path / "template.toml"
    text = TEMPLATE.read_text(encoding="utf-8")
    template.write_text(text.replace("min_liver_ml = 50.0", ""), encoding="utf-8")
    with pytest.raises(ModelPackageError, match="min_liver_ml"):
        export.write_manifest(template, tmp_path)

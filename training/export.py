"""Make a model package: ``python -m training.export --locator RUN --segmenter RUN --out FOLDER``.

Each run's last checkpoint becomes an ONNX file whose weights are stored in half precision (they are
widened to single precision when the file is loaded); the manifest is written from a template with
the digests filled in. What was written is computed again with ONNX Runtime and compared with torch.
"""

import argparse
import hashlib
import logging
import tomllib
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper

from inference.manifest import MANIFEST_NAME, ModelPackage, read_package, verify_package
from inference.onnx_backend import OnnxEngine
from training.config import Experiment
from training.errors import ExportError
from training.networks import UNet
from training.train import load_network

logger = logging.getLogger(__name__)

_OPSET = 17
_MIN_HALF_VALUES = 1024
_MAX_DIFFERENCE = 0.02
_PROBE_PX = 64
_EDGES = ("slices", "rows", "columns")


def write_onnx(network: UNet, path: Path) -> None:
    """Write a network with free batch size and edges."""
    probe = torch.zeros(2, network.inputs, *[_PROBE_PX] * network.dimensions)
    axes = {0: "batch", **dict(enumerate(_EDGES[-network.dimensions :], start=2))}
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.onnx.export(
        network,
        (probe,),
        str(path),
        dynamo=False,
        opset_version=_OPSET,
        input_names=["image"],
        output_names=["logits"],
        dynamic_axes={"image": axes, "logits": axes},
    )
    model = onnx.load(str(path))
    store_half(model)
    onnx.checker.check_model(model, full_check=True)
    onnx.save(model, str(path))


def store_half(model: onnx.ModelProto) -> None:
    """Store the large weights of a model in half precision, each with a cast to single."""
    graph = model.graph
    casts = []
    for tensor in graph.initializer:
        values = numpy_helper.to_array(tensor)
        if values.dtype != np.float32 or values.size < _MIN_HALF_VALUES:
            continue
        name = tensor.name
        tensor.CopyFrom(numpy_helper.from_array(values.astype(np.float16), f"{name}_half"))
        casts.append(helper.make_node("Cast", [f"{name}_half"], [name], to=TensorProto.FLOAT))
    for position, cast in enumerate(casts):
        graph.node.insert(position, cast)


def check_parity(network: UNet, path: Path) -> float:
    """Compare ONNX Runtime with torch on noise, and give the largest difference of a probability.

    Raises
    ------
    ExportError
        It is larger than half precision explains.
    """
    rng = np.random.default_rng(0)
    edges = (2 * _PROBE_PX, *[_PROBE_PX] * (network.dimensions - 1))
    image = rng.random((2, network.inputs, *edges), dtype=np.float32)
    with torch.inference_mode():
        expected = torch.softmax(network(torch.from_numpy(image)), dim=1).numpy()
    logits = OnnxEngine(device="cpu", threads=0).load(path)(image)
    found = torch.softmax(torch.from_numpy(logits), dim=1).numpy()
    difference = float(np.abs(found - expected).max())
    if difference > _MAX_DIFFERENCE:
        raise ExportError(f"{path} differs from torch by {difference:.4f} in a probability")
    return difference


def write_manifest(template: Path, folder: Path) -> ModelPackage:
    """Fill the digests of the weight files into a template, and read the result as a package.

    Raises
    ------
    ModelPackageError
        The template does not make a valid manifest.
    """
    text = template.read_text(encoding="utf-8")
    for stage in _stages(text):
        digest = hashlib.sha256((folder / stage["file"]).read_bytes()).hexdigest()
        text = text.replace(f'"sha256 of {stage["file"]}"', f'"{digest}"')
    (folder / MANIFEST_NAME).write_text(text, encoding="utf-8")
    package = read_package(folder)
    verify_package(package)
    return package


def _stages(text: str) -> list[dict[str, Any]]:
    tables = tomllib.loads(text)
    return [tables["locator"], tables["segmenter"]]


def export_stage(config: Path, run: Path, path: Path) -> None:
    """Write the network of one run, and check it."""
    experiment = Experiment.read(config)
    network = load_network(run, experiment)
    write_onnx(network, path)
    difference = check_parity(network, path)
    size_mb = path.stat().st_size / 1e6
    logger.info("%s: %.1f MB, differs from torch by %.5f", path, size_mb, difference)


def main() -> None:
    """Run the program."""
    parser = argparse.ArgumentParser(description="Make a model package from two training runs.")
    configs = Path(__file__).parent / "configs"
    for name in ("locator", "segmenter"):
        parser.add_argument(f"--{name}", type=Path, required=True, help=f"run of the {name}")
        parser.add_argument(f"--{name}-config", type=Path, default=configs / f"{name}.toml")
    parser.add_argument("--manifest", type=Path, default=configs / "manifest.toml")
    parser.add_argument("--out", type=Path, required=True, help="folder of the package")
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    export_stage(arguments.locator_config, arguments.locator, arguments.out / "locator.onnx")
    export_stage(arguments.segmenter_config, arguments.segmenter, arguments.out / "segmenter.onnx")
    package = write_manifest(arguments.manifest, arguments.out)
    logger.info("%s %s, %s", package.manifest.name, package.manifest.version, package.folder)


if __name__ == "__main__":
    main()

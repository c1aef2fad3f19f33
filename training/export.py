"""Make a model package of two training runs.

Each run's last checkpoint becomes an ONNX file whose weights are stored in half precision (they are
widened to single precision when the file is loaded). What was written is computed again with ONNX
Runtime and compared with torch. The network of a package that is there already may take the place
of a run.
"""

import hashlib
import json
import logging
import shutil
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import tomli_w
import torch
from onnx import TensorProto, helper, numpy_helper

from inference.errors import ModelPackageError
from inference.manifest import (
    MANIFEST_NAME,
    ModelPackage,
    find_package,
    read_package,
    verify_package,
)
from inference.onnx_backend import OnnxEngine
from training.config import Experiment
from training.errors import ExperimentError, ExportError
from training.grids import COARSE_MM, FINE_MM, THIN_MM, THIN_TARGET_MM, WINDOW
from training.networks import Network
from training.trainer import EXPERIMENT, load_network, read_experiment

logger = logging.getLogger(__name__)

_OPSET = 17
_MIN_HALF_VALUES = 1024
_MAX_DIFFERENCE = 0.02
_PROBE_PX = {2: 64, 3: 32}
_EDGES = ("slices", "rows", "columns")
_STACK_GRIDS = {
    "coarse": {"in_plane_mm": COARSE_MM, "slice_mm": COARSE_MM},
    "fine": {"in_plane_mm": FINE_MM, "slice_mm": THIN_TARGET_MM, "native_from_mm": THIN_MM},
}


def write_onnx(network: Network, path: Path) -> None:
    """Write a network with free batch size and edges."""
    edges = [_PROBE_PX[network.dimensions]] * network.dimensions
    probe = torch.zeros(2, network.inputs, *edges)
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


def check_parity(network: Network, path: Path) -> float:
    """Compare ONNX Runtime with torch on noise, and give the largest difference of a probability.

    Raises
    ------
    ExportError
        It is larger than half precision explains.
    """
    rng = np.random.default_rng(0)
    edge = _PROBE_PX[network.dimensions]
    edges = (2 * edge, *[edge] * (network.dimensions - 1))
    image = rng.random((2, network.inputs, *edges), dtype=np.float32)
    with torch.inference_mode():
        expected = torch.softmax(network(torch.from_numpy(image)), dim=1).numpy()
    logits = OnnxEngine(device="cpu", threads=0).load(path)(image)
    found = torch.softmax(torch.from_numpy(logits), dim=1).numpy()
    difference = float(np.abs(found - expected).max())
    # Written so that "not a number" is refused, too.
    if not difference <= _MAX_DIFFERENCE:
        raise ExportError(f"{path} differs from torch by {difference:.4f} in a probability")
    return difference


def export_package(
    locator: Path, segmenter: Path, papers: Path, out: Path, scores: Path | None = None
) -> ModelPackage:
    """Make a package of two training runs.

    Parameters
    ----------
    locator, segmenter:
        Folders of the runs; or packages, by name or folder, to take the network of.
    papers:
        What the manifest says beside the networks (TOML).
    out:
        Folder of the package.
    scores:
        ``scores.json`` of an evaluation of these runs, for the manifest.

    Raises
    ------
    ExportError
        Papers or scores cannot be read, or an ONNX file does not compute what torch does.
    ExperimentError
        A folder holds no trained run and no package.
    ModelPackageError
        Papers and networks together make no valid manifest, or a package is damaged.
    """
    try:
        content = tomllib.loads(papers.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ExportError(f"{papers}: {error}") from error
    if scores is not None:
        content["metrics"] = _read_metrics(scores)
    content["window"] = WINDOW.model_dump()
    sources = {"locator": find_source(locator), "segmenter": find_source(segmenter)}
    for stage, source in sources.items():
        path = out / f"{stage}.onnx"
        if isinstance(source, ModelPackage):
            content[stage] = _copy_stage(source, stage, path)
        else:
            content[stage] = export_stage(source, path)
    folds = {_held_out_fold(source) for source in sources.values()}
    if len(folds) > 1:
        logger.warning("%s and %s held out different folds: none is told", locator, segmenter)
    elif folds != {None}:
        content["held_out_fold"] = folds.pop()
    (out / MANIFEST_NAME).write_text(tomli_w.dumps(content), encoding="utf-8")
    package = read_package(out)
    verify_package(package)
    return package


def find_source(place: Path) -> Path | ModelPackage:
    """Give what a network can be taken from: the folder of a training run, or a package.

    Raises
    ------
    ExperimentError
        It is neither.
    """
    if (place / EXPERIMENT).is_file():
        return place
    try:
        return find_package(str(place))
    except ModelPackageError as error:
        raise ExperimentError(f"{place} holds no training run, and {error}") from error


def _held_out_fold(source: Path | ModelPackage) -> int | None:
    """Give the fold that the network was not trained on."""
    if isinstance(source, ModelPackage):
        return source.manifest.held_out_fold
    return read_experiment(source).data.held_out_fold


def _copy_stage(package: ModelPackage, name: str, path: Path) -> dict[str, Any]:
    """Take the network of a package, and give its section of the manifest.

    Raises
    ------
    ExportError
        It sees other CT numbers than the networks that are trained here.
    """
    verify_package(package)
    manifest = package.manifest
    if manifest.window != WINDOW:
        raise ExportError(
            f"{package.folder} sees {manifest.window.low_hu} to {manifest.window.high_hu} HU; a "
            f"package has one window for its networks, here {WINDOW.low_hu} to {WINDOW.high_hu} HU"
        )
    stage = manifest.locator if name == "locator" else manifest.segmenter
    path.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(package.folder / stage.file, path)
    content = stage.model_dump(mode="json", exclude_defaults=True, exclude_none=True)
    return {**content, "kind": stage.kind, "file": path.name}


def _read_metrics(scores: Path) -> dict[str, dict[str, float]]:
    """Give what an evaluation measured, by case; what could not be measured is left out."""
    try:
        cases = json.loads(scores.read_text(encoding="utf-8"))["cases"]
        metrics = {case["case_id"]: _case_metrics(case) for case in cases}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ExportError(f"{scores} holds no scores of hepar evaluate: {error!r}") from error
    return {
        name: {key: value for key, value in values.items() if value is not None}
        for name, values in metrics.items()
    }


def _case_metrics(case: Mapping[str, Any]) -> dict[str, float | None]:
    tumor = case["tumor"] or {}
    return {
        "liver_dice": case["liver"]["dice"],
        "tumor_dice": tumor.get("dice"),
        "tumor_ml": case["found_tumor_ml"],
        "true_tumor_ml": tumor.get("true_ml"),
    }


def export_stage(run: Path, path: Path) -> dict[str, Any]:
    """Write the network of a run as ONNX, check it, and give its section of a manifest.

    Parameters
    ----------
    run:
        Folder of the run.
    path:
        ONNX file.

    Raises
    ------
    ExperimentError
        The folder holds no trained run.
    ExportError
        The ONNX file does not compute what torch does.
    """
    experiment = read_experiment(run)
    network = load_network(run)
    write_onnx(network, path)
    difference = check_parity(network, path)
    size_mb = path.stat().st_size / 1e6
    logger.info("%s: %.1f MB, differs from torch by %.5f", path, size_mb, difference)
    return {
        "file": path.name,
        "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
        "labels": list(experiment.labels),
        "multiple_px": experiment.network.multiple,
        **describe_stage(experiment),
    }


def describe_stage(experiment: Experiment) -> dict[str, Any]:
    """Give what the manifest says of the input of a network: the one that it was trained on."""
    data, tiles = experiment.data, experiment.export
    view = data.view.model_dump(mode="json", exclude_defaults=True)
    shown = {"view": view} if view else {}
    if experiment.network.dimensions == 3:
        return {
            "kind": "volume",
            "tile_px": tiles.tile_px,
            "tile_slices": tiles.tile_slices,
            "grid": {"in_plane_mm": data.in_plane_mm, "slice_mm": data.slice_mm},
            **shown,
        }
    return {
        "kind": "stack",
        "context_slices": data.context_slices,
        "context_distance_mm": data.context_distance_mm,
        "batch": tiles.batch,
        "tile_px": tiles.tile_px,
        "grid": _STACK_GRIDS[data.grid],
        **shown,
    }

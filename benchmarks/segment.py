"""The same network in three programs: ``python -m benchmarks.segment [MODEL] [CT_FOLDER]``.

nnU-Net's own predictor, MONAI's sliding window in torch, and Hepar segment the same scan with the
weights of a model's segmenter. Two tables are printed:

predictors
    The box around the liver, brought to the voxels of the network beforehand. All cut it into
    the same tiles, which overlap by half, without mirroring; Hepar also as it is used, with tiles
    as large as the manifest allows.
whole scans
    The scan as it is, to labels on its own voxels. nnU-Net and MONAI compute all of it, Hepar
    what its locator found.

Each system runs in a process of its own, whose peak memory is told, in interleaved rounds. Needs
``pip install 'hepar[train,bench]'``.
"""

import argparse
import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from config import InferenceSettings
from dicom_io.series import find_series, read_series
from inference.backend import ResilientPredictor, open_engine
from inference.labels import Label
from inference.manifest import Stage, Window, find_package
from inference.measure import dice
from inference.phantom import make_phantom
from inference.preprocess import box_grid, orient, sample_scan
from inference.segment import load_segmenter
from inference.sliding_window import context_step, predict, stack_indices
from inference.volume import Volume

Labels: TypeAlias = NDArray[np.uint8]
Run: TypeAlias = Callable[[Volume], Labels]

CONFIGURATION = "hepar"
"""Name of the configuration in nnU-Net's plans."""

TILES = {"stack": (192, 192), "volume": (64, 160, 160)}
"""Smaller than the box of a liver, so that none of the programs pads it."""
OVERLAP = 0.5


def open_nnunet(model: str) -> Run:
    """Give nnU-Net v2's predictor around the network."""
    import torch
    from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor
    from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

    from benchmarks.torch_network import load_torch_network

    package = find_package(model)
    stage, window = package.manifest.segmenter, package.manifest.window
    dataset = {
        "channel_names": {str(channel): "CT" for channel in range(_channels(stage))},
        "labels": {name: index for index, name in enumerate(stage.labels)},
        "file_ending": ".nii.gz",
    }
    plans = PlansManager(_nnunet_plans(stage, window))
    network = load_torch_network(package.folder / stage.file)
    predictor = nnUNetPredictor(
        tile_step_size=1 - OVERLAP,
        use_gaussian=True,
        use_mirroring=False,
        perform_everything_on_device=False,
        device=torch.device("cpu"),
        allow_tqdm=False,
    )
    predictor.manual_initialization(
        network,
        plans,
        plans.get_configuration(CONFIGURATION),
        [network.state_dict()],
        dataset,
        "nnUNetTrainer",
        None,
    )

    def run(volume: Volume) -> Labels:
        scan = orient(volume)
        image = np.ascontiguousarray(scan.array, dtype=np.float32)
        channels = _stack_channels(image, scan.spacing_mm[0], stage).swapaxes(0, 1)
        properties = {"spacing": list(scan.spacing_mm)}
        found = predictor.predict_single_npy_array(np.ascontiguousarray(channels), properties)
        return np.asarray(scan.order.undo(found.astype(np.uint8)))

    return run


def _channels(stage: Stage) -> int:
    return stage.context_slices if stage.kind == "stack" else 1


def _stack_channels(image: NDArray[np.float32], slice_mm: float, stage: Stage) -> NDArray[Any]:
    """Give (slices, channels, rows, columns): the neighbors of each slice, or just itself."""
    if stage.kind == "volume":
        return image[:, None]
    step = context_step(slice_mm, stage.context_distance_mm)
    middle = np.arange(len(image))
    return image[stack_indices(middle, len(image), step, stage.context_slices)]


def _nnunet_plans(stage: Stage, window: Window) -> dict[str, object]:
    """Write nnU-Net's plans for our window, voxels and tiles; the rest are its defaults."""
    channels = _channels(stage)
    resample = "resample_data_or_seg_to_shape"
    options = {"is_seg": False, "order": 3, "order_z": 0, "force_separate_z": None}
    in_plane = [stage.grid.in_plane_mm] * 2
    # Plans of 2D networks name no distance of slices: they are kept as they are.
    spacing = in_plane if stage.kind == "stack" else [stage.grid.slice_mm, *in_plane]
    tile = list(TILES[stage.kind])
    intensities = {
        "percentile_00_5": window.low_hu,
        "percentile_99_5": window.high_hu,
        "mean": window.low_hu,
        "std": window.high_hu - window.low_hu,
    }
    return {
        "dataset_name": "Dataset001_Liver",
        "plans_name": "nnUNetPlans",
        "original_median_spacing_after_transp": [stage.grid.slice_mm, *in_plane],
        "original_median_shape_after_transp": [128, 256, 256],
        "image_reader_writer": "SimpleITKIO",
        "transpose_forward": [0, 1, 2],
        "transpose_backward": [0, 1, 2],
        "experiment_planner_used": "ExperimentPlanner",
        "label_manager": "LabelManager",
        "foreground_intensity_properties_per_channel": {
            str(channel): intensities for channel in range(channels)
        },
        "configurations": {
            CONFIGURATION: {
                "data_identifier": "nnUNetPlans_hepar",
                "preprocessor_name": "DefaultPreprocessor",
                "batch_size": 2,
                "patch_size": tile,
                "median_image_size_in_voxels": tile,
                "spacing": spacing,
                "normalization_schemes": ["CTNormalization"] * channels,
                "use_mask_for_norm": [False] * channels,
                "resampling_fn_data": resample,
                "resampling_fn_data_kwargs": options,
                "resampling_fn_seg": resample,
                "resampling_fn_seg_kwargs": {**options, "is_seg": True, "order": 1},
                "resampling_fn_probabilities": resample,
                "resampling_fn_probabilities_kwargs": {**options, "order": 1},
                "batch_dice": False,
                "architecture": {
                    "network_class_name": "training.networks.UNet",
                    "arch_kwargs": {"strides": [[1] * len(tile)]},
                    "_kw_requires_import": [],
                },
            }
        },
    }


def open_monai(model: str) -> Run:
    """Give MONAI's sliding window around the network, with torch's interpolation."""
    import torch
    from monai.inferers import SlidingWindowInferer
    from torch.nn import functional

    from benchmarks.torch_network import load_torch_network

    package = find_package(model)
    stage, window = package.manifest.segmenter, package.manifest.window
    network = load_torch_network(package.folder / stage.file)
    batch = stage.batch if stage.kind == "stack" else 1
    inferer = SlidingWindowInferer(
        TILES[stage.kind], sw_batch_size=batch, overlap=OVERLAP, mode="gaussian"
    )

    def infer(image: torch.Tensor, slice_mm: float) -> torch.Tensor:
        """Give logits (1, classes, slices, rows, columns) of an image (slices, rows, columns)."""
        channels = torch.from_numpy(_stack_channels(image.numpy(), slice_mm, stage))
        if stage.kind == "stack":
            return inferer(channels, network).swapaxes(0, 1)[None]
        return inferer(channels.swapaxes(0, 1)[None], network)

    @torch.inference_mode()
    def run(volume: Volume) -> Labels:
        scan = orient(volume)
        image = torch.from_numpy(np.ascontiguousarray(scan.array, dtype=np.float32))[None, None]
        image = (image.clamp(window.low_hu, window.high_hu) - window.low_hu) / (
            window.high_hu - window.low_hu
        )
        slice_mm = scan.spacing_mm[0] if stage.kind == "stack" else stage.grid.slice_mm
        voxel_mm = (slice_mm, stage.grid.in_plane_mm, stage.grid.in_plane_mm)
        edges = zip(scan.array.shape, scan.spacing_mm, voxel_mm, strict=True)
        size = [max(1, round(n * mm / target)) for n, mm, target in edges]
        small = functional.interpolate(image, size=size, mode="trilinear")
        logits = infer(small[0, 0], slice_mm)
        full = functional.interpolate(logits, size=scan.array.shape, mode="trilinear")
        return np.asarray(scan.order.undo(full[0].argmax(dim=0).numpy().astype(np.uint8)))

    return run


def open_hepar(model: str) -> Run:
    """Give Hepar as it is used: locator, box, large tiles, the fastest back end."""
    segmenter = load_segmenter(InferenceSettings(model=model))
    return lambda volume: np.asarray(segmenter.segment(volume).labels.array)


def open_hepar_predictor(model: str, precision: str, *, same_tiles: bool) -> Run:
    """Give what Hepar computes between the locator and the source grid."""
    package = find_package(model)
    stage, window = package.manifest.segmenter, package.manifest.window
    if same_tiles:
        tile = TILES[stage.kind]
        tiles = {"tile_slices": tile[0], "tile_px": tile[-1], "tile_overlap": OVERLAP}
        fields = {name: value for name, value in tiles.items() if name in type(stage).model_fields}
        stage = stage.model_copy(update=fields)
    engine = open_engine(InferenceSettings.model_validate({"precision": precision}))
    network = ResilientPredictor(package.folder / stage.file, engine)

    def run(volume: Volume) -> Labels:
        image = np.clip(volume.array.astype(np.float32), window.low_hu, window.high_hu)
        image = (image - window.low_hu) / (window.high_hu - window.low_hu)
        slice_mm = float(volume.spacing[0])
        found = predict(image[None], slice_mm, stage, network, lambda _share: None)
        return np.asarray(found.argmax(axis=0).astype(np.uint8))

    return run


def cut_box(volume: Volume, model: str) -> Volume:
    """Give the box around the liver on the voxels of the segmenter."""
    segmenter = load_segmenter(InferenceSettings(model=model))
    manifest = segmenter.package.manifest
    scan = orient(volume)
    axes = box_grid(scan, manifest.segmenter, segmenter.locate(volume))
    window = manifest.window
    hu = sample_scan(scan, axes, window) * (window.high_hu - window.low_hu) + window.low_hu
    affine = np.diag([axis.spacing_mm for axis in axes] + [1.0])[[2, 1, 0, 3]]
    array = np.rint(hu).astype(np.int16)
    return Volume(array=array, affine=affine, coordinate_system="PATIENT")


PREDICTORS: dict[str, Callable[[str], Run]] = {
    "nnU-Net v2": open_nnunet,
    "MONAI": open_monai,
    "Hepar, same tiles, fp32": partial(open_hepar_predictor, precision="fp32", same_tiles=True),
    "Hepar, same tiles": partial(open_hepar_predictor, precision="auto", same_tiles=True),
    "Hepar": partial(open_hepar_predictor, precision="auto", same_tiles=False),
}
WHOLE_SCANS: dict[str, Callable[[str], Run]] = {
    "nnU-Net v2": open_nnunet,
    "MONAI": open_monai,
    "Hepar": open_hepar,
}
TASKS = {"predictors": PREDICTORS, "whole scans": WHOLE_SCANS}


def main() -> None:
    """Measure and print, or be the process of one system."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "model", nargs="?", default="hepar-liver-ct", help="name of a package, or its folder"
    )
    parser.add_argument("folder", nargs="?", type=Path, help="CT series; default: a phantom")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--task", choices=TASKS, help=argparse.SUPPRESS)
    parser.add_argument("--system", help=argparse.SUPPRESS)
    parser.add_argument("--labels", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.system is not None:
        run = TASKS[arguments.task][arguments.system](arguments.model)
        volume = _read(arguments.folder)
        if arguments.task == "predictors":
            volume = cut_box(volume, arguments.model)
        _serve(run, volume, arguments.labels)
        return
    paths = [] if arguments.folder is None else [str(arguments.folder)]
    for task in TASKS:
        print(f"\n{task.capitalize()}\n")
        with tempfile.TemporaryDirectory() as folder:
            _measure(task, [arguments.model, *paths], arguments.rounds, Path(folder))


def _serve(run: Run, volume: Volume, labels: Path) -> None:
    """Segment once for each line that comes in, after one time to warm up."""
    np.save(labels, run(volume))
    print(json.dumps({"ready": True}), flush=True)
    for _ in sys.stdin:
        started = time.perf_counter()
        run(volume)
        seconds = time.perf_counter() - started
        peak_gb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
        print(json.dumps({"seconds": seconds, "peak_gb": peak_gb}), flush=True)


def _measure(task: str, inputs: list[str], rounds: int, scratch: Path) -> None:
    """Let the systems take turns; only one of them computes at a time."""
    answers: dict[str, list[dict[str, float]]] = {name: [] for name in TASKS[task]}
    servers: dict[str, subprocess.Popen[str]] = {}
    for index, name in enumerate(answers):
        command = [sys.executable, "-m", "benchmarks.segment", *inputs, "--task", task]
        command += ["--system", name, "--labels", str(scratch / f"{index}.npy")]
        servers[name] = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        _answer(servers[name])
    for _ in range(rounds):
        for name, server in servers.items():
            assert server.stdin is not None
            server.stdin.write("\n")
            server.stdin.flush()
            answers[name].append(_answer(server))
    for server in servers.values():
        server.communicate("")
    _print(answers, [np.load(scratch / f"{index}.npy") for index in range(len(answers))])


def _answer(server: subprocess.Popen[str]) -> dict[str, float]:
    """Read the next JSON line; libraries print lines of their own."""
    assert server.stdout is not None
    for line in server.stdout:
        if line.startswith("{"):
            return dict(json.loads(line))
    raise SystemExit("a system ended before it was done; its message stands above")


def _read(folder: Path | None) -> Volume:
    if folder is None:
        return make_phantom().volume
    [paths] = find_series(folder).values()
    return read_series(paths).volume


def _print(answers: dict[str, list[dict[str, float]]], results: list[Labels]) -> None:
    medians = [statistics.median(a["seconds"] for a in rounds) for rounds in answers.values()]
    print("| system | median s | times faster | peak GB | liver Dice | tumor Dice |")
    print("|---|---|---|---|---|---|")
    for (name, rounds), median, labels in zip(answers.items(), medians, results, strict=True):
        liver = dice(labels > 0, results[0] > 0)
        tumor = dice(labels == Label.TUMOR, results[0] == Label.TUMOR)
        print(
            f"| {name} | {median:.1f} | {medians[0] / median:.1f} "
            f"| {rounds[-1]['peak_gb']:.2f} | {liver:.4f} | {tumor:.4f} |"
        )


if __name__ == "__main__":
    main()

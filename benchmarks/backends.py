"""The back ends side by side: ``python -m benchmarks.backends [--rounds N] [CT_FOLDER]``.

The same scan is segmented by each back end and precision in interleaved rounds. Printed are the
median seconds, the ratio to the slowest, and the Dice of liver and tumor against ONNX Runtime in
single precision.
"""

import argparse
import statistics
import time
from pathlib import Path

from config import InferenceSettings
from dicom_io.series import find_series, read_series
from inference.labels import Label
from inference.measure import dice
from inference.phantom import make_phantom
from inference.segment import Segmenter, load_segmenter
from inference.volume import Volume

CONFIGURATIONS = (
    InferenceSettings(device="cpu", backend="onnxruntime", precision="fp32"),
    InferenceSettings(device="cpu", backend="openvino", precision="fp32"),
    InferenceSettings(device="cpu", backend="openvino", precision="auto"),
)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", nargs="?", type=Path, help="CT series; default: a phantom")
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    volume = _read(arguments.folder)
    segmenters = [load_segmenter(settings) for settings in CONFIGURATIONS]
    seconds: list[list[float]] = [[] for _ in segmenters]
    for _ in range(arguments.rounds):
        for times, segmenter in zip(seconds, segmenters, strict=True):
            start = time.perf_counter()
            segmenter.segment(volume)
            times.append(time.perf_counter() - start)
    _print(segmenters, seconds, volume)


def _read(folder: Path | None) -> Volume:
    if folder is None:
        return make_phantom().volume
    [paths] = find_series(folder).values()
    return read_series(paths).volume


def _print(segmenters: list[Segmenter], seconds: list[list[float]], volume: Volume) -> None:
    medians = [statistics.median(times) for times in seconds]
    results = [segmenter.segment(volume).labels.array for segmenter in segmenters]
    print("| back end | precision | median s | times faster | liver Dice | tumor Dice |")
    print("|---|---|---|---|---|---|")
    for segmenter, median, labels in zip(segmenters, medians, results, strict=True):
        liver = dice(labels > 0, results[0] > 0)
        tumor = dice(labels == Label.TUMOR, results[0] == Label.TUMOR)
        speed = max(medians) / median
        print(
            f"| {segmenter.backend} | {segmenter.precision} | {median:.2f} | {speed:.2f} "
            f"| {liver:.4f} | {tumor:.4f} |"
        )


if __name__ == "__main__":
    main()

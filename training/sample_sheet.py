"""What the network is shown, as a picture: painted lesions are judged by eye."""

from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import NDArray

from inference.labels import Label
from training.samples import Sample, Sampler

SAMPLES = "samples.png"
_ROWS, _COLUMNS = 3, 6
_SEED = 7


def draw_samples(sampler: Sampler, folder: Path) -> None:
    """Draw random samples: the image, and what the network should say.

    Liver is outlined in green, tumor in red, and in yellow the part in which the network is told
    which of the two it is, where that is not all of the sample.

    Parameters
    ----------
    sampler:
        Source of the samples.
    folder:
        Gets ``samples.png``.
    """
    rng = np.random.default_rng(_SEED)
    figure = Figure(figsize=(2 * _COLUMNS, 4 * _ROWS), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(2 * _ROWS, _COLUMNS)
    for row in range(_ROWS):
        for plain, outlined in axes[2 * row : 2 * row + 2].T:
            _draw(plain, outlined, sampler.sample(rng))
    figure.savefig(folder / SAMPLES, dpi=100)


def _draw(plain: Axes, outlined: Axes, sample: Sample) -> None:
    image, labels, known = _show_plane(sample)
    for axes in (plain, outlined):
        axes.imshow(image, cmap="gray", vmin=0, vmax=1)
        axes.axis("off")
    masks = ((labels > 0, "lime"), (labels == Label.TUMOR, "red"), (known, "gold"))
    for mask, color in masks:
        if mask.any() and not mask.all():
            outlined.contour(mask, [0.5], colors=color, linewidths=0.8)


def _show_plane(
    sample: Sample,
) -> tuple[NDArray[np.float32], NDArray[np.int64], NDArray[np.bool_]]:
    """Give the middle slice of a stack, of a volume the slice with most tumor, or most liver."""
    image, labels, known = (array.numpy() for array in (sample.image, sample.labels, sample.known))
    if labels.ndim == 2:
        return image[len(image) // 2], labels, known
    tumor = (labels == Label.TUMOR).sum(axis=(1, 2))
    chosen = int(np.argmax(tumor if tumor.any() else (labels > 0).sum(axis=(1, 2))))
    return image[0, chosen], labels[chosen], known[chosen]

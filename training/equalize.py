"""A gray curve that equalizes the histogram of the training data.

It is found once, when a run begins, and then belongs to the network. A curve for each slice, as
histogram equalization is mostly meant, would depend on how much of the slice is shown: the patch in
training, the box around the liver in inference.
"""

from collections.abc import Sequence

import numpy as np

from inference.manifest import GrayCurve
from training.config import Experiment
from training.dataset import Case
from training.grids import LEVELS, WINDOW


def equalize(experiment: Experiment, cases: Sequence[Case]) -> Experiment:
    """Give the experiment with the curve in its view, where it asks for one."""
    data = experiment.data
    if not data.equalized_steps:
        return experiment
    curve = equalizing_curve(cases, data.equalized_steps)
    view = data.view.model_copy(update={"curves": (*data.view.curves, curve)})
    return experiment.model_copy(
        update={"data": data.model_copy(update={"view": view, "equalized_steps": 0})}
    )


def equalizing_curve(cases: Sequence[Case], steps: int) -> GrayCurve:
    """Give the breaks between which equal shares of the voxels lie.

    Voxels at both ends of the window, as air and bone, do not count: no curve can part them.

    Parameters
    ----------
    cases:
        Scans; all of their voxels count alike.
    steps:
        Number of the shares.
    """
    counts = sum(np.bincount(case.levels.ravel(), minlength=LEVELS + 1) for case in cases)
    # One more each, so that the curve rises everywhere.
    inner = 1 + np.asarray(counts)[1:LEVELS]
    share = np.concatenate([[0.0], np.cumsum(inner) / inner.sum()])
    edges = np.array([0.0, *np.arange(2, LEVELS) - 0.5, LEVELS])
    edges_hu = np.interp(edges, (0, LEVELS), (WINDOW.low_hu, WINDOW.high_hu))
    breaks_hu = np.interp(np.linspace(0.0, 1.0, steps + 1), share, edges_hu)
    return GrayCurve(breaks_hu=tuple(breaks_hu.round(2).tolist()))

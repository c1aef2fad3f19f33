"""What a network is shown of a scan: one function for training and inference, so they agree."""

import numpy as np
from numpy.typing import NDArray

from inference.manifest import Bilateral, View, Window


def apply_view(image: NDArray[np.float32], window: Window, view: View) -> NDArray[np.float32]:
    """Show an image as a network was told to see it.

    Parameters
    ----------
    image:
        (..., rows, columns), 0 to 1 over the window.
    window:
        CT numbers of 0 and 1.
    view:
        Smoothing and gray curves.

    Returns
    -------
    NDArray
        (channels, ..., rows, columns) float32, 0 to 1.
    """
    if view == View():
        return image[None]
    result = np.empty((view.channels, *image.shape), dtype=np.float32)
    for index in np.ndindex(image.shape[:-2]):
        result[:, *index] = _show_plane(image[index], window, view)
    return result


def _show_plane(plane: NDArray[np.float32], window: Window, view: View) -> NDArray[np.float32]:
    """Give (channels, rows, columns)."""
    if view.bilateral is not None:
        plane = _smooth(plane, window, view.bilateral)
    if not view.curves:
        return plane[None]
    hu = plane * (window.high_hu - window.low_hu) + window.low_hu
    return np.stack(
        [
            np.interp(hu, curve.breaks_hu, np.linspace(0.0, 1.0, len(curve.breaks_hu)))
            for curve in view.curves
        ]
    ).astype(np.float32)


def _smooth(
    plane: NDArray[np.float32], window: Window, bilateral: Bilateral
) -> NDArray[np.float32]:
    """Filter a slice; beyond its edge the outermost value counts."""
    from skimage.restoration import denoise_bilateral

    return np.asarray(
        denoise_bilateral(
            plane,
            sigma_color=bilateral.gray_sd_hu / (window.high_hu - window.low_hu),
            sigma_spatial=bilateral.spatial_sd_px,
            mode="edge",
        )
    )

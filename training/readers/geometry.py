"""Whether labels lie where their scan lies."""

import itertools

import numpy as np
from numpy.typing import NDArray

from dicom_io.stack import POSITION_TOLERANCE_MM
from inference.labels import Label
from inference.volume import Volume
from training.errors import DataSetError


def read_as_labels(labels: Volume, volume: Volume, highest: Label) -> NDArray[np.uint8]:
    """Give the values of a label image on the grid of its scan.

    Parameters
    ----------
    labels:
        (slices, rows, columns), whole numbers.
    volume:
        The scan.
    highest:
        The largest value that the data set uses; the least is 0.

    Returns
    -------
    NDArray
        The shape of the scan; values of `inference.labels.Label`.

    Raises
    ------
    DataSetError
        Shape or place differ, or another value occurs.
    """
    if labels.array.shape != volume.array.shape:
        found, expected = (_size(shape) for shape in (labels.array.shape, volume.array.shape))
        raise DataSetError(f"the labels have {found} voxels, the image {expected}")
    check_place(labels.affine, volume)
    low, high = int(labels.array.min()), int(labels.array.max())
    if low < 0 or high > highest:
        raise DataSetError(f"labels from {low} to {high}, where 0 to {int(highest)} are known")
    values: NDArray[np.uint8] = labels.array.astype(np.uint8)
    return values


def check_place(affine: NDArray[np.float64], volume: Volume) -> None:
    """Check that a grid of the shape of a scan lies where the scan lies.

    No corner may be farther than 0.1 mm from where it should be: far more than the rounding of
    headers, and too little to move a label to the next voxel.

    Parameters
    ----------
    affine:
        (4, 4), index (slice, row, column) to LPS in mm.
    volume:
        The scan.

    Raises
    ------
    DataSetError
        It lies elsewhere.
    """
    corners = itertools.product(*((0, size - 1) for size in volume.array.shape))
    indices = np.array([(*corner, 1) for corner in corners], dtype=np.float64)
    shifts = indices @ (np.asarray(affine) - np.asarray(volume.affine))[:3].T
    farthest_mm = float(np.linalg.norm(shifts, axis=1).max())
    if farthest_mm > POSITION_TOLERANCE_MM:
        raise DataSetError(
            f"the headers put the labels up to {farthest_mm:.2f} mm away from the image"
        )


def place_mask(mask: Volume, volume: Volume) -> NDArray[np.bool_]:
    """Give a mask on the grid of a scan, of which it may hold only some neighboring slices.

    Parameters
    ----------
    mask:
        (slices, rows, columns), not 0 where the mask is.
    volume:
        The scan.

    Returns
    -------
    NDArray
        The shape of the scan.

    Raises
    ------
    DataSetError
        A slice of the mask is no slice of the scan.
    """
    if mask.array.shape[1:] != volume.array.shape[1:]:
        found, expected = (_size(part.array.shape[1:]) for part in (mask, volume))
        raise DataSetError(
            f"the slices of the mask have {found} pixels, those of the CT {expected}"
        )
    step = volume.affine[:3, 0]
    first = round(float((mask.affine[:3, 3] - volume.affine[:3, 3]) @ step / (step @ step)))
    last = first + len(mask.array)
    if first < 0 or last > len(volume.array):
        raise DataSetError(
            f"{len(mask.array)} slices of the mask begin at slice {first} of {len(volume.array)}"
        )
    start = np.array(mask.affine)
    start[:3, 3] -= first * step
    check_place(start, volume)
    placed = np.zeros(volume.array.shape, dtype=np.bool_)
    placed[first:last] = mask.array != 0
    return placed


def _size(shape: tuple[int, ...]) -> str:
    return " x ".join(str(size) for size in shape)

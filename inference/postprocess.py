"""From class probabilities to clean labels on the source grid."""

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from inference.errors import LiverNotFound
from inference.findings import FULL_PROBABILITY
from inference.labels import Label
from inference.location import Window3d, part_of_axis
from inference.manifest import Postprocessing
from inference.preprocess import Axes
from inference.resample import (
    AxisGrid,
    resample_plane,
    resample_slices,
    sampling_matrix,
    smoothing_matrix,
)

_FACES = ndimage.generate_binary_structure(3, 1)
_CORNERS = ndimage.generate_binary_structure(3, 3)
_MM3_PER_ML = 1000.0


def largest_component(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Keep the largest face-connected component; an empty mask stays empty."""
    components, count = ndimage.label(mask, structure=_FACES)
    if count <= 1:
        return mask
    sizes = _sizes(components, count)
    sizes[0] = 0
    return np.asarray(components == sizes.argmax())


def _sizes(components: NDArray[np.int32], count: int) -> NDArray[np.intp]:
    """Count the voxels of each component, the background first."""
    # Slice by slice: bincount widens its input to 8 bytes a voxel.
    sizes = np.zeros(count + 1, dtype=np.intp)
    for plane in components:
        sizes += np.bincount(plane.ravel(), minlength=count + 1)
    return sizes


def fill_holes(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Fill what is enclosed by a mask on all sides.

    Components of the outside are labeled instead of grown step by step as
    `scipy.ndimage.binary_fill_holes` does, which is several times slower.
    """
    padded = np.pad(mask, 1)
    outside, _ = ndimage.label(~padded, structure=_FACES)
    return np.asarray(outside != outside[0, 0, 0])[1:-1, 1:-1, 1:-1]


def remove_small(mask: NDArray[np.bool_], min_voxels: float) -> NDArray[np.bool_]:
    """Drop the 26-connected components with fewer voxels."""
    components, count = ndimage.label(mask, structure=_CORNERS)
    if not count:
        return mask
    large = _sizes(components, count) >= min_voxels
    large[0] = False
    return np.asarray(large[components])


def smooth_slices(probabilities: NDArray[np.float32], sd_slices: float) -> None:
    """Smooth probabilities (classes, slices, rows, columns) along the slices, in place.

    Parameters
    ----------
    probabilities:
        They still sum to one afterwards.
    sd_slices:
        Standard deviation of the Gaussian, in slices; 0 leaves them as they are.
    """
    if sd_slices:
        matrix = smoothing_matrix(probabilities.shape[1], sd_slices)
        for planes in probabilities:
            planes[:] = resample_slices(planes, matrix)


def reached_window(axes: Axes, source: Axes) -> Window3d:
    """Give the source voxels whose centers lie among the samples of a stage."""
    slices, rows, columns = (
        _reached(axis, origin) for axis, origin in zip(axes, source, strict=True)
    )
    return slices, rows, columns


def _reached(axis: AxisGrid, source: AxisGrid) -> slice:
    tolerance = 1e-6 * source.spacing_mm
    last_mm = axis.start_mm + axis.spacing_mm * (axis.size - 1)
    first = int(np.ceil((axis.start_mm - tolerance) / source.spacing_mm))
    last = int(np.floor((last_mm + tolerance) / source.spacing_mm))
    return slice(max(0, first), min(source.size, last + 1))


def to_source_labels(
    probabilities: NDArray[np.float32],
    axes: Axes,
    source: Axes,
    label_values: tuple[Label, ...],
    kept: NDArray[np.uint8] | None = None,
) -> NDArray[np.uint8]:
    """Interpolate probabilities on the source voxels, and decide there.

    A voxel is organ where liver and tumor together are likelier than background, and tumor where
    that is the likelier of the two. It is done slice by slice, so that the probabilities of a large
    scan are never in memory at once.

    Parameters
    ----------
    probabilities:
        (classes, slices, rows, columns) on ``axes``.
    axes, source:
        Voxels of the stage and of the scan, in mm along the same axes.
    label_values:
        Meaning of the classes; the first is background.
    kept
        (liver and tumor, slices, rows, columns) of the source voxels inside `reached_window`,
        zeros; gets the probabilities, in 255ths.

    Returns
    -------
    NDArray
        Labels of the source voxels inside `reached_window`.
    """
    window = reached_window(axes, source)
    slices, rows, columns = (
        sampling_matrix(axis, part_of_axis(origin, part))
        for axis, origin, part in zip(axes, source, window, strict=True)
    )
    labels = np.zeros([part.stop - part.start for part in window], dtype=np.uint8)
    values = np.array([int(value) for value in label_values[1:]], dtype=np.uint8)
    least = 0.5 if kept is None else 0.5 / FULL_PROBABILITY
    for index in range(len(labels)):
        weights = slices[[index]]
        near = probabilities[1:, weights.indices]
        coarse = np.tensordot(weights.data, near, axes=(0, 1))
        if coarse.sum(axis=0).max() > least:
            fine = np.stack([resample_plane(plane, rows, columns) for plane in coarse])
            labels[index] = np.where(fine.sum(axis=0) > 0.5, values[fine.argmax(axis=0)], 0)
            if kept is not None:
                kept[values - 1, index] = np.rint(fine.clip(0, 1) * FULL_PROBABILITY)
    return labels


def clean_probabilities(
    kept: NDArray[np.uint8], raw: NDArray[np.uint8], labels: NDArray[np.uint8]
) -> None:
    """Drop, in place, what was dropped of the labels, so that the two tell of the same parts.

    Parameters
    ----------
    kept
        (liver and tumor, slices, rows, columns), in 255ths.
    raw, labels
        (slices, rows, columns), before and after `clean_labels`.
    """
    liver, tumor = kept
    crumbs = (raw == Label.TUMOR) & (labels == Label.LIVER)
    liver[crumbs] += np.minimum(tumor[crumbs], FULL_PROBABILITY - liver[crumbs])
    tumor[crumbs] = 0
    kept[:, (raw != Label.BACKGROUND) & (labels == Label.BACKGROUND)] = 0


def clean_labels(
    labels: NDArray[np.uint8], voxel_mm3: float, rules: Postprocessing
) -> NDArray[np.uint8]:
    """Keep the largest organ, fill its holes, drop crumbs of tumor.

    The organ is liver and tumor together. So a tumor stays where it lies in the liver or touches
    it, and is dropped where it does not.

    Parameters
    ----------
    labels:
        (slices, rows, columns) uint8, values of `Label`.
    voxel_mm3:
        Volume of a voxel.
    rules:
        Sizes from the manifest.

    Raises
    ------
    LiverNotFound
        What is left is smaller than the rules demand.
    """
    window = _bounding_window(labels)
    inner = labels[window]
    organ = fill_holes(largest_component(inner > 0))
    check_size(int(organ.sum()), voxel_mm3, rules)
    tumor = (inner == Label.TUMOR) & organ
    tumor = remove_small(tumor, rules.min_tumor_mm3 / voxel_mm3)
    result = np.zeros_like(labels)
    result[window] = np.where(tumor, Label.TUMOR, organ * np.uint8(Label.LIVER))
    return result


def check_size(voxels: int, voxel_mm3: float, rules: Postprocessing) -> None:
    """Refuse an organ that is too small to be a liver.

    Raises
    ------
    LiverNotFound
        It is smaller than the rules demand.
    """
    volume_ml = voxels * voxel_mm3 / _MM3_PER_ML
    if volume_ml < rules.min_liver_ml:
        raise LiverNotFound(
            f"the model found {volume_ml:.0f} ml of liver, less than the {rules.min_liver_ml:.0f} "
            "ml that count as a liver; is the liver in the scan?"
        )


def _bounding_window(labels: NDArray[np.uint8]) -> Window3d:
    found = ndimage.find_objects((labels > 0).view(np.uint8))
    if not found:
        return slice(0, 0), slice(0, 0), slice(0, 0)
    slices, rows, columns = found[0]
    return slices, rows, columns

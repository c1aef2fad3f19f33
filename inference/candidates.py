"""Candidate lesions: what the segmenter took for tumor, each component with its features.

Networks mark more than there is. A second classifier that sees each candidate as a whole, its
shape, its density beside that of the liver around it and how sure the network was, tells some of
the false ones (Chlebus et al., Automatic liver tumor segmentation in CT with fully convolutional
neural networks and object-based postprocessing, Sci Rep 8 (2018) 15497).
"""

from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from inference.labels import Label

_CORNERS = ndimage.generate_binary_structure(3, 3)
_RING_MM = (2.0, 8.0)
"""Nearest and farthest liver with which a candidate is compared."""
_MARGIN_MM = 10.0

Spacing: TypeAlias = tuple[float, float, float]

FEATURES = (
    "log_volume_ml",
    "log_diameter_mm",
    "compactness",
    "elongation",
    "mean_probability",
    "highest_probability",
    "mean_level",
    "level_sd",
    "contrast",
    "contrast_to_noise",
    "depth_mm",
    "outside_share",
)
"""In the order of the columns. Levels are those of the HU window, 0 to 1."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Candidates:
    """The candidates of a scan on the voxels of the segmenter."""

    components: NDArray[np.int32]
    """(slices, rows, columns), 0 where there is none, else 1 to their number."""
    features: NDArray[np.float32]
    """(candidates, features)."""

    def __len__(self) -> int:
        return len(self.features)


def find_candidates(
    probabilities: NDArray[np.float32],
    label_values: tuple[Label, ...],
    image: NDArray[np.float32],
    spacing_mm: Spacing,
) -> Candidates:
    """Find the candidates and measure them.

    Parameters
    ----------
    probabilities:
        (classes, slices, rows, columns) of the segmenter.
    label_values:
        Meaning of the classes.
    image:
        (slices, rows, columns), what the segmenter saw, 0 to 1.
    spacing_mm:
        Of its voxels.
    """
    tumor = probabilities[label_values.index(Label.TUMOR)]
    organ = probabilities[0] < 0.5
    mask = organ & (tumor > probabilities[label_values.index(Label.LIVER)])
    components, _ = ndimage.label(mask, structure=_CORNERS)
    scene = _Scene(image=image, tumor=tumor, organ=organ, mask=mask, spacing_mm=spacing_mm)
    rows = [
        _measure(scene, components, index, _with_margin(window, mask.shape, spacing_mm))
        for index, window in enumerate(ndimage.find_objects(components), start=1)
    ]
    features = np.array(rows, dtype=np.float32).reshape(len(rows), len(FEATURES))
    return Candidates(components=components, features=features)


@dataclass(frozen=True, kw_only=True, eq=False)
class _Scene:
    image: NDArray[np.float32]
    tumor: NDArray[np.float32]
    organ: NDArray[np.bool_]
    mask: NDArray[np.bool_]
    spacing_mm: Spacing


def _with_margin(
    window: tuple[slice, ...], shape: tuple[int, ...], spacing_mm: Spacing
) -> tuple[slice, ...]:
    grown = []
    for part, size, mm in zip(window, shape, spacing_mm, strict=True):
        margin = int(np.ceil(_MARGIN_MM / mm))
        grown.append(slice(max(0, part.start - margin), min(size, part.stop + margin)))
    return tuple(grown)


def _measure(
    scene: _Scene, components: NDArray[np.int32], index: int, window: tuple[slice, ...]
) -> tuple[float, ...]:
    """Give the features of one candidate, in the order of `FEATURES`."""
    inside = components[window] == index
    organ, image = scene.organ[window], scene.image[window]
    distance = ndimage.distance_transform_edt(~inside, sampling=scene.spacing_mm)
    nearest, farthest = _RING_MM
    around = (distance > nearest) & (distance < farthest)
    liver = around & organ & ~scene.mask[window]
    probability, levels = scene.tumor[window][inside], image[inside]
    beside = image[liver] if liver.any() else levels
    volume_mm3 = float(inside.sum() * np.prod(scene.spacing_mm))
    shortest, middle, longest = _half_axes(inside, scene.spacing_mm)
    depth = ndimage.distance_transform_edt(organ, sampling=scene.spacing_mm)[inside].max()
    contrast = float(levels.mean() - np.median(beside))
    return (
        np.log(volume_mm3 / 1000),
        np.log(2 * longest),
        volume_mm3 / (4 / 3 * np.pi * shortest * middle * longest),
        longest / shortest,
        float(probability.mean()),
        float(probability.max()),
        float(levels.mean()),
        float(levels.std()),
        contrast,
        contrast / (float(beside.std()) + 0.01),
        float(depth),
        float((around & ~organ).sum() / max(around.sum(), 1)),
    )


def _half_axes(inside: NDArray[np.bool_], spacing_mm: Spacing) -> tuple[float, float, float]:
    """Give the half-axes in mm of the ellipsoid with the same second moments, the shortest first.

    A voxel has an extent, so that no axis is zero: its own moment, spacing**2 / 12, is added.
    """
    points = np.argwhere(inside) * np.array(spacing_mm)
    moments = np.cov(points.T, bias=True) + np.diag(np.square(spacing_mm) / 12)
    shortest, middle, longest = np.sqrt(5 * np.linalg.eigvalsh(moments))
    return float(shortest), float(middle), float(longest)

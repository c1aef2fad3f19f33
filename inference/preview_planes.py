"""Cuts through a volume as a radiologist expects them, enlarged to square pixels."""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage

from inference.findings import Diameter, Findings
from inference.labels import Label
from inference.volume import Volume

WINDOW_LEVEL_HU = 40.0
WINDOW_WIDTH_HU = 400.0
SKIN_HU = -300.0
_MARGIN_MM = 8.0
_MARGIN_ABOVE_MM = 45.0

Index = tuple[int, int, int]
Ends = tuple[NDArray[np.float64], NDArray[np.float64]]


@dataclass(frozen=True, kw_only=True)
class PlaneKind:
    """How one of the three planes is cut and shown."""

    title: str
    axis: int
    """The axis of the canonical volume (head, posterior, left) that the plane cuts."""
    edges: tuple[str, str, str, str]
    """Letters at the left, right, top and bottom edge."""


PLANES = (
    PlaneKind(title="Axial", axis=0, edges=("R", "L", "A", "P")),
    PlaneKind(title="Coronal", axis=1, edges=("R", "L", "H", "F")),
    PlaneKind(title="Sagittal", axis=2, edges=("A", "P", "H", "F")),
)


@dataclass(frozen=True, kw_only=True, eq=False)
class Scene:
    """What is to be drawn, with axes towards head, posterior and left."""

    volume: Volume
    labels: Volume
    lesion_map: Volume | None
    center: Index
    low: Index
    """First index of the part that is shown."""
    high: Index
    """One past its last index."""
    diameters: tuple[Ends, ...]
    """Ends of the lines to be drawn, as indices."""

    def extent_mm(self, axis: int) -> float:
        """Length of the part that is shown along an axis."""
        return float((self.high[axis] - self.low[axis]) * self.volume.spacing[axis])

    def size_mm(self, plane: PlaneKind) -> tuple[float, float]:
        """Width and height of a plane."""
        across, down = _plane_axes(plane)
        return self.extent_mm(across), self.extent_mm(down)

    def cut(self, plane: PlaneKind, volume: Volume) -> NDArray[np.float32]:
        """Cut a plane as it is shown: (down, across), head or anterior up."""
        index: list[int | slice] = [
            slice(low, high) for low, high in zip(self.low, self.high, strict=True)
        ]
        index[plane.axis] = self.center[plane.axis]
        cut = volume.array[tuple(index)]
        return np.asarray(cut if plane.axis == 0 else cut[::-1], np.float32)

    def at(self, plane: PlaneKind, index: int) -> "Scene":
        """Give the same scene, where this plane cuts it at another index."""
        center = list(self.center)
        center[plane.axis] = index
        first, second, third = center
        return replace(self, center=(first, second, third))

    def lines(self, plane: PlaneKind) -> list[tuple[tuple[float, float], tuple[float, float]]]:
        """Give the diameters that lie in a plane, as (x, y) fractions of its width and height."""
        inside = [
            ends
            for ends in self.diameters
            if all(abs(end[plane.axis] - self.center[plane.axis]) < 0.5 for end in ends)
        ]
        return [(self._place(plane, first), self._place(plane, last)) for first, last in inside]

    def _place(self, plane: PlaneKind, index: NDArray[np.float64]) -> tuple[float, float]:
        across, down = _plane_axes(plane)
        x, y = (
            float((index[axis] + 0.5 - self.low[axis]) / (self.high[axis] - self.low[axis]))
            for axis in (across, down)
        )
        return x, y if plane.axis == 0 else 1.0 - y


def _plane_axes(plane: PlaneKind) -> tuple[int, int]:
    """Give the axes that run across and down (or up) the picture."""
    down, across = (axis for axis in range(3) if axis != plane.axis)
    return across, down


def arrange(volume: Volume, labels: Volume, findings: Findings | None) -> Scene:
    """Turn to the canonical orientation, choose the planes and the part to show."""
    canonical, turned = volume.to_patient_orientation("HPL"), labels.to_patient_orientation("HPL")
    lesion_map = findings.lesion_map.to_patient_orientation("HPL") if findings else None
    center, diameters = _center(turned), []
    if findings and findings.lesions:
        largest = findings.lesions[0]
        axes = (axis for axis in (largest.long_axis, largest.short_axis) if axis is not None)
        diameters = [_diameter_ends(axis, volume, canonical) for axis in axes]
        center = _in_plane_of(diameters[0], largest.centroid_mm, canonical)
    low, high = _shown_part(canonical, turned, center)
    return Scene(
        volume=canonical,
        labels=turned,
        lesion_map=lesion_map,
        center=center,
        low=low,
        high=high,
        diameters=tuple(diameters),
    )


def _center(labels: Volume) -> Index:
    """Choose the slice with most tumor, else most liver, and the middle of the mask in it."""
    mask = labels.array == Label.TUMOR
    if not mask.any():
        mask = labels.array == Label.LIVER
    if not mask.any():
        return tuple(count // 2 for count in labels.shape)
    index = int(np.count_nonzero(mask, axis=(1, 2)).argmax())
    row, column = np.argwhere(mask[index]).mean(axis=0)
    return index, round(row), round(column)


def _diameter_ends(diameter: Diameter, source: Volume, canonical: Volume) -> Ends:
    points = [(diameter.slice_index, *diameter.start), (diameter.slice_index, *diameter.end)]
    first, last = (_to_index(source.affine @ (*point, 1.0), canonical) for point in points)
    return first, last


def _to_index(point_mm: NDArray[np.float64], volume: Volume) -> NDArray[np.float64]:
    return np.asarray((volume.inverse_affine @ point_mm)[:3])


def _in_plane_of(
    ends: Ends,
    centroid_mm: tuple[float, float, float],
    canonical: Volume,
) -> Index:
    """Take the centroid, but in the slice of the source in which the diameter was measured."""
    index = _to_index(np.array([*centroid_mm, 1.0]), canonical)
    across = np.abs(ends[1] - ends[0]) < 1e-6
    index[across] = ends[0][across]
    limits = np.array(canonical.shape) - 1
    head, back, left = np.clip(np.rint(index).astype(int), 0, limits).tolist()
    return head, back, left


def _shown_part(volume: Volume, labels: Volume, center: Index) -> tuple[Index, Index]:
    """Choose the liver's height with some room, and the outline of the body around the center."""
    margins = np.array([_MARGIN_ABOVE_MM, _MARGIN_MM, _MARGIN_MM]) / volume.spacing
    organ = ndimage.find_objects((labels.array > 0).view(np.uint8))
    heights = organ[0][0] if organ else slice(0, volume.shape[0])
    rows, columns = _body_outline(volume.array[center[0]] > SKIN_HU)
    low = np.array([heights.start, rows.start, columns.start]) - margins
    high = np.array([heights.stop, rows.stop, columns.stop]) + margins
    low = np.minimum(np.maximum(np.rint(low), 0), center)
    high = np.maximum(np.minimum(np.rint(high), volume.shape), np.add(center, 1))
    return tuple(low.astype(int).tolist()), tuple(high.astype(int).tolist())


def _body_outline(dense: NDArray[np.bool_]) -> tuple[slice, slice]:
    """Give the bounding box of the largest dense part of a slice, which leaves out the table."""
    parts, count = ndimage.label(dense)
    if count == 0:
        return slice(0, dense.shape[0]), slice(0, dense.shape[1])
    largest = np.bincount(parts.ravel())[1:].argmax()
    rows, columns = ndimage.find_objects(parts)[largest]
    return rows, columns


def enlarge(cut: NDArray[np.float32], size_px: tuple[int, int]) -> NDArray[np.float32]:
    """Resample a cut to (width, height) pixels."""
    return np.asarray(Image.fromarray(cut).resize(size_px, Image.Resampling.BICUBIC), np.float32)


def apply_window(hu: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Map HU to gray by the window of the abdomen."""
    gray = (hu - WINDOW_LEVEL_HU) / WINDOW_WIDTH_HU + 0.5
    return np.asarray(np.clip(gray * 255, 0, 255), np.uint8)

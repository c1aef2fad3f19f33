"""What a segmentation run gives, as frozen values."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TypeAlias

from inference.labels import Label
from inference.manifest import ModelIdentity
from inference.volume import Volume


@dataclass(frozen=True, kw_only=True)
class RunRecord:
    """Where and how a segmentation was computed."""

    device: str
    backend: str
    precision: str
    timings_s: Mapping[str, float]
    """Seconds of each step, in order."""
    notes: tuple[str, ...] = ()
    """Deviations worth telling, as a fall-back to smaller tiles."""


Probabilities: TypeAlias = Mapping[Label, Volume]
"""Of liver without tumor, and of tumor: arrays (slices, rows, columns) uint8, in 255ths."""
FULL_PROBABILITY = 255
"""What stands for 1 in `Probabilities`."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Segmentation:
    """Labels on the source grid."""

    labels: Volume
    """Array (slices, rows, columns) uint8 with the values of `inference.labels.Label`."""
    model: ModelIdentity
    run: RunRecord
    probabilities: Probabilities | None = field(default=None, repr=False)
    """Only where they were asked for."""


@dataclass(frozen=True, kw_only=True)
class Diameter:
    """A straight line in one slice of the source grid.

    Points are (row, column) indices; an integer is the center of a pixel.
    """

    slice_index: int
    start: tuple[float, float]
    end: tuple[float, float]
    length_mm: float


@dataclass(frozen=True, kw_only=True)
class Region:
    """Measurements of one mask."""

    voxel_count: int
    volume_ml: float
    mean_hu: float
    sd_hu: float
    min_hu: float
    max_hu: float
    centroid_mm: tuple[float, float, float]
    """Patient coordinates, LPS."""
    long_axis: Diameter
    """The longest line between two voxels of the mask within one slice of the source grid."""


@dataclass(frozen=True, kw_only=True)
class Lesion(Region):
    """One connected tumor component."""

    number: int
    """From 1, the largest first."""
    short_axis: Diameter | None
    """The longest line perpendicular to the long axis in the same slice; none for a line."""
    surface_distance_mm: float | None
    """From the nearest voxel of the lesion to the nearest voxel of the surface of the liver with
    its lesions, between centers; 0 where it reaches the surface, None where none is in the scan."""
    is_measurable: bool | None
    """Whether the long axis is long enough for a target lesion of RECIST 1.1; None where the
    criterion does not apply, because the slices are not axial."""


class DoubtCode(StrEnum):
    """What is doubtful."""

    PARTIAL_LIVER = "PARTIAL_LIVER"
    """The scan ends inside the liver."""
    SMALL_LIVER = "SMALL_LIVER"
    LARGE_LIVER = "LARGE_LIVER"
    SCATTERED_LIVER = "SCATTERED_LIVER"
    """Parts of it lie apart."""
    OUTSIDE_LESION = "OUTSIDE_LESION"
    """A lesion does not touch the liver."""
    HIGH_TUMOR_BURDEN = "HIGH_TUMOR_BURDEN"


@dataclass(frozen=True, kw_only=True)
class Doubt:
    """One doubt."""

    code: DoubtCode
    sentence: str


@dataclass(frozen=True, kw_only=True, eq=False)
class Findings:
    """All that is measured on one series."""

    liver: Region
    """The liver without its lesions."""
    lesions: tuple[Lesion, ...]
    lesion_map: Volume = field(repr=False)
    """Array (slices, rows, columns) uint16: 0 outside lesions, else `Lesion.number`."""
    doubts: tuple[Doubt, ...] = ()
    """What a reader should know before believing them."""

    @property
    def tumor_volume_ml(self) -> float:
        """Sum of the lesion volumes in ml."""
        return sum(lesion.volume_ml for lesion in self.lesions)

    @property
    def organ_volume_ml(self) -> float:
        """Volume of the liver with its lesions in ml."""
        return self.liver.volume_ml + self.tumor_volume_ml

    @property
    def tumor_burden(self) -> float:
        """Tumor volume over volume of the liver with its lesions, 0 to 1."""
        return self.tumor_volume_ml / self.organ_volume_ml

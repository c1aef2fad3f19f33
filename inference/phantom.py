"""A synthetic abdominal CT with known liver and tumors, for tests, the demo and training runs.

It is made up from ellipsoids and tubes; no part of it comes from a patient.
"""

from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from inference.labels import Label
from inference.phantom_anatomy import paint_trunk
from inference.phantom_canvas import BoolArray, Canvas, Coordinates, acquire
from inference.phantom_organs import paint_bowel, paint_liver, paint_organs
from inference.phantom_patient import ContrastPhase, Patient
from inference.volume import Volume

__all__ = [
    "ContrastPhase",
    "LesionKind",
    "LesionSettings",
    "Phantom",
    "PhantomSettings",
    "PlacedLesion",
    "make_phantom",
]

_SURFACE_GAP_MM = 2.0
_LESION_GAP_MM = 6.0
_CENTER_MM = (6.0, -35.0, -420.0)
"""Patient coordinates of the middle of the grid: off zero, so that a lost sign shows."""


class LesionKind(StrEnum):
    """How a lesion differs from the liver around it."""

    HYPODENSE = "hypodense"
    """Darker, as most metastases in the portal venous phase."""
    RIM = "rim"
    """A dark center in a bright rim."""
    HYPERDENSE = "hyperdense"
    """Brighter, as a hypervascular tumor."""


@dataclass(frozen=True, kw_only=True)
class LesionHu:
    """Hounsfield units of lesions."""

    core: float
    rim: float
    bright: float

    def above(self, liver_hu: float) -> "LesionHu":
        """Give absolute values from values relative to the liver."""
        return LesionHu(
            core=liver_hu + self.core, rim=liver_hu + self.rim, bright=liver_hu + self.bright
        )


_LESION_HU = {
    ContrastPhase.NATIVE: LesionHu(core=-18, rim=4, bright=14),
    ContrastPhase.ARTERIAL: LesionHu(core=-28, rim=45, bright=50),
    ContrastPhase.PORTAL_VENOUS: LesionHu(core=-45, rim=28, bright=42),
}


@dataclass(frozen=True, kw_only=True)
class LesionSettings:
    """A lesion to be placed somewhere in the liver."""

    diameter_mm: float
    """Its longest diameter, which lies in the axial plane."""
    kind: LesionKind = LesionKind.HYPODENSE


@dataclass(frozen=True, kw_only=True)
class PlacedLesion:
    """A lesion where the phantom has it."""

    center_mm: tuple[float, float, float]
    """Patient coordinates, LPS."""
    radii_mm: tuple[float, float, float]
    """Half axes; the first is half of the longest diameter."""
    turn_deg: float
    """Rotation about the patient's long axis."""
    kind: LesionKind


_DEFAULT_LESIONS = (
    LesionSettings(diameter_mm=45.0),
    LesionSettings(diameter_mm=30.0, kind=LesionKind.RIM),
    LesionSettings(diameter_mm=22.0, kind=LesionKind.HYPERDENSE),
    LesionSettings(diameter_mm=15.0),
    LesionSettings(diameter_mm=8.0),
)


@dataclass(frozen=True, kw_only=True)
class PhantomSettings:
    """What to make. The same settings give the same phantom, voxel for voxel."""

    seed: int = 0
    shape: tuple[int, int, int] = (120, 320, 320)
    """(slices, rows, columns)."""
    spacing_mm: tuple[float, float, float] = (2.5, 1.1, 1.1)
    """(slices, rows, columns)."""
    phase: ContrastPhase = ContrastPhase.PORTAL_VENOUS
    lesions: tuple[LesionSettings, ...] = _DEFAULT_LESIONS
    noise_hu: float = 12.0


@dataclass(frozen=True, kw_only=True, eq=False)
class Phantom:
    """A scan and its truth on the same grid."""

    volume: Volume
    """(slices, rows, columns) int16, HU; slices from feet to head, no frame of reference."""
    labels: Volume
    """(slices, rows, columns) uint8, values of `inference.labels.Label`."""
    lesions: tuple[PlacedLesion, ...]
    """The same order as in the settings."""


def make_phantom(settings: PhantomSettings = PhantomSettings()) -> Phantom:
    """Make a phantom.

    Raises
    ------
    ValueError
        When the liver has no room for a lesion.
    """
    anatomy_rng, lesion_rng, noise_rng = np.random.default_rng(settings.seed).spawn(3)
    affine, axes_mm = _affine(settings), _axes_mm(settings)
    patient = Patient.draw(settings.phase, anatomy_rng)
    canvas = Canvas([axis - axis.mean() for axis in axes_mm], anatomy_rng)
    voxel_ml = float(np.prod(settings.spacing_mm)) / 1000
    paint_trunk(canvas, patient, anatomy_rng)
    paint_organs(canvas, patient, anatomy_rng)
    liver = paint_liver(canvas, patient, voxel_ml, anatomy_rng)
    paint_bowel(canvas, patient, anatomy_rng)
    lesions = _place_lesions(liver, settings, affine, lesion_rng)
    labels = np.where(liver, np.uint8(Label.LIVER), np.uint8(Label.BACKGROUND))
    hu = _LESION_HU[settings.phase].above(patient.tissue.liver)
    for lesion in lesions:
        _paint_lesion(canvas, labels, lesion, axes_mm, hu)
    array = acquire(canvas.hu, settings.spacing_mm, settings.noise_hu, noise_rng)
    return Phantom(volume=_volume(array, affine), labels=_volume(labels, affine), lesions=lesions)


def _axes_mm(settings: PhantomSettings) -> list[NDArray[np.float64]]:
    """Patient coordinates of the voxel centers along (z, y, x)."""
    return [
        np.asarray(middle + (np.arange(count) - (count - 1) / 2) * spacing, np.float64)
        for count, spacing, middle in zip(
            settings.shape, settings.spacing_mm, _CENTER_MM[::-1], strict=True
        )
    ]


def _affine(settings: PhantomSettings) -> NDArray[np.float64]:
    affine = np.eye(4)[[2, 1, 0, 3]]
    affine[:3, :3] *= settings.spacing_mm
    affine[2::-1, 3] = [axis[0] for axis in _axes_mm(settings)]
    return affine


def _volume(array: NDArray[np.int16] | NDArray[np.uint8], affine: NDArray[np.float64]) -> Volume:
    return Volume(array, affine, coordinate_system="PATIENT")


def _place_lesions(
    liver: BoolArray,
    settings: PhantomSettings,
    affine: NDArray[np.float64],
    rng: np.random.Generator,
) -> tuple[PlacedLesion, ...]:
    """Choose places deep enough in the liver and apart from each other, large ones first."""
    (box,) = ndimage.find_objects(liver.astype(np.uint8))
    places_mm, room_mm = _places(liver[box], [part.start for part in box], affine)
    gap_mm = max(_LESION_GAP_MM, 1.2 * float(np.linalg.norm(settings.spacing_mm)))
    placed: dict[int, PlacedLesion] = {}
    for index, wanted in sorted(enumerate(settings.lesions), key=lambda item: -item[1].diameter_mm):
        radius = wanted.diameter_mm / 2
        (fitting,) = np.nonzero(room_mm > radius + _SURFACE_GAP_MM)
        if not len(fitting):
            message = f"the liver has no room for a lesion of {wanted.diameter_mm} mm"
            raise ValueError(message)
        center = places_mm[fitting[int(rng.uniform() * len(fitting))]]
        placed[index] = PlacedLesion(
            center_mm=(float(center[0]), float(center[1]), float(center[2])),
            radii_mm=(radius, radius * rng.uniform(0.75, 1), radius * rng.uniform(0.8, 1)),
            turn_deg=rng.uniform(0, 180),
            kind=wanted.kind,
        )
        to_lesion = np.linalg.norm(places_mm - center, axis=1) - radius
        room_mm = np.minimum(room_mm, to_lesion - gap_mm + _SURFACE_GAP_MM)
    return tuple(placed[index] for index in range(len(placed)))


def _places(
    liver: BoolArray, corner: list[int], affine: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Give the voxel centers of the liver in mm, (n, 3), and how deep each lies, (n,)."""
    spacing = np.abs(affine[:3, :3]).sum(axis=0)
    depth = ndimage.distance_transform_edt(np.pad(liver, 1), sampling=spacing)[1:-1, 1:-1, 1:-1]
    indices = np.argwhere(liver)
    places = (indices + corner) @ affine[:3, :3].T + affine[:3, 3]
    return places, np.asarray(depth[liver])


def _paint_lesion(
    canvas: Canvas,
    labels: NDArray[np.uint8],
    lesion: PlacedLesion,
    axes_mm: list[NDArray[np.float64]],
    hu: LesionHu,
) -> None:
    """Paint the voxels whose centers lie in the lesion's ellipsoid."""
    reach = max(lesion.radii_mm)
    bounds = [
        np.searchsorted(axis, (middle - reach, middle + reach))
        for axis, middle in zip(axes_mm, lesion.center_mm[::-1], strict=True)
    ]
    box = tuple(slice(int(first), int(last)) for first, last in bounds)
    parts = (axis[part] for axis, part in zip(axes_mm, box, strict=True))
    z, y, x = np.meshgrid(*parts, indexing="ij")
    at = Coordinates(x=x, y=y, z=z)
    depth = at.ellipsoid(lesion.center_mm, lesion.radii_mm, turn_deg=lesion.turn_deg)
    inside = depth > 0
    bright = lesion.kind is LesionKind.HYPERDENSE
    canvas.hu[box][inside] = hu.bright if bright else hu.core
    if lesion.kind is LesionKind.RIM:
        shell = inside & (depth < max(2.0, 0.2 * reach))
        canvas.hu[box][shell] = hu.rim
    labels[box][inside] = Label.TUMOR

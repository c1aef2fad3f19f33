"""The synthetic abdomen: vessels, kidneys, spleen, stomach, bowel, gallbladder and the liver.

Coordinates are those of `phantom_canvas.Coordinates`.
"""

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from inference.phantom_canvas import (
    BoolArray,
    Canvas,
    Coordinates,
    FloatArray,
    Point,
    smooth_maximum,
    smooth_minimum,
)
from inference.phantom_patient import FAT_HU, FLUID_HU, GAS_HU, Patient

_HILUM: Point = (-26, -14, 6)
_TO_PORTAL_BRANCHES = (
    ((-0.85, 0.15, -0.1), 6.0),
    ((-0.5, -0.5, 0.5), 5.0),
    ((0.75, -0.5, 0.35), 4.5),
)
_TO_HEPATIC_VEINS = (
    ((-0.9, 0.3, -0.45), 5.0),
    ((-0.45, -0.75, -0.5), 4.5),
    ((0.55, -0.75, -0.3), 4.0),
)


def paint_organs(canvas: Canvas, patient: Patient, rng: np.random.Generator) -> None:
    """Paint the organs around the liver; what they fill is no longer free."""
    _paint_great_vessels(canvas, patient)
    _paint_kidneys(canvas, patient)
    _paint_spleen(canvas, patient)
    _paint_stomach(canvas, patient)
    _paint_gallbladder(canvas, rng)


def _paint_great_vessels(canvas: Canvas, patient: Patient) -> None:
    hu = patient.tissue
    box, at = canvas.box((0, 10, 0), (45, 40, 400))
    forward = np.clip((at.z - 20) / 60, 0, 1) * 16
    cava = ((at.x + 22) / 12.5) ** 2 + ((at.y - 14 + forward) / 9.5) ** 2
    canvas.paint(box, (cava < 1) & (at.z < patient.dome_mm + 10), hu.cava, take=True)
    esophagus = (at.x - 16) ** 2 + (at.y + 4) ** 2
    canvas.paint(box, (esophagus < 8**2) & (at.z > 55), hu.muscle, take=True)
    aorta = (at.x - 11) ** 2 + (at.y - 14) ** 2
    canvas.paint(box, aorta < 10.5**2, hu.aorta, take=True)
    canvas.paint_ellipsoid((18, -14, -22), (58, 10, 13), hu.pancreas, turn_deg=-14, take=True)
    canvas.paint_capsule((4, -16, -90), (4, -16, -24), 5.5, hu.portal_vein)
    canvas.paint_capsule((16, -6, -100), (13, -6, -18), 3.8, hu.aorta)
    canvas.paint_capsule((4, -16, -24), _HILUM, 7.0, hu.portal_vein)
    canvas.paint_capsule((4, -14, -24), (70, 10, -4), 4.5, hu.portal_vein)


def _paint_kidneys(canvas: Canvas, patient: Patient) -> None:
    hu, scale = patient.tissue, patient.kidney_scale
    for side, height in ((-1, -66), (1, -46)):
        center = (side * 68.0, 42.0, float(height))
        radii = (26 * scale, 29 * scale, 52 * scale)
        turn = side * 25.0
        around = (radii[0] + 7, radii[1] + 7, radii[2] + 9)
        canvas.paint_ellipsoid(center, around, FAT_HU, turn_deg=turn, take=True)
        canvas.paint_ellipsoid(center, radii, hu.renal_cortex, turn_deg=turn)
        inner = (radii[0] * 0.72, radii[1] * 0.74, radii[2] * 0.82)
        canvas.paint_ellipsoid(center, inner, hu.renal_medulla, turn_deg=turn)
        sinus = (center[0] - side * 13, center[1] - 7, center[2])
        canvas.paint_ellipsoid(sinus, (15, 8, 24), FAT_HU + 30, turn_deg=turn)
        canvas.paint_ellipsoid(sinus, (8, 4, 12), FLUID_HU)


def _paint_spleen(canvas: Canvas, patient: Patient) -> None:
    scale = patient.spleen_scale
    center = (102.0, 30.0, 26.0)
    box, at = canvas.box(center, (60, 60, 60))
    inside = at.ellipsoid(center, (30 * scale, 50 * scale, 48 * scale), turn_deg=28) > 0
    inside &= at.ellipsoid((66, 10, 16), (30, 46, 46), turn_deg=20) < 0
    canvas.paint(box, inside & canvas.free[box], patient.tissue.spleen, take=True)


def _paint_stomach(canvas: Canvas, patient: Patient) -> None:
    center: Point = (62, -28, 28)
    box, at = canvas.box(center, (80, 60, 66))
    fundus = at.ellipsoid(center, (36, 36, 46), turn_deg=20)
    antrum = at.ellipsoid((34, -52, -10), (46, 22, 22), turn_deg=10)
    depth = smooth_maximum(fundus, antrum, 10.0)
    inside = canvas.free[box] & (depth > 0)
    canvas.paint(box, inside, patient.tissue.bowel_wall, take=True)
    lumen = inside & (depth > 3.5) & (patient.above_diaphragm(at) < -7)
    canvas.paint(box, lumen, FLUID_HU + 20)
    canvas.paint(box, lumen & (at.y < patient.gas_level_mm), GAS_HU)


def _paint_gallbladder(canvas: Canvas, rng: np.random.Generator) -> None:
    center = (-38 + rng.uniform(-5, 5), -46 + rng.uniform(-5, 5), -32 + rng.uniform(-6, 6))
    radii = (14 * rng.uniform(0.8, 1.15), 24 * rng.uniform(0.8, 1.15), 16.0)
    around = (radii[0] + 1.5, radii[1] + 1.5, radii[2] + 1.5)
    canvas.paint_ellipsoid(center, around, 60.0, turn_deg=15, take=True)
    canvas.paint_ellipsoid(center, radii, FLUID_HU, turn_deg=15)


def paint_bowel(canvas: Canvas, patient: Patient, rng: np.random.Generator) -> None:
    """Paint bowel into what the other organs and the liver leave free."""
    colon = [(-104.0, 4.0, float(z)) for z in range(-176, -95, 18)]
    colon += [(float(x), -66 + 0.0022 * x * x, -84 - 0.001 * x * x) for x in range(-88, 100, 20)]
    colon += [(106.0, 14 - 0.1 * z, float(z)) for z in range(-176, 0, 18)]
    colon += [(90.0 - 0.2 * z, -50.0 + 0.4 * z, float(z)) for z in range(-70, 30, 18)]
    for center in colon:
        _paint_loop(canvas, patient.tissue.bowel_wall, center, (17, 21, 0.6), rng)
    ileum = [rng.uniform((-85, -72, -185), (90, 8, -62)) for _ in range(90)]
    jejunum = [rng.uniform((25, -60, -75), (95, 20, 10)) for _ in range(35)]
    for x, y, z in (*ileum, *jejunum):
        center = (float(x), float(y), float(z))
        _paint_loop(canvas, patient.tissue.bowel_wall, center, (11, 15, 0.12), rng)


def _paint_loop(
    canvas: Canvas,
    wall_hu: float,
    center: Point,
    kind: tuple[float, float, float],
    rng: np.random.Generator,
) -> None:
    """Paint a piece of bowel; `kind` is the range of its radius in mm and the chance of gas."""
    radius, filling, level = rng.uniform(kind[0], kind[1]), rng.uniform(10, 60), rng.uniform(-6, 6)
    has_gas = rng.uniform() < kind[2]
    box, at = canvas.box(center, (radius, radius, radius * 1.3))
    depth = at.ellipsoid(center, (radius, radius, radius * 1.3))
    free = canvas.free[box].copy()
    canvas.paint(box, (depth > 0) & free, wall_hu, take=True)
    canvas.paint(box, (depth > 2.5) & free, filling)
    if has_gas:
        canvas.paint(box, (depth > 2.5) & free & (at.y < center[1] + level), GAS_HU)


def paint_liver(
    canvas: Canvas, patient: Patient, voxel_ml: float, rng: np.random.Generator
) -> BoolArray:
    """Paint the liver with its vessels, as large as drawn; give its mask."""
    box, everywhere = canvas.box((-20, -10, 0), (150, 120, 120))
    free = canvas.free[box]
    at = Coordinates(x=everywhere.x[free], y=everywhere.y[free], z=everywhere.z[free])
    depth = _liver_depth(at)
    rank = max(0, len(depth) - int(patient.liver_ml / voxel_ml))
    inside = np.zeros(free.shape, bool)
    inside[free] = depth >= np.partition(depth, rank)[rank]
    liver = np.zeros(canvas.shape, bool)
    liver[box] = _largest_part(inside)
    canvas.hu[liver] = patient.tissue.liver
    canvas.free &= ~liver
    _paint_liver_vessels(canvas, patient, liver, rng)
    return liver


def _liver_depth(at: Coordinates) -> FloatArray:
    """Depth below the surface of the liver, up to a constant; far out in the falciform fissure."""
    right = at.ellipsoid((-72, -2, 4), (76, 84, 94))
    left = at.ellipsoid((24, -48, 38), (88, 42, 44), turn_deg=-6)
    depth = smooth_maximum(right, left, 24.0)
    under_surface = at.z - np.minimum(-98 + 0.62 * (at.x + 122) - 0.18 * (at.y + 10), 26)
    depth = smooth_minimum(depth, 0.8 * under_surface, 16.0)
    beside_spine = 20 - at.y - np.minimum(0.45 * (at.x + 42), 2.4 * (at.x + 42))
    depth = smooth_minimum(depth, 0.8 * beside_spine, 16.0)
    fissure = (np.abs(at.x - 6 - 0.2 * at.y) < 2.0) & (at.y < -38) & (at.z < 24)
    return np.where(fissure, np.float32(-1e3), depth)


def _largest_part(mask: BoolArray) -> BoolArray:
    parts, _ = ndimage.label(mask)
    sizes = np.bincount(parts.ravel())
    sizes[0] = 0
    return np.asarray(parts == sizes.argmax())


def _paint_liver_vessels(
    canvas: Canvas, patient: Patient, liver: BoolArray, rng: np.random.Generator
) -> None:
    """Paint portal branches from the hilum and hepatic veins from the vena cava."""
    confluence: Point = (-22, -4, patient.dome_mm - 22)
    roots = [(_HILUM, *branch, patient.tissue.portal_vein) for branch in _TO_PORTAL_BRANCHES]
    roots += [(confluence, *vein, patient.tissue.hepatic_vein) for vein in _TO_HEPATIC_VEINS]
    for start, heading, radius, hu in roots:
        for first, last, tube_radius in _tree(start, np.array(heading), radius, rng):
            canvas.paint_capsule(first, last, tube_radius, hu, within=liver)


def _tree(
    start: Point, heading: NDArray[np.float64], radius_mm: float, rng: np.random.Generator
) -> list[tuple[Point, Point, float]]:
    """Grow a binary tree of tubes: (start, end, radius) of each."""
    heading = heading / np.linalg.norm(heading)
    stop = np.add(start, heading * rng.uniform(9, 12) * np.sqrt(radius_mm))
    end = (float(stop[0]), float(stop[1]), float(stop[2]))
    segments = [(start, end, radius_mm)]
    if radius_mm > 1.3:
        aside = np.cross(heading, rng.normal(size=3))
        aside /= np.linalg.norm(aside)
        for spread, thinner in ((rng.uniform(0.2, 0.5), 0.82), (-rng.uniform(0.5, 0.9), 0.62)):
            segments += _tree(end, heading + spread * aside, radius_mm * thinner, rng)
    return segments

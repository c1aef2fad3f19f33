"""The synthetic trunk: skin, fat, muscle, lungs, heart, spine and ribs.

Coordinates are those of `phantom_canvas.Coordinates`.
"""

import numpy as np

from inference.phantom_canvas import BoolArray, Canvas, Coordinates
from inference.phantom_patient import FAT_HU, LUNG_HU, WALL_MM, Patient

_RIB_STEP_MM = 29.0
_VERTEBRA_STEP_MM = 34.0


def paint_trunk(canvas: Canvas, patient: Patient, rng: np.random.Generator) -> None:
    """Paint everything but the organs of the abdomen."""
    for box, at in canvas.slabs():
        skin, wall = patient.skin_depth(at), patient.wall_depth(at)
        above = patient.above_diaphragm(at)
        canvas.paint(box, skin > 0, 15.0)
        canvas.paint(box, skin > 2.0, FAT_HU)
        canvas.paint(box, wall > 0, patient.tissue.muscle)
        canvas.paint(box, (wall > 4.5) & (wall < 5.5) & (np.abs(at.x) > 50), FAT_HU + 60)
        canvas.paint(box, wall > WALL_MM, FAT_HU)
        canvas.paint(box, (above > -2) & (wall > WALL_MM), patient.tissue.muscle)
        canvas.paint(box, (above > 0) & (wall > WALL_MM), FAT_HU)
        canvas.paint(box, (above > 0) & (wall > WALL_MM + 1) & _beside_heart(at), LUNG_HU)
        canvas.free[box] = (above < -2) & (wall > WALL_MM + 0.5)
    _paint_heart(canvas, patient)
    _paint_lung_vessels(canvas, patient, rng)
    _paint_back_muscles(canvas, patient)
    _paint_ribs(canvas, patient)
    _paint_spine(canvas)


def _beside_heart(at: Coordinates) -> BoolArray:
    """Right and left of the mediastinum, which is wider in front."""
    medial = 16 + 0.005 * (at.y - 20) ** 2
    return np.asarray((at.x < -medial) | (at.x > medial + 6))


def _paint_heart(canvas: Canvas, patient: Patient) -> None:
    hu, top = patient.tissue, patient.dome_mm
    canvas.paint_ellipsoid((26, -42, top + 28), (60, 44, 46), hu.muscle + 30, turn_deg=-35)
    canvas.paint_ellipsoid((36, -38, top + 32), (34, 26, 36), hu.heart, turn_deg=-35)
    canvas.paint_ellipsoid((-8, -42, top + 32), (25, 24, 36), hu.heart)


def _paint_lung_vessels(canvas: Canvas, patient: Patient, rng: np.random.Generator) -> None:
    lung = canvas.hu == LUNG_HU
    for side in (-1, 1):
        for _ in range(30):
            root = np.array([side * rng.uniform(30, 45), rng.uniform(-5, 30), patient.dome_mm + 40])
            tip = np.array(
                [side * rng.uniform(60, 125), rng.uniform(-70, 75), rng.uniform(20, 140)]
            )
            bend = (root + tip) / 2 + rng.normal(0, 8, size=3)
            radius = rng.uniform(1.2, 2.4)
            canvas.paint_capsule(tuple(root), tuple(bend), radius, 30.0, within=lung)
            canvas.paint_capsule(tuple(bend), tuple(tip), 0.7 * radius, 0.0, within=lung)


def _paint_back_muscles(canvas: Canvas, patient: Patient) -> None:
    for side in (-1, 1):
        box, at = canvas.box((side * 34, 70, 0), (32, 26, 400))
        slim = np.clip(at.z / 60, 0, 1)
        erector = ((at.x - side * 31) / (28 - 4 * slim)) ** 2
        erector += ((at.y - 74 - 4 * slim) / (20 - 5 * slim)) ** 2
        canvas.paint(box, erector < 1, patient.tissue.muscle, take=True)
        psoas = ((at.x - side * 37) / 17) ** 2 + ((at.y - 44) / 20) ** 2
        canvas.paint(
            box, psoas < np.clip((-20 - at.z) / 60, 0, 1), patient.tissue.muscle, take=True
        )


def _paint_ribs(canvas: Canvas, patient: Patient) -> None:
    """Rings in the wall that run down and forward; the lower ones end at the sides."""
    for box, at in canvas.slabs():
        wall = patient.wall_depth(at)
        around = np.arctan2(np.abs(at.x), at.y + 10)
        turns = (at.z + 58 * around - 75) / _RIB_STEP_MM
        along = (turns - np.rint(turns)) * _RIB_STEP_MM / 6.5
        section = along**2 + ((wall - 6.5) / 3.4) ** 2
        present = (np.abs(at.x) > 26) & (at.z > -120 + 48 * around)
        canvas.paint(box, present & (section < 1), 460.0)
        canvas.paint(box, present & (section < 0.4), 200.0)


def _paint_spine(canvas: Canvas) -> None:
    box, at = canvas.box((0, 62, 0), (60, 50, 400))
    phase = at.z / _VERTEBRA_STEP_MM - np.rint(at.z / _VERTEBRA_STEP_MM)
    body = np.sqrt((at.x / 23) ** 2 + ((at.y - 42) / 16.5) ** 2)
    canvas.paint(box, body < 1, 75.0, take=True)
    canvas.paint(box, (body < 1) & (np.abs(phase) < 0.41), 480.0)
    canvas.paint(box, (body < 0.9) & (np.abs(phase) < 0.36), 175.0)
    arch = np.abs(phase - 0.05) < 0.34
    canal = np.sqrt((at.x / 11) ** 2 + ((at.y - 67) / 9) ** 2)
    canvas.paint(box, (canal < 1.7) & (at.y > 56) & arch, 400.0, take=True)
    spinous = (np.abs(at.x) < 3.8) & (at.y > 74) & (at.y < 92)
    canvas.paint(box, spinous & arch, 420.0)
    transverse = (np.abs(at.x) < 38) & (np.abs(at.y - 67 - 0.12 * np.abs(at.x)) < 4.5)
    canvas.paint(box, transverse & (np.abs(phase - 0.05) < 0.15), 320.0)
    canvas.paint(box, canal < 1, 22.0, take=True)
    canvas.paint(box, canal < 0.62, 42.0)

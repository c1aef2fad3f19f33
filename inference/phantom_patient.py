"""What differs between synthetic patients: tissue values, sizes, and the surfaces of the trunk."""

from dataclasses import dataclass
from enum import StrEnum

import numpy as np

from inference.phantom_canvas import Coordinates, FloatArray, smooth_maximum

FAT_HU = -102.0
GAS_HU = -960.0
FLUID_HU = 12.0
LUNG_HU = -850.0
WALL_MM = 10.0
"""Thickness of the muscle wall, in which the ribs lie."""


class ContrastPhase(StrEnum):
    """When after the injection of contrast medium the scan was made."""

    NATIVE = "native"
    """No contrast medium."""
    ARTERIAL = "arterial"
    """About 35 s: bright aorta and renal cortex, liver hardly enhanced."""
    PORTAL_VENOUS = "portal-venous"
    """About 70 s: liver and portal vein at their brightest; the usual phase of staging."""


@dataclass(frozen=True, kw_only=True)
class TissueHu:
    """Hounsfield units that depend on the contrast phase."""

    liver: float
    portal_vein: float
    hepatic_vein: float
    aorta: float
    cava: float
    spleen: float
    renal_cortex: float
    renal_medulla: float
    muscle: float
    pancreas: float
    bowel_wall: float
    heart: float


_NATIVE = TissueHu(
    liver=58,
    portal_vein=42,
    hepatic_vein=42,
    aorta=42,
    cava=42,
    spleen=48,
    renal_cortex=34,
    renal_medulla=32,
    muscle=52,
    pancreas=40,
    bowel_wall=38,
    heart=42,
)
_ARTERIAL = TissueHu(
    liver=70,
    portal_vein=95,
    hepatic_vein=62,
    aorta=300,
    cava=80,
    spleen=125,
    renal_cortex=190,
    renal_medulla=80,
    muscle=56,
    pancreas=105,
    bowel_wall=80,
    heart=220,
)
_PORTAL_VENOUS = TissueHu(
    liver=108,
    portal_vein=168,
    hepatic_vein=158,
    aorta=162,
    cava=142,
    spleen=122,
    renal_cortex=195,
    renal_medulla=170,
    muscle=62,
    pancreas=95,
    bowel_wall=85,
    heart=150,
)
_TISSUE_HU = {
    ContrastPhase.NATIVE: _NATIVE,
    ContrastPhase.ARTERIAL: _ARTERIAL,
    ContrastPhase.PORTAL_VENOUS: _PORTAL_VENOUS,
}


@dataclass(frozen=True, kw_only=True)
class Patient:
    """One synthetic patient.

    Coordinates are those of `phantom_canvas.Coordinates`.
    """

    tissue: TissueHu
    half_width_mm: float
    half_depth_mm: float
    fat_mm: float
    """Thickness of the subcutaneous fat at the sides."""
    dome_mm: float
    """Height of the right half of the diaphragm."""
    liver_ml: float
    spleen_scale: float
    kidney_scale: float
    gas_level_mm: float
    """Height (y) of the fluid level in the stomach."""

    @classmethod
    def draw(cls, phase: ContrastPhase, rng: np.random.Generator) -> "Patient":
        """Draw a patient."""
        values = vars(_TISSUE_HU[phase])
        return cls(
            tissue=TissueHu(**{name: hu * rng.uniform(0.93, 1.07) for name, hu in values.items()}),
            half_width_mm=rng.uniform(146, 160),
            half_depth_mm=rng.uniform(100, 113),
            fat_mm=rng.uniform(9, 20),
            dome_mm=rng.uniform(84, 96),
            liver_ml=rng.uniform(1400, 1850),
            spleen_scale=rng.uniform(0.9, 1.15),
            kidney_scale=rng.uniform(0.9, 1.08),
            gas_level_mm=rng.uniform(-62, -45),
        )

    def skin_depth(self, at: Coordinates) -> FloatArray:
        """Depth below the skin in mm."""
        return _rounded_box_depth(
            at.x / self.half_width_mm, at.y / self.half_depth_mm, self.half_depth_mm
        )

    def wall_depth(self, at: Coordinates) -> FloatArray:
        """Depth below the outer surface of the muscle wall in mm, negative in the fat."""
        across = at.x / (self.half_width_mm - self.fat_mm)
        back = (at.y + 3.0) / (self.half_depth_mm - 0.8 * self.fat_mm)
        return _rounded_box_depth(across, back, self.half_depth_mm - self.fat_mm)

    def above_diaphragm(self, at: Coordinates) -> FloatArray:
        """Height above the diaphragm in mm: two domes, the right one higher."""
        right2 = ((at.x + 58) / 82) ** 2 + ((at.y + 12) / 92) ** 2
        left2 = ((at.x - 66) / 76) ** 2 + ((at.y + 10) / 92) ** 2
        right = self.dome_mm - right2 * (34 + 46 * right2)
        left = self.dome_mm - 14 - left2 * (34 + 46 * left2)
        return np.asarray(at.z - smooth_maximum(right, left, 40.0), np.float32)


def _rounded_box_depth(across: FloatArray, back: FloatArray, scale_mm: float) -> FloatArray:
    """Depth below the surface u^2 + v^2 - k u^2 v^2 = 1, about mm, negative outside."""
    across2, back2 = across**2, back**2
    squareness = 0.35 * np.minimum(across2, 1.2) * np.minimum(back2, 1.2)
    depth = (1.0 - np.sqrt(across2 + back2 - squareness)) * scale_mm
    return np.asarray(depth * (1 + 0.35 * np.minimum(across2, 1)), np.float32)

"""How well a segmentation agrees with the known truth of a phantom, in patient space."""

from dataclasses import dataclass

import numpy as np

from inference.findings import Findings
from inference.labels import Label
from inference.measure import dice
from inference.phantom import Phantom, PlacedLesion
from inference.volume import Volume


@dataclass(frozen=True, kw_only=True)
class FoundLesion:
    """A lesion of the phantom, and what was found of it."""

    diameter_mm: float
    """Its longest diameter in the phantom."""
    distance_mm: float | None
    """Between its center and that of the nearest lesion that was found; none where none was."""


@dataclass(frozen=True, kw_only=True)
class Agreement:
    """How a segmentation agrees with the truth."""

    liver_dice: float
    """Of the liver with its lesions."""
    tumor_dice: float
    lesions: tuple[FoundLesion, ...]
    """In the order of the phantom."""


def agree(labels: Volume, findings: Findings, phantom: Phantom) -> Agreement:
    """Compare labels with a phantom.

    Parameters
    ----------
    labels
        (slices, rows, columns), values of `inference.labels.Label`, in patient coordinates.
    findings
        What was measured on them.
    phantom
        The truth; its grid may run along other axes.
    """
    found, truth = labels.array, phantom.labels.match_geometry(labels).array
    return Agreement(
        liver_dice=dice(found != Label.BACKGROUND, truth != Label.BACKGROUND),
        tumor_dice=dice(found == Label.TUMOR, truth == Label.TUMOR),
        lesions=tuple(_find(lesion, findings) for lesion in phantom.lesions),
    )


def _find(lesion: PlacedLesion, findings: Findings) -> FoundLesion:
    distances_mm = [
        float(np.linalg.norm(np.subtract(lesion.center_mm, found.centroid_mm)))
        for found in findings.lesions
    ]
    return FoundLesion(
        diameter_mm=2 * lesion.radii_mm[0], distance_mm=min(distances_mm, default=None)
    )

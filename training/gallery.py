"""Keeps cuts through the largest errors of the worst cases, while cases pass by."""

from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from inference.labels import Label
from inference.preview_planes import PLANES, Index, Scene
from inference.volume import Volume
from training.metrics import BoolArray, LabelArray, bounding_box
from training.scans import LabeledScan
from training.scores import CaseScore

_ORGAN_MARGIN_MM = 20.0
_TUMOR_REACH_MM = 60.0


class Structure(StrEnum):
    """What is compared."""

    LIVER = "liver"
    """Liver and tumor together."""
    TUMOR = "tumor"


@dataclass(frozen=True, kw_only=True, eq=False)
class PlaneView:
    """One plane as it is shown: (down, across), head or anterior up."""

    title: str
    hu: NDArray[np.float32]
    truth: BoolArray
    found: BoolArray
    size_mm: tuple[float, float]
    """Width and height."""


@dataclass(frozen=True, kw_only=True, eq=False)
class ErrorView:
    """Three planes through the largest error of a structure in one case."""

    case_id: str
    structure: Structure
    dice: float
    planes: tuple[PlaneView, ...]


class Gallery:
    """The cases with the lowest Dice.

    Parameters
    ----------
    limit:
        How many are kept of each structure.
    """

    def __init__(self, limit: int = 3) -> None:
        self._limit = limit
        self._worst: dict[Structure, list[ErrorView]] = {structure: [] for structure in Structure}

    @property
    def worst(self) -> tuple[ErrorView, ...]:
        """Liver, then tumor, each the worst first."""
        return tuple(view for views in self._worst.values() for view in views)

    def show(self, scan: LabeledScan, found: LabelArray, score: CaseScore) -> None:
        """Keep a case where it is among the worst so far.

        Parameters
        ----------
        scan:
            The scan and its truth.
        found:
            (slices, rows, columns), the result.
        score:
            How well it agrees.
        """
        self._keep(Structure.LIVER, score.liver.dice, scan, found)
        if score.tumor is not None:
            self._keep(Structure.TUMOR, score.tumor.dice, scan, found)

    def _keep(
        self, structure: Structure, dice: float | None, scan: LabeledScan, found: LabelArray
    ) -> None:
        views = self._worst[structure]
        if dice is None or dice == 1.0:
            return
        if len(views) < self._limit or dice < views[-1].dice:
            view = ErrorView(
                case_id=scan.case_id,
                structure=structure,
                dice=dice,
                planes=_cut(scan, found, structure),
            )
            views[:] = sorted([*views, view], key=lambda kept: kept.dice)[: self._limit]


def _cut(scan: LabeledScan, found: LabelArray, structure: Structure) -> tuple[PlaneView, ...]:
    least = Label.TUMOR if structure is Structure.TUMOR else Label.LIVER
    image, truth, result = (
        scan.volume.with_array(array).to_patient_orientation("HPL")
        for array in (scan.volume.array, scan.labels >= least, found >= least)
    )
    scene = _arrange(image, truth.array, result.array, structure)
    return tuple(
        PlaneView(
            title=plane.title,
            hu=scene.cut(plane, image),
            truth=scene.cut(plane, truth) > 0,
            found=scene.cut(plane, result) > 0,
            size_mm=scene.size_mm(plane),
        )
        for plane in PLANES
    )


def _arrange(image: Volume, truth: BoolArray, found: BoolArray, structure: Structure) -> Scene:
    """Choose the planes, and the part to show: the whole organ, or the surroundings of an error."""
    center = _largest_error(truth, found)
    low = high = np.array(center)
    reach_mm = _TUMOR_REACH_MM
    organ = bounding_box(truth | found) if structure is Structure.LIVER else None
    if organ is not None:
        low = np.array([part.start for part in organ])
        high = np.array([part.stop for part in organ])
        reach_mm = _ORGAN_MARGIN_MM
    reach = np.ceil(reach_mm / np.array(image.spacing)).astype(int)
    return Scene(
        volume=image,
        labels=image.with_array(found),
        lesion_map=None,
        center=center,
        low=_as_index(np.maximum(low - reach, 0)),
        high=_as_index(np.minimum(high + reach + 1, image.shape)),
        diameters=(),
    )


def _largest_error(truth: BoolArray, found: BoolArray) -> Index:
    """Give the voxel that lies deepest in what is wrong."""
    wrong = truth ^ found
    box = bounding_box(wrong)
    if box is None:
        return _as_index(np.array(truth.shape) // 2)
    depth = ndimage.distance_transform_cdt(np.pad(wrong[box], 1), metric="chessboard")
    deepest = np.array(np.unravel_index(depth.argmax(), depth.shape)) - 1
    return _as_index(deepest + [part.start for part in box])


def _as_index(values: NDArray[np.intp]) -> Index:
    first, second, third = values.tolist()
    return first, second, third

"""Scans of one patient brought to one grid, as phases of a contrast-enhanced examination."""

from enum import StrEnum
from typing import TYPE_CHECKING

import numpy as np

from inference.errors import RegistrationError
from inference.volume import Volume

if TYPE_CHECKING:
    import SimpleITK

_BODY_HU = (-200.0, 300.0)
"""What the comparison sees: soft tissue and the edge of bone, no noise of air or metal."""
_BINS = 32
_SAMPLED_SHARE = 0.2
_SHRINK_FACTORS = (4, 2, 1)
_SMOOTHING_MM = (4.0, 2.0, 0.0)
_ROUNDS = 200
_SEED = 1


class Motion(StrEnum):
    """How far a scan may differ from the one it is brought to."""

    NONE = "none"
    """Not at all: it is only interpolated on the other grid."""
    RIGID = "rigid"
    """By a turn and a shift."""
    AFFINE = "affine"
    """By those, stretching and shear."""


def register(moving: Volume, fixed: Volume, motion: Motion) -> Volume:
    """Interpolate a scan on the grid of another, moved so that both agree best.

    Agreement is Mattes' mutual information of the soft tissue, which phases of different contrast
    have as well (Mattes et al., IEEE Trans Med Imaging 22 (2003) 120), found from coarse to fine.
    Scans of one frame of reference begin where their headers put them, others with their middles in
    one place.
    One thread and a fixed seed make a repeat give the same voxels.

    Parameters
    ----------
    moving:
        (slices, rows, columns), HU.
    fixed:
        The scan whose grid counts.
    motion:
        What may be moved.

    Returns
    -------
    Volume
        The grid of `fixed`, int16 HU; air where the moved scan does not reach.

    Raises
    ------
    RegistrationError
        The scans do not overlap, or have too few slices for it.
    """
    import SimpleITK

    still, other = (
        SimpleITK.Cast(volume.to_simpleitk(), SimpleITK.sitkFloat32) for volume in (fixed, moving)
    )
    try:
        transform = (
            SimpleITK.Transform(3, SimpleITK.sitkIdentity)
            if motion is Motion.NONE
            else _find_transform(
                other,
                still,
                motion,
                same_frame=moving.frame_of_reference_uid == fixed.frame_of_reference_uid,
            )
        )
        moved = SimpleITK.Resample(other, still, transform, SimpleITK.sitkLinear, -1024.0)
    except RuntimeError as error:
        last_line = str(error).strip().splitlines()[-1]
        raise RegistrationError(
            f"the scan cannot be registered ({last_line}); check that both show the same part of "
            "the same patient"
        ) from error
    array = np.rint(SimpleITK.GetArrayFromImage(moved)).astype(np.int16)
    # SimpleITK's axes are the reverse of those of its arrays; `to_simpleitk` reversed them before.
    return fixed.with_array(np.ascontiguousarray(array.transpose(2, 1, 0)))


def _find_transform(
    moving: "SimpleITK.Image", fixed: "SimpleITK.Image", motion: Motion, *, same_frame: bool
) -> "SimpleITK.Transform":
    import SimpleITK

    still, other = (
        SimpleITK.Clamp(image, lowerBound=_BODY_HU[0], upperBound=_BODY_HU[1])
        for image in (fixed, moving)
    )
    method = SimpleITK.ImageRegistrationMethod()
    method.SetNumberOfThreads(1)
    method.SetMetricAsMattesMutualInformation(numberOfHistogramBins=_BINS)
    method.SetMetricSamplingStrategy(method.RANDOM)
    method.SetMetricSamplingPercentage(_SAMPLED_SHARE, _SEED)
    method.SetInterpolator(SimpleITK.sitkLinear)
    method.SetShrinkFactorsPerLevel(_SHRINK_FACTORS)
    method.SetSmoothingSigmasPerLevel(_SMOOTHING_MM)
    method.SetOptimizerAsRegularStepGradientDescent(
        learningRate=2.0, minStep=0.001, numberOfIterations=_ROUNDS, relaxationFactor=0.7
    )
    method.SetOptimizerScalesFromPhysicalShift()
    start = SimpleITK.Euler3DTransform()
    start.SetCenter(_center(still))
    if not same_frame:
        start.SetTranslation(np.subtract(_center(other), _center(still)).tolist())
    rigid = _optimize(method, still, other, start)
    if motion is Motion.RIGID:
        return rigid
    affine = SimpleITK.AffineTransform(3)
    affine.SetCenter(rigid.GetCenter())
    affine.SetMatrix(rigid.GetMatrix())
    affine.SetTranslation(rigid.GetTranslation())
    return _optimize(method, still, other, affine)


def _center(image: "SimpleITK.Image") -> tuple[float, ...]:
    middle = [(size - 1) / 2 for size in image.GetSize()]
    return tuple(image.TransformContinuousIndexToPhysicalPoint(middle))


def _optimize(
    method: "SimpleITK.ImageRegistrationMethod",
    fixed: "SimpleITK.Image",
    moving: "SimpleITK.Image",
    start: "SimpleITK.Transform",
) -> "SimpleITK.Transform":
    method.SetInitialTransform(start, inPlace=True)
    method.Execute(fixed, moving)
    return start

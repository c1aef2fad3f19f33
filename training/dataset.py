"""Cases for training: real ones from disk and synthetic ones, on the same grids."""

import csv
import logging
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import SimpleITK
from numpy.typing import NDArray

from inference.phantom import (
    ContrastPhase,
    LesionKind,
    LesionSettings,
    Phantom,
    PhantomSettings,
    make_phantom,
)
from inference.resample import (
    AxisGrid,
    resample_plane,
    resample_slices,
    sampling_matrix,
    whole_axis,
)
from training.config import DataConfig, PhantomConfig
from training.errors import DataSetError

logger = logging.getLogger(__name__)

LEVELS = 127
"""Arrays on disk hold the HU window as 0 to this number."""
WINDOW_HU = (-160.0, 240.0)
COARSE_MM = 3.0
FINE_MM = 1.0
_MARGIN_MM = 30.0
_THIN_MM = 1.25
_THIN_TARGET_MM = 1.5
_MAX_PHANTOM_LESIONS = 7


@dataclass(frozen=True, kw_only=True, eq=False)
class Case:
    """One scan: slices from feet to head, rows to posterior, columns to the patient's left."""

    case_id: str
    levels: NDArray[np.uint8]
    """(slices, rows, columns), 0 to `LEVELS` over the HU window."""
    labels: NDArray[np.uint8]
    """Same shape; values of `inference.labels.Label`."""
    spacing_mm: tuple[float, float, float]
    tumors_known: bool
    fold: int | None
    synthetic: bool = False

    @property
    def hu(self) -> NDArray[np.float32]:
        """CT numbers, clipped to the window."""
        low, high = WINDOW_HU
        return self.levels.astype(np.float32) * np.float32((high - low) / LEVELS) + np.float32(low)


def read_cases(folder: Path, grid: str, tumor_free: tuple[str, ...] = ()) -> list[Case]:
    """Read all cases of a data set that exist on a grid.

    Parameters
    ----------
    folder:
        Holds ``cases.csv`` and the sub-folders ``coarse`` and ``fine``.
    grid:
        Name of the sub-folder.
    tumor_free:
        Cases to take as annotated although they have no tumor labels.

    Raises
    ------
    DataSetError
        The table or an image is missing or cannot be read.
    """
    try:
        with (folder / "cases.csv").open(encoding="utf-8", newline="") as table:
            rows = [row for row in csv.DictReader(table) if row[f"{grid}_size"]]
        return [_read_case(folder / grid, row, tumor_free) for row in rows]
    except (OSError, KeyError, RuntimeError) as error:
        raise DataSetError(f"{folder}: {error}") from error


def _read_case(folder: Path, row: dict[str, str], tumor_free: tuple[str, ...]) -> Case:
    case_id = row["case_id"]
    image = SimpleITK.ReadImage(str(folder / f"{case_id}_ct.nii.gz"))
    labels = SimpleITK.ReadImage(str(folder / f"{case_id}_label.nii.gz"))
    x_mm, y_mm, z_mm = image.GetSpacing()
    return Case(
        case_id=case_id,
        levels=SimpleITK.GetArrayFromImage(image).astype(np.uint8),
        labels=SimpleITK.GetArrayFromImage(labels).astype(np.uint8),
        spacing_mm=(z_mm, y_mm, x_mm),
        tumors_known=row["tumor_labels"] == "yes" or case_id in tumor_free,
        fold=int(row["fold"]) if row["fold"] else None,
    )


def select_cases(cases: list[Case], config: DataConfig, *, held_out: bool) -> list[Case]:
    """Give the cases of the held-out fold, or all the others."""
    return [
        case
        for case in cases
        if (config.held_out_fold is not None and case.fold == config.held_out_fold) == held_out
    ]


def phantom_cases(config: PhantomConfig, grid: str, cache: Path) -> list[Case]:
    """Make synthetic cases on a grid, or read them from the cache.

    Parameters
    ----------
    config:
        How many, and from which seed on.
    grid:
        ``coarse`` or ``fine``.
    cache:
        Folder for one ``.npz`` file a case and grid.
    """
    cache.mkdir(parents=True, exist_ok=True)
    seeds = range(config.first_seed, config.first_seed + config.count)
    return [_cached_phantom(seed, grid, cache) for seed in seeds]


def _cached_phantom(seed: int, grid: str, cache: Path) -> Case:
    path = cache / f"phantom{seed}_{grid}.npz"
    if not path.exists():
        logger.info("making phantom %d", seed)
        _make_phantom(seed, cache)
    with np.load(path) as stored:
        z_mm, y_mm, x_mm = (float(value) for value in stored["spacing_mm"])
        return Case(
            case_id=f"phantom{seed}",
            levels=stored["levels"],
            labels=stored["labels"],
            spacing_mm=(z_mm, y_mm, x_mm),
            tumors_known=True,
            fold=None,
            synthetic=True,
        )


def _make_phantom(seed: int, cache: Path) -> None:
    phantom = _draw_phantom(seed)
    for grid in ("coarse", "fine"):
        axes = _coarse_axes(phantom) if grid == "coarse" else _fine_axes(phantom)
        levels, labels = _resample(phantom, axes)
        np.savez_compressed(
            cache / f"phantom{seed}_{grid}.npz",
            levels=levels,
            labels=labels,
            spacing_mm=np.array([axis.spacing_mm for axis in axes]),
        )


def _draw_phantom(seed: int) -> Phantom:
    """Make a phantom whose phase, lesions, noise and slice distance follow from the seed."""
    rng = np.random.default_rng(seed)
    kinds, phases = list(LesionKind), list(ContrastPhase)
    lesions = tuple(
        LesionSettings(
            diameter_mm=float(np.exp(rng.uniform(np.log(6), np.log(55)))),
            kind=kinds[rng.choice(len(kinds), p=(0.6, 0.25, 0.15))],
        )
        for _ in range(rng.integers(0, _MAX_PHANTOM_LESIONS + 1))
    )
    settings = PhantomSettings(
        seed=seed,
        phase=phases[rng.choice(len(phases), p=(0.15, 0.2, 0.65))],
        spacing_mm=(float(rng.choice([1.5, 2.5, 2.5, 4.0])), 1.1, 1.1),
        lesions=lesions,
        noise_hu=float(rng.uniform(6, 22)),
    )
    settings = replace(settings, shape=(round(300 / settings.spacing_mm[0]), 320, 320))
    return _with_room(settings)


def _with_room(settings: PhantomSettings) -> Phantom:
    """Make a phantom, with fewer lesions where the liver has no room for all."""
    while settings.lesions:
        try:
            return make_phantom(settings)
        except ValueError:
            settings = replace(settings, lesions=settings.lesions[:-1])
    return make_phantom(settings)


def _coarse_axes(phantom: Phantom) -> list[AxisGrid]:
    shape, spacing = phantom.volume.spatial_shape, phantom.volume.spacing
    return [whole_axis(n, mm, COARSE_MM) for n, mm in zip(shape, spacing, strict=True)]


def _fine_axes(phantom: Phantom) -> list[AxisGrid]:
    """Give the liver box with a margin at 1 mm in the plane, thin slices at 1.5 mm."""
    organ = phantom.labels.array > 0
    spacing = phantom.volume.spacing
    slice_mm = _THIN_TARGET_MM if spacing[0] < _THIN_MM else spacing[0]
    axes = []
    for axis, target_mm in enumerate((slice_mm, FINE_MM, FINE_MM)):
        others = tuple(other for other in range(3) if other != axis)
        inside = np.flatnonzero(organ.any(axis=others))
        first_mm = max(0.0, inside[0] * spacing[axis] - _MARGIN_MM)
        last_mm = min((organ.shape[axis] - 1), inside[-1]) * spacing[axis] + _MARGIN_MM
        last_mm = min(last_mm, (organ.shape[axis] - 1) * spacing[axis])
        size = int((last_mm - first_mm) / target_mm) + 1
        axes.append(AxisGrid(start_mm=float(first_mm), spacing_mm=target_mm, size=size))
    return axes


def _resample(
    phantom: Phantom, axes: list[AxisGrid]
) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Resample the image and, class by class, the labels."""
    low, high = WINDOW_HU
    image = (np.clip(phantom.volume.array, low, high).astype(np.float32) - low) / (high - low)
    truth = phantom.labels.array
    levels = np.rint(_along_all_axes(image, phantom, axes) * LEVELS).astype(np.uint8)
    classes = [
        _along_all_axes((truth == value).astype(np.float32), phantom, axes) for value in range(3)
    ]
    return levels, np.argmax(classes, axis=0).astype(np.uint8)


def _along_all_axes(
    array: NDArray[np.float32], phantom: Phantom, axes: list[AxisGrid]
) -> NDArray[np.float32]:
    sources = [
        AxisGrid(start_mm=0.0, spacing_mm=mm, size=n)
        for n, mm in zip(phantom.volume.spatial_shape, phantom.volume.spacing, strict=True)
    ]
    slices, rows, columns = (sampling_matrix(a, b) for a, b in zip(sources, axes, strict=True))
    planes = np.stack([resample_plane(plane, rows, columns) for plane in array])
    return resample_slices(planes, slices)

"""Cases for training: real ones from any known data set and synthetic ones, on the same grids."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import track

from inference.labels import Label
from inference.phantom import (
    ContrastPhase,
    LesionKind,
    LesionSettings,
    Phantom,
    PhantomSettings,
    make_phantom,
)
from training.cache import digest_files, has_grids, read_grid, write_grids
from training.config import DataConfig, PhantomConfig
from training.errors import DataSetError
from training.grids import LEVELS, Gridded, levels_to_hu, make_grids
from training.readers import DataSet, ScanEntry, open_data_set
from training.readers.compact import CompactEntry
from training.scans import LabeledScan

__all__ = [
    "DEFAULT_CACHE",
    "LEVELS",
    "Case",
    "first_patients",
    "list_entries",
    "phantom_cases",
    "read_cases",
    "read_mixed_cases",
    "select_cases",
]

logger = logging.getLogger(__name__)

DEFAULT_CACHE = Path("runs/cases")
_MAX_PHANTOM_LESIONS = 7


@dataclass(frozen=True, kw_only=True, eq=False)
class Case:
    """One scan: slices from feet to head, rows to posterior, columns to the patient's left."""

    case_id: str
    patient_id: str
    levels: NDArray[np.uint8]
    """(slices, rows, columns), 0 to `LEVELS` over the HU window."""
    labels: NDArray[np.uint8]
    """Same shape; values of `inference.labels.Label`."""
    spacing_mm: tuple[float, float, float]
    tumors_known: bool
    fold: int | None
    synthetic: bool = False

    @cached_property
    def liver_level(self) -> float:
        """Median of the liver, 0 to 1 over the HU window."""
        return float(np.median(self.levels[self.labels > 0])) / LEVELS

    @property
    def hu(self) -> NDArray[np.float32]:
        """CT numbers, clipped to the window."""
        return levels_to_hu(self.levels)


def read_cases(
    folder: Path, grid: str, tumor_free: tuple[str, ...] = (), cache: Path = DEFAULT_CACHE
) -> list[Case]:
    """Read all cases of a data set that exist on a grid.

    Parameters
    ----------
    folder:
        A data set in one of the layouts of `training.readers`.
    grid:
        ``coarse`` or ``fine``.
    tumor_free:
        Cases to take as annotated although they have no tumor labels.
    cache:
        Folder for the scans on their grids; the compact set needs none.

    Raises
    ------
    DataSetError
        The layout is not known, or something is missing or cannot be read.
    """
    return read_mixed_cases([folder], grid, tumor_free, cache)


def read_mixed_cases(
    folders: Sequence[Path],
    grid: str,
    tumor_free: tuple[str, ...] = (),
    cache: Path = DEFAULT_CACHE,
) -> list[Case]:
    """Read the cases of several data sets as `read_cases` does, one data set after the other.

    A patient has one fold in all of them, and patients that occur in several are named in a
    warning. Scans without a liver are left out, and named.
    """
    entries = list_entries(folders, tumor_free)
    _fill_cache(entries, cache)
    found = [(entry, _read_gridded(entry, grid, cache)) for entry in entries]
    empty = [entry.case_id for entry, gridded in found if gridded and not gridded.has_liver]
    if empty:
        logger.warning("left out, no liver is labeled in them: %s", " ".join(empty))
    return [_make_case(entry, gridded) for entry, gridded in found if gridded and gridded.has_liver]


def list_entries(folders: Sequence[Path], tumor_free: Sequence[str] = ()) -> list[ScanEntry]:
    """List the scans of several data sets; a patient has one fold in all of them.

    Parameters
    ----------
    folders:
        Data sets in the layouts of `training.readers`.
    tumor_free:
        Cases to take as annotated although they have no tumor labels.

    Raises
    ------
    DataSetError
        The layout of a folder is not known.
    """
    data_sets = [open_data_set(folder) for folder in folders]
    for data_set in data_sets:
        logger.info("%s: %s, %d scans", data_set.folder, data_set.name, len(data_set))
    _warn_of_repeated_patients(data_sets)
    return [
        replace(entry, tumors_known=entry.tumors_known or entry.case_id in tumor_free)
        for entry in _agree_on_folds(data_sets)
    ]


def _warn_of_repeated_patients(data_sets: Sequence[DataSet]) -> None:
    """Say whose scans count more than once; LiTS holds all of 3D-IRCADb-01."""
    seen: dict[str, DataSet] = {}
    repeated: dict[str, list[str]] = {}
    for data_set in data_sets:
        for patient_id in dict.fromkeys(entry.patient_id for entry in data_set):
            first = seen.setdefault(patient_id, data_set)
            if first is not data_set:
                both = f"{first.name} and {data_set.name}"
                repeated.setdefault(both, []).append(patient_id)
    for both, patients in repeated.items():
        logger.warning(
            "%s have %d patients in common, who count twice: %s",
            both,
            len(patients),
            " ".join(patients),
        )


def _agree_on_folds(data_sets: Sequence[DataSet]) -> list[ScanEntry]:
    """Give all scans; where one data set names the fold of a patient, it counts in all."""
    named = {
        entry.patient_id: entry.fold
        for data_set in data_sets
        if data_set.names_folds
        for entry in data_set
    }
    return [
        replace(entry, fold=named.get(entry.patient_id, entry.fold))
        for data_set in data_sets
        for entry in data_set
    ]


def _fill_cache(entries: Sequence[ScanEntry], cache: Path) -> None:
    """Read what the cache lacks; go on after a bad scan, so that all are named at once."""
    names = [(entry, _cache_name(entry)) for entry in entries if not _is_gridded(entry)]
    missing = [(entry, name) for entry, name in names if not has_grids(cache, name)]
    refused = []
    steps = track(
        missing,
        description=f"Resampling into {cache}",
        console=Console(stderr=True),
        disable=not missing,
    )
    for entry, name in steps:
        try:
            write_grids(cache, name, make_grids(entry.read()))
        except DataSetError as error:
            refused.append(str(error))
    if refused:
        raise DataSetError("\n".join(refused))


def _cache_name(entry: ScanEntry) -> str:
    try:
        return f"{entry.case_id}-{digest_files(entry.files)}"
    except (DataSetError, OSError) as error:
        raise DataSetError(f"{entry.case_id}: {error}") from error


def _is_gridded(entry: ScanEntry) -> bool:
    return isinstance(entry, CompactEntry)


def _read_gridded(entry: ScanEntry, grid: str, cache: Path) -> Gridded | None:
    """Read a scan on a grid; none where a compact set does not have it there."""
    if isinstance(entry, CompactEntry):
        return entry.read_grid(grid) if grid in entry.grids else None
    return read_grid(cache, _cache_name(entry), grid)


def _make_case(entry: ScanEntry, gridded: Gridded) -> Case:
    return Case(
        case_id=entry.case_id,
        patient_id=entry.patient_id,
        levels=gridded.levels,
        labels=gridded.labels,
        spacing_mm=gridded.spacing_mm,
        tumors_known=entry.tumors_known,
        fold=entry.fold,
    )


def select_cases(cases: list[Case], config: DataConfig, *, held_out: bool) -> list[Case]:
    """Give the cases of the held-out fold, or all the others."""
    return [
        case
        for case in cases
        if (config.held_out_fold is not None and case.fold == config.held_out_fold) == held_out
    ]


def first_patients(cases: Sequence[Case], count: int) -> list[Case]:
    """Give the cases of some patients, as many of them with annotated tumors as in all.

    Fewer patients are always a part of more, as a learning curve over their number needs it.

    Raises
    ------
    DataSetError
        There are fewer patients.
    """
    annotated = {case.patient_id for case in cases if (case.labels == Label.TUMOR).any()}
    others = {case.patient_id for case in cases} - annotated
    if count > len(annotated | others):
        raise DataSetError(
            f"{count} patients are asked for, and there are {len(annotated | others)} to train on"
        )
    places = [
        ((place + 0.5) / len(group), patient)
        for group in (annotated, others)
        for place, patient in enumerate(sorted(group))
    ]
    chosen = {patient for _place, patient in sorted(places)[:count]}
    return [case for case in cases if case.patient_id in chosen]


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
    name = f"phantom{seed}"
    if not has_grids(cache, name):
        logger.info("making phantom %d", seed)
        write_grids(cache, name, make_grids(_scan_phantom(seed)))
    gridded = read_grid(cache, name, grid)
    return Case(
        case_id=name,
        patient_id=name,
        levels=gridded.levels,
        labels=gridded.labels,
        spacing_mm=gridded.spacing_mm,
        tumors_known=True,
        fold=None,
        synthetic=True,
    )


def _scan_phantom(seed: int) -> LabeledScan:
    phantom = _draw_phantom(seed)
    return LabeledScan(
        case_id=f"phantom{seed}",
        patient_id=f"phantom{seed}",
        volume=phantom.volume,
        labels=phantom.labels.array,
        tumors_known=True,
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

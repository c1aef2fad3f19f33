"""From data to a model package: a folder says which networks are trained, and how.

A recipe is a folder with an experiment file for each stage, ``locator.toml`` and
``segmenter.toml``, and with ``papers.toml``, what the manifest says beside the networks.
"""

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

from training.config import Experiment
from training.curves import draw_curves
from training.dataset import (
    DEFAULT_CACHE,
    Case,
    first_patients,
    phantom_cases,
    read_mixed_cases,
    select_cases,
)
from training.equalize import equalize
from training.errors import ExperimentError
from training.export import export_package, find_source
from training.sample_sheet import draw_samples
from training.samples import Sampler
from training.stacks import StackSampler
from training.trainer import CHECKPOINT, Trainer
from training.volumes import VolumeSampler

logger = logging.getLogger(__name__)

STAGES = ("locator", "segmenter")
DEFAULT_PHANTOMS = Path("runs/phantoms")
PAPERS = "papers.toml"
_SHIPPED = Path(__file__).parent / "configs"

ProgressCallback: TypeAlias = Callable[[str, float, Mapping[str, float]], None]
"""Told the stage, the share of it that is done, and its losses by name."""


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """A folder that was read."""

    folder: Path
    experiments: Mapping[str, Experiment]
    """By stage, in the order of `STAGES`."""

    @property
    def papers(self) -> Path:
        """What the manifest says beside the networks."""
        return self.folder / PAPERS


@dataclass(frozen=True, kw_only=True)
class RunSettings:
    """What a user may choose for the runs of a recipe."""

    data: Sequence[Path]
    """Folders of data sets."""
    out: Path
    """Gets a folder for each stage and one for the package."""
    hold_out: int | None = None
    """Fold that is never trained on."""
    steps: int | None = None
    """Of each stage, instead of those of the recipe."""
    minutes: float | None = None
    """Each stage ends after this time at the latest."""
    patients: int | None = None
    """Train on so many only."""
    loaders: int = 0
    """Processes that draw samples."""
    locator: Path | None = None
    """Run or package whose locator is taken, so that none is trained."""
    encoder_weights: Path | None = None
    """Weights that encoders begin with."""
    phantoms: Path = DEFAULT_PHANTOMS
    cache: Path = DEFAULT_CACHE


def read_recipe(name_or_path: str) -> Recipe:
    """Read a recipe that ships with Hepar by its name, or any by the path of its folder.

    Raises
    ------
    ExperimentError
        There is no such recipe, or one of its files is wrong.
    """
    for folder in (_SHIPPED / name_or_path, Path(name_or_path)):
        files = {stage: folder / f"{stage}.toml" for stage in STAGES}
        if any(path.is_file() for path in files.values()):
            return Recipe(
                folder=folder,
                experiments={
                    stage: Experiment.read(path) for stage, path in files.items() if path.is_file()
                },
            )
    shipped = ", ".join(sorted(path.name for path in _SHIPPED.iterdir() if path.is_dir()))
    raise ExperimentError(
        f"there is no recipe {name_or_path!r}; shipped ones: {shipped}; any other is the path of a "
        "folder with locator.toml, segmenter.toml or both"
    )


def train_recipe(
    recipe: Recipe, settings: RunSettings, stages: Sequence[str], progress: ProgressCallback
) -> Path | None:
    """Train the stages one after the other, and make a package of them.

    What is there already is not done again: a stage that is at its end is only read.

    Returns
    -------
    Path or None
        Folder of the package; None while the folder holds not all stages.

    Raises
    ------
    ExperimentError
        A stage is not part of the recipe, or begins with one that was not trained.
    DataSetError
        The data cannot be read.
    """
    for stage, experiment in _choose_stages(recipe, settings, stages).items():
        train_stage(experiment, stage, settings, progress)
    locator, segmenter = (settings.out / stage for stage in STAGES)
    to_train = [segmenter] if settings.locator else [locator, segmenter]
    if not all((run / CHECKPOINT).exists() for run in to_train):
        return None
    locator = settings.locator or locator
    return export_package(locator, segmenter, recipe.papers, settings.out / "package").folder


def _choose_stages(
    recipe: Recipe, settings: RunSettings, stages: Sequence[str]
) -> dict[str, Experiment]:
    """Give the experiments as the user wants them, before any of them takes its hours."""
    missing = [stage for stage in stages if stage not in recipe.experiments]
    if missing:
        raise ExperimentError(f"{recipe.folder} has no {missing[0]}.toml")
    if settings.locator is not None:
        find_source(settings.locator)
    chosen = {stage: recipe.experiments[stage] for stage in stages}
    weights = settings.encoder_weights
    if weights and not any(experiment.takes_encoder_weights for experiment in chosen.values()):
        raise ExperimentError(
            f"no network of {recipe.folder} begins with {weights}: a ResNet-34 is the encoder of "
            "the architecture unet-resnet34 only"
        )
    return {
        stage: experiment.adapted(
            held_out_fold=settings.hold_out,
            steps=settings.steps,
            minutes=settings.minutes,
            encoder_weights=weights,
        )
        for stage, experiment in chosen.items()
    }


def train_stage(
    experiment: Experiment, stage: str, settings: RunSettings, progress: ProgressCallback
) -> None:
    """Train one stage in its folder, and draw what it is shown and its learning curves."""
    folder = settings.out / stage
    cases = read_training_cases(experiment, settings)
    experiment = equalize(experiment, cases.real)
    training, validation = build_samplers(experiment, cases)
    folder.mkdir(parents=True, exist_ok=True)
    draw_samples(training, folder)
    begin_with = experiment.optimization.warm_start
    trainer = Trainer(
        experiment,
        training,
        folder,
        warm_start=None if begin_with is None else settings.out / begin_with,
        validation=validation,
        loaders=settings.loaders,
    )
    trainer.run(lambda share, losses: progress(stage, share, losses))
    draw_curves(folder)


@dataclass(frozen=True, kw_only=True, eq=False)
class TrainingCases:
    """What an experiment trains on, and is judged by."""

    real: Sequence[Case]
    kept_apart: Sequence[Case]
    """The held-out fold."""
    synthetic: Sequence[Case]


def read_training_cases(experiment: Experiment, settings: RunSettings) -> TrainingCases:
    """Read the cases of an experiment and make its phantoms.

    Raises
    ------
    DataSetError
        The data cannot be read.
    ExperimentError
        Nothing is left to train on.
    """
    config = experiment.data
    cases = read_mixed_cases(settings.data, config.grid, config.tumor_free, settings.cache)
    real = select_cases(cases, config, held_out=False)
    if settings.patients is not None:
        real = first_patients(real, settings.patients)
    kept_apart = select_cases(cases, config, held_out=True)
    synthetic = phantom_cases(experiment.phantoms, config.grid, settings.phantoms)
    logger.info("%d real cases: %s", len(real), " ".join(case.case_id for case in real))
    logger.info("%d kept apart: %s", len(kept_apart), " ".join(c.case_id for c in kept_apart))
    logger.info("%d synthetic cases", len(synthetic))
    if not real:
        raise ExperimentError("no case is left to train on; hold out another fold")
    return TrainingCases(real=real, kept_apart=kept_apart, synthetic=synthetic)


def build_samplers(experiment: Experiment, cases: TrainingCases) -> tuple[Sampler, Sampler | None]:
    """Give the sources of samples.

    Returns
    -------
    tuple
        Source of the samples to train on, and of those of the held-out fold: these as they are,
        nothing painted or turned. None where nothing is held out.
    """
    validation = None
    if cases.kept_apart:
        validation = _sampler(experiment.without_changes(), cases.kept_apart, [])
    return _sampler(experiment, cases.real, cases.synthetic), validation


def _sampler(experiment: Experiment, real: Sequence[Case], synthetic: Sequence[Case]) -> Sampler:
    kind = StackSampler if experiment.network.dimensions == 2 else VolumeSampler
    return kind(experiment, real, synthetic)

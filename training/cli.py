"""The commands of the ``train`` extra; torch is imported when one of them runs."""

import logging
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer
from rich.console import Console
from rich.logging import RichHandler
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from training.errors import TrainingError

if TYPE_CHECKING:
    from training.recipe import Recipe

_LIBRARIES = ("torch", "monai", "onnx", "skl2onnx", "matplotlib", "tomli_w")

DataOption = Annotated[
    list[Path],
    typer.Option(help="Folder of a data set, as published; may be given again.", metavar="DIR"),
]
CacheOption = Annotated[
    Path, typer.Option(help="Keeps real scans on the grids of the networks.", metavar="DIR")
]

TumorFreeOption = Annotated[
    list[str] | None,
    typer.Option(help="Case without tumor labels that is free of tumors; may be given again."),
]

_err = Console(stderr=True, markup=False)


def train(
    recipe: Annotated[str, typer.Argument(help="Shipped recipe by name, or folder of one.")],
    data: DataOption,
    out: Annotated[Path, typer.Option(help="Gets the runs and the package.", metavar="DIR")],
    hold_out: Annotated[
        int | None, typer.Option(help="Fold that is kept apart for `hepar evaluate`.")
    ] = None,
    stage: Annotated[
        list[str] | None, typer.Option(help="Only this stage; may be given again.")
    ] = None,
    steps: Annotated[
        int | None, typer.Option(help="Steps of each stage instead of the recipe's.")
    ] = None,
    minutes: Annotated[
        float | None, typer.Option(help="End each stage after this time, to try things.")
    ] = None,
    patients: Annotated[
        int | None, typer.Option(help="Train on so many only: how much would more data help?")
    ] = None,
    locator: Annotated[
        Path | None,
        typer.Option(help="Run, or package, whose locator is taken; none is trained."),
    ] = None,
    encoder_weights: Annotated[
        Path | None,
        typer.Option(help="ResNet-34 as torchvision publishes it, to begin with.", metavar="FILE"),
    ] = None,
    threads: Annotated[int | None, typer.Option(help="CPU threads; default: all cores.")] = None,
    loaders: Annotated[
        int, typer.Option(help="Processes that draw samples; a GPU waits without some.")
    ] = 0,
    phantoms: Annotated[
        Path, typer.Option(help="Keeps the synthetic scans that are mixed in.", metavar="DIR")
    ] = Path("runs/phantoms"),
    cache: CacheOption = Path("runs/cases"),
) -> None:
    """Train the networks of a recipe, and make a model package of them.

    Can be interrupted: called again with the same folder, it goes on from the last checkpoint.
    Beside the checkpoints lie samples.png, what the network is shown, and the learning curves as
    curves.png.
    """
    _prepare()
    import torch

    from training.recipe import RunSettings, read_recipe, train_recipe

    if threads is not None:
        torch.set_num_threads(threads)
    chosen = read_recipe(recipe)
    settings = RunSettings(
        data=data,
        out=out,
        hold_out=hold_out,
        steps=steps,
        minutes=minutes,
        patients=patients,
        loaders=loaders,
        locator=locator,
        encoder_weights=encoder_weights,
        phantoms=phantoms,
        cache=cache,
    )
    with _StageBars() as bars:
        package = train_recipe(chosen, settings, stage or _stages(chosen, locator), bars.tell)
    if package is None:
        _err.print(
            f"{out} holds not all stages yet: no package was made. A locator may also be taken "
            "from another run or a package: --locator"
        )
    else:
        typer.echo(package)


def evaluate(
    packages: Annotated[
        list[str], typer.Argument(metavar="PACKAGE...", help="Shipped models by name, or folders.")
    ],
    data: DataOption,
    out: Annotated[Path, typer.Option(help="Folder of the report.", metavar="DIR")],
    fold: Annotated[
        int | None, typer.Option(help="Judge on this fold, not on the one kept apart in training.")
    ] = None,
    tumor_free: TumorFreeOption = None,
    precision: Annotated[
        Literal["auto", "fp32", "bf16", "fp16"], typer.Option(help="Arithmetic of the networks.")
    ] = "auto",
) -> None:
    """Judge model packages on labeled scans, each on the fold that it was not trained on.

    Writes report.md with tables and pictures, scores.csv (a row per case) and scores.json. The
    packages of a cross-validation, given together, make one report over all cases.
    """
    _prepare()
    from training.dataset import list_entries
    from training.evaluate import evaluate_packages

    entries = list_entries(data, tumor_free or ())
    evaluate_packages(packages, entries, out, fold=fold, precision=precision, console=_err)
    typer.echo(out / "report.md")


def export(
    locator: Annotated[Path, typer.Option(help="Run of the locator, or a package.")],
    segmenter: Annotated[Path, typer.Option(help="Run of the segmenter, or a package.")],
    papers: Annotated[
        Path, typer.Option(help="What the manifest says beside the networks (TOML).")
    ],
    out: Annotated[Path, typer.Option(help="Folder of the package.", metavar="DIR")],
    scores: Annotated[
        Path | None, typer.Option(help="scores.json of `hepar evaluate`, for the manifest.")
    ] = None,
) -> None:
    """Make a model package of two training runs, and check it against torch."""
    _prepare()
    from training.export import export_package

    typer.echo(export_package(locator, segmenter, papers, out, scores).folder)


def train_filter(
    packages: Annotated[
        list[str],
        typer.Argument(metavar="PACKAGE...", help="Packages that were trained with --hold-out."),
    ],
    data: DataOption,
    into: Annotated[str, typer.Option(help="Package that gets the filter.", metavar="PACKAGE")],
    tumor_free: TumorFreeOption = None,
) -> None:
    """Train a filter of false tumors on what packages find in scans that they never saw.

    Prints how it does on patients left out one by one. The package named by --into gets
    candidates.onnx and a new manifest, and so a new digest.
    """
    _prepare()
    from training.candidate_training import add_filter, describe
    from training.dataset import list_entries

    entries = list_entries(data, tumor_free or ())
    typer.echo(describe(add_filter(packages, entries, into, _err)))


def _stages(recipe: "Recipe", locator: Path | None) -> list[str]:
    return [name for name in recipe.experiments if name != "locator" or locator is None]


def _prepare() -> None:
    """Say what is missing before anything is done, and show what the work says."""
    missing = [name for name in _LIBRARIES if find_spec(name) is None]
    if missing:
        raise TrainingError(
            f"{', '.join(missing)} not installed: pip install 'hepar[train]' brings what this "
            "command needs"
        )
    handler = RichHandler(console=_err, show_path=False, show_level=False)
    logging.basicConfig(level=logging.INFO, format="%(message)s", handlers=[handler])


class _StageBars(Progress):
    """A bar for each stage that trains."""

    def __init__(self) -> None:
        super().__init__(
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.percentage:>3.0f} %"),
            TimeRemainingColumn(),
            TextColumn("{task.fields[losses]}"),
            console=_err,
        )
        self._stages: dict[str, TaskID] = {}

    def tell(self, stage: str, share: float, losses: Mapping[str, float]) -> None:
        """Show how far a stage is."""
        if stage not in self._stages:
            self._stages[stage] = self.add_task(stage, total=1.0, losses="")
        words = ", ".join(f"{name} {value:.3f}" for name, value in losses.items())
        self.update(self._stages[stage], completed=min(share, 1.0), losses=words)

"""``hepar cluster``."""

from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from config import TumorEngine
from node.cli_options import ConfigOption, SetOption, load, with_engine
from node.console import out, print_json, print_table, progress_bar
from node.errors import WrongCall


def cluster(
    scans: Annotated[
        list[Path],
        typer.Argument(metavar="CT...", help="DICOM folder or NIfTI file; more are channels."),
    ],
    liver: Annotated[
        Path | None,
        typer.Option(help="Mask of the liver with its tumors; default: the model finds it."),
    ] = None,
    truth: Annotated[
        list[Path] | None,
        typer.Option(help="Mask of tumor to compare with; may be given again, masks are joined."),
    ] = None,
    truth_value: Annotated[
        int | None, typer.Option(help="Value that means tumor there; default: all but 0.")
    ] = None,
    method: Annotated[
        TumorEngine | None, typer.Option(help="How; default: inference.tumor_engine.")
    ] = None,
    slice_number: Annotated[
        int | None,
        typer.Option("--slice", help="Only this axial slice, counted from 0 at the feet.", min=0),
    ] = None,
    each_slice: Annotated[
        bool,
        typer.Option("--each-slice/--volume", help="Each slice by itself, or all slices at once."),
    ] = False,
    series: Annotated[
        list[str] | None,
        typer.Option(help="Series instance UID of each CT, where a folder holds several."),
    ] = None,
    registration: Annotated[
        Literal["none", "rigid", "affine"],
        typer.Option(help="How further CTs are moved to the first."),
    ] = "rigid",
    plots: Annotated[
        Path | None, typer.Option(help="Folder for pictures (needs matplotlib).", metavar="DIR")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the report as JSON.")] = False,
    config: ConfigOption = None,
    overrides: SetOption = None,
) -> None:
    """Mark tumor by clusters of the CT numbers in the liver, and compare with a truth.

    Parameters of the methods are settings, as in --set inference.clustering.clusters=3. Several
    CTs of one patient, as phases of contrast, are brought to the grid of the first.
    """
    from inference.clustering.marker import TumorMarker
    from inference.registration import Motion
    from node.clustering import (
        ClusterPaths,
        build_cluster_report,
        choose_slices,
        draw_best,
        read_subject,
        run_marker,
    )
    from node.models import located

    loaded = load(config, with_engine(overrides, method)).settings
    settings = located(loaded) if liver is None else loaded.inference
    if settings.tumor_engine is TumorEngine.NETWORK:
        raise WrongCall("Choose a method: --method kmeans, dbscan or gmm.")
    if slice_number is not None and each_slice:
        raise WrongCall("--slice and --each-slice exclude each other; give one of them.")
    if plots is not None and find_spec("matplotlib") is None:
        raise WrongCall("--plots needs matplotlib: pip install 'hepar[train]' brings it.")
    marker = TumorMarker(settings=settings)
    paths = ClusterPaths(
        scans=scans,
        series_uids=series or (),
        liver=liver,
        truths=truth or (),
        truth_value=truth_value,
    )
    with progress_bar("hepar cluster") as progress:
        subject = read_subject(paths, settings, Motion(registration), progress)
        parts = choose_slices(subject, slice_number, each=each_slice)
        runs = run_marker(marker, subject, parts, progress)
        report = build_cluster_report(marker, subject, runs)
        if plots is not None:
            progress("draw", 0.99)
            draw_best(subject, runs, plots)
    if as_json:
        print_json(report)
        return
    _print(report)


def _print(report: dict[str, Any]) -> None:
    parameters = ", ".join(f"{name} {value}" for name, value in report["parameters"].items())
    out.print(parameters)
    if len(report["runs"]) == 1:
        _print_clusters(report["runs"][0])
    elif report["agreement"] is not None:
        _print_slices(report["runs"])
    out.print(f"Tumor {report['tumor_ml']:.2f} ml of {report['liver_ml']:.1f} ml of liver.")
    agreement = report["agreement"]
    if agreement is not None:
        out.print(
            f"Dice {agreement['dice']:.4f}, IoU {agreement['iou']:.4f}, "
            f"sensitivity {_number(agreement['sensitivity'])}, "
            f"specificity {_number(agreement['specificity'])}."
        )
    for run in report["runs"]:
        if "problem" in run:
            out.print(f"Slice {run['slices'][0]}: {run['problem']}")
    timings = [run["timings_s"] for run in report["runs"] if "problem" not in run]
    seconds = sum(sum(steps.values()) for steps in timings)
    out.print(f"Clustered and cleaned in {seconds:.2f} s.")


def _print_clusters(run: dict[str, Any]) -> None:
    rows = [
        [
            "noise" if cluster["label"] < 0 else cluster["label"],
            cluster["voxel_count"],
            ", ".join(f"{value:.1f}" for value in cluster["mean_hu"]),
            ", ".join(f"{value:.1f}" for value in cluster["sd_hu"]),
            "tumor" if cluster["is_tumor"] else "",
        ]
        for cluster in run["clusters"]
    ]
    print_table("Clusters", ["cluster", "voxels", "mean HU", "SD HU", "taken for"], rows)
    for count, value in run["silhouettes"].items():
        out.print(f"Silhouette of {count} clusters: {value:.4f}")
    if run["silhouette"] is not None and not run["silhouettes"]:
        out.print(f"Silhouette: {run['silhouette']:.4f}")


def _print_slices(runs: list[dict[str, Any]]) -> None:
    rows = [
        [
            run["slices"][0],
            run["agreement"]["true_voxels"],
            run["agreement"]["found_voxels"],
            f"{run['agreement']['dice']:.4f}",
            f"{run['agreement']['iou']:.4f}",
        ]
        for run in runs
        if "problem" not in run
    ]
    print_table("Slices", ["slice", "true voxels", "found voxels", "Dice", "IoU"], rows)


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"

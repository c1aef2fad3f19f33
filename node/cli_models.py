"""Commands of the administrator: models, and asking for another one."""

import getpass
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from node.cli_options import ConfigOption, JsonOption, SetOption, load, open_stores
from node.clock import utc_now
from node.console import err, out, print_json, print_table
from storage.errors import StorageError
from storage.records import AuditEntry
from storage.states import AuditEvent

if TYPE_CHECKING:
    from inference.manifest import ModelPackage
    from node.models import Model
    from node.services import Services

model_app = typer.Typer(help="Model packages.", no_args_is_help=True)

ReferenceArgument = Annotated[
    str, typer.Argument(metavar="MODEL", help="NAME, NAME@VERSION, or the path of a folder.")
]


@model_app.command("list")
def list_models(
    as_json: JsonOption = False, config: ConfigOption = None, overrides: SetOption = None
) -> None:
    """List the models of the node: those that ship with it, those added, that of the settings."""
    from node.models import survey_models

    models = survey_models(load(config, overrides).settings)
    if as_json:
        print_json([_as_json(model) for model in models.usable])
    else:
        columns = ["model", "from", "in use", "digest", "description", "measured", "license"]
        print_table("Models", columns, [_row(model) for model in models.usable])
    for problem in models.problems:
        err.print(f"Not usable: {problem}", style="red")


def _as_json(model: "Model") -> dict[str, object]:
    package = model.package
    return {
        **asdict(package.identity),
        "reference": package.reference,
        "folder": str(package.folder),
        "origin": model.origin.value,
        "in_use": model.in_use,
        "description": package.manifest.description,
        "metrics": package.manifest.metrics,
    }


def _row(model: "Model") -> list[object]:
    package = model.package
    measured = "; ".join(
        f"{case}: {', '.join(f'{name} {value:g}' for name, value in values.items())}"
        for case, values in package.manifest.metrics.items()
    )
    return [
        package.reference,
        model.origin.value,
        "yes" if model.in_use else "",
        package.identity.digest[:12],
        package.manifest.description,
        measured,
        package.identity.license,
    ]


@model_app.command("show")
def show_model(
    reference: ReferenceArgument, config: ConfigOption = None, overrides: SetOption = None
) -> None:
    """Print the manifest of a model package as JSON."""
    package = _find(reference, config, overrides)
    print_json({**package.manifest.model_dump(mode="json"), "digest": package.identity.digest})


@model_app.command("verify")
def verify_model(
    reference: ReferenceArgument, config: ConfigOption = None, overrides: SetOption = None
) -> None:
    """Check the digest of each file of a model package."""
    from inference.manifest import verify_package

    package = _find(reference, config, overrides)
    verify_package(package)
    out.print(f"{package.identity.name} {package.identity.version}: all files are as stated.")


def _find(reference: str, config: Path | None, overrides: list[str] | None) -> "ModelPackage":
    from inference.manifest import find_package

    return find_package(reference, load(config, overrides).settings.model_folders)


@model_app.command("add")
def add_model(
    folder: Annotated[Path, typer.Argument(help="A model package.")],
    config: ConfigOption = None,
    overrides: SetOption = None,
) -> None:
    """Check a model package and copy it into the data folder, under NAME@VERSION.

    Jobs can be made for it from then on; `inference.model` says which model new series get.
    """
    from node.models import add_model as add

    with open_stores(config, overrides) as services:
        package = add(services, folder)
        _audit(services, "model add", model=package.reference, digest=package.identity.digest)
    out.print(f"{package.reference} lies in {package.folder}.")


@model_app.command("remove")
def remove_model(
    reference: ReferenceArgument, config: ConfigOption = None, overrides: SetOption = None
) -> None:
    """Remove an added model that is not in use and that no job waits for."""
    from node.models import remove_model as remove

    with open_stores(config, overrides) as services:
        package = remove(services, reference)
        _audit(services, "model remove", model=package.reference, digest=package.identity.digest)
    out.print(f"{package.reference} is removed; what it made stays.")


def reprocess_jobs(
    job_ids: Annotated[list[int], typer.Argument(metavar="JOB...", help="Numbers of jobs.")],
    model: Annotated[
        str | None,
        typer.Option(help="NAME or NAME@VERSION, as of `hepar model list`; default: that in use."),
    ] = None,
    config: ConfigOption = None,
    overrides: SetOption = None,
) -> None:
    """Have another model process the series of jobs; its results take the place of theirs.

    What lies in archives stays there; the new report names the older one.
    """
    from node.models import reprocess

    with open_stores(config, overrides) as services:
        refused = False
        for job_id in job_ids:
            try:
                job = reprocess(services, job_id, model, f"cli:{getpass.getuser()}")
            except StorageError as error:
                refused = True
                err.print(str(error), style="red")
                continue
            chosen = f"{job.model_name} {job.model_version}"
            _audit(services, "reprocess", job=job_id, new_job=job.id, model=chosen)
            out.print(f"Job {job.id} is {job.state.value}: {chosen} takes the place of {job_id}.")
    if refused:
        raise typer.Exit(1)


def _audit(services: "Services", action: str, **detail: object) -> None:
    entry = AuditEntry(
        event=AuditEvent.ACTION,
        actor=f"user:{getpass.getuser()}",
        detail={"action": action, **detail},
    )
    services.audit.append(entry, utc_now())

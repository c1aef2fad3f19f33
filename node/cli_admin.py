"""Commands of the administrator: jobs, rules, models, settings."""

import getpass
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from config.hints import settings_hints
from config.listing import list_settings
from node.cli_options import (
    ConfigOption,
    JsonOption,
    SetOption,
    check_settings,
    load,
    open_stores,
)
from node.clock import utc_now
from node.console import out, print_checks, print_json, print_measurements, print_table
from storage.states import JobState

if TYPE_CHECKING:
    from storage.records import JobRecord, ResultRecord

jobs_app = typer.Typer(help="The job database.", no_args_is_help=True)
rules_app = typer.Typer(help="Selection rules.", no_args_is_help=True)
model_app = typer.Typer(help="Model packages.", no_args_is_help=True)
config_app = typer.Typer(help="Settings.", no_args_is_help=True)

JobIdArgument = Annotated[int, typer.Argument(metavar="JOB", help="Number of the job.")]


_JOB_COLUMNS = ["job", "state", "series", "model", "attempts", "created (UTC)", "doubts", "reason"]


def _actor() -> str:
    return f"cli:{getpass.getuser()}"


@jobs_app.command("list")
def list_jobs(
    state: Annotated[
        list[JobState] | None, typer.Option("--state", help="Only jobs in this state.")
    ] = None,
    limit: Annotated[int, typer.Option(min=1, help="How many, newest first.")] = 50,
    as_json: JsonOption = False,
    config: ConfigOption = None,
    overrides: SetOption = None,
) -> None:
    """List jobs, newest first."""
    jobs = open_stores(config, overrides).jobs.list_jobs(states=state, limit=limit)
    if as_json:
        print_json([asdict(job) for job in jobs])
        return
    print_table("Jobs", _JOB_COLUMNS, [_job_row(job) for job in jobs])


def _job_row(job: "JobRecord") -> list[object]:
    reason = f"{job.reason_code}: {job.reason}" if job.reason_code else job.reason
    model = f"{job.model_name} {job.model_version}"
    created = f"{job.created_at:%Y-%m-%d %H:%M:%S}"
    doubts = ", ".join(doubt["code"] for doubt in job.summary.get("doubts", ()))
    return [job.id, job.state.value, job.series_uid, model, job.attempts, created, doubts, reason]


@jobs_app.command("show")
def show_job(
    job_id: JobIdArgument,
    as_json: JsonOption = False,
    config: ConfigOption = None,
    overrides: SetOption = None,
) -> None:
    """Show one job: history, results, deliveries, measurements."""
    services = open_stores(config, overrides)
    job = services.jobs.get(job_id)
    events = services.jobs.events(job_id)
    results = services.jobs.results(job_id)
    deliveries = services.deliveries.list_deliveries(job_id)
    proofs = services.proofs.list_proofs(job_id)
    if as_json:
        print_json(
            {
                **asdict(job),
                "events": [asdict(event) for event in events],
                "results": [asdict(result) for result in results],
                "deliveries": [asdict(delivery) for delivery in deliveries],
                "proofs": [
                    {"destination": delivery.destination, **asdict(proof)}
                    for delivery, proof in proofs
                ],
            }
        )
        return
    print_table("Job", _JOB_COLUMNS, [_job_row(job)])
    print_table(
        "History",
        ["at (UTC)", "by", "from", "to", "detail"],
        [[f"{e.at:%H:%M:%S.%f}"[:-3], e.actor, e.from_state, e.to_state, e.detail] for e in events],
    )
    folder = services.files.result_folder(job_id)
    removed = job.results_removed_at
    print_table(
        "Results" if removed is None else f"Results (files removed {removed:%Y-%m-%d})",
        ["role", "profiles", "files", "series instance UID"],
        _series_rows(results, folder),
    )
    print_table(
        "Deliveries",
        ["to", "profile", "state", "attempts", "next attempt (UTC)", "last error"],
        [
            [d.destination, d.profile, d.state.value, d.attempts, d.next_attempt_at, d.last_error]
            for d in deliveries
        ],
    )
    if proofs:
        print_table(
            "Proofs that the results are kept",
            ["by", "state", "attempts", "next attempt (UTC)", "what is missing"],
            [
                [d.destination, p.state.value, p.attempts, p.next_attempt_at, p.last_error]
                for d, p in proofs
            ],
        )
    if job.summary:
        print_checks(dict(job.summary))
        print_measurements(dict(job.summary))


def _series_rows(results: Sequence["ResultRecord"], folder: Path) -> list[list[object]]:
    """Give a row for each series; where it has many files, they lie in a folder of their own."""
    by_series: dict[str, list[ResultRecord]] = {}
    for result in results:
        by_series.setdefault(result.series_instance_uid, []).append(result)
    rows: list[list[object]] = []
    for uid, (first, *others) in by_series.items():
        path = folder / first.path
        files = f"{path.parent} ({1 + len(others)} files)" if others else path
        rows.append([first.role, ", ".join(first.profiles), files, uid])
    return rows


@jobs_app.command("retry")
def retry_job(
    job_id: JobIdArgument, config: ConfigOption = None, overrides: SetOption = None
) -> None:
    """Queue a failed, rejected or canceled job again; existing results are only delivered."""
    job = open_stores(config, overrides).jobs.retry(job_id, actor=_actor(), now=utc_now())
    out.print(f"Job {job.id} is {job.state.value}.")


@jobs_app.command("cancel")
def cancel_job(
    job_id: JobIdArgument, config: ConfigOption = None, overrides: SetOption = None
) -> None:
    """Cancel a job that has not been delivered."""
    job = open_stores(config, overrides).jobs.cancel(job_id, actor=_actor(), now=utc_now())
    out.print(f"Job {job.id} is {job.state.value}.")


@jobs_app.command("resend")
def resend_job(
    job_id: JobIdArgument,
    to: Annotated[
        str | None, typer.Option(help="Only to this destination; default: all configured.")
    ] = None,
    config: ConfigOption = None,
    overrides: SetOption = None,
) -> None:
    """Deliver the existing results of a job once more."""
    from node.errors import UnknownPeer

    services = open_stores(config, overrides)
    destinations = services.settings.destinations
    if to is not None and to not in destinations:
        raise UnknownPeer(to, destinations)
    chosen = {k: v for k, v in services.settings.deliveries.items() if to in (None, k)}
    job = services.deliveries.resend(job_id, chosen, actor=_actor(), now=utc_now())
    out.print(f"Job {job.id} is {job.state.value}: results go to {', '.join(chosen)}.")


@rules_app.command("test")
def try_rules(
    paths: Annotated[list[Path], typer.Argument(help="DICOM files or folders.")],
    calling_ae_title: Annotated[
        str, typer.Option("--calling-ae", help="Calling AE title to assume.")
    ] = "",
    as_json: JsonOption = False,
    config: ConfigOption = None,
    overrides: SetOption = None,
) -> None:
    """Say for each series which rule decides, and why."""
    from node.rule_trial import try_paths

    settings = load(config, overrides).settings
    check_settings(settings)
    rows: list[dict[str, object]] = [
        {"series": trial.series_uid, "instances": trial.instances, **asdict(trial.decision)}
        for trial in try_paths(settings.rules, paths, calling_ae_title)
    ]
    if as_json:
        print_json(rows)
        return
    columns = ["series", "instances", "action", "rule", "reason"]
    print_table("Rules", columns, [[row[column] for column in columns] for row in rows])


@model_app.command("list")
def list_models(as_json: JsonOption = False) -> None:
    """List the model packages that ship with the node."""
    from inference.manifest import list_packages

    packages = list_packages()
    if as_json:
        print_json([asdict(package.identity) for package in packages])
        return
    rows = [
        [p.identity.name, p.identity.version, p.identity.digest[:12], p.manifest.description]
        for p in packages
    ]
    print_table("Models", ["name", "version", "digest", "description"], rows)


@model_app.command("show")
def show_model(name: Annotated[str, typer.Argument(help="Name or folder.")]) -> None:
    """Print the manifest of a model package as JSON."""
    from inference.manifest import find_package

    package = find_package(name)
    print_json({**package.manifest.model_dump(mode="json"), "digest": package.identity.digest})


@model_app.command("verify")
def verify_model(name: Annotated[str, typer.Argument(help="Name or folder.")]) -> None:
    """Check the digest of each file of a model package."""
    from inference.manifest import find_package, verify_package

    package = find_package(name)
    verify_package(package)
    out.print(f"{package.identity.name} {package.identity.version}: all files are as stated.")


@config_app.command("check")
def check_config(config: ConfigOption = None, overrides: SetOption = None) -> None:
    """Say whether the settings can be used; the exit code is 2 when not."""
    settings = load(config, overrides).settings
    check_settings(settings)
    out.print(
        f"The settings are good: {settings.node.ae_title} on {settings.node.host}:"
        f"{settings.node.port}, {len(settings.sources)} sources, "
        f"{len(settings.destinations)} destinations, {len(settings.rules)} rules."
    )
    for hint in settings_hints(settings):
        out.print(f"Hint: {hint}")


@config_app.command("show")
def show_config(
    as_json: JsonOption = False, config: ConfigOption = None, overrides: SetOption = None
) -> None:
    """List every key with its value, origin, default and meaning; secrets are masked."""
    rows = [
        [row.key, row.value, row.origin, row.meaning]
        for row in list_settings(load(config, overrides))
    ]
    columns = ["key", "value", "origin", "meaning"]
    if as_json:
        print_json([dict(zip(columns, row, strict=True)) for row in rows])
        return
    print_table("Settings", columns, rows)

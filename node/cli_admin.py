"""Commands of the administrator: jobs, rules, settings."""

from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime
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
    os_user,
    tell_audit,
)
from node.clock import utc_now
from node.console import (
    describe_state,
    out,
    print_checks,
    print_json,
    print_measurements,
    print_table,
)
from storage.job_query import JobQuery, JobSort
from storage.states import AuditEvent, JobState

if TYPE_CHECKING:
    from node.services import Services
    from storage.job_query import JobHit
    from storage.records import JobRecord, ResultRecord

jobs_app = typer.Typer(help="The job database.", no_args_is_help=True)
rules_app = typer.Typer(help="Selection rules.", no_args_is_help=True)
config_app = typer.Typer(help="Settings.", no_args_is_help=True)

JobIdArgument = Annotated[int, typer.Argument(metavar="JOB", help="Number of the job.")]


_JOB_COLUMNS = ["job", "state", "series", "model", "attempts", "created (UTC)", "doubts", "reason"]
_HIT_COLUMNS = [
    "job",
    "state",
    "patient ID",
    "accession",
    "from",
    "series",
    "attempts",
    "created (UTC)",
    "doubts",
    "reason",
]
_TIMES = ["%Y-%m-%d", "%Y-%m-%dT%H:%M", "%Y-%m-%dT%H:%M:%S"]


def _actor() -> str:
    return f"cli:{os_user()}"


def _tell_of_action(services: "Services", action: str, job: "JobRecord", **more: str) -> None:
    detail = {"action": action, "job": job.id, **more}
    patient_id = services.catalog.get_series(job.series_uid).patient_id
    tell_audit(services, AuditEvent.ACTION, detail, patient_id=patient_id, study_uid=job.study_uid)


@jobs_app.command("list")
def list_jobs(
    text: Annotated[
        str | None,
        typer.Argument(
            help="What begins the patient ID or accession number, or the UID of study or series."
        ),
    ] = None,
    patient: Annotated[
        str, typer.Option("--patient", help="Patient ID, or what it begins with.")
    ] = "",
    name: Annotated[
        str, typer.Option("--name", help="What the patient's name begins with: Doe, or Doe^John.")
    ] = "",
    accession: Annotated[
        str, typer.Option("--accession", help="Accession number, or what it begins with.")
    ] = "",
    study: Annotated[str, typer.Option("--study", help="Study instance UID.")] = "",
    series: Annotated[str, typer.Option("--series", help="Series instance UID.")] = "",
    state: Annotated[
        list[JobState] | None,
        typer.Option("--state", help="Only jobs in this state; may be repeated."),
    ] = None,
    source: Annotated[
        str, typer.Option("--from", help="Peer that sent the series, or its AE title.")
    ] = "",
    to: Annotated[str, typer.Option("--to", help="Destination of the results.")] = "",
    rule: Annotated[str, typer.Option("--rule", help="Rule that decided.")] = "",
    since: Annotated[
        datetime | None,
        typer.Option("--since", formats=_TIMES, help="Created then (UTC) or later."),
    ] = None,
    until: Annotated[
        datetime | None, typer.Option("--until", formats=_TIMES, help="Created before (UTC).")
    ] = None,
    sort: Annotated[JobSort, typer.Option("--sort", help="Order.")] = JobSort.CREATED,
    ascending: Annotated[
        bool, typer.Option("--ascending", help="The first or oldest at the top.")
    ] = False,
    after: Annotated[
        int | None, typer.Option("--after", help="Go on after this job, the last of a page.")
    ] = None,
    limit: Annotated[int, typer.Option(min=1, help="How many.")] = 50,
    as_json: JsonOption = False,
    config: ConfigOption = None,
    overrides: SetOption = None,
) -> None:
    """List jobs that meet all that is said, the newest first."""
    services = open_stores(config, overrides)
    peer = services.settings.peers.get(source)
    query = JobQuery(
        text=text or "",
        patient_id=patient,
        patient_name=name,
        accession_number=accession,
        study_uid=study,
        series_uid=series,
        states=state or (),
        calling_ae_title=source if peer is None else peer.ae_title,
        destination=to,
        rule=rule,
        since=None if since is None else since.replace(tzinfo=UTC),
        until=None if until is None else until.replace(tzinfo=UTC),
        sort=sort,
        descending=not ascending,
        after=after,
        limit=limit,
    )
    page = services.jobs.search(query)
    if as_json:
        print_json([asdict(hit.job) | asdict(hit.series) | {"rule": hit.rule} for hit in page.hits])
        return
    more = "more than " if page.has_more_than_total else ""
    title = f"Jobs ({len(page.hits)} of {more}{page.total:,})" if page.hits else "Jobs"
    print_table(title, _HIT_COLUMNS, [_hit_row(hit) for hit in page.hits])
    if page.has_next:
        out.print(f"`--after {page.hits[-1].job.id}` goes on.")


def _hit_row(hit: "JobHit") -> list[object]:
    job, state, series, _, attempts, created, doubts, reason = _job_row(hit.job)
    whose = [hit.series.patient_id, hit.series.accession_number, hit.job.calling_ae_title]
    return [job, state, *whose, series, attempts, created, doubts, reason]


def _job_row(job: "JobRecord") -> list[object]:
    reason = f"{job.reason_code}: {job.reason}" if job.reason_code else job.reason
    model = f"{job.model_name} {job.model_version}"
    created = f"{job.created_at:%Y-%m-%d %H:%M:%S}"
    doubts = ", ".join(doubt["code"] for doubt in job.summary.get("doubts", ()))
    state = describe_state(job)
    return [job.id, state, job.series_uid, model, job.attempts, created, doubts, reason]


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
    services = open_stores(config, overrides)
    job = services.jobs.retry(job_id, actor=_actor(), now=utc_now())
    _tell_of_action(services, "retry job", job)
    out.print(f"Job {job.id} is {job.state.value}.")


@jobs_app.command("cancel")
def cancel_job(
    job_id: JobIdArgument, config: ConfigOption = None, overrides: SetOption = None
) -> None:
    """Cancel a job that has not been delivered."""
    services = open_stores(config, overrides)
    job = services.jobs.cancel(job_id, actor=_actor(), now=utc_now())
    _tell_of_action(services, "cancel job", job)
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
    _tell_of_action(services, "resend job", job, to=", ".join(chosen))
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

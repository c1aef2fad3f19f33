"""Commands of the administrator: received series, and what of them is kept."""

from dataclasses import asdict
from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

from node.cli_options import ConfigOption, JsonOption, SetOption, open_stores, tell_audit
from node.clock import utc_now
from node.console import out, print_json, print_table
from storage.states import AuditEvent

if TYPE_CHECKING:
    from config import ReceiveSettings
    from storage.records import SeriesRecord
    from storage.retention import Holding, Kept

series_app = typer.Typer(help="Received series and what was decided.", no_args_is_help=True)
retention_app = typer.Typer(help="What is kept, and for how long.", no_args_is_help=True)

SeriesArgument = Annotated[str, typer.Argument(metavar="SERIES", help="Series instance UID.")]

_COLUMNS = ["series", "from", "instances", "MB", "settled", "decision", "reason", "files"]
_JOBS_NAMED = 5


@series_app.command("list")
def list_series(
    limit: Annotated[int, typer.Option(min=1, help="How many, newest first.")] = 50,
    as_json: JsonOption = False,
    config: ConfigOption = None,
    overrides: SetOption = None,
) -> None:
    """List received series with the decision and its reason, or what they wait for."""
    services = open_stores(config, overrides)
    records = services.catalog.list_series(limit=limit)
    if as_json:
        # With names of patients, unlike the table.
        page = {"page": "hepar series list", "series": len(records)}
        tell_audit(services, AuditEvent.DATA_VIEWED, page)
        print_json([asdict(record) for record in records])
        return
    receive = services.settings.receive
    print_table("Series", _COLUMNS, [_series_row(record, receive) for record in records])


@series_app.command("show")
def show_series(
    series_uid: SeriesArgument,
    as_json: JsonOption = False,
    config: ConfigOption = None,
    overrides: SetOption = None,
) -> None:
    """Show one series: decision, jobs, and what became of its files."""
    services = open_stores(config, overrides)
    record = services.catalog.get_series(series_uid)
    events = services.catalog.series_events(series_uid)
    jobs = services.jobs.list_jobs(series_uid=series_uid)
    if as_json:
        tell_audit(
            services,
            AuditEvent.DATA_VIEWED,
            {"page": "hepar series show", "series": series_uid},
            patient_id=record.patient_id,
            study_uid=record.study_uid,
        )
        print_json(
            {
                **asdict(record),
                "events": [asdict(event) for event in events],
                "jobs": [asdict(job) for job in jobs],
            }
        )
        return
    print_table("Series", _COLUMNS, [_series_row(record, services.settings.receive)])
    print_table(
        "Jobs",
        ["job", "state", "results"],
        [[job.id, job.state.value, _removed(job.results_removed_at)] for job in jobs],
    )
    print_table(
        "Files",
        ["at (UTC)", "by", "what"],
        [[f"{event.at:%Y-%m-%d %H:%M:%S}", event.actor, event.detail] for event in events],
    )


def _series_row(record: "SeriesRecord", receive: "ReceiveSettings") -> list[object]:
    from node.overview import describe_wait

    return [
        record.series_uid,
        record.calling_ae_title,
        record.instance_count,
        f"{record.size_bytes / 1e6:.1f}",
        "yes" if record.settled else "no",
        record.decision,
        record.reason if record.settled else describe_wait(record, receive),
        _state_of_files(record),
    ]


def _state_of_files(record: "SeriesRecord") -> str:
    if record.missing_files:
        return f"{record.missing_files} missing"
    return _removed(record.removed_at) or "kept"


@retention_app.command("preview")
def preview(
    as_json: JsonOption = False, config: ConfigOption = None, overrides: SetOption = None
) -> None:
    """Print what would be removed now, by which rule, and why the rest stays; remove nothing."""
    from storage.retention import group_kept

    plan = open_stores(config, overrides).retention.plan(utc_now())
    removals = [{**_facts(one.holding), "rule": one.rule} for one in plan.removals]
    if as_json:
        kept = [
            {**_facts(one), "due_at": one.verdict.due_at, "why": one.verdict.why}
            for one in plan.kept
        ]
        print_json({"removals": removals, "kept": kept, "excess_bytes": plan.excess_bytes})
        return
    print_table(
        "Would go now",
        ["what", "series", "job", "GB", "needed until (UTC)", "rule"],
        [
            [
                row["kind"],
                row["series_uid"],
                row["job"],
                _gb(row["size_bytes"]),
                f"{row['over_at']:%Y-%m-%d %H:%M}",
                row["rule"],
            ]
            for row in removals
        ],
    )
    print_table(
        "Stays",
        ["what", "why", "how many", "GB", "first due (UTC)", "jobs"],
        [_kept_row(one) for one in group_kept(plan.kept)],
    )
    going = sum(removal.holding.size_bytes for removal in plan.removals)
    staying = sum(one.size_bytes for one in plan.kept)
    out.print(f"{_gb(going)} GB would go, {_gb(staying)} GB would stay.")
    if plan.excess_bytes:
        out.print(f"That is {_gb(plan.excess_bytes)} GB more than retention.max_gb.")


def _facts(holding: "Holding") -> dict[str, Any]:
    return {
        "kind": holding.kind.value,
        "series_uid": holding.series_uid,
        "job": holding.job_id,
        "size_bytes": holding.size_bytes,
        "over_at": holding.verdict.over_at,
    }


def _kept_row(kept: "Kept") -> list[object]:
    due = "never" if kept.first_due_at is None else f"{kept.first_due_at:%Y-%m-%d %H:%M}"
    jobs = kept.job_ids
    named = ", ".join(map(str, jobs[:_JOBS_NAMED])) + (", ..." if jobs[_JOBS_NAMED:] else "")
    return [kept.kind.value, kept.why, kept.count, _gb(kept.size_bytes), due, named]


def _gb(size_bytes: int) -> str:
    return f"{size_bytes / 1e9:.3f}"


def _removed(moment: datetime | None) -> str:
    return "" if moment is None else f"removed {moment:%Y-%m-%d}"

"""Commands for the alerts: what is wrong, and whether people could be told."""

from dataclasses import asdict
from datetime import datetime
from typing import Annotated

import typer

from node.alert_kinds import AlertKind
from node.cli_options import ConfigOption, JsonOption, SetOption, load, open_stores
from node.console import err, out, print_json, print_table

alerts_app = typer.Typer(
    help="What is wrong, and whether people can be told.", no_args_is_help=True
)


@alerts_app.command("list")
def show_alerts(
    with_past: Annotated[
        bool, typer.Option("--all", help="Also what is over, each thing once.")
    ] = False,
    as_json: JsonOption = False,
    config: ConfigOption = None,
    overrides: SetOption = None,
) -> None:
    """List what is wrong now, since when, and when people were told.

    The scheduler looks every few seconds, once [alerts.mail] or [alerts.webhook] is set.
    """
    services = open_stores(config, overrides)
    records = services.alerts.list_alerts(open_only=not with_past)
    if as_json:
        print_json([asdict(record) for record in records])
        return
    if not services.settings.alerts.are_sent:
        err.print("Nobody looks and nobody is told: [alerts] has neither mail nor webhook.")
    columns = ["kind", "subject", "since (UTC)", "told (UTC)", "over (UTC)", "message"]
    rows = [
        [
            one.kind,
            one.subject,
            _minute(one.raised_at),
            _minute(one.told_at),
            _minute(one.cleared_at),
            one.message,
        ]
        for one in records
    ]
    print_table("Alerts", columns, rows)


def _minute(at: datetime | None) -> str:
    return "" if at is None else f"{at:%Y-%m-%d %H:%M}"


@alerts_app.command("test")
def try_alerts(
    kinds: Annotated[
        list[AlertKind] | None,
        typer.Option("--kind", help="Only this kind; may be repeated. Default: all."),
    ] = None,
    as_json: JsonOption = False,
    config: ConfigOption = None,
    overrides: SetOption = None,
) -> None:
    """Send a message of each kind, marked as a test, by each way; 1 if one was not taken.

    It needs neither a running node nor its database.
    """
    from node.alert_teller import try_ways

    trials = []
    for trial in try_ways(load(config, overrides).settings, kinds or list(AlertKind)):
        trials.append(trial)
        if not as_json:
            answer = "taken" if trial.taken else "NOT TAKEN"
            told = f"{trial.kind} by {trial.way}: {answer}"
            out.print(f"{told}, {trial.answer}" if trial.answer else told)
    if as_json:
        print_json([asdict(trial) for trial in trials])
    if not all(trial.taken for trial in trials):
        raise typer.Exit(1)

"""Commands that look at the whole node, and suspend or resume its work."""

import getpass
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Group, RenderableType
from rich.live import Live

from node.cli_options import ConfigOption, JsonOption, SetOption, open_stores
from node.console import describe_state, make_table, out, print_json
from storage.states import JobState, Work

if TYPE_CHECKING:
    from datetime import datetime

    from node.overview import Situation

WATCH_S = 1.0

WorkArgument = Annotated[Work, typer.Argument(metavar="WORK", help="processing or delivery.")]


def suspend(
    work: WorkArgument,
    reason: Annotated[str, typer.Option(help="Why, for others who see it.")] = "",
    config: ConfigOption = None,
    overrides: SetOption = None,
) -> None:
    """Let no job (processing), or no delivery of results (delivery), begin until it is resumed.

    What has begun is finished. Series are received, and proofs of what was delivered asked for, all
    the same. It holds for all machines of the node, and over restarts.
    """
    from node import control

    services = open_stores(config, overrides)
    if control.suspend(services, work, actor=_actor(), reason=reason):
        out.print(f"The {work.value} is suspended; `hepar resume {work.value}` lets it go on.")
        return
    from node.overview import describe_pause

    [pause] = [one for one in services.pauses.list_pauses() if one.work is work]
    out.print(f"Nothing to do: {describe_pause(pause)}.")


def resume(work: WorkArgument, config: ConfigOption = None, overrides: SetOption = None) -> None:
    """Let work begin again that was suspended."""
    from node import control

    services = open_stores(config, overrides)
    resumed = control.resume(services, work, actor=_actor())
    out.print(f"The {work.value} {'goes on' if resumed else 'was not suspended'}.")


def _actor() -> str:
    return f"user:{getpass.getuser()}"


def status(
    watch: Annotated[
        bool, typer.Option("--watch", help="Show it again each second, until Ctrl-C.")
    ] = False,
    limit: Annotated[int, typer.Option(min=1, help="Longest length of each list.")] = 10,
    as_json: JsonOption = False,
    config: ConfigOption = None,
    overrides: SetOption = None,
) -> None:
    """Show what is received, waits and why, runs, is delivered, and has ended last."""
    from node.overview import describe_situation

    if watch and as_json:
        raise typer.BadParameter("--watch shows tables; leave out --json")
    services = open_stores(config, overrides)
    if as_json:
        print_json(describe_situation(services, limit).as_json())
        return
    if not watch:
        out.print(_render(describe_situation(services, limit)))
        return
    with Live(console=out, auto_refresh=False, vertical_overflow="visible") as live:
        try:
            while True:
                live.update(_render(describe_situation(services, limit)), refresh=True)
                time.sleep(WATCH_S)
        except KeyboardInterrupt:
            return


def _render(situation: "Situation") -> Group:
    return Group(*_blocks(situation))


def _blocks(situation: "Situation") -> Iterator[RenderableType]:
    from node.overview import describe_pause

    overview = situation.overview
    counts = ", ".join(f"{count} {state.value}" for state, count in overview.job_counts.items())
    yield f"{overview.at:%Y-%m-%d %H:%M:%S} (UTC)   jobs: {counts or 'none'}"
    yield "roles: " + ", ".join(
        f"{role.value} {count or 'not running'}" for role, count in situation.alive.items()
    )
    for pause in overview.pauses:
        yield f"Suspended: {describe_pause(pause)}"
    yield make_table(
        _title("Series without a decision", len(overview.series), overview.series_count),
        ["series", "from", "instances", "since (UTC)", "why"],
        [
            [
                one.what.series_uid,
                one.what.calling_ae_title,
                one.what.instance_count,
                _clock(one.what.first_received_at),
                one.why,
            ]
            for one in situation.series
        ],
    )
    queued = overview.job_counts.get(JobState.QUEUED, 0)
    yield make_table(
        _title("Queued", len(overview.queued), queued),
        ["job", "series", "from", "since (UTC)", "why"],
        [
            [
                one.what.id,
                one.what.series_uid,
                one.what.calling_ae_title,
                _clock(one.what.updated_at),
                one.why,
            ]
            for one in situation.queued
        ],
    )
    yield make_table(
        "Running",
        ["job", "series", "state", "worker", "since (UTC)"],
        [
            [job.id, job.series_uid, describe_state(job), job.worker, _clock(job.started_at)]
            for job in overview.running
        ],
    )
    yield make_table(
        _title("Deliveries", len(overview.deliveries), overview.delivery_count),
        ["job", "to", "attempts", "why", "last error"],
        [
            [one.what.job_id, one.what.destination, one.what.attempts, one.why, one.what.last_error]
            for one in situation.deliveries
        ],
    )
    yield make_table(
        _title("Proofs", len(overview.proofs), overview.proof_count),
        ["job", "by", "attempts", "next attempt (UTC)", "what is missing"],
        [
            [
                one.job_id,
                one.destination,
                one.proof.attempts,
                _clock(one.proof.next_attempt_at),
                one.proof.last_error,
            ]
            for one in overview.proofs
        ],
    )
    yield make_table(
        "Ended last",
        ["job", "series", "state", "at (UTC)", "reason"],
        [
            [job.id, job.series_uid, job.state.value, _clock(job.finished_at), job.reason]
            for job in overview.ended
        ],
    )


def _title(name: str, shown: int, total: int) -> str:
    return f"{name} (the first {shown} of {total})" if shown < total else name


def _clock(moment: "datetime | None") -> str:
    return "" if moment is None else f"{moment:%Y-%m-%d %H:%M:%S}"

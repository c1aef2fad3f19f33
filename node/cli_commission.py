"""``hepar commission``."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from node.cli_options import ConfigOption, JsonOption, SetOption, load
from node.console import out, print_json, print_table, progress_bar
from node.errors import WrongCall


def commission(
    to: Annotated[str, typer.Option(help="Destination of the settings.", metavar="PEER")],
    folder: Annotated[
        Path | None,
        typer.Option(
            "--out", "-o", help="New folder for the page; default: hepar-commission-TIME."
        ),
    ] = None,
    with_ct: Annotated[
        bool,
        typer.Option(
            "--with-ct", help="Send the CT to PEER too, so that its viewer shows the result on it."
        ),
    ] = False,
    timeout_s: Annotated[
        float, typer.Option("--timeout", help="Longest wait for the result, in seconds.", min=1)
    ] = 600.0,
    as_json: JsonOption = False,
    config: ConfigOption = None,
    overrides: SetOption = None,
) -> None:
    """Send a phantom through the running node to PEER, and check what PEER then has.

    The result is read back from PEER and compared with what was sent and with the known truth of
    the phantom. Writes sign-off.html, a page to be signed, with each check and its limit. All
    destinations of the node get the result of the test patient; delete it there.
    """
    from node.commission import is_passed, run_phantom
    from node.commission_checks import judge
    from node.signoff import write_signoff

    settings = load(config, overrides).settings
    made = folder or Path(f"hepar-commission-{datetime.now(UTC):%Y%m%d-%H%M%S}")
    if made.exists() and any(made.iterdir()):
        raise WrongCall(f"{made} holds other things; name a new folder with --out.")
    with progress_bar("hepar commission") as progress:
        run = run_phantom(
            settings, to, made, with_ct=with_ct, timeout_s=timeout_s, progress=progress
        )
        progress("judge", 0.9)
        judgement = judge(run)
        page = write_signoff(run, judgement, made, with_ct=with_ct)
    passed = is_passed(judgement.checks)
    if as_json:
        print_json(
            {
                "passed": passed,
                "patient_id": run.identity.patient_id,
                "study_instance_uid": run.identity.study_instance_uid,
                "job": run.job.id,
                "checks": [check.as_json() for check in judgement.checks],
                "seconds": run.seconds,
                "page": page,
            }
        )
    else:
        rows = [[c.name, c.detail, c.limit, c.verdict.value] for c in judgement.checks]
        print_table(f"Commissioning of {to}", ["check", "found", "limit", "verdict"], rows)
        print_table("Time", ["step", "seconds"], [[k, f"{v:.2f}"] for k, v in run.seconds.items()])
        out.print(f"{'Passed' if passed else 'NOT PASSED'}. To be signed: {page}")
        holders = ", ".join(settings.destinations)
        out.print(f"Delete the test study of {run.identity.patient_id} in: {holders}.")
    if not passed:
        raise typer.Exit(1)

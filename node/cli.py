"""The ``hepar`` command.

Exit codes: 0 done, 1 the work failed, 2 the call or the settings are wrong.
"""

import gc
import logging
import sys
from importlib.metadata import entry_points
from pathlib import Path
from typing import Annotated

import typer

from config import SettingsError, TumorEngine
from node.cli_admin import config_app, jobs_app, rules_app
from node.cli_alerts import alerts_app
from node.cli_audit import audit_app
from node.cli_cluster import cluster
from node.cli_commission import commission
from node.cli_control import resume, status, suspend
from node.cli_db import db_app
from node.cli_models import model_app, reprocess_jobs
from node.cli_options import (
    ConfigOption,
    SetOption,
    check_settings,
    choose_profiles,
    load,
    passed_on,
    with_engine,
)
from node.cli_pull import pull, pulls_app, query
from node.cli_series import retention_app, series_app
from node.cli_users import users_app
from node.console import err, out, print_json, print_measurements, print_table, progress_bar
from node.errors import WrongCall
from node.roles import Role

app = typer.Typer(
    name="hepar",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)
jobs_app.command("reprocess")(reprocess_jobs)
app.add_typer(jobs_app, name="jobs")
app.add_typer(series_app, name="series")
app.add_typer(retention_app, name="retention")
app.add_typer(pulls_app, name="pulls")
app.add_typer(rules_app, name="rules")
app.add_typer(model_app, name="model")
app.add_typer(config_app, name="config")
app.add_typer(db_app, name="db")
app.add_typer(users_app, name="users")
app.add_typer(audit_app, name="audit")
app.add_typer(alerts_app, name="alerts")
app.command()(cluster)
app.command()(commission)
app.command()(query)
app.command()(pull)
app.command()(status)
app.command()(suspend)
app.command()(resume)


def _print_version(*, wanted: bool) -> None:
    if wanted:
        from node.version import SOFTWARE_VERSION

        out.print(f"hepar {SOFTWARE_VERSION}")
        raise typer.Exit


@app.callback()
def common(
    version: Annotated[
        bool,
        typer.Option(
            "--version",
            help="Print the version and exit.",
            is_eager=True,
            callback=lambda wanted: _print_version(wanted=wanted),
        ),
    ] = False,
) -> None:
    """Receive CT series from a PACS and send back liver and liver-tumor SEG and SR.

    Research use only; not a medical device.
    """
    del version  # its callback has done the work


@app.command()
def serve(
    config: ConfigOption = None,
    overrides: SetOption = None,
    roles: Annotated[
        str, typer.Option(help="Comma-separated roles to run here.", metavar="ROLE,...")
    ] = ",".join(Role),
) -> None:
    """Run the node until SIGTERM or Ctrl-C; a role that dies is started again."""
    from inference.identity import identify
    from node.log_setup import set_up_logging
    from node.models import located
    from node.supervisor import Supervisor

    loaded = load(config, overrides)
    check_settings(loaded.settings)
    identify(located(loaded.settings))
    chosen = [_role(name.strip()) for name in roles.split(",")]
    set_up_logging(loaded.settings.log, role="serve")
    logging.getLogger(__name__).info("node starts", extra={"roles": ",".join(chosen)})
    Supervisor(settings=loaded.settings, roles=chosen, arguments=passed_on(config, overrides)).run()


def _role(name: str) -> Role:
    try:
        return Role(name)
    except ValueError:
        raise typer.BadParameter(f"{name!r} is no role; roles: {', '.join(Role)}") from None


@app.command(hidden=True)
def role(name: Role, config: ConfigOption = None, overrides: SetOption = None) -> None:
    """Run one role in this process; `hepar serve` calls it."""
    from node.roles import run_role

    run_role(name, load(config, overrides), supervised=not sys.stdin.isatty())


@app.command()
def demo(
    out_folder: Annotated[
        Path, typer.Option("--out", "-o", help="Folder for data, results and the picture.")
    ] = Path("hepar-demo"),
    seed: Annotated[int, typer.Option(help="Which synthetic patient.", min=0, max=99)] = 7,
    keep: Annotated[
        bool, typer.Option("--keep", help="Leave the node and its pages running until Ctrl-C.")
    ] = False,
) -> None:
    """Run the whole loop on this machine: a synthetic CT in, SEG and SR in an archive."""
    from node.demo import run_demo

    run_demo(out_folder, seed=seed, keep=keep)


@app.command()
def segment(
    source: Annotated[Path, typer.Argument(metavar="INPUT", help="DICOM folder or NIfTI file.")],
    folder: Annotated[Path, typer.Option("--out", "-o", help="Folder for the results.")],
    series: Annotated[
        str | None, typer.Option(help="Series instance UID, when INPUT holds several.")
    ] = None,
    tumor_engine: Annotated[
        TumorEngine | None, typer.Option(help="What marks tumor; default: inference.tumor_engine.")
    ] = None,
    profile: Annotated[
        list[str] | None,
        typer.Option(
            help="Objects to write, by a name of [profiles]: ohif, slicer, orthanc, sc-only, rt or "
            "one of yours; may be repeated. Default: those of the destinations."
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the report as JSON.")] = False,
    config: ConfigOption = None,
    overrides: SetOption = None,
) -> None:
    """Segment a DICOM series or a NIfTI file, without network or database.

    Writes labels.nii.gz (source grid; 0 background, 1 liver, 2 tumor), report.json, report.html,
    report.pdf, preview.png, montage.png, and for DICOM input the objects of a profile (seg.dcm and
    sr.dcm by default).
    """
    from inference.segment import load_segmenter
    from node.log_setup import set_up_logging
    from node.models import located
    from node.offline import Choice, segment_path

    settings = load(config, with_engine(overrides, tumor_engine)).settings
    profiles = choose_profiles(settings, profile or [])
    set_up_logging(settings.log, role="segment")
    with progress_bar("hepar segment") as progress:
        progress("load model", 0.0)
        segmenter = load_segmenter(
            located(settings),
            keeps_probabilities=any(wanted.is_fractional for wanted in profiles.values()),
        )
        result = segment_path(
            source,
            folder,
            settings=settings,
            segmenter=segmenter,
            choice=Choice(series_uid=series, profiles=profiles),
            progress=progress,
        )
    if as_json:
        print_json(result.report)
        return
    print_measurements(result.report)
    out.print(f"Written to {result.folder} in {result.report['total_s']:.1f} s.")


@app.command()
def echo(
    peer: Annotated[str, typer.Argument(help="Peer of the settings, AETITLE@host:port, or a URL.")],
    config: ConfigOption = None,
    overrides: SetOption = None,
) -> None:
    """Ask a peer for a C-ECHO, or a DICOMweb service for an answer to a query."""
    from node.exchange import echo as ask
    from node.peers import find_peer

    settings = load(config, overrides).settings
    out.print(f"{ask(settings.node, find_peer(settings, peer))}.")


@app.command()
def send(
    paths: Annotated[list[Path], typer.Argument(help="DICOM files or folders.")],
    to: Annotated[str, typer.Option(help="Peer of the settings, AETITLE@host:port, or a URL.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print each answer as JSON.")] = False,
    config: ConfigOption = None,
    overrides: SetOption = None,
) -> None:
    """Send DICOM files to a peer by C-STORE or STOW-RS, as they are."""
    from dicom_io.series import find_series
    from node.exchange import send_files
    from node.peers import find_peer

    settings = load(config, overrides).settings
    peer = find_peer(settings, to)
    files = [file for path in paths for found in find_series(path).values() for file in found]
    if not files:
        raise typer.BadParameter("no DICOM file was found in the given paths")
    with progress_bar("hepar send") as progress:
        sent = 0

        def count(_: object) -> None:
            nonlocal sent
            sent += 1
            progress("sending", sent / len(files))

        answers = send_files(settings.node, peer, files, count)
    refused = [answer for answer in answers if not answer.stored]
    if as_json:
        print_json([{"path": a.path, "stored": a.stored, "answer": a.answer} for a in answers])
    else:
        out.print(f"{len(answers) - len(refused)} of {len(files)} stored by {peer.ae_title}.")
        if refused:
            print_table("Refused", ["file", "answer"], [[a.path, a.answer] for a in refused])
    if refused:
        raise typer.Exit(1)


@app.command()
def doctor(
    as_json: Annotated[bool, typer.Option("--json", help="Print the checks as JSON.")] = False,
    running: Annotated[
        bool, typer.Option("--running", help="Only check that the node runs (for health checks).")
    ] = False,
    quick: Annotated[
        bool, typer.Option("--quick", help="Do not measure how fast the model is here.")
    ] = False,
    config: ConfigOption = None,
    overrides: SetOption = None,
) -> None:
    """Check settings, model, speed, database, disk, clocks, ports, TLS, roles and peers.

    The exit code says whether anything is bad.
    """
    from node.health import Verdict, check_running

    settings = load(config, overrides).settings
    if running:
        checks = list(check_running(settings))
    else:
        from node.doctor import check_node

        checks = list(check_node(settings, quick=quick))
    if as_json:
        print_json([check.as_json() for check in checks])
    else:
        rows = [[c.name, c.verdict.value, c.detail, c.limit] for c in checks]
        print_table("hepar doctor", ["check", "verdict", "detail", "limit"], rows)
    if any(check.verdict is Verdict.BAD for check in checks):
        raise typer.Exit(1)


@app.command()
def conformance(
    path: Annotated[
        Path | None,
        typer.Option(
            "--out", "-o", metavar="FILE", help="FILE.pdf or FILE.md; default: standard output."
        ),
    ] = None,
    config: ConfigOption = None,
    overrides: SetOption = None,
) -> None:
    """Write the DICOM conformance statement of this node: Markdown, or PDF with -o FILE.pdf.

    It is made of the settings in force and of the code's own tables, with the sections of PS3.2:
    SOP classes, associations, statuses, queries, DICOMweb, TLS, peers, objects, codes. It names
    peers with their addresses, and holds no password.
    """
    from node.clock import utc_now
    from node.conformance import make_statement, write_statement

    settings = load(config, overrides).settings
    if path is None:
        sys.stdout.write(make_statement(settings))
    elif path.suffix.lower() in (".md", ".pdf"):
        write_statement(settings, path, utc_now().date())
        out.print(f"Written to {path}.")
    else:
        raise typer.BadParameter(f"{path} ends neither in .md nor in .pdf")


def _add_extra_commands() -> None:
    """Take in the commands that installed extras bring, such as `hepar train`."""
    for command in entry_points(group="hepar.commands"):
        app.command(command.name)(command.load())


_add_extra_commands()


def main() -> None:
    """Run the command line and end the process with its exit code."""
    try:
        app()
    except (SettingsError, WrongCall) as error:
        err.print(str(error), style="red")
        sys.exit(2)
    except Exception as error:
        logging.getLogger(__name__).debug("command failed", exc_info=True)
        err.print(f"{type(error).__name__}: {error}", style="red")
        sys.exit(1)
    finally:
        # Else the interpreter looks for garbage in all modules before it ends, which takes longer
        # than many a command.
        gc.freeze()

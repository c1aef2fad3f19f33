"""Commands that ask a PACS for studies: query, pull, and the lists that the node works off."""

import getpass
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from config import Retrieval
from node.cli_options import ConfigOption, JsonOption, SetOption, open_stores
from node.console import err, out, print_json, print_table, progress_bar
from node.errors import UnusableList, WrongCall
from storage.states import RetrievalKey, RetrievalState

if TYPE_CHECKING:
    from node.services import Services
    from node.study_query import Answer
    from node.wanted import WantedList
    from storage.records import RetrievalBatch, RetrievalRecord

pulls_app = typer.Typer(
    help="Lists of what is fetched from a PACS, and how far they are.", no_args_is_help=True
)

_SHOWN = 10
"""So many lines of a list are told."""
_STUDY_COLUMNS = [
    "asked for",
    "date",
    "description",
    "modalities",
    "series",
    "instances",
    "patient",
    "accession",
    "study UID",
    "here",
    "jobs",
]
_ROW_COLUMNS = [
    "row",
    "asked for",
    "state",
    "here",
    "of",
    "attempts",
    "next attempt (local)",
    "remark",
]
_BATCH_COLUMNS = ["pull", "from", "by", "ordered (local)", "when", "rows", "here", "of"]


def _check_uid(value: str | None) -> str | None:
    """Refuse what is no UID: nothing, or a wildcard, would fetch an archive."""
    from dicom_io.errors import InvalidUid
    from dicom_io.headers import check_uid

    try:
        return None if value is None else check_uid(value)
    except InvalidUid as error:
        raise typer.BadParameter(str(error)) from None


FromOption = Annotated[
    str, typer.Option("--from", help="Peer of the settings, AETITLE@host:port, or a URL.")
]
AccessionOption = Annotated[
    list[str] | None, typer.Option("--accession", help="Accession number; may be repeated.")
]
PatientOption = Annotated[
    list[str] | None, typer.Option("--patient", help="Patient ID; may be repeated.")
]
ListOption = Annotated[
    Path | None,
    typer.Option("--list", metavar="FILE", help="Text with a number a line, or CSV with a header."),
]
KeyOption = Annotated[RetrievalKey, typer.Option("--key", help="What the numbers of --list are.")]
PullArgument = Annotated[str, typer.Argument(metavar="PULL", help="As `hepar pulls list` has it.")]
RowOption = Annotated[int | None, typer.Option("--row", help="Only this row.")]


def pull(
    peer: FromOption,
    study: Annotated[
        str | None,
        typer.Option(
            callback=_check_uid,
            help="Study instance UID: fetched now, while the command waits, unless --at-night.",
        ),
    ] = None,
    series: Annotated[
        str | None,
        typer.Option(
            callback=_check_uid,
            help="Only the series of this UID, with --study; default: all CT series of the study.",
        ),
    ] = None,
    accession: AccessionOption = None,
    patient: PatientOption = None,
    list_file: ListOption = None,
    key: KeyOption = RetrievalKey.ACCESSION,
    at_night: Annotated[
        bool,
        typer.Option("--at-night", help="Begin from pull.night_from to pull.night_until only."),
    ] = False,
    by: Annotated[
        str,
        typer.Option(
            help="'get' (C-GET, or WADO-RS), or 'move': C-MOVE to this node, which must run and be "
            "known to the peer."
        ),
    ] = "get",
    as_json: JsonOption = False,
    config: ConfigOption = None,
    overrides: SetOption = None,
) -> None:
    """Fetch studies from a PACS into the node, which then treats them as if they had been sent.

    A study by its UID comes while the command waits. What is asked for by accession number or
    patient ID, or by a list, is queued, and the running node fetches all CT series of it: `hepar
    pulls show` tells how far it is. What the node has already is not fetched again, so an
    interrupted pull goes on where it was.
    """
    if by not in list(Retrieval):
        raise typer.BadParameter(f"--by is one of {', '.join(Retrieval)}")
    wanted = _wanted(accession, patient, list_file, key)
    if study is not None and not wanted and not at_night:
        _pull_now(peer, study, series or "", Retrieval(by), as_json, config, overrides)
        return
    if series is not None:
        raise typer.BadParameter("--series goes with --study, without --at-night and lists")
    if study is not None:
        wanted.append((RetrievalKey.STUDY, study))
    if not wanted:
        raise typer.BadParameter("give --study, --accession, --patient or --list")
    from node.pull_orders import PullOrder, order_pull

    services = open_stores(config, overrides)
    order = PullOrder(peer=peer, wanted=wanted, retrieval=Retrieval(by), at_night=at_night)
    _tell_order(services, order_pull(services, order, _actor()), as_json=as_json)


def query(
    peer: FromOption,
    accession: AccessionOption = None,
    patient: PatientOption = None,
    study: Annotated[
        list[str] | None, typer.Option("--study", help="Study instance UID; may be repeated.")
    ] = None,
    list_file: ListOption = None,
    key: KeyOption = RetrievalKey.ACCESSION,
    as_json: JsonOption = False,
    config: ConfigOption = None,
    overrides: SetOption = None,
) -> None:
    """Print what a PACS lists under a number, and what of it is here; fetch nothing.

    The exit code is 1 where there was no answer about a number.
    """
    from node.peers import find_peer
    from node.study_query import query_studies

    wanted = _wanted(accession, patient, list_file, key)
    wanted += [(RetrievalKey.STUDY, uid) for uid in study or ()]
    if not wanted:
        raise typer.BadParameter("give --accession, --patient, --study or --list")
    services = open_stores(config, overrides)
    with progress_bar("hepar query") as progress:
        answers = query_studies(
            services,
            find_peer(services.settings, peer),
            wanted,
            lambda count: progress("asking", count / len(wanted)),
            actor=_actor(),
        )
    if as_json:
        print_json([asdict(answer) for answer in answers])
    else:
        rows = [row for answer in answers for row in _answer_rows(answer)]
        print_table(f"Listed by {peer}", _STUDY_COLUMNS, rows)
        for answer in answers:
            if answer.error:
                err.print(f"{answer.value}: {answer.error}", style="red")
    if any(answer.error for answer in answers):
        raise typer.Exit(1)


@pulls_app.command("list")
def list_pulls(
    limit: Annotated[int, typer.Option(min=1, help="How many, newest first.")] = 50,
    as_json: JsonOption = False,
    config: ConfigOption = None,
    overrides: SetOption = None,
) -> None:
    """List what was ordered, newest first, with the number of rows by state."""
    batches = open_stores(config, overrides).retrievals.list_batches(limit=limit)
    if as_json:
        print_json([asdict(batch) for batch in batches])
        return
    print_table("Pulls", _BATCH_COLUMNS, [_batch_row(batch) for batch in batches])


@pulls_app.command("show")
def show_pull(
    batch: PullArgument,
    as_json: JsonOption = False,
    config: ConfigOption = None,
    overrides: SetOption = None,
) -> None:
    """Show each row of a pull: its state, how many instances are here, and what went wrong."""
    retrievals = open_stores(config, overrides).retrievals
    found, rows = retrievals.get_batch(batch), retrievals.list_rows(batch)
    if as_json:
        print_json({**asdict(found), "rows": [asdict(row) for row in rows]})
        return
    print_table("Pull", _BATCH_COLUMNS, [_batch_row(found)])
    print_table("Rows", _ROW_COLUMNS, [_row_row(row) for row in rows])


@pulls_app.command("cancel")
def cancel(
    batch: PullArgument,
    row: RowOption = None,
    as_json: JsonOption = False,
    config: ConfigOption = None,
    overrides: SetOption = None,
) -> None:
    """Cancel what has not been fetched of a pull; what has come stays."""
    from node.pull_orders import cancel_pull

    rows = cancel_pull(open_stores(config, overrides), batch, _actor(), row)
    _tell_change(rows, "canceled", as_json=as_json)


@pulls_app.command("retry")
def retry(
    batch: PullArgument,
    row: RowOption = None,
    as_json: JsonOption = False,
    config: ConfigOption = None,
    overrides: SetOption = None,
) -> None:
    """Ask again for what was not found, given up or canceled, and at once for what waits.

    Rows that are fetched at night wait for the night.
    """
    from node.pull_orders import retry_pull

    rows = retry_pull(open_stores(config, overrides), batch, _actor(), row)
    _tell_change(rows, "queued again", as_json=as_json)


def _actor() -> str:
    return f"user:{getpass.getuser()}"


def _wanted(
    accession: list[str] | None, patient: list[str] | None, path: Path | None, key: RetrievalKey
) -> list[tuple[RetrievalKey, str]]:
    wanted = [(RetrievalKey.ACCESSION, value) for value in accession or ()]
    wanted += [(RetrievalKey.PATIENT, value) for value in patient or ()]
    return wanted + [(key, value) for value in _read_file(path, key)]


def _read_file(path: Path | None, key: RetrievalKey) -> Sequence[str]:
    """Give the values of a list; one with a line that cannot be asked for is refused."""
    from node.wanted import read_list

    if path is None:
        return ()
    try:
        listed = read_list(path.read_bytes(), key)
    except OSError as error:
        raise WrongCall(f"{path} cannot be read: {error.strerror}") from error
    _tell_repeated(path, listed)
    if listed.bad:
        lines = [f"line {line.number}: {line.text!r}: {line.why}" for line in listed.bad]
        told = "; ".join(lines[:_SHOWN]) + ("; ..." if lines[_SHOWN:] else "")
        raise UnusableList(
            f"{len(lines)} lines of {path} are bad, and nothing was asked for: {told}"
        )
    return listed.values


def _tell_repeated(path: Path, listed: "WantedList") -> None:
    for line in listed.repeated[:_SHOWN]:
        err.print(f"{path}, line {line.number}: {line.text} is left out: {line.why}.")
    if listed.repeated[_SHOWN:]:
        err.print(f"... and {len(listed.repeated) - _SHOWN} more that are there already.")


def _pull_now(
    peer: str,
    study: str,
    series: str,
    by: Retrieval,
    as_json: bool,
    config: Path | None,
    overrides: list[str] | None,
) -> None:
    from node.peers import find_peer
    from node.pull import pull_study

    services = open_stores(config, overrides)
    found = find_peer(services.settings, peer)
    with progress_bar("hepar pull") as progress:
        pulled = pull_study(
            services,
            found,
            study,
            series_uid=series,
            retrieval=by,
            actor=_actor(),
            on_progress=lambda here, of: progress("fetching", here / max(of, 1)),
        )
    if as_json:
        print_json([asdict(one) for one in pulled])
    else:
        columns = ["series", "modality", "offered", "fetched", "missing"]
        rows = [[p.series_uid, p.modality, p.offered, p.fetched, len(p.missing)] for p in pulled]
        print_table(f"From {found.ae_title}", columns, rows)
    if any(one.missing for one in pulled):
        raise typer.Exit(1)


def _tell_order(services: "Services", batch: "RetrievalBatch", *, as_json: bool) -> None:
    from node.health import Verdict, check_running
    from node.roles import Role

    if as_json:
        print_json(asdict(batch))
    else:
        rows = _rows(sum(batch.counts.values()))
        out.print(
            f"Pull {batch.batch}: {rows} from {batch.peer}, {_when(batch.at_night)}. "
            f"`hepar pulls show {batch.batch}` tells how far it is."
        )
    verdicts = {check.name: check.verdict for check in check_running(services.settings)}
    if verdicts.get(f"role {Role.SCHEDULER}") in (Verdict.BAD, None):
        err.print("The node does not run: nothing is fetched before `hepar serve` is started.")


def _tell_change(rows: Sequence["RetrievalRecord"], what: str, *, as_json: bool) -> None:
    if as_json:
        print_json([asdict(row) for row in rows])
    else:
        out.print(f"{_rows(len(rows))} {what}.")


def _rows(count: int) -> str:
    return "1 row" if count == 1 else f"{count} rows"


def _when(at_night: bool) -> str:
    return "at night" if at_night else "as soon as may be"


def _batch_row(batch: "RetrievalBatch") -> list[object]:
    counts = ", ".join(f"{count} {state}" for state, count in batch.counts.items())
    return [
        batch.batch,
        batch.peer,
        batch.actor,
        f"{batch.created_at.astimezone():%Y-%m-%d %H:%M}",
        _when(batch.at_night),
        counts,
        batch.fetched,
        batch.offered,
    ]


def _row_row(row: "RetrievalRecord") -> list[object]:
    waits = row.state is RetrievalState.WAITING
    due = f"{row.next_attempt_at.astimezone():%Y-%m-%d %H:%M:%S}" if waits else ""
    return [
        row.id,
        f"{row.key} {row.value}",
        row.state,
        row.fetched,
        row.offered,
        row.attempts,
        due,
        row.last_error,
    ]


def _answer_rows(answer: "Answer") -> list[list[object]]:
    asked_for = f"{answer.key} {answer.value}"
    if not answer.studies:
        return [] if answer.error else [[asked_for, "", "nothing is listed"]]
    return [
        [
            asked_for,
            study.listed.study_date,
            study.listed.description,
            "\\".join(study.listed.modalities),
            study.listed.series_count,
            study.listed.instance_count,
            f"{study.listed.patient_name} [{study.listed.patient_id}]",
            study.listed.accession_number,
            study.listed.study_uid,
            study.here.instance_count,
            ", ".join(f"{number} {state}" for number, state in study.here.jobs),
        ]
        for study in answer.studies
    ]

"""Commands for the audit trail."""

import os
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import IO, TYPE_CHECKING, Annotated, Any

import typer
from rich.padding import Padding
from rich.text import Text

from node.cli_options import ConfigOption, JsonOption, SetOption, open_stores, os_user
from node.clock import utc_now
from node.console import out, print_json
from storage.records import AuditEntry
from storage.states import AuditEvent, AuditOutcome

if TYPE_CHECKING:
    from node.services import Services
    from storage.records import AuditRecord

audit_app = typer.Typer(help="The audit trail.", no_args_is_help=True)


class ExportFormat(StrEnum):
    """How an export is written."""

    JSONL = "jsonl"
    """A line of JSON each, with its digest."""
    DICOM = "dicom"
    """A DICOM audit message each, as syslog carries it."""


def _read_time(text: str) -> datetime:
    """Read a time of ISO 8601; without a zone it is UTC."""
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        message = f"{text!r} is no time; write 2026-03-01 or 2026-03-01T12:00 (UTC)"
        raise typer.BadParameter(message) from None
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)


SinceOption = Annotated[
    datetime | None,
    typer.Option(parser=_read_time, metavar="TIME", help="Not before; ISO 8601, UTC."),
]
UntilOption = Annotated[
    datetime | None, typer.Option(parser=_read_time, metavar="TIME", help="Before.")
]


@audit_app.command("list")
def list_lines(
    event: Annotated[
        list[AuditEvent] | None, typer.Option("--event", help="Only of this kind.")
    ] = None,
    actor: Annotated[
        str | None, typer.Option(help="Exact, as user:anna, ae:SCANNER or worker.")
    ] = None,
    patient: Annotated[str | None, typer.Option(help="Exact patient ID.")] = None,
    study: Annotated[str | None, typer.Option(help="Study instance UID.")] = None,
    since: SinceOption = None,
    until: UntilOption = None,
    limit: Annotated[int, typer.Option(min=1, help="How many, newest first.")] = 50,
    as_json: JsonOption = False,
    config: ConfigOption = None,
    overrides: SetOption = None,
) -> None:
    """List lines, newest first; that they were read is a line too."""
    services = open_stores(config, overrides)
    asked = {"actor": actor, "patient_id": patient, "study_uid": study}
    wanted: dict[str, Any] = {name: text for name, text in asked.items() if text is not None}
    _tell_of_reading(services, {"command": "list", **wanted})
    lines = services.audit.list_entries(event, since=since, until=until, limit=limit, **wanted)
    if as_json:
        print_json([asdict(line) for line in lines])
        return
    for line in lines:
        out.print(_head(line), style="bold", highlight=False, markup=False)
        out.print(_body(line), highlight=False, markup=False)


def _head(line: "AuditRecord") -> str:
    outcome = "" if line.outcome is AuditOutcome.SUCCESS else f" ({line.outcome.value})"
    by = f"{line.actor} from {line.address}" if line.address else line.actor
    return f"{line.id:>7}  {line.at:%Y-%m-%d %H:%M:%S}  {line.event.value}{outcome}  {by}"


def _body(line: "AuditRecord") -> Padding:
    """Give whose data it was about, and the detail, under the head."""
    about = {"patient": line.patient_id, "study": line.study_uid}
    known = {key: value for key, value in about.items() if value} | dict(line.detail)
    text = ", ".join(f"{key}: {value}" for key, value in known.items())
    return Padding(Text(text, overflow="fold"), (0, 0, 0, 9))


@audit_app.command("verify")
def verify(config: ConfigOption = None, overrides: SetOption = None) -> None:
    """Check that no line was changed or taken out; the exit code is 1 when one was."""
    services = open_stores(config, overrides)
    broken = services.audit.find_break()
    if broken is not None:
        out.print(
            f"Line {broken.id} of {broken.at:%Y-%m-%d %H:%M:%S} (UTC) does not fit to the one "
            "before: it was changed, or lines before it were taken out. Compare with the copy on "
            "the syslog server, or with a backup.",
            style="red",
        )
        raise typer.Exit(1)
    last = services.audit.list_entries(limit=1)
    end = f" up to line {last[0].id}, digest {last[0].digest}" if last else ": there is none"
    out.print(f"All lines fit together{end}.")


@audit_app.command("export")
def export(
    to: Annotated[
        str, typer.Option("--out", "-o", metavar="FILE", help="A new file, or - for output.")
    ],
    form: Annotated[
        ExportFormat,
        typer.Option("--format", help="Lines of JSON, or DICOM audit messages as in syslog."),
    ] = ExportFormat.JSONL,
    since: SinceOption = None,
    until: UntilOption = None,
    config: ConfigOption = None,
    overrides: SetOption = None,
) -> None:
    """Write lines to a file, oldest first, one each; that they were read is a line too."""
    from node.audit_message import audit_source, write_jsonl, write_syslog

    services = open_stores(config, overrides)
    source = audit_source(services.settings)
    with _opened(to) as stream:
        _tell_of_reading(services, {"command": "export", "format": form.value, "to": to})
        count = 0
        for line in services.audit.read(since=since, until=until):
            text = (
                write_jsonl(line).encode()
                if form is ExportFormat.JSONL
                else write_syslog(line, source)
            )
            stream.write(text + b"\n")
            count += 1
    if to != "-":
        out.print(f"{count} lines written to {to}.")


@contextmanager
def _opened(to: str) -> Iterator[IO[bytes]]:
    if to == "-":
        yield sys.stdout.buffer
        return
    try:
        # It names patients, so it is for nobody else; and nothing is written over.
        number = os.open(to, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        raise typer.BadParameter(f"{Path(to)} is there already; name a new file") from None
    with os.fdopen(number, "wb") as stream:
        yield stream


@audit_app.command("send")
def send(config: ConfigOption = None, overrides: SetOption = None) -> None:
    """Send what is new to the syslog server now; the node does so by itself."""
    from node.audit_forwarder import Forwarder

    services = open_stores(config, overrides)
    sent = Forwarder(services, f"{socket.gethostname()}:{os.getpid()}").send()
    if sent is None:
        out.print("The node is sending at this moment.")
    else:
        out.print(f"{sent} lines sent." if sent else "Nothing is new.")


def _tell_of_reading(services: "Services", detail: dict[str, str]) -> None:
    """Say who reads, before anything is read; nobody reads where that cannot be said."""
    actor = f"user:{os_user()}"
    entry = AuditEntry(event=AuditEvent.AUDIT_READ, actor=actor, detail=detail)
    services.audit.append(entry, utc_now())

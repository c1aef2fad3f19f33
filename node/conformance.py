"""The DICOM conformance statement (PS3.2) of the settings in force.

Its sentences stand in the templates, in the order of PS3.2; its tables are those of the code.
"""

from datetime import date
from functools import cache
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape

from config import Settings
from inference.document_pdf import Document, render_document
from node.acceptor import LARGEST_PDU_BYTES, MAX_STRANGERS
from node.commitment import REQUEST_ACTION
from node.conformance_tables import ConformanceTables, spell
from node.pull import BATCH
from node.scu import DUPLICATE
from node.study_query import MAX_MATCHES
from node.version import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME, SOFTWARE_VERSION

TITLE = "DICOM conformance statement"


def make_statement(settings: Settings) -> str:
    """Give the statement as Markdown; the same settings give the same text."""
    return (
        _templates()
        .get_template("statement.md")
        .render(
            settings=settings,
            tables=ConformanceTables(settings),
            version=SOFTWARE_VERSION,
            implementation_class_uid=IMPLEMENTATION_CLASS_UID,
            implementation_version_name=IMPLEMENTATION_VERSION_NAME,
            largest_pdu_bytes=LARGEST_PDU_BYTES,
            max_strangers=MAX_STRANGERS,
            request_action=REQUEST_ACTION,
            batch=BATCH,
            max_matches=MAX_MATCHES,
            duplicate=f"{DUPLICATE:04X}",
        )
    )


def make_statement_pdf(settings: Settings, day: date) -> bytes:
    """Give the statement as PDF; the same settings and the same day give the same bytes.

    Parameters
    ----------
    settings
        Those in force.
    day
        The date of the document.
    """
    node = f"Hepar {SOFTWARE_VERSION}, AE title {settings.node.ae_title}"
    return render_document(
        Document(title=TITLE, foot=f"{TITLE}, {node}", day=day, markdown=make_statement(settings))
    )


def write_statement(settings: Settings, path: Path, day: date) -> None:
    """Write the statement to a file, as PDF where its name ends so, else as Markdown.

    Raises
    ------
    OSError
        The file cannot be written.
    """
    if path.suffix.lower() == ".pdf":
        path.write_bytes(make_statement_pdf(settings, day))
    else:
        path.write_text(make_statement(settings), encoding="utf-8")


@cache
def _templates() -> Environment:
    environment = Environment(
        loader=PackageLoader(__package__, "templates/conformance"),
        autoescape=select_autoescape(["html"]),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters["spelled"] = spell
    environment.filters["codes"] = lambda names: ", ".join(f"`{name}`" for name in names)
    return environment

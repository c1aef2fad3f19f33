"""The conformance statement says what the node does, and nothing else."""

import re
from collections.abc import Iterator
from datetime import date
from io import BytesIO
from itertools import product
from pathlib import Path

import pytest
from pydicom.uid import AllTransferSyntaxes, UID_dictionary
from pynetdicom import AE, build_context, build_role
from pynetdicom.sop_class import StorageCommitmentPushModel, Verification
from pypdf import PdfReader
from typer.testing import CliRunner

from config import Settings
from dicom_io.identity import FURTHER_IDENTITY, IDENTITY
from dicom_io.transfer_syntaxes import ACCEPTED_TRANSFER_SYNTAXES
from node.cli import app
from node.conformance import make_statement, make_statement_pdf
from node.dimse_status import DimseStatus
from node.scu import MAX_CONTEXTS

PAGE = Path(__file__).parents[2] / "docs" / "reference" / "conformance.md"
SOP_CLASSES = [uid for uid, (_, kind, *_) in UID_dictionary.items() if kind == "SOP Class"]
MR = "1.2.840.10008.5.1.4.1.1.4"
DAY = date(2026, 11, 21)
DESTINATION = {"ae_title": "PACS", "host": "192.0.2.7", "roles": ["destination"]}
SOURCE = {**DESTINATION, "roles": ["source"]}
WEB = {"url": "https://pacs.example/dicom-web", "roles": ["destination"], "token": "SECRET"}
TLS = {"certificate": "our.pem", "key": "our.key", "authorities": "all.pem", "port": 2763}


def test_the_page_is_what_the_code_says():
    """`hepar conformance -o docs/reference/conformance.md` in an empty folder writes it."""
    assert PAGE.read_text(encoding="utf-8") == make_statement(Settings())


def statement(**sections) -> str:
    return make_statement(Settings(**sections))


def tidy(text: str) -> str:
    return " ".join(text.split())


@pytest.mark.parametrize(
    ("sections", "said", "no_longer_said"),
    [
        ({"node": {"ae_title": "LIVER"}}, "AE title `LIVER`", "`HEPAR` (`node.ae_title`)"),
        ({"node": {"port": 104}}, "listens on 127.0.0.1, port 104, without", "port 11112,"),
        ({"node": {"tls": TLS}}, "port 2763 with TLS", "DICOM TLS (PS3.15) | option"),
        ({"node": {"tls": TLS}}, "**TLS.** Configured.", "**TLS.** Not configured."),
        ({"node": {"tls": {**TLS, "only": True}}}, "and on none without", "| 11112 |"),
        (
            {"node": {"tls": {**TLS, "ask_certificate": False}}},
            "which is off in this configuration",
            "",
        ),
        ({"node": {"max_pdu_bytes": 0}}, "no limit (`node.max_pdu_bytes`)", "131072 bytes"),
        ({"node": {"max_associations": 3}}, "more than 3 associations", "more than 25"),
        (
            {"node": {"check_called_ae_title": False}},
            "none: `node.check_called_ae_title` is off",
            '"called AE title not recognized"',
        ),
        ({"receive": {"extra_sop_classes": [MR]}}, f"| MR Image Storage | {MR} | SCP |", ""),
        ({"peers": {"ct": SOURCE}}, "Sources in this configuration: `ct`.", "No source is"),
        (
            {"peers": {"pacs": {**DESTINATION, "profile": "rt"}}},
            "| RT Structure Set Storage | 1.2.840.10008.5.1.4.1.1.481.3 | yes |",
            "| Segmentation Storage | 1.2.840.10008.5.1.4.1.1.66.4 | yes |",
        ),
        (
            {
                "peers": {"pacs": {**DESTINATION, "profile": "map"}},
                "profiles": {"map": {"segmentation": "labelmap"}},
            },
            "| Label Map Segmentation Storage | 1.2.840.10008.5.1.4.1.1.66.7 | yes |",
            "| Segmentation Storage | 1.2.840.10008.5.1.4.1.1.66.4 | yes |",
        ),
        (
            {"peers": {"pacs": {**DESTINATION, "proofs": ["commitment"]}}},
            "| Storage Commitment Push Model SOP Class | 1.2.840.10008.1.20.1 | yes | no |",
            "no destination is asked for it",
        ),
        (
            {"peers": {"pacs": DESTINATION}},
            "| `pacs` | `PACS` | DIMSE | `192.0.2.7:104` | no | destination | `ohif` |",
            "No destination is configured",
        ),
        (
            {"peers": {"pacs": {**SOURCE, "ask_counts": True}}},
            "counts of instances",
            "In this configuration nobody is asked.",
        ),
        (
            {"peers": {"pacs": {**SOURCE, "poll": {"every_s": 60, "by": "move"}}}},
            "new series every 60 s, of the last 2 days, by C-MOVE",
            "nobody is polled",
        ),
        (
            {"peers": {"web": WEB}},
            "| `web` | `DICOMWEB` | DICOMweb | `https://pacs.example/dicom-web` | yes |",
            "DICOMweb (PS3.18), as user | option",
        ),
        (
            {"results": {"seg_series_number": 77, "seg_series_description": "a | b"}},
            "| SEG | 77 | a \\| b |",
            "| 9100 |",
        ),
        (
            {"audit": {"syslog": {"host": "logs.example"}}},
            "they go to logs.example, port 6514, by tls",
            "SYSLOG-TLS (PS3.15 A.6) | option",
        ),
        ({"results": {"report_rejected": False}}, "they give no object", "There is an answer"),
        ({"retention": {"max_gb": 5}}, "| `retention.max_gb` | `5` |", "forever in this"),
        ({"pull": {"max_studies": 3}}, "at most 3 studies", "at most 20 studies"),
        ({"delivery": {"give_up_h": 1}}, "`delivery.give_up_h` (1 h)", "(72 h)"),
    ],
)
def test_settings_change_what_is_said(sections, said, no_longer_said):
    before, after = tidy(statement()), tidy(statement(**sections))
    assert said in after
    assert said not in before
    if no_longer_said:
        assert no_longer_said in before
        assert no_longer_said not in after


def test_no_secret_and_no_file_of_this_machine_is_told():
    told = statement(peers={"web": WEB}, node={"tls": TLS})
    assert not re.search(r"SECRET|our\.pem|our\.key|all\.pem", told)


def test_the_sections_are_those_of_ps3_2():
    headings = re.findall(r"^## (.+)$", statement(), re.MULTILINE)
    assert headings == [
        "1 Overview",
        "2 Introduction",
        "3 Implementation model",
        "4 Application entity",
        "5 Network interfaces",
        "6 Configuration",
        "7 Media interchange",
        "8 Transformation of DICOM to CDA",
        "9 Character sets",
        "10 Security",
        "Annex A: contents of created objects",
        "Annex B: data dictionary of private attributes",
        "Annex C: coded terminology",
        "Annex D: grayscale image consistency",
        "Annex E: extended, specialized and private SOP classes",
    ]


def section(text: str, number: str) -> str:
    return re.split(r"^##+ ", text.split(f"### {number} ")[1], flags=re.MULTILINE)[0]


def stated_contexts(text: str) -> set[tuple[str, str]]:
    """SOP class and transfer syntax of each presentation context that is said to be accepted."""
    stated: set[tuple[str, str]] = set()
    groups = section(text, "4.2").split("| SOP class | UID | role |")[1:]
    for group in groups:
        classes, syntaxes = group.split("in these transfer syntaxes:")
        uids = [re.findall(r"\| ([0-9.]+) \|", part) for part in (classes, syntaxes)]
        stated |= set(product(*uids))
    return stated


def accepted_contexts(port: int, proposed: list[tuple[str, str]]) -> Iterator[tuple[str, str]]:
    """Ask a receiver, each context with one transfer syntax."""
    for start in range(0, len(proposed), MAX_CONTEXTS):
        some = proposed[start : start + MAX_CONTEXTS]
        assoc = AE(ae_title="SCANNER").associate(
            "127.0.0.1",
            port,
            contexts=[build_context(*one) for one in some],
            ae_title="HEPAR",
            ext_neg=[build_role(StorageCommitmentPushModel, scp_role=True)],
        )
        if assoc.is_established:
            for context in assoc.accepted_contexts:
                yield context.abstract_syntax, context.transfer_syntax[0]
            assoc.release()


def test_a_running_acceptor_accepts_what_is_stated_and_no_more(listen):
    listening = listen(receive={"extra_sop_classes": [MR]})
    stated = stated_contexts(make_statement(listening.settings))
    plain = "1.2.840.10008.1.2"
    classes = {c for c, _ in accepted_contexts(listening.port, [(c, plain) for c in SOP_CLASSES])}
    proposed = list(product(sorted(classes), AllTransferSyntaxes))
    assert set(accepted_contexts(listening.port, proposed)) == stated
    assert len(stated) == 2 * 4 + 4 * len(ACCEPTED_TRANSFER_SYNTAXES)


def test_callers_are_told_the_stated_implementation(listen):
    listening = listen()
    assoc = listening.associate(build_context(Verification))
    told = assoc.acceptor.implementation_class_uid, assoc.acceptor.implementation_version_name
    assoc.release()
    policies = section(make_statement(listening.settings), "4.1")
    assert f"| implementation class UID | {told[0]} |" in policies
    assert f"| implementation version name | {told[1]} |" in policies


def test_each_status_and_each_attribute_of_identity_is_stated():
    text = statement()
    assert all(f"| 0x{one:04X} |" in text and one.when in text for one in DimseStatus)
    copied = section(text, "A.9")
    assert copied.count("\n| ") == 1 + len(IDENTITY) + len(FURTHER_IDENTITY)


def words_of(markdown: str) -> list[str]:
    plain = re.sub(r"^#+ |^\|[-|]+\|$|^\d\. ", "", markdown, flags=re.MULTILINE)
    return [word for word in re.split(r"[\s|]+", re.sub(r"\*\*|`|\\", "", plain)) if word]


def test_the_pdf_has_the_same_words():
    settings = Settings(peers={"web": WEB, "pacs": DESTINATION}, node={"ae_title": "LIVER"})
    pdf = PdfReader(BytesIO(make_statement_pdf(settings, DAY)))
    pages = [page.extract_text() for page in pdf.pages]
    squeezed = re.sub(r"\s", "", "".join(pages))
    assert [word for word in words_of(make_statement(settings)) if word not in squeezed] == []
    for number, page in enumerate(pages, start=1):
        assert f"page {number}" in page
        assert "AE title LIVER, 2026-11-21" in page
    assert pdf.metadata.title == "DICOM conformance statement"
    assert pdf.outline[1][0].title == "1 Overview"


def test_the_same_day_gives_the_same_bytes():
    assert make_statement_pdf(Settings(), DAY) == make_statement_pdf(Settings(), DAY)


def test_the_command_writes_markdown_and_pdf(working_folder: Path):
    call = ["conformance", "--set", "node.ae_title=LIVER"]
    printed = CliRunner().invoke(app, call)
    assert printed.exit_code == 0
    assert printed.stdout == statement(node={"ae_title": "LIVER"})
    for name in ("a.md", "a.pdf"):
        assert CliRunner().invoke(app, [*call, "-o", name]).exit_code == 0
    assert (working_folder / "a.md").read_text(encoding="utf-8") == printed.stdout
    assert (working_folder / "a.pdf").read_bytes().startswith(b"%PDF-")
    refused = CliRunner().invoke(app, [*call, "-o", "a.doc"])
    assert refused.exit_code == 2
    assert not (working_folder / "a.doc").exists()

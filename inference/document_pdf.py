"""A text with headings and tables as PDF: a table of contents, page numbers, a date at the foot.

The same document gives the same bytes.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import date
from functools import cache
from io import BytesIO
from typing import Any
from xml.sax.saxutils import escape

from markdown_it import MarkdownIt
from markdown_it.tree import SyntaxTreeNode
from reportlab.lib.colors import HexColor
from reportlab.lib.pagesizes import A4
from reportlab.lib.styles import ParagraphStyle
from reportlab.lib.units import mm
from reportlab.pdfbase.pdfmetrics import stringWidth
from reportlab.pdfgen.canvas import Canvas
from reportlab.platypus import (
    BaseDocTemplate,
    Flowable,
    Frame,
    LongTable,
    PageTemplate,
    Paragraph,
    Spacer,
)
from reportlab.platypus.tableofcontents import TableOfContents

from inference.report_type import BOLD, REGULAR, load_type, set_text

_TEXT = HexColor("#1b2430")
_FAINT = HexColor("#5b6775")
_RULE = HexColor("#d5dbe2")
_TILE = HexColor("#f2f5f8")
_ACCENT = HexColor("#175e7a")
_CODE = "#175e7a"
"""Of names of settings and of what is typed."""

_MARGIN = 18 * mm
_WIDTH = A4[0] - 2 * _MARGIN
_TEXT_SIZE = 9.5
_CELL_SIZE = 7.5
_CELL_PADDING = 3
_WIDEST_WORD = _WIDTH / 3
"""A longer one is broken in a table."""
_HEADING_SIZES = {1: 20.0, 2: 14.0, 3: 11.5}


@dataclass(frozen=True, kw_only=True)
class Document:
    """What is to be set."""

    title: str
    foot: str
    """Stands on each page."""
    day: date
    markdown: str
    """Headings, paragraphs, lists and tables; links are set as text."""


def render_document(document: Document) -> bytes:
    """Set a document on A4 pages."""
    load_type()
    buffer = BytesIO()
    _Pages(document, buffer).multiBuild(list(_story(document.markdown)))
    return buffer.getvalue()


class _Pages(BaseDocTemplate):  # type: ignore[misc]  # reportlab is not typed
    """The pages, and the entries of the table of contents."""

    def __init__(self, document: Document, buffer: BytesIO) -> None:
        super().__init__(
            buffer,
            pagesize=A4,
            title=document.title,
            author="Hepar",
            creator="Hepar",
            subject=document.foot,
            lang="en",
            invariant=1,
            pageCompression=1,
            initialFontName=REGULAR,
        )
        self._document = document
        frame = Frame(_MARGIN, _MARGIN, _WIDTH, A4[1] - 2 * _MARGIN, *4 * [0])
        self.addPageTemplates(PageTemplate(frames=[frame], onPage=self._begin_page))

    def afterFlowable(self, flowable: Flowable) -> None:  # noqa: N802  # reportlab calls it
        """Note where a heading has come to stand."""
        level = getattr(flowable, "heading_level", None)
        if level is not None:
            text, key = flowable.getPlainText(), f"heading-{self.page}-{self.frame._y:.1f}"
            self.canv.bookmarkPage(key)
            self.canv.addOutlineEntry(text, key, level=level - 1, closed=level > 1)
            if level > 1:
                self.notify("TOCEntry", (level - 2, escape(text), self.page, key))

    def _begin_page(self, canvas: Canvas, _: BaseDocTemplate) -> None:
        day = self._document.day
        canvas.setDateFormatter(lambda *_: f"D:{day:%Y%m%d}")
        canvas.setFont(REGULAR, 8)
        canvas.setFillColor(_FAINT)
        canvas.drawString(_MARGIN, _MARGIN / 2, set_text(f"{self._document.foot}, {day}"))
        canvas.drawRightString(A4[0] - _MARGIN, _MARGIN / 2, f"page {canvas.getPageNumber()}")


def _story(markdown: str) -> Iterator[Flowable]:
    """Set block after block, the table of contents before the first section."""
    is_begun = False
    for block in SyntaxTreeNode(_parser().parse(markdown)).children:
        if block.tag == "h2" and not is_begun:
            yield from (Spacer(0, 10), _contents(), Spacer(0, 10))
            is_begun = True
        yield from _BLOCKS[block.type](block)


@cache
def _parser() -> MarkdownIt:
    return MarkdownIt().enable("table")


def _contents() -> TableOfContents:
    contents = TableOfContents(dotsMinLevel=0)
    contents.levelStyles = [
        _style(size=8.5, bold=True, spaceBefore=1),
        _style(size=8, leftIndent=12),
    ]
    return contents


def _heading(block: SyntaxTreeNode) -> Iterator[Flowable]:
    level = int(block.tag[1])
    size = _HEADING_SIZES[level]
    style = _style(
        size=size, bold=True, color=_ACCENT, spaceBefore=size, spaceAfter=0.4 * size, keepWithNext=1
    )
    heading = Paragraph(_inline(block), style)
    heading.heading_level = level
    yield heading


def _paragraph(block: SyntaxTreeNode) -> Iterator[Flowable]:
    yield Paragraph(_inline(block), _style(size=_TEXT_SIZE, spaceAfter=6))


def _list(block: SyntaxTreeNode) -> Iterator[Flowable]:
    style = _style(size=_TEXT_SIZE, leftIndent=14, bulletIndent=2, spaceAfter=3)
    for number, item in enumerate(block.children, start=1):
        bullet = f"{number}." if block.type == "ordered_list" else "\N{BULLET}"
        yield Paragraph(_inline(item), style, bulletText=bullet)
    yield Spacer(0, 4)


def _table(block: SyntaxTreeNode) -> Iterator[Flowable]:
    rows = [list(row.children) for part in block.children for row in part.children]
    has_head = any(cell.children[0].content for cell in rows[0])
    rows = rows if has_head else rows[1:]
    cells = [
        [Paragraph(_inline(cell), _style(size=_CELL_SIZE, bold=cell.tag == "th")) for cell in row]
        for row in rows
    ]
    texts = [[cell.getPlainText() for cell in row] for row in cells]
    style: list[tuple[object, ...]] = [
        ("FONTNAME", (0, 0), (-1, -1), REGULAR),
        ("VALIGN", (0, 0), (-1, -1), "TOP"),
        ("LINEBELOW", (0, 0), (-1, -1), 0.4, _RULE),
        ("LEFTPADDING", (0, 0), (-1, -1), _CELL_PADDING),
        ("RIGHTPADDING", (0, 0), (-1, -1), _CELL_PADDING),
        ("TOPPADDING", (0, 0), (-1, -1), 1.5),
        ("BOTTOMPADDING", (0, 0), (-1, -1), 2.5),
    ]
    if has_head:
        style.append(("BACKGROUND", (0, 0), (-1, 0), _TILE))
    yield LongTable(
        cells,
        colWidths=_column_widths(texts),
        repeatRows=int(has_head),
        style=style,
        spaceAfter=9,
        hAlign="LEFT",
    )


def _column_widths(texts: Sequence[Sequence[str]]) -> list[float]:
    """Give each column room for its longest word, and the rest after the length of its texts."""
    columns = list(zip(*texts, strict=True))
    least = [
        2 * _CELL_PADDING
        + 1
        + min(max(map(_width, " ".join(column).split() or [""])), _WIDEST_WORD)
        for column in columns
    ]
    whole = [max(map(_width, column)) + 2 * _CELL_PADDING + 1 for column in columns]
    if sum(whole) <= _WIDTH:
        return whole
    wanted = [max(one - few, 0.0) for one, few in zip(whole, least, strict=True)]
    room = max(_WIDTH - sum(least), 0.0) / (sum(wanted) or 1.0)
    scale = min(_WIDTH / sum(least), 1.0)
    return [few * scale + more * room for few, more in zip(least, wanted, strict=True)]


def _width(text: str) -> float:
    return float(stringWidth(text, BOLD, _CELL_SIZE))


_BLOCKS = {
    "heading": _heading,
    "paragraph": _paragraph,
    "ordered_list": _list,
    "bullet_list": _list,
    "table": _table,
}


def _inline(block: SyntaxTreeNode) -> str:
    """Give the text of a block as the markup of ReportLab."""
    return "".join(map(_markup, block.walk()))


def _markup(node: SyntaxTreeNode) -> str:
    if node.type == "text":
        text = escape(set_text(node.content))
        return (
            f"<b>{text}</b>" if node.parent is not None and node.parent.type == "strong" else text
        )
    if node.type == "code_inline":
        return f'<font color="{_CODE}">{escape(set_text(node.content))}</font>'
    return " " if node.type in ("softbreak", "hardbreak") else ""


def _style(*, size: float, bold: bool = False, color: Any = _TEXT, **more: Any) -> ParagraphStyle:
    return ParagraphStyle(
        "document",
        fontName=BOLD if bold else REGULAR,
        fontSize=size,
        leading=1.35 * size,
        textColor=color,
        **more,
    )

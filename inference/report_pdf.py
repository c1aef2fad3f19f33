"""The page as a PDF: always one A4 page, its text selectable, its fonts inside.

The same page gives the same bytes.
"""

from bisect import bisect_right
from dataclasses import dataclass
from functools import cached_property
from io import BytesIO
from typing import Any
from xml.sax.saxutils import escape

from reportlab.lib.colors import Color, HexColor
from reportlab.lib.enums import TA_LEFT, TA_RIGHT
from reportlab.lib.pagesizes import A4
from reportlab.lib.styles import ParagraphStyle
from reportlab.lib.units import mm
from reportlab.lib.utils import ImageReader
from reportlab.pdfgen.canvas import Canvas
from reportlab.platypus import Flowable, HRFlowable, Image, Paragraph, Spacer, Table

from inference import report_page
from inference.report_page import Figure, Pairs, ReportPage
from inference.report_type import BOLD, NO_GLYPH, REGULAR, is_whole, load_type, set_text

_TEXT = HexColor("#1b2430")
_FAINT = HexColor("#5b6775")
_RULE = HexColor("#d5dbe2")
_TILE = HexColor("#f2f5f8")
_PAPER = HexColor("#ffffff")
_ACCENT = HexColor("#175e7a")
_WARNING = HexColor("#8a4b00")
_WARNING_PAPER = HexColor("#fff4e0")
_WARNING_RULE = HexColor("#e09a2b")

_MARGIN = 14 * mm
_WIDTH = A4[0] - 2 * _MARGIN
_HEIGHT = A4[1] - 2 * _MARGIN
_GAP = 3.5 * mm
_COLUMN_SHARES = (4, 17, 10, 13, 12, 8, 10, 13, 13)
"""Widths of the columns of the table of lesions."""
_MOST_ROWS = 40
_NO_GLYPH_NOTE = f"{NO_GLYPH} may stand for a character that this page has no type for."


@dataclass(frozen=True)
class _Limits:
    """How far the page may be shortened."""

    most_figures: int
    figures_height: float
    """Of all figures together."""
    fewest_rows: int
    longest_sentence: int
    """In characters, as the next one."""
    longest_value: int
    """Of what identifies patient and study."""


_LIMITS = (
    _Limits(3, 150 * mm, 5, 600, 80),
    _Limits(2, 110 * mm, 5, 600, 80),
    _Limits(1, 80 * mm, 5, 600, 80),
    _Limits(1, 55 * mm, 3, 600, 80),
    _Limits(1, 55 * mm, 1, 250, 80),
    _Limits(1, 40 * mm, 1, 100, 50),
)
"""Tried in this order: the table is shortened first, then the figures, then sentences."""


def render_pdf(page: ReportPage) -> bytes:
    """Render the page; what does not fit is shortened, the table of lesions first.

    Raises
    ------
    OSError
        A picture cannot be read.
    """
    load_type()
    flowables = _fill_page(page)
    buffer = BytesIO()
    canvas = Canvas(
        buffer,
        pagesize=A4,
        invariant=1,
        pageCompression=1,
        initialFontName=REGULAR,
        lang=report_page.LANGUAGE,
    )
    canvas.setTitle(f"{report_page.TITLE}: {report_page.BADGE}")
    canvas.setAuthor("Hepar")
    canvas.setCreator("Hepar")
    canvas.setSubject(page.summary)
    canvas.setDateFormatter(lambda *_: _pdf_date(page))
    canvas.setViewerPreference("DisplayDocTitle", "true")
    top = A4[1] - _MARGIN
    for flowable in flowables:
        top -= flowable.wrap(_WIDTH, _HEIGHT)[1]
        flowable.drawOn(canvas, _MARGIN, top)
    canvas.save()
    return buffer.getvalue()


def _pdf_date(page: ReportPage) -> str:
    """Write the time the way of PDF (ISO 32000-1, 7.9.4)."""
    offset = f"{page.created_at:%z}"
    return f"D:{page.created_at:%Y%m%d%H%M%S}{offset[:3]}'{offset[3:5]}'"


def _fill_page(page: ReportPage) -> list[Flowable]:
    """Lay out as much as the page holds, its foot at the bottom."""
    pictures = [_Picture(figure) for figure in page.figures]
    for limits in _LIMITS:
        layout = _Layout(page=page, pictures=pictures, limits=limits)
        if (rows := layout.most_rows()) is not None:
            body = layout.body(rows)
            room = _HEIGHT - layout.height(rows)
            return [*body, Spacer(0, room), *layout.foot]
    raise ValueError("the page is too long, even when all of it is shortened")


class _Picture:
    """A figure whose file was read."""

    def __init__(self, figure: Figure) -> None:
        self.caption = figure.caption
        self._content = figure.path.read_bytes()
        self._size = ImageReader(BytesIO(self._content)).getSize()

    def image(self, height: float) -> Image:
        """Make it as large as the width of the page and a height allow."""
        scale = min(_WIDTH / self._size[0], height / self._size[1])
        return Image(BytesIO(self._content), *(scale * length for length in self._size))


@dataclass(frozen=True, kw_only=True, eq=False)
class _Layout:
    """The parts of a page under certain limits."""

    page: ReportPage
    pictures: list[_Picture]
    limits: _Limits

    def most_rows(self) -> int | None:
        """Give the largest number of lesions to be listed; none where even the fewest are many."""
        count = len(self.page.rows)
        fewest, most = min(self.limits.fewest_rows, count), min(_MOST_ROWS, count)
        fitting = bisect_right(range(fewest, most + 1), _HEIGHT, key=self.height)
        return fewest + fitting - 1 if fitting else None

    def height(self, rows: int) -> float:
        """Give the height of all parts."""
        parts = [*self.body(rows), *self.foot]
        return float(sum(part.wrap(_WIDTH, _HEIGHT)[1] for part in parts))

    def body(self, rows: int) -> list[Flowable]:
        """Give what stands at the top."""
        return [*self._head, *(self._lesions(rows) if self.page.rows else ())]

    @cached_property
    def foot(self) -> list[Flowable]:
        """What stands at the bottom."""
        page = self.page
        shown = (
            page.summary,
            page.detail,
            *(value for _, value in (*page.identity, *page.warnings)),
        )
        notes = () if all(map(is_whole, shown)) else (_NO_GLYPH_NOTE,)
        return [
            _rule(_RULE),
            _gap(0.4),
            _paragraph(page.notice, size=8.5, bold=True, color=_WARNING),
            _gap(0.3),
            *(_paragraph(note, size=7, color=_FAINT) for note in notes),
            _marked_paragraph(
                "  ·  ".join(
                    f"{_markup(name)}: {_markup(self._short(value))}" for name, value in page.origin
                ),
                size=7,
                color=_FAINT,
            ),
        ]

    @cached_property
    def _head(self) -> list[Flowable]:
        page = self.page
        parts: list[Flowable] = [
            _title(),
            _rule(_ACCENT, 1.2),
            _gap(),
        ]
        if page.identity:
            parts += [self._identity(), _gap()]
        parts += [_paragraph(self._short(page.summary), size=11.5, bold=True)]
        if page.detail:
            parts += [_gap(0.3), _paragraph(self._short(page.detail), size=9.5)]
        if page.warnings:
            parts += [_gap(0.6), self._warnings()]
        if page.totals:
            parts += [_gap(), _totals(page.totals)]
        pictures = self.pictures[: self.limits.most_figures]
        for picture in pictures:
            height = self.limits.figures_height / len(pictures)
            caption = _paragraph(self._short(picture.caption), size=7.5, color=_FAINT)
            parts += [_gap(), picture.image(height), _gap(0.2), caption]
        return parts

    def _warnings(self) -> Table:
        lines = [
            _marked_paragraph(
                f"<b>{_markup(kind)}:</b> {_markup(self._short(sentence))}",
                size=9,
                color=_WARNING,
            )
            for kind, sentence in self.page.warnings
        ]
        return Table(
            [[line] for line in lines],
            colWidths=[_WIDTH],
            style=[
                ("BACKGROUND", (0, 0), (-1, -1), _WARNING_PAPER),
                ("LINEBEFORE", (0, 0), (0, -1), 3, _WARNING_RULE),
                *_cells(left=8, right=6, top=1.5, bottom=2.5),
            ],
        )

    def _identity(self) -> Table:
        """Set names and values in two columns of pairs."""
        cells = [
            part
            for name, value in self.page.identity
            for part in (
                _paragraph(name, size=8.5, color=_FAINT),
                _paragraph(_cut(value, self.limits.longest_value), size=8.5),
            )
        ]
        return Table(
            [cells[index : index + 4] for index in range(0, len(cells), 4)],
            colWidths=[0.1 * _WIDTH, 0.4 * _WIDTH] * 2,
            style=[("VALIGN", (0, 0), (-1, -1), "TOP"), *_cells(right=4)],
        )

    def _lesions(self, rows: int) -> list[Flowable]:
        page = self.page
        cells = [list(row.cells) for row in page.rows[:rows]]
        header = [_column(name) for name in page.columns]
        total = sum(_COLUMN_SHARES)
        table = Table(
            [header, *cells],
            colWidths=[_WIDTH * share / total for share in _COLUMN_SHARES],
            style=[
                ("FONT", (0, 1), (-1, -1), REGULAR, 8),
                ("TEXTCOLOR", (0, 1), (-1, -1), _TEXT),
                ("ALIGN", (0, 0), (-1, -1), "RIGHT"),
                ("VALIGN", (0, 0), (-1, 0), "BOTTOM"),
                ("VALIGN", (0, 1), (-1, -1), "MIDDLE"),
                ("LINEBELOW", (0, 0), (-1, -1), 0.4, _RULE),
                *_cells(left=2, right=4, top=1, bottom=2.2),
            ],
        )
        rest = page.rest_sentence(rows)
        more = [_gap(0.3), _paragraph(rest, size=8)] if rest else []
        method = _paragraph(page.method, size=7, color=_FAINT)
        return [_gap(), table, *more, _gap(0.4), method, _gap()]

    def _short(self, sentence: str) -> str:
        return _cut(sentence, self.limits.longest_sentence)


def _title() -> Table:
    badge = _paragraph(report_page.BADGE, size=9.5, bold=True, color=_WARNING, align=TA_RIGHT)
    title = _paragraph(report_page.TITLE, size=14, bold=True, color=_ACCENT)
    return Table(
        [[title, badge]],
        colWidths=[0.65 * _WIDTH, 0.35 * _WIDTH],
        style=[("VALIGN", (0, 0), (-1, -1), "BOTTOM"), *_cells(bottom=3)],
    )


def _totals(pairs: Pairs) -> Table:
    cells = [
        [_paragraph(name, size=7.5, color=_FAINT), _paragraph(value, size=11, bold=True)]
        for name, value in pairs
    ]
    return Table(
        [cells],
        colWidths=[_WIDTH / len(cells)] * len(cells),
        style=[
            ("BACKGROUND", (0, 0), (-1, -1), _TILE),
            ("LINEAFTER", (0, 0), (-2, -1), 4, _PAPER),
            *_cells(left=6, right=4, top=3, bottom=4),
        ],
    )


def _column(name: str) -> Paragraph:
    return _paragraph(name, size=7.5, bold=True, color=_FAINT, align=TA_RIGHT)


def _rule(color: Color, width: float = 0.6) -> HRFlowable:
    return HRFlowable(width="100%", thickness=width, color=color, spaceBefore=0, spaceAfter=0)


def _gap(share: float = 1.0) -> Spacer:
    return Spacer(0, share * _GAP)


def _cells(
    left: float = 0, right: float = 0, top: float = 0, bottom: float = 0
) -> list[tuple[object, ...]]:
    """Give the style that the cells of all tables share; no other font slips in."""
    sides = {"LEFT": left, "RIGHT": right, "TOP": top, "BOTTOM": bottom}
    padding = [(f"{side}PADDING", (0, 0), (-1, -1), width) for side, width in sides.items()]
    return [("FONTNAME", (0, 0), (-1, -1), REGULAR), *padding]


def _paragraph(text: str, **style: Any) -> Paragraph:
    """Set plain text."""
    return _marked_paragraph(_markup(text), **style)


def _marked_paragraph(
    markup: str,
    *,
    size: float,
    bold: bool = False,
    color: Color = _TEXT,
    align: int = TA_LEFT,
) -> Paragraph:
    style = ParagraphStyle(
        "page",
        fontName=BOLD if bold else REGULAR,
        fontSize=size,
        leading=1.3 * size,
        textColor=color,
        alignment=align,
    )
    return Paragraph(markup, style)


def _markup(text: str) -> str:
    return escape(set_text(text))


def _cut(text: str, longest: int) -> str:
    return text if len(text) <= longest else f"{text[: longest - 1].rstrip()}…"

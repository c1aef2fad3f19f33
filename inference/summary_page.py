"""The result on one page, as a picture: for archives whose viewers show nothing else.

Its letters stay legible on a screen of 1000 rows.
"""

from collections.abc import Iterable, Sequence

from inference.drawing import FAINT, LEGEND, NOTICE, RULE, TEXT, WARNING, Page, Picture, wrap
from inference.findings import Findings
from inference.findings_table import LESION_HEADER, Table, lesion_row, list_totals
from inference.manifest import ModelIdentity
from inference.plane_row import draw_row, row_sizes_px
from inference.preview_planes import arrange
from inference.volume import Volume
from inference.wording import list_caveats

_WIDTH_PX = 1400
_LEAST_HEIGHT_PX = 1050
_MARGIN_PX = 24
_HEADER_PX = 132
_FOOTER_PX = 60
_TALLEST_PX = 420
_LEFT_PX = 540
"""Width of the column of totals and remarks."""
_SIZE = 20
_ROW_PX = 28
_TABLE_ROWS = 12
_SENTENCE_SIZE = 26
_SENTENCE_PX = 38
_TITLE = "Liver and liver lesions"
_REFUSED = "Liver and liver lesions: not evaluated"


def draw_summary(
    volume: Volume,
    labels: Volume,
    findings: Findings,
    *,
    names: Sequence[str],
    model: ModelIdentity,
    remark: str = "",
) -> Picture:
    """Draw measurements, doubts and the planes through the largest lesion.

    Parameters
    ----------
    volume
        (slices, rows, columns) HU, in any orientation.
    labels
        The same grid, values of `inference.labels.Label`.
    findings
        The measurements of those labels.
    names
        What each slice of the volume is called.
    model
        That made the labels.
    remark
        What is known to be missing of the series; may be empty.
    """
    scene = arrange(volume, labels, findings)
    sizes = row_sizes_px(scene, _WIDTH_PX - 2 * _MARGIN_PX, _TALLEST_PX)
    top = _HEADER_PX + max(height for _, height in sizes) + _MARGIN_PX
    remarks = _wrap_remarks(findings, remark)
    rows = max(_TABLE_ROWS + 2, len(list_totals(findings, 0)) + 1 + len(remarks))
    page = _begin(_TITLE, model, top + rows * _ROW_PX)
    draw_row(page, scene, sizes, (_MARGIN_PX, _HEADER_PX))
    _draw_left(page, top, findings, remarks)
    _draw_lesions(page, top, findings, names)
    return page.picture


def draw_refusal(sentences: Iterable[str], model: ModelIdentity) -> Picture:
    """Draw a page that says why a series could not be evaluated.

    Parameters
    ----------
    sentences
        Why not.
    model
        That was to segment it.
    """
    width = _WIDTH_PX - 2 * _MARGIN_PX
    lines = [line for text in sentences for line in (*wrap(text, _SENTENCE_SIZE, width), "")]
    page = _begin(_REFUSED, model, _HEADER_PX + len(lines) * _SENTENCE_PX)
    for row, line in enumerate(lines):
        page.text((_MARGIN_PX, _HEADER_PX + row * _SENTENCE_PX), line, size=_SENTENCE_SIZE)
    return page.picture


def _begin(title: str, model: ModelIdentity, height: int) -> Page:
    """Begin a page of at least that height above the footer."""
    bottom = max(_LEAST_HEIGHT_PX - _FOOTER_PX, height)
    page = Page.blank(_WIDTH_PX, bottom + _FOOTER_PX)
    right = _WIDTH_PX - _MARGIN_PX
    # In the middle, because viewers write into the corners.
    middle = _WIDTH_PX / 2
    page.text((middle, 16), title, size=32, anchor="ma")
    page.text((middle, 60), NOTICE, size=28, color=WARNING, anchor="ma")
    page.line([(_MARGIN_PX, bottom), (right, bottom)], RULE)
    notice = f"{NOTICE} - not for diagnosis"
    page.text((middle - 12, bottom + 16), notice, size=_SIZE, color=WARNING, anchor="ra")
    made_by = f"{model.name} {model.version}"
    page.text((middle + 12, bottom + 16), made_by, size=_SIZE, color=FAINT)
    return page


def _wrap_remarks(findings: Findings, remark: str) -> list[str]:
    """Give what a reader should know before believing the numbers, in lines."""
    sentences = list_caveats(findings, remark)
    return [line for sentence in sentences for line in wrap(sentence, _SIZE, _LEFT_PX)]


def _draw_left(page: Page, top: int, findings: Findings, remarks: Sequence[str]) -> None:
    table = Table(left=_MARGIN_PX, top=top, columns=(340,), row_px=_ROW_PX, size=_SIZE)
    totals = list_totals(findings, _TABLE_ROWS)
    table.draw_pairs(page, totals)
    for row, (name, color) in enumerate(LEGEND):
        y = top + row * _ROW_PX
        page.box((_MARGIN_PX + 420, y + 5, 16, 16), color)
        page.text((_MARGIN_PX + 446, y), name, size=_SIZE)
    top += (len(totals) + 1) * _ROW_PX
    for row, line in enumerate(remarks):
        page.text((_MARGIN_PX, top + row * _ROW_PX), line, size=_SIZE, color=WARNING)


def _draw_lesions(page: Page, top: int, findings: Findings, names: Sequence[str]) -> None:
    left = _MARGIN_PX + _LEFT_PX + 60
    if not findings.lesions:
        page.text((left, top), "No lesion segmented", size=_SIZE, color=TEXT)
        return
    columns = (70, 260, 420, 570, 740)
    table = Table(left=left, top=top, columns=columns, row_px=_ROW_PX, size=_SIZE)
    listed, others = findings.lesions[:_TABLE_ROWS], findings.lesions[_TABLE_ROWS:]
    rows = [(*lesion_row(lesion), names[lesion.long_axis.slice_index]) for lesion in listed]
    table.draw(page, [(*LESION_HEADER, "Slice"), *rows])
    if others:
        volume_ml = sum(lesion.volume_ml for lesion in others)
        text = f"and {len(others)} smaller, together {volume_ml:.1f} ml"
        at = (left, top + (len(rows) + 1) * _ROW_PX)
        page.text(at, text, size=_SIZE, color=FAINT)

"""One picture of a result: three planes with contours, and the measurements.

Nothing in it identifies a patient unless the title does.
"""

from pathlib import Path

from inference.drawing import FAINT, LEGEND, NOTICE, RULE, WARNING, Page
from inference.findings import Findings
from inference.findings_table import LESION_HEADER, Table, lesion_row, list_totals
from inference.plane_row import draw_row, row_sizes_px
from inference.preview_planes import WINDOW_LEVEL_HU, WINDOW_WIDTH_HU, arrange
from inference.volume import Volume

_WIDTH_PX = 1440
_HEADER_PX = 84
_STRIP_PX = 172
_FOOTER_PX = 44
_MARGIN_PX = 24
_TALLEST_PX = 560
_TABLE_ROWS = 5


def draw_preview(
    volume: Volume,
    labels: Volume,
    path: Path,
    *,
    title: str,
    findings: Findings | None = None,
) -> None:
    """Draw a PNG of the planes through the largest lesion, or through the liver.

    Parameters
    ----------
    volume
        (slices, rows, columns) HU, in any orientation.
    labels
        The same grid, values of `inference.labels.Label`.
    path
        The file to write.
    title
        The headline; the caller answers for its holding no patient data.
    findings
        Measurements to be listed below the planes.
    """
    scene = arrange(volume, labels, findings)
    sizes = row_sizes_px(scene, _WIDTH_PX - 2 * _MARGIN_PX, _TALLEST_PX)
    tallest = max(height for _, height in sizes)
    page = Page.blank(_WIDTH_PX, _HEADER_PX + tallest + _STRIP_PX + _FOOTER_PX)
    page.text((_MARGIN_PX, 18), title, size=23)
    draw_row(page, scene, sizes, (_MARGIN_PX, _HEADER_PX))
    _draw_strip(page, _HEADER_PX + tallest + 18, findings)
    _draw_footer(page, _HEADER_PX + tallest + _STRIP_PX)
    page.save(path)


def _draw_strip(page: Page, top: int, findings: Findings | None) -> None:
    """Draw what stands below the planes: legend, totals, table of lesions."""
    page.line([(_MARGIN_PX, top - 8), (_WIDTH_PX - _MARGIN_PX, top - 8)], RULE)
    for row, (name, color) in enumerate(LEGEND):
        page.box((_MARGIN_PX, top + 10 + 26 * row, 14, 14), color)
        page.text((_MARGIN_PX + 24, top + 7 + 26 * row), name)
    window = f"Window {WINDOW_LEVEL_HU:.0f} / {WINDOW_WIDTH_HU:.0f} HU"
    page.text((_MARGIN_PX, top + 65), window, size=13, color=FAINT)
    if findings is None:
        return
    totals = Table(left=300, top=top + 7, columns=(300,), row_px=26)
    totals.draw_pairs(page, list_totals(findings, _TABLE_ROWS))
    table = Table(left=760, top=top + 7, columns=(50, 240, 420, 600), row_px=23)
    if findings.lesions:
        table.draw(page, [LESION_HEADER, *map(lesion_row, findings.lesions[:_TABLE_ROWS])])
    else:
        page.text((table.left, table.top), "No lesion segmented")


def _draw_footer(page: Page, top: int) -> None:
    page.line([(_MARGIN_PX, top), (_WIDTH_PX - _MARGIN_PX, top)], RULE)
    notice = f"{NOTICE} - not for diagnosis"
    page.text((_WIDTH_PX / 2, top + 13), notice, size=16, color=WARNING, anchor="ma")

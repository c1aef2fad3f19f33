"""The measurements in words and numbers, as the pictures list them."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from inference.drawing import FAINT, TEXT, Page
from inference.findings import Findings, Lesion


@dataclass(frozen=True, kw_only=True)
class Table:
    """Where and how a table stands."""

    left: int
    top: int
    columns: tuple[int, ...]
    """Right ends of the columns, from `left`."""
    row_px: int
    size: int = 15

    def draw(self, page: Page, rows: Iterable[Sequence[str]]) -> None:
        """Draw rows; the first is the header."""
        for row, values in enumerate(rows):
            color = TEXT if row else FAINT
            y = self.top + self.row_px * row
            for column, value in zip(self.columns, values, strict=True):
                at = (self.left + column, y)
                page.text(at, value, size=self.size, color=color, anchor="ra")

    def draw_pairs(self, page: Page, rows: Iterable[tuple[str, str]]) -> None:
        """Draw names at the left, and values at the only column."""
        for row, (name, value) in enumerate(rows):
            y = self.top + self.row_px * row
            page.text((self.left, y), name, size=self.size, color=FAINT)
            page.text((self.left + self.columns[0], y), value, size=self.size, anchor="ra")


def list_totals(findings: Findings, rows: int) -> list[tuple[str, str]]:
    """Name what holds for the whole liver; `rows` is how many lesions the table beside lists."""
    count = len(findings.lesions)
    listed = f"{count}, largest {rows} listed" if count > rows else f"{count}"
    return [
        ("Liver with lesions", f"{findings.organ_volume_ml:.0f} ml"),
        ("Lesions", listed),
        ("Tumor volume", f"{findings.tumor_volume_ml:.1f} ml"),
        ("Tumor burden", f"{100 * findings.tumor_burden:.1f} %"),
    ]


LESION_HEADER = ("Lesion", "Diameters, mm", "Volume, ml", "Mean, HU")


def lesion_row(lesion: Lesion) -> tuple[str, str, str, str]:
    """Give what stands under `LESION_HEADER`."""
    diameters = f"{lesion.long_axis.length_mm:.0f}"
    if lesion.short_axis is not None:
        diameters += f" x {lesion.short_axis.length_mm:.0f}"
    return str(lesion.number), diameters, f"{lesion.volume_ml:.1f}", f"{lesion.mean_hu:.0f}"

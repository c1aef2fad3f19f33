"""The page that a person reads of a result: what it says; how it looks is for its renderers.

Numbers are text here, rounded once, so that every form of the page says the same.
"""

from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import numpy as np

from inference.findings import Diameter, Findings, Lesion
from inference.manifest import ModelIdentity
from inference.volume import Volume
from inference.wording import NOT_REVIEWED, round_volume_ml, summary_sentence

TITLE = "Liver and liver lesions on CT"
BADGE = "AI result, not reviewed"
LANGUAGE = "en"
UNKNOWN = "not stated"

Pairs = tuple[tuple[str, str], ...]
"""Names and values."""

_TIMES = "\N{MULTIPLICATION SIGN}"
_AXES = (("x", "left"), ("y", "back"), ("z", "head"))
"""Names of the patient axes, and where they point (LPS)."""


@dataclass(frozen=True, kw_only=True)
class PageSource:
    """What the page says of the series; all of it may be unknown."""

    patient_name: str = ""
    patient_id: str = ""
    birth_date: str = ""
    sex: str = ""
    study_date: str = ""
    study_description: str = ""
    accession_number: str = ""
    series_description: str = ""
    image_numbers: tuple[int, ...] = ()
    """The number by which viewers show each slice of the volume; none means that they are counted
    from 1."""
    remark: str = ""
    """A sentence on what is known to be missing of the series."""


@dataclass(frozen=True, kw_only=True)
class PageOrigin:
    """Who made the result, with what and when."""

    model: ModelIdentity
    software_version: str
    created_at: datetime
    """Aware; stated in its own zone."""

    def __post_init__(self) -> None:
        if self.created_at.tzinfo is None:
            raise ValueError("created_at must be an aware time")


@dataclass(frozen=True, kw_only=True)
class Figure:
    """A picture of the page."""

    path: Path
    """A PNG."""
    caption: str
    description: str
    """For those who cannot see it."""


@dataclass(frozen=True, kw_only=True)
class LesionRow:
    """A row of the table."""

    cells: tuple[str, ...]
    volume_ml: float


@dataclass(frozen=True, kw_only=True)
class ReportPage:
    """All that the page says, in the order of reading."""

    identity: Pairs
    """Whose it is; empty where nothing is known of it."""
    summary: str
    detail: str = ""
    warnings: Pairs
    """What a reader must know before believing it: its kind, and a sentence."""
    totals: Pairs = ()
    figures: tuple[Figure, ...] = ()
    columns: tuple[str, ...] = ()
    rows: tuple[LesionRow, ...] = ()
    """The largest lesion first."""
    method: str = ""
    """How it was measured."""
    notice: str = NOT_REVIEWED
    origin: Pairs
    created_at: datetime

    def rest_sentence(self, listed: int) -> str:
        """Sum up the lesions that a table of so many rows leaves out; empty for none."""
        rest = self.rows[listed:]
        if not rest:
            return ""
        volume = _volume(sum(row.volume_ml for row in rest))
        if len(rest) == 1:
            return f"and 1 smaller one, {volume} ml"
        return f"and {len(rest)} smaller ones, {volume} ml together"


def make_page(
    findings: Findings,
    grid: Volume,
    source: PageSource,
    origin: PageOrigin,
    figures: tuple[Figure, ...] = (),
) -> ReportPage:
    """Make the page of a result.

    Parameters
    ----------
    findings
        What was measured, with its doubts.
    grid
        A volume on the grid that the findings were measured on.
    source
        The series.
    origin
        The maker.
    figures
        Pictures, the most important first; the PDF has room for three at most.

    Raises
    ------
    ValueError
        There are image numbers, but not one for each slice.
    """
    numbers = source.image_numbers
    if numbers and len(numbers) != grid.shape[0]:
        raise ValueError(f"{len(numbers)} image numbers for {grid.shape[0]} slices")
    table = _Table(grid=grid, image_numbers=numbers)
    doubts = tuple(("Doubtful", _one_line(doubt.sentence)) for doubt in findings.doubts)
    return ReportPage(
        identity=_identity(source),
        summary=summary_sentence(findings),
        warnings=(*_incomplete(source), *doubts),
        totals=_totals(findings),
        figures=figures,
        columns=table.columns,
        rows=tuple(table.row(lesion) for lesion in findings.lesions),
        method=table.method if findings.lesions else "",
        origin=_origin(origin),
        created_at=origin.created_at,
    )


def make_refusal_page(
    reason: str, detail: str, source: PageSource, origin: PageOrigin
) -> ReportPage:
    """Make the page of a series that cannot be evaluated.

    Parameters
    ----------
    reason
        Why, as a sentence.
    detail
        What exactly; may be empty.
    source
        The series.
    origin
        The maker.
    """
    return ReportPage(
        identity=_identity(source),
        summary=_one_line(f"Not evaluable: {reason}"),
        detail=_one_line(detail),
        warnings=_incomplete(source),
        origin=_origin(origin),
        created_at=origin.created_at,
    )


@dataclass(frozen=True, kw_only=True, eq=False)
class _Table:
    """The words and numbers of the table of lesions."""

    grid: Volume
    image_numbers: tuple[int, ...]

    @property
    def columns(self) -> tuple[str, ...]:
        axis, _ = self._axis
        return (
            "No.",
            f"Long {_TIMES} short axis, mm",
            "Volume, ml",
            "Mean ± SD, HU",
            "Min / max, HU",
            self._image,
            f"{axis}, mm",
            "To surface, mm",
            "RECIST 1.1 measurable",
        )

    @property
    def method(self) -> str:
        axis, toward = self._axis
        image = self._image.lower()
        return (
            f"Long axis: the longest line between two voxels of the lesion in one {image}; short "
            f"axis: the longest line perpendicular to it in the same {image}. {self._image} and "
            f"{axis} say where that is ({axis}: patient coordinate toward the {toward}). To "
            "surface: the shortest distance to the surface of the liver. RECIST 1.1 calls a lesion "
            "measurable on axial CT when its long axis has 10 mm or more, or two slice distances "
            "where these exceed 5 mm."
        )

    def row(self, lesion: Lesion) -> LesionRow:
        index = lesion.long_axis.slice_index
        number = self.image_numbers[index] if self.image_numbers else index + 1
        distance_mm = lesion.surface_distance_mm
        cells = (
            str(lesion.number),
            _diameters(lesion),
            _volume(lesion.volume_ml),
            f"{lesion.mean_hu:.0f} ± {lesion.sd_hu:.0f}",
            f"{lesion.min_hu:.0f} / {lesion.max_hu:.0f}",
            str(number),
            f"{self._position_mm(lesion.long_axis):.1f}",
            "no surface in scan" if distance_mm is None else f"{distance_mm:.1f}",
            {True: "yes", False: "no", None: "not applicable"}[lesion.is_measurable],
        )
        return LesionRow(cells=cells, volume_ml=lesion.volume_ml)

    @property
    def _image(self) -> str:
        return "Image" if self.image_numbers else "Slice"

    @property
    def _axis_index(self) -> int:
        """The patient axis that is nearest to the normal of the slices."""
        return int(np.abs(self.grid.affine[:3, 0]).argmax())

    @property
    def _axis(self) -> tuple[str, str]:
        return _AXES[self._axis_index]

    def _position_mm(self, diameter: Diameter) -> float:
        """Give where along that axis the middle of a line lies."""
        row, column = np.add(diameter.start, diameter.end) / 2
        center = self.grid.affine @ [diameter.slice_index, row, column, 1]
        return float(center[self._axis_index])


def _diameters(lesion: Lesion) -> str:
    long_mm = f"{lesion.long_axis.length_mm:.1f}"
    short = lesion.short_axis
    return long_mm if short is None else f"{long_mm} {_TIMES} {short.length_mm:.1f}"


def _volume(volume_ml: float) -> str:
    """Give hundredths at least, so that the numbers of a column stand below each other."""
    return f"{volume_ml:.2f}" if volume_ml >= 0.01 else f"{volume_ml:.3f}"


def _totals(findings: Findings) -> Pairs:
    liver = findings.liver
    return (
        ("Liver with lesions", f"{round_volume_ml(findings.organ_volume_ml):g} ml"),
        ("Lesions", str(len(findings.lesions))),
        ("Tumor volume", f"{round_volume_ml(findings.tumor_volume_ml):g} ml"),
        ("Tumor burden", f"{100 * findings.tumor_burden:.2f} %"),
        ("Liver without lesions", f"{liver.mean_hu:.0f} ± {liver.sd_hu:.0f} HU"),
    )


def _identity(source: PageSource) -> Pairs:
    pairs = (
        ("Patient", source.patient_name),
        ("Study", source.study_description),
        ("Patient ID", source.patient_id),
        ("Study date", source.study_date),
        ("Born", source.birth_date),
        ("Accession", source.accession_number),
        ("Sex", source.sex),
        ("Series", source.series_description),
    )
    if not any(value for _, value in pairs):
        return ()
    return tuple((name, _one_line(value) or UNKNOWN) for name, value in pairs)


def _incomplete(source: PageSource) -> Pairs:
    remark = _one_line(source.remark)
    return (("Incomplete series", remark),) if remark else ()


def _origin(origin: PageOrigin) -> Pairs:
    model = origin.model
    return (
        ("Model", _one_line(f"{model.name} {model.version}")),
        ("Software", _one_line(f"hepar {origin.software_version}")),
        ("Made", f"{origin.created_at:%Y-%m-%d %H:%M %Z}"),
        ("License of the model", _one_line(model.license)),
    )


def _one_line(text: str) -> str:
    """Leave out line breaks and other characters that only control how text is shown."""
    return " ".join("".join(sign if sign.isprintable() else " " for sign in text).split())

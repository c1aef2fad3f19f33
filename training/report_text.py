"""The text of a report: targets, tables over all cases and case by case."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from inference.manifest import ModelIdentity
from training.calibration import Reliability
from training.detection import LARGE_MM, Detection, LesionScore
from training.metrics import TOLERANCE_MM, StructureScore
from training.scores import (
    BoxScore,
    CaseScore,
    Pooled,
    PooledStructure,
    Summary,
)
from training.targets import list_targets

_NO_VALUE = "-"
_CLASSES = ("background", "liver", "tumor")
_PUBLISHED_NOTE = (
    "The LiTS values (Bilic et al., Med Image Anal 84 (2023) 102680) were measured on 70 hidden "
    "test scans and so are not directly comparable with cross-validation on other data. The values "
    "of 2D networks are claims of reports on slices that were chosen because they hold tumor: a "
    "network that is shown no others cannot mark a tumor where there is none, and slices of one "
    "patient may lie in training and test. Here all slices of new patients are segmented, and "
    "those that hold the structure are then averaged."
)
_METHODS = f"""The liver is liver and tumor together. Surface distances are those between border
voxels; ASSD is their mean over both surfaces, HD95 the larger of the two 95th percentiles, the
surface Dice the share within {TOLERANCE_MM:.0f} mm. Means are over the cases that have the value:
an empty result has a Dice of 0 and no distance. A lesion is a 26-connected component. At any
overlap one common voxel makes a match; at half overlap true lesions with the same found lesion, and
found ones with the same true lesion, are taken together and match where their Jaccard coefficient
exceeds 0.5. Its size is the diameter of the sphere of its volume. Tumors are judged only where they
were annotated."""


@dataclass(frozen=True, kw_only=True)
class Report:
    """What an evaluation gave."""

    models: tuple[ModelIdentity, ...]
    cases: tuple[CaseScore, ...]
    boxes: tuple[BoxScore, ...] = ()
    """Of the locator alone, in whole scans."""


def compose_report(report: Report, pooled: Pooled, pictures: Mapping[str, str]) -> str:
    """Write a report in Markdown.

    Parameters
    ----------
    report:
        What was measured.
    pooled:
        Its cases together.
    pictures:
        Title and file name.
    """
    tumor_cases = [case for case in report.cases if case.tumors_known]
    sections = [
        _introduction(report, pooled, len(tumor_cases)),
        "## Targets\n\n" + _target_table(pooled),
        "## Beside published values\n\n" + _published_table(pooled) + f"\n\n{_PUBLISHED_NOTE}",
        "## All cases\n\n" + _pooled_tables(pooled),
        *(f"## {title}\n\n![{title}]({file})" for title, file in pictures.items()),
        "## Liver, case by case\n\n" + _liver_table(report.cases),
    ]
    if tumor_cases:
        sections.append("## Tumor, case by case\n\n" + _tumor_table(tumor_cases))
    if report.boxes:
        sections.append("## Locator in whole scans\n\n" + _box_table(report.boxes))
    return "\n\n".join([*sections, "## How it was measured\n\n" + _METHODS]) + "\n"


def _introduction(report: Report, pooled: Pooled, known: int) -> str:
    folds = sorted({case.fold for case in report.cases if case.fold is not None})
    names = f"{'folds' if len(folds) > 1 else 'fold'} {', '.join(map(str, folds))}"
    where = f" of {names}" if folds else ""
    models = ", ".join(dict.fromkeys(f"{model.name} {model.version}" for model in report.models))
    digests = ", ".join(f"`{model.digest}`" for model in report.models)
    return (
        f"# Evaluation of {models}\n\n"
        f"Cases: {pooled.cases}{where}; tumors annotated in {known} of them; "
        f"{pooled.cases_without_result} without a result.\n\n"
        f"Model digests: {digests}"
    )


def _table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Lay out a Markdown table; all columns but the first are aligned right."""
    ruler = ["---", *["---:"] * (len(header) - 1)]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (header, ruler, *rows))


def _number(value: float | None, digits: int = 3) -> str:
    return _NO_VALUE if value is None else f"{value:.{digits}f}"


def _target_table(pooled: Pooled) -> str:
    words = {True: "yes", False: "**no**", None: "not measured"}
    rows = [
        (
            target.name,
            f"{'at most' if target.at_most else 'at least'} {target.limit:g}",
            _number(target.value),
            words[target.is_met],
        )
        for target in list_targets(pooled)
    ]
    return _table(("Measure", "Wanted", "Measured", "Reached"), rows)


def _published_table(pooled: Pooled) -> str:
    liver, tumor, liver_slices, tumor_slices = (
        _number(summary.mean if summary else None)
        for summary in (
            pooled.liver.dice,
            pooled.tumor.dice,
            pooled.liver.slice_dice,
            pooled.tumor.slice_dice,
        )
    )
    best = "LiTS, 70 hidden scans"
    rows = (
        ("Liver Dice, mean over cases", f"{best}: 0.963 (best)", liver),
        ("Tumor Dice, mean over cases", f"{best}: 0.674 (best of 2017), 0.739 (2018)", tumor),
        ("Liver Dice, mean over slices with liver", "2D networks: about 0.89", liver_slices),
        ("Tumor Dice, mean over slices with tumor", "2D networks: 0.85 to 0.89", tumor_slices),
    )
    return _table(("Measure", "Published", "Measured here"), rows)


def _pooled_tables(pooled: Pooled) -> str:
    rows = [*_structure_rows("Liver", pooled.liver), *_structure_rows("Tumor", pooled.tumor)]
    rows.append(_summary_row("False tumor in tumor-free livers, ml", pooled.false_tumor_ml))
    parts = [
        _table(("Measure", "Cases", "Mean", "Median", "Min", "Max"), rows),
        _table(("Over all cases together", "Value"), _global_rows(pooled)),
        _table(
            ("Lesions", "True", "Detected", "Found", "Correct", "Recall", "Precision", "F1"),
            _lesion_rows(pooled),
        ),
    ]
    if pooled.confusion_ml is not None:
        header = ("Volume, ml", *(f"Found {name}" for name in _CLASSES))
        named = zip(_CLASSES, pooled.confusion_ml, strict=True)
        confusion = [(f"True {name}", *(_number(ml, 1) for ml in row)) for name, row in named]
        parts.append(_table(header, confusion))
    return "\n\n".join(parts)


def _structure_rows(name: str, structure: PooledStructure) -> list[tuple[str, ...]]:
    measures = {
        "Dice": structure.dice,
        "Jaccard": structure.jaccard,
        "volume overlap error": structure.volume_overlap_error,
        "relative volume difference": structure.relative_volume_difference,
        "ASSD, mm": structure.assd_mm,
        "HD95, mm": structure.hd95_mm,
        f"surface Dice at {TOLERANCE_MM:.0f} mm": structure.surface_dice,
        "Dice of slices that hold it": structure.slice_dice,
    }
    return [_summary_row(f"{name} {measure}", summary) for measure, summary in measures.items()]


def _summary_row(title: str, summary: Summary | None) -> tuple[str, ...]:
    if summary is None:
        return (title, "0", *[_NO_VALUE] * 4)
    values = (summary.mean, summary.median, summary.min, summary.max)
    return (title, str(summary.cases), *(_number(value) for value in values))


def _global_rows(pooled: Pooled) -> list[tuple[str, str]]:
    return [
        ("Liver Dice, global", _number(pooled.liver.global_dice)),
        ("Liver Jaccard, global", _number(pooled.liver.global_jaccard)),
        ("Tumor Dice, global", _number(pooled.tumor.global_dice)),
        ("Tumor Jaccard, global", _number(pooled.tumor.global_jaccard)),
        ("Tumor burden, root mean square error", _number(pooled.burden_rmse)),
        ("Tumor burden, largest error", _number(pooled.burden_max_error)),
        ("Calibration error of the organ", _calibration_error(pooled.organ_reliability)),
        ("Calibration error of the tumor", _calibration_error(pooled.tumor_reliability)),
    ]


def _calibration_error(reliability: Reliability | None) -> str:
    return _number(reliability.expected_calibration_error if reliability else None, 4)


def _lesion_rows(pooled: Pooled) -> list[tuple[str, ...]]:
    large = f"{LARGE_MM:.0f} mm or more"
    rules = {
        "All, any overlap": pooled.lesions.any_overlap,
        "All, half overlap": pooled.lesions.half_overlap,
        f"{large}, any overlap": pooled.lesions.large_any_overlap,
        f"{large}, half overlap": pooled.lesions.large_half_overlap,
    }
    return [(name, *_detection_cells(detection)) for name, detection in rules.items()]


def _detection_cells(detection: Detection) -> tuple[str, ...]:
    counts = (detection.true, detection.detected, detection.found, detection.correct)
    shares = (detection.recall, detection.precision, detection.f1)
    return (*map(str, counts), *map(_number, shares))


def _liver_table(cases: Sequence[CaseScore]) -> str:
    header = (
        *("Case", "Fold", "Dice", "VOE", "RVD", "ASSD, mm", "HD95, mm", "Surface Dice"),
        *("True, ml", "Found, ml", "Tumor found, ml", "Calibration error", "Time, s", "Note"),
    )
    rows = [
        (
            _word(case.case_id),
            _NO_VALUE if case.fold is None else str(case.fold),
            _number(case.liver.dice),
            _number(case.liver.volume_overlap_error),
            _number(case.liver.relative_volume_difference),
            _number(case.liver.assd_mm, 2),
            _number(case.liver.hd95_mm, 1),
            _number(case.liver.surface_dice),
            _number(case.liver.true_ml, 0),
            _number(case.liver.found_ml, 0),
            _number(case.found_tumor_ml, 1),
            _calibration_error(case.organ_reliability),
            _number(case.seconds, 1),
            _word(case.note),
        )
        for case in cases
    ]
    return _table(header, rows)


def _tumor_table(cases: Sequence[CaseScore]) -> str:
    header = (
        *("Case", "Dice", "RVD", "ASSD, mm", "HD95, mm", "Surface Dice", "True, ml", "Found, ml"),
        *("Lesions", "Detected: any, half overlap", "Lesions found", "Correct: any, half overlap"),
        *("Burden true, %", "Burden found, %", "Calibration error"),
    )
    rows = [
        _tumor_row(case, case.tumor, case.lesions)
        for case in cases
        if case.tumor is not None and case.lesions is not None
    ]
    return _table(header, rows)


def _tumor_row(case: CaseScore, tumor: StructureScore, lesions: LesionScore) -> tuple[str, ...]:
    half, touched = lesions.half_overlap, lesions.any_overlap
    return (
        _word(case.case_id),
        _number(tumor.dice),
        _number(tumor.relative_volume_difference),
        _number(tumor.assd_mm, 2),
        _number(tumor.hd95_mm, 1),
        _number(tumor.surface_dice),
        _number(tumor.true_ml, 1),
        _number(tumor.found_ml, 1),
        str(touched.true),
        f"{touched.detected}, {half.detected}",
        str(touched.found),
        f"{touched.correct}, {half.correct}",
        _number(100 * (case.true_burden or 0), 1),
        _number(100 * (case.found_burden or 0), 1),
        _calibration_error(case.tumor_reliability),
    )


def _box_table(boxes: Sequence[BoxScore]) -> str:
    rows = [
        (_word(box.case_id), _number(box.liver_in_box, 4), _number(box.box_ml, 0), _word(box.note))
        for box in boxes
    ]
    return _table(("Case", "Share of the liver in the box", "Box, ml", "Note"), rows)


def _word(text: str) -> str:
    """Keep a text inside its cell."""
    return " ".join(text.split()).replace("|", "\\|")

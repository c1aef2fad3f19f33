"""The content trees of our reports, row by row against the templates of PS3.16 Annex A.

The tables hold the rows that our reports may have. Rows of the templates that none of them has are
left out, so that an item of such a row fails the tests until its row is entered here.
"""

import json
import subprocess
from collections.abc import Callable, Iterator, Sequence
from copy import deepcopy
from dataclasses import dataclass, replace
from pathlib import Path

import highdicom as hd
import pytest
from pydicom import Dataset, dcmread

from config.results import ProfileSettings
from dicom_io import codes
from dicom_io.errors import RejectionReason
from dicom_io.refusal import Refusal, RefusedSeries, write_refusal
from inference.findings import Doubt, DoubtCode

HAS_CONCEPT_MOD, HAS_OBS_CONTEXT = "HAS CONCEPT MOD", "HAS OBS CONTEXT"
HAS_ACQ_CONTEXT, CONTAINS, SELECTED_FROM = "HAS ACQ CONTEXT", "CONTAINS", "SELECTED FROM"
MANY = 1000


@dataclass(frozen=True, kw_only=True)
class Row:
    """A row of a template, with what it includes."""

    number: str
    """Template and row."""
    relation: str
    value_type: str
    name: tuple[str, str] | None
    """Code value and scheme; none where the template leaves the concept to a context group."""
    least: int = 1
    most: int = 1
    template: str | None = None
    """That the item says it begins."""
    below: "tuple[Row, ...]" = ()

    def fits(self, item: Dataset) -> bool:
        """Say whether an item is one of this row."""
        return (
            (item.RelationshipType, item.ValueType) == (self.relation, self.value_type)
            and self.name in (None, name_of(item))
            and self.template == template_of(item)
        )


def name_of(item: Dataset) -> tuple[str, str]:
    [code] = item.ConceptNameCodeSequence
    return code.CodeValue, code.CodingSchemeDesignator


def template_of(item: Dataset) -> str | None:
    templates = item.get("ContentTemplateSequence")
    if not templates:
        return None
    assert templates[0].MappingResource == "DCMR"
    return str(templates[0].TemplateIdentifier)


def _text(number: str, relation: str, code: str, **more) -> Row:
    return Row(number=number, relation=relation, value_type="TEXT", name=(code, "DCM"), **more)


LANGUAGE = (
    Row(
        number="1204.1",
        relation=HAS_CONCEPT_MOD,
        value_type="CODE",
        name=("121049", "DCM"),
    ),
)
"""TID 1204 "Language of Content Item and Descendants"."""

OBSERVATION_CONTEXT = (
    Row(number="1002.1", relation=HAS_OBS_CONTEXT, value_type="CODE", name=("121005", "DCM")),
    Row(number="1004.1", relation=HAS_OBS_CONTEXT, value_type="UIDREF", name=("121012", "DCM")),
    _text("1004.2", HAS_OBS_CONTEXT, "121013", least=0),
    _text("1004.3", HAS_OBS_CONTEXT, "121014", least=0),
    _text("1004.4", HAS_OBS_CONTEXT, "121015", least=0),
    _text("1004.5", HAS_OBS_CONTEXT, "121016", least=0),
    _text("1004, Station AE Title", HAS_OBS_CONTEXT, "110119", least=0),
)
"""TID 1001 by way of TID 1002: the observer is a device (TID 1004), so TID 1003 is not there."""

ALGORITHM = (
    _text("4019.1", HAS_CONCEPT_MOD, "111001"),
    _text("4019.2", HAS_CONCEPT_MOD, "111003"),
    _text("4019.3", HAS_CONCEPT_MOD, "111002", least=0, most=MANY),
    Row(
        number="4019.4",
        relation=HAS_CONCEPT_MOD,
        value_type="CODE",
        name=("111000", "DCM"),
        least=0,
    ),
)
"""TID 4019 "Algorithm Identification", which may not be extended."""

MEASUREMENT = Row(
    number="300.1",
    relation=CONTAINS,
    value_type="NUM",
    name=None,
    most=MANY,
    below=(
        Row(
            number="300.4",
            relation=HAS_CONCEPT_MOD,
            value_type="CODE",
            name=("121401", "DCM"),
            least=0,
        ),
    ),
)
"""TID 300 "Measurement"."""

TRACKING_AND_FINDING = (
    _text("tracking identifier", HAS_OBS_CONTEXT, "112039"),
    Row(
        number="tracking unique identifier",
        relation=HAS_OBS_CONTEXT,
        value_type="UIDREF",
        name=("112040", "DCM"),
    ),
    Row(
        number="finding category",
        relation=CONTAINS,
        value_type="CODE",
        name=("276214006", "SCT"),
        least=0,
    ),
    Row(number="finding", relation=CONTAINS, value_type="CODE", name=("121071", "DCM"), least=0),
    Row(
        number="finding site",
        relation=HAS_CONCEPT_MOD,
        value_type="CODE",
        name=("363698007", "SCT"),
        least=0,
        most=MANY,
    ),
    *ALGORITHM,
)
"""What TID 1410, 1411 and 1501 begin with."""

# Where the region of a group stands: highdicom 0.28 writes it behind the measurements, DCMTK before
# them; both readers, dcmqi and OHIF find it by its name.
PLANAR_REGION = (
    Row(
        number="1410, image region",
        relation=CONTAINS,
        value_type="SCOORD",
        name=("111030", "DCM"),
        below=(
            Row(
                number="1410, its image",
                relation=SELECTED_FROM,
                value_type="IMAGE",
                name=None,
            ),
        ),
    ),
)
VOLUMETRIC_REGION = (
    Row(
        number="1411, referenced segment",
        relation=CONTAINS,
        value_type="IMAGE",
        name=("121191", "DCM"),
    ),
    Row(
        number="1411, source series for segmentation",
        relation=CONTAINS,
        value_type="UIDREF",
        name=("121232", "DCM"),
    ),
)

JUDGEMENTS = (
    Row(
        number="judgement",
        relation=CONTAINS,
        value_type="CODE",
        name=None,
        least=0,
        most=MANY,
    ),
)
"""Qualitative evaluations of a group."""


def _group(template: str, region: tuple[Row, ...] = (), least: int = 1) -> Row:
    return Row(
        number=template,
        relation=CONTAINS,
        value_type="CONTAINER",
        name=("125007", "DCM"),
        least=least,
        most=MANY,
        template=template,
        below=(*TRACKING_AND_FINDING, MEASUREMENT, *JUDGEMENTS, *region),
    )


GROUPS = {
    "1410": _group("1410", PLANAR_REGION),
    "1411": _group("1411", VOLUMETRIC_REGION),
    "1501": _group("1501"),
}
HEAD = (
    *LANGUAGE,
    *OBSERVATION_CONTEXT,
    Row(
        number="1500.4",
        relation=HAS_CONCEPT_MOD,
        value_type="CODE",
        name=("121058", "DCM"),
        most=MANY,
    ),
)
"""Rows 2 to 4 of TID 1500 "Measurement Report"."""


def _about_image(value_type: str, *codes: str, least: int = 0) -> tuple[Row, ...]:
    return tuple(
        Row(
            number=f"image library, {code}",
            relation=HAS_ACQ_CONTEXT,
            value_type=value_type,
            name=(code, "DCM"),
            least=least,
        )
        for code in codes
    )


IMAGE_LIBRARY_ENTRY = Row(
    number="1601.1",
    relation=CONTAINS,
    value_type="IMAGE",
    name=None,
    most=MANY,
    below=_about_image("NUM", "110901", "110902", "110903"),
)
"""TID 1601 "Image Library Entry" with what is its own of TID 1604, rows 5 to 7."""
COMMON_DESCRIPTORS = (
    *_about_image("CODE", "121139", least=1),
    *_about_image("UIDREF", "112227", least=1),
    *_about_image("NUM", "110910", "110911", least=1),
    *_about_image("NUM", "111026", "111066", "112226", "112225", least=1),
    *_about_image("NUM", "110904", "110905", "110906", "110907", "110908", "110909", least=1),
)
"""TID 1602 and the other rows of 1604, in the order of their rows."""
IMAGE_LIBRARY = Row(
    number="1500.5, 1600.1",
    relation=CONTAINS,
    value_type="CONTAINER",
    name=("111028", "DCM"),
    least=0,
    below=(
        Row(
            number="1600.2",
            relation=CONTAINS,
            value_type="CONTAINER",
            name=("126200", "DCM"),
            most=MANY,
            below=(*COMMON_DESCRIPTORS, IMAGE_LIBRARY_ENTRY),
        ),
    ),
)
IMAGING_MEASUREMENTS = Row(
    number="1500.6", relation=CONTAINS, value_type="CONTAINER", name=("126010", "DCM")
)
"""Its groups (rows 7 to 9) come in any order, which `read_groups` looks at."""
QUALITATIVE_EVALUATIONS = Row(
    number="1500.12",
    relation=CONTAINS,
    value_type="CONTAINER",
    name=("C0034375", "UMLS"),
    below=(
        Row(number="1500.13", relation=CONTAINS, value_type="CODE", name=None, least=0, most=MANY),
        Row(number="1500.14", relation=CONTAINS, value_type="TEXT", name=None, least=0, most=MANY),
    ),
)
REPORT = (*HEAD, IMAGE_LIBRARY, IMAGING_MEASUREMENTS, QUALITATIVE_EVALUATIONS)
REFUSED = (*HEAD, QUALITATIVE_EVALUATIONS)
"""Row 6 need not be there where row 12 is."""

OUR_TERMS = {
    "liver-volume",
    "maximum-hu",
    "minimum-hu",
    "surface-distance",
    "tumor-burden",
    "tumor-volume",
    "evaluability",
    "plausibility",
    "recist-1.1",
    *(code.value for code in codes.DOUBTS.values()),
    *(codes.refusal_code(reason).value for reason in RejectionReason),
}
"""All codes of our own; the context groups of measurement names and judgements are extensible."""
STANDARD_SCHEMES = {"DCM", "SCT", "UCUM", "LN", "UMLS", "RFC5646"}
UNITS = {"ml", "mm", "[hnsf'U]", "%", "{lesions}", "{pixels}", "{-1:1}"}


def compare(items: Sequence[Dataset], rows: Sequence[Row], where: str) -> Iterator[str]:
    """Say how items differ from the rows of a template whose order is significant."""
    counts, reached = [0] * len(rows), 0
    for item in items:
        fitting = [index for index, row in enumerate(rows) if row.fits(item)]
        if not fitting:
            yield f"{where}: no row for {item.RelationshipType} {item.ValueType} {name_of(item)}"
            continue
        index = next((one for one in fitting if one >= reached), fitting[-1])
        if index < reached:
            yield f"{where}: row {rows[index].number} comes too late"
        reached = max(reached, index)
        counts[index] += 1
        if rows[index] is not IMAGING_MEASUREMENTS:
            below = item.get("ContentSequence", [])
            yield from compare(below, rows[index].below, f"{where}/{rows[index].number}")
    for row, count in zip(rows, counts, strict=True):
        if not row.least <= count <= row.most:
            yield f"{where}: row {row.number} is there {count} times"


def compare_report(report: Dataset, rows: Sequence[Row]) -> list[str]:
    """Say how a report differs from TID 1500."""
    found = list(compare(report.ContentSequence, rows, "1500"))
    for number, group in enumerate(read_groups(report)):
        row = GROUPS.get(template_of(group) or "")
        if row is None or not row.fits(group):
            found.append(f"group {number}: of no known template")
        else:
            found += compare(group.ContentSequence, row.below, f"group {number}, {row.number}")
    return found


def read_groups(report: Dataset) -> list[Dataset]:
    return [
        group
        for item in report.ContentSequence
        if IMAGING_MEASUREMENTS.fits(item)
        for group in item.ContentSequence
    ]


def every_code(dataset: Dataset) -> Iterator[Dataset]:
    """Give all items of code sequences, wherever they are."""
    for element in dataset:
        if element.VR == "SQ":
            for item in element.value:
                if "CodeValue" in item:
                    yield item
                yield from every_code(item)


def every_item(item: Dataset) -> Iterator[Dataset]:
    for child in item.get("ContentSequence", []):
        yield child
        yield from every_item(child)


def _negative(results, folder):
    return results.case(lesions=()).write(folder)[1]


def _pooled(results, folder):
    return results.case().with_settings(max_lesion_segments=1).write(folder)[1]


def _doubtful(results, folder):
    case = results.case()
    doubts = tuple(Doubt(code=code, sentence=f"{code.value}.") for code in DoubtCode)
    return replace(case, findings=replace(case.findings, doubts=doubts)).write(folder)[1]


def _of_enhanced_ct(results, folder):
    return results.case(results.source(enhanced=True)).write(folder)[1]


def _with_library(results, folder, *, enhanced=False):
    case = results.case(results.source(enhanced=enhanced))
    profile = ProfileSettings(objects=("seg", "sr"), image_library=True)
    return case.with_profiles(slicer=profile).write(folder)[1]


def _with_library_of_enhanced_ct(results, folder):
    return _with_library(results, folder, enhanced=True)


def _in_one_segment(results, folder):
    profile = ProfileSettings(objects=("seg", "sr"), lesions="together")
    return results.case().with_profiles(slicer=profile).write(folder)[1]


def _usual(results, folder):
    return results.case().write(folder)[1]


CASES: dict[str, Callable] = {
    "three lesions": _usual,
    "no lesion": _negative,
    "pooled lesions": _pooled,
    "doubtful": _doubtful,
    "Enhanced CT": _of_enhanced_ct,
    "image library": _with_library,
    "image library of Enhanced CT": _with_library_of_enhanced_ct,
    "one tumor segment": _in_one_segment,
}


@pytest.fixture(scope="module")
def reports(results, tmp_path_factory) -> dict[str, Path]:
    """Write a report of each kind."""
    return {name: make(results, tmp_path_factory.mktemp("sr")) for name, make in CASES.items()}


@pytest.fixture
def refusal(case, ct, tmp_path) -> Path:
    """Write a report on a series that was rejected."""
    paths = ct.write(ct.slices(), tmp_path / "ct")
    refusal = Refusal(RejectionReason.MISSING_SLICE, "2 missing")
    refused = RefusedSeries.read(paths, refusal, case.context, case.segmentation.model)
    [written] = write_refusal(refused, tmp_path, b"")
    return written.path


@pytest.mark.parametrize("name", CASES)
def test_a_report_has_what_the_templates_ask_for_and_nothing_else(reports, name):
    report = dcmread(reports[name])
    assert compare_report(report, REPORT) == []
    _check_root(report)
    templates = [template_of(group) for group in read_groups(report)]
    assert set(templates) == {"1410", "1411", "1501"}
    # One segment of several lesions has a line for each.
    assert templates.count("1410") >= templates.count("1411")
    assert templates.count("1501") == 1


def test_so_has_a_report_on_a_rejected_series(refusal):
    report = dcmread(refusal)
    assert compare_report(report, REFUSED) == []
    _check_root(report)
    _check_terms(report)


def _check_root(report: Dataset) -> None:
    """Row 1 of TID 1500: one of CID 7021, and the template is named."""
    assert (report.ValueType, name_of(report)) == ("CONTAINER", ("126000", "DCM"))
    assert template_of(report) == "1500"


@pytest.mark.parametrize("name", CASES)
def test_all_terms_are_of_the_standard_or_declared_as_ours(reports, name):
    _check_terms(dcmread(reports[name]))


def _check_terms(report: Dataset) -> None:
    found = list(every_code(report))
    ours = {code.CodeValue for code in found if code.CodingSchemeDesignator == "99HEPAR"}
    assert ours <= OUR_TERMS
    assert {code.CodingSchemeDesignator for code in found} <= {*STANDARD_SCHEMES, "99HEPAR"}
    [declared] = report.CodingSchemeIdentificationSequence
    assert declared.CodingSchemeDesignator == "99HEPAR"


@pytest.mark.parametrize("name", CASES)
def test_each_number_has_one_value_in_a_known_unit(reports, name):
    numbers = [one for one in every_item(dcmread(reports[name])) if one.ValueType == "NUM"]
    assert numbers
    for number in numbers:
        [measured] = number.MeasuredValueSequence
        [unit] = measured.MeasurementUnitsCodeSequence
        assert (unit.CodingSchemeDesignator, unit.CodeValue in UNITS) == ("UCUM", True)


@pytest.mark.parametrize("name", CASES)
def test_whatever_is_cited_is_in_the_evidence(reports, name):
    report = dcmread(reports[name])
    evidence = {
        instance.ReferencedSOPInstanceUID
        for study in report.CurrentRequestedProcedureEvidenceSequence
        for series in study.ReferencedSeriesSequence
        for instance in series.ReferencedSOPSequence
    }
    cited = {
        reference.ReferencedSOPInstanceUID
        for item in every_item(report)
        for reference in item.get("ReferencedSOPSequence", [])
    }
    assert cited
    assert cited <= evidence


def _first_group(report: Dataset, template: str) -> Dataset:
    return next(group for group in read_groups(report) if template_of(group) == template)


def _drop_tracking_uid(report):
    del _first_group(report, "1411").ContentSequence[1]


def _swap_tracking(report):
    items = _first_group(report, "1410").ContentSequence
    items[0], items[1] = items[1], items[0]


def _repeat_finding(report):
    items = _first_group(report, "1411").ContentSequence
    items.insert(4, deepcopy(items[3]))


def _wrong_relation(report):
    _first_group(report, "1501").ContentSequence[0].RelationshipType = CONTAINS


def _wrong_value_type(report):
    report.ContentSequence[0].ValueType = "TEXT"


def _no_evaluations(report):
    del report.ContentSequence[-1]


def _algorithm_manufacturer(report):
    items = _first_group(report, "1411").ContentSequence
    items.insert(7, deepcopy(items[6]))
    items[7].ConceptNameCodeSequence[0].CodeValue = "122405"


def _unknown_template(report):
    _first_group(report, "1410").ContentTemplateSequence[0].TemplateIdentifier = "1400"


def _line_without_image(report):
    items = _first_group(report, "1410").ContentSequence
    [line] = [item for item in items if item.ValueType == "SCOORD"]
    del line.ContentSequence


@pytest.mark.parametrize(
    ("spoil", "complaint"),
    [
        (_drop_tracking_uid, "tracking unique identifier is there 0 times"),
        (_swap_tracking, "tracking identifier comes too late"),
        (_repeat_finding, "row finding is there 2 times"),
        (_wrong_relation, "no row for CONTAINS TEXT"),
        (_wrong_value_type, "no row for HAS CONCEPT MOD TEXT ('121049', 'DCM')"),
        (_no_evaluations, "row 1500.12 is there 0 times"),
        (_algorithm_manufacturer, "no row for HAS CONCEPT MOD TEXT ('122405', 'DCM')"),
        (_unknown_template, "of no known template"),
        (_line_without_image, "its image is there 0 times"),
    ],
)
def test_what_a_template_does_not_allow_is_found(reports, spoil, complaint):
    report = dcmread(reports["three lesions"])
    spoil(report)
    assert any(complaint in one for one in compare_report(report, REPORT))


def _numbers_of(group: Dataset) -> list[tuple[str, float, str, str | None]]:
    """Name, value, unit and derivation of all numbers of a group."""
    return [
        (
            name_of(item)[0],
            float(item.MeasuredValueSequence[0].NumericValue),
            item.MeasuredValueSequence[0].MeasurementUnitsCodeSequence[0].CodeValue,
            next(
                (d.ConceptCodeSequence[0].CodeValue for d in item.get("ContentSequence", [])), None
            ),
        )
        for item in group.ContentSequence
        if item.ValueType == "NUM"
    ]


def _tracking_of(group: Dataset) -> tuple[str, str]:
    identifier, uid, *_ = group.ContentSequence
    return identifier.TextValue, uid.UID


@pytest.mark.parametrize("name", CASES)
def test_dcmqi_reads_every_group_with_its_values_units_and_tracking(
    reports, name, venv_program, tmp_path
):
    metadata = tmp_path / "sr.json"
    command = [venv_program("tid1500reader"), "--inputDICOM", str(reports[name])]
    command += ["--outputMetadata", str(metadata)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    assert "ERROR" not in done.stderr
    found = [
        (
            (group["TrackingIdentifier"], group["TrackingUniqueIdentifier"]),
            [
                (
                    item["quantity"]["CodeValue"],
                    float(item["value"]),
                    item["units"]["CodeValue"],
                    item.get("derivationModifier", {}).get("CodeValue"),
                )
                for item in group["measurementItems"]
            ],
        )
        for group in json.loads(metadata.read_text())["Measurements"]
    ]
    groups = read_groups(dcmread(reports[name]))
    assert found == [(_tracking_of(group), _numbers_of(group)) for group in groups]


@pytest.mark.parametrize("name", CASES)
def test_highdicom_reads_every_group(reports, name):
    content = hd.sr.srread(reports[name]).content
    found = [
        *content.get_image_measurement_groups(),
        *content.get_volumetric_roi_measurement_groups(),
        *content.get_planar_roi_measurement_groups(),
    ]
    tracked = [(group.tracking_identifier, group.tracking_uid) for group in found]
    groups = read_groups(dcmread(reports[name]))
    assert sorted(tracked) == sorted(_tracking_of(group) for group in groups)


@pytest.mark.peer
@pytest.mark.parametrize("name", [*CASES, "rejected"])
def test_dsrdump_has_nothing_to_complain_of(reports, refusal, name, program):
    path = refusal if name == "rejected" else reports[name]
    done = subprocess.run([program("dsrdump"), path], check=True, capture_output=True, text=True)
    # It does not know UTF-8, which is no fault of the report.
    known = "W: The VR checker does not support this Specific Character Set: ISO_IR 192"
    assert [line for line in done.stderr.splitlines() if line != known] == []
    assert "Imaging Measurement Report" in done.stdout

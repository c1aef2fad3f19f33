"""Judge a phantom's result: whether all of it is there, unchanged, and in its place."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import dist

from config.results import ResultRole
from dicom_io.errors import ResultMismatch
from dicom_io.identity import identity_differences
from dicom_io.seg_reader import read_labels
from dicom_io.sr_reader import ReportedFigures, read_figures
from dicom_io.verify_rtstruct import read_structures
from inference.agreement import agree
from inference.findings import Findings
from inference.labels import Label
from inference.measure import measure
from inference.volume import Volume
from node.commission import Run
from node.health import Check, Verdict
from node.read_back import find_differences
from node.returned import Returned
from storage.states import ProofState

LEAST_LIVER_DICE = 0.9
LEAST_TUMOR_DICE = 0.7
FARTHEST_LESION_MM = 3.0
"""Less than the distance of two slices of the phantom."""
FARTHEST_LINE_MM = 10.0
"""A longest axis need not go through the center."""
LARGEST_VOLUME_ERROR = 0.1

_READERS = {ResultRole.SEG: read_labels, ResultRole.RTSTRUCT: read_structures}
"""What gives a voxel of the phantom its label back."""


@dataclass(frozen=True, kw_only=True)
class Judgement:
    """All checks, and what a picture can show."""

    checks: tuple[Check, ...]
    labels: Volume | None
    """The result on the grid of the source; none where no object holds it."""
    findings: Findings | None


def judge(run: Run) -> Judgement:
    """Judge a run."""
    checks = [_delivered(run), *_proof(run), *_kept(run)]
    labels, findings = None, None
    for returned in run.returned:
        role = ResultRole(returned.result.role)
        if role in _READERS and findings is None:
            try:
                labels = _READERS[role](returned.path, run.source)
                findings = measure(run.source.volume, labels)
            except (ResultMismatch, ValueError) as error:
                name = f"alignment of the {_name(returned)}"
                checks.append(Check(name=name, verdict=Verdict.BAD, detail=str(error)))
            else:
                checks += _alignment(run, returned, labels, findings)
        if role is ResultRole.SR:
            checks += _report(run, returned)
    if not any(check.name.startswith("alignment") for check in checks):
        checks.append(_look_at_it(run))
    return Judgement(checks=tuple(checks), labels=labels, findings=findings)


def _graded(name: str, detail: str, *, good: bool, limit: str = "") -> Check:
    verdict = Verdict.GOOD if good else Verdict.BAD
    return Check(name=name, verdict=verdict, detail=detail, limit=limit)


def _name(returned: Returned) -> str:
    origin = "as read back" if returned.came_back else "as sent"
    return f"{returned.result.role.upper()} {origin}"


def _delivered(run: Run) -> Check:
    roles = dict.fromkeys(one.result.role for one in run.returned)
    detail = f"{len(run.returned)} objects accepted ({', '.join(roles)})"
    return _graded("delivery", detail, good=bool(run.returned))


def _proof(run: Run) -> Iterator[Check]:
    if run.proof is not None:
        asked = ", ".join(run.peer.proofs)
        proven = run.proof.state is ProofState.PROVEN
        detail = f"{asked}: proven" if proven else f"{asked}: {run.proof.last_error or 'no answer'}"
        yield _graded("proof", detail, good=proven)


def _kept(run: Run) -> Iterator[Check]:
    """Judge what the archive lists and gives back, and whether it is the same."""
    returned = run.returned
    yield _counted("listed by the archive", [one.listed for one in returned], returned)
    yield _counted("given back by the archive", [one.given for one in returned], returned)
    back = [one for one in returned if one.came_back]
    if not back:
        return
    changed = {one.result.path: find_differences(one.sent, one.read()) for one in back}
    said = [f"{path}: {', '.join(names)}" for path, names in changed.items() if names]
    detail = "; ".join(said) or f"all attributes of {len(back)} objects"
    yield _graded("the same as sent", detail, good=not said)
    first = run.source.datasets[0]
    differing = {name for one in back for name in identity_differences(one.read(), first)}
    detail = f"differs in {', '.join(sorted(differing))}" if differing else "those of the CT"
    yield _graded("patient and study", detail, good=not differing)


def _counted(name: str, answers: Sequence[bool | None], returned: Sequence[Returned]) -> Check:
    problem = next((one.problem for one in returned if one.problem), "")
    if any(answer is None for answer in answers):
        detail = f"cannot be asked, so only its answers to the delivery count: {problem}"
        return Check(name=name, verdict=Verdict.REMARK, detail=detail)
    good = all(answers)
    detail = f"{sum(map(bool, answers))} of {len(answers)} objects"
    limit = f"{len(answers)} of {len(answers)}"
    return _graded(name, detail if good else f"{detail}: {problem}", good=good, limit=limit)


def _alignment(run: Run, returned: Returned, labels: Volume, findings: Findings) -> Iterator[Check]:
    """Compare labels with the phantom in patient space."""
    where = _name(returned)
    frames = {returned.read().get("FrameOfReferenceUID"), run.source.volume.frame_of_reference_uid}
    detail = "that of the CT" if len(frames) == 1 else "another than that of the CT"
    yield _graded(f"alignment: frame of reference of the {where}", detail, good=len(frames) == 1)
    found = agree(labels, findings, run.phantom)
    for name, value, least in (
        ("liver", found.liver_dice, LEAST_LIVER_DICE),
        ("lesions", found.tumor_dice, LEAST_TUMOR_DICE),
    ):
        yield _graded(
            f"alignment: Dice of the {name}, {where}",
            f"{value:.3f}",
            good=value >= least,
            limit=f"at least {least:g}",
        )
    for lesion in found.lesions:
        yield _near(
            f"alignment: center of the lesion of {lesion.diameter_mm:.0f} mm, {where}",
            lesion.distance_mm,
            FARTHEST_LESION_MM,
        )


def _near(name: str, distance_mm: float | None, farthest_mm: float) -> Check:
    detail = "no lesion found" if distance_mm is None else f"{distance_mm:.1f} mm off"
    good = distance_mm is not None and distance_mm <= farthest_mm
    return _graded(name, detail, good=good, limit=f"at most {farthest_mm:g} mm")


def _report(run: Run, returned: Returned) -> Iterator[Check]:
    """Compare numbers and lines of the report with the phantom."""
    where = _name(returned)
    try:
        figures = read_figures(returned.read(), run.source)
    except ResultMismatch as error:
        yield _graded(f"numbers of the {where}", str(error), good=False)
        return
    truth = run.phantom.labels
    liver_ml = (truth.array != Label.BACKGROUND).sum() * abs(truth.voxel_volume) / 1000
    share = abs(figures.liver_ml / liver_ml - 1)
    yield _graded(
        f"liver volume, {where}",
        f"{figures.liver_ml:.0f} ml, the phantom has {liver_ml:.0f} ml",
        good=share <= LARGEST_VOLUME_ERROR,
        limit=f"within {LARGEST_VOLUME_ERROR:.0%}",
    )
    yield from _lines(run, where, figures)


def _lines(run: Run, where: str, figures: ReportedFigures) -> Iterator[Check]:
    for lesion in run.phantom.lesions:
        distances_mm = [dist(lesion.center_mm, line.middle_mm) for line in figures.lines]
        yield _near(
            f"line of the lesion of {2 * lesion.radii_mm[0]:.0f} mm, {where}",
            min(distances_mm, default=None),
            FARTHEST_LINE_MM,
        )


def _look_at_it(run: Run) -> Check:
    profile = run.delivery.profile
    detail = (
        f"the profile {profile!r} has neither SEG nor RTSTRUCT, so no program can say where it "
        "lies: a person must look at the pictures"
    )
    return Check(name="alignment", verdict=Verdict.REMARK, detail=detail)

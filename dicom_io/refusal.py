"""The report on a series that cannot be evaluated: it says so in a code and in words.

It is all that the readers of a study learn of a series that was rejected, so it is made of whatever
can still be read of it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import highdicom as hd
from highdicom.sr.templates import DEFAULT_LANGUAGE
from pydicom import Dataset, dcmread
from pydicom.sr.coding import Code

from config.results import ResultRole
from dicom_io import codes
from dicom_io.encapsulated_pdf import check_pdf, encapsulate
from dicom_io.errors import InvalidUid, RejectionReason, ResultMismatch, UndecodableInstance
from dicom_io.headers import check_uid, read_attributes
from dicom_io.identity import IDENTITY, identity_differences
from dicom_io.overlay import build_refusal_page
from dicom_io.provenance import InstanceUids, Provenance, observation_context
from dicom_io.results import ResultContext, ResultFile, sync_folder, write_object
from dicom_io.sr import ReportContent, build_document, build_evaluations, list_predecessors
from dicom_io.uids import derive_uid
from dicom_io.values import read_text
from dicom_io.verify_overlay import check_refusal_page
from inference.manifest import ModelIdentity
from inference.wording import NOT_REVIEWED

_ANSWERS = {
    ResultRole.SR: ResultRole.SR,
    ResultRole.SUMMARY: ResultRole.SUMMARY,
    ResultRole.OVERLAY: ResultRole.SUMMARY,
    ResultRole.PDF: ResultRole.PDF,
}
"""The objects that can say in words why there are no others, and what takes their place."""
_REFERENCE = ("SOPClassUID", "SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID")


@dataclass(frozen=True)
class Refusal:
    """Why a series cannot be evaluated."""

    reason: RejectionReason
    detail: str = ""
    """What exactly; may be empty."""


@dataclass(frozen=True, kw_only=True, eq=False)
class RefusedSeries:
    """What can be read of a series that cannot be evaluated."""

    instances: Sequence[Dataset]
    """Of one patient and one study; none where nobody knows in whose record a report belongs."""
    refusal: Refusal
    context: ResultContext
    model: ModelIdentity
    """That was to segment it."""

    @classmethod
    def read(
        cls, paths: Sequence[Path], refusal: Refusal, context: ResultContext, model: ModelIdentity
    ) -> "RefusedSeries":
        """Read the attributes of what can be read.

        Parameters
        ----------
        paths
            The instances of the series.
        refusal
            Why it cannot be evaluated.
        context
            Wording, time and maker.
        model
            That was to segment it.
        """
        found = _readable(paths)
        is_one = len({read_text(instance, "PatientID") for instance in found}) == 1
        return cls(instances=found if is_one else [], refusal=refusal, context=context, model=model)

    @property
    def sentences(self) -> list[str]:
        """Why it cannot be evaluated, and what such a report is."""
        refusal = self.refusal
        said = [f"Not evaluable: {refusal.reason.sentence}", refusal.detail, NOT_REVIEWED]
        return [sentence for sentence in said if sentence]

    @property
    def provenance(self) -> Provenance:
        """The maker."""
        return self.context.provenance(self.model)

    def uids(self, role: ResultRole) -> InstanceUids:
        """Derive the UIDs of an object from all that makes its content."""
        parts = (
            *sorted(read_text(instance, "SOPInstanceUID") for instance in self.instances),
            self.refusal.reason.value,
            self.refusal.detail,
            self.model.digest,
            self.context.software_version,
            self.context.settings.model_dump_json(),
            *self.context.history.key,
            "refusal",
            role.value,
        )
        return InstanceUids(
            series_instance_uid=derive_uid("series", *parts),
            sop_instance_uid=derive_uid("instance", *parts),
        )


def write_refusal(refused: RefusedSeries, folder: Path, pdf: bytes) -> list[ResultFile]:
    """Write what says that a series cannot be evaluated, durable and checked.

    Each profile gets it in the forms that its readers see: a report (SR), a picture, a page of PDF.
    Those that have none of these get the report.

    Parameters
    ----------
    refused
        The series, with at least one instance.
    folder
        An existing folder.
    pdf
        The page for people.

    Returns
    -------
    list[ResultFile]
        What was written.

    Raises
    ------
    ResultMismatch
        If a file does not hold what it was made from.
    OSError
        If a file cannot be written.
    """
    wanting: dict[ResultRole, list[str]] = {}
    for name, profile in refused.context.profiles.items():
        roles = [_ANSWERS[role] for role in profile.objects if role in _ANSWERS]
        for role in roles or [ResultRole.SR]:
            wanting.setdefault(role, []).append(name)
    files = []
    for role, names in wanting.items():
        document = _build(role, refused, names, pdf)
        path = folder / f"{role.value}.dcm"
        write_object(document, path)
        _check(role, path, refused, pdf)
        files.append(ResultFile.of(document, role, path, tuple(names)))
    sync_folder(folder)
    return files


def _build(role: ResultRole, refused: RefusedSeries, names: Sequence[str], pdf: bytes) -> Dataset:
    instances, uids = refused.instances, refused.uids(role)
    settings, provenance = refused.context.settings, refused.provenance
    if role is ResultRole.SUMMARY:
        return build_refusal_page(
            instances, refused.sentences, uids, settings=settings, provenance=provenance
        )
    if role is ResultRole.PDF:
        return encapsulate(pdf, instances, uids, settings=settings, provenance=provenance)
    root = _root(observation_context(provenance))
    evaluability = (codes.EVALUABILITY, codes.refusal_code(refused.refusal.reason))
    root.ContentSequence.append(build_evaluations([evaluability], refused.sentences))
    history, study_uid = refused.context.history, read_text(instances[0], "StudyInstanceUID")
    content = ReportContent(
        root=root,
        evidence=[_reference(one) for one in instances],
        previous_versions=list_predecessors(history, study_uid, names),
    )
    return build_document(content, instances[0], uids, settings=settings, provenance=provenance)


def _check(role: ResultRole, path: Path, refused: RefusedSeries, pdf: bytes) -> None:
    if role is ResultRole.SUMMARY:
        check_refusal_page(path, refused.instances[0])
    elif role is ResultRole.PDF:
        check_pdf(path, refused.instances, pdf)
    else:
        code = codes.refusal_code(refused.refusal.reason)
        _check_report(path, refused.instances[0], code)


def _root(observation: hd.sr.ObservationContext) -> hd.sr.ContainerContentItem:
    """Begin a report of TID 1500.

    That of highdicom must have measurements, which TID 1500 need not have where it has evaluations.
    """
    root = hd.sr.ContainerContentItem(name=codes.IMAGING_MEASUREMENT_REPORT, template_id="1500")
    procedure = hd.sr.CodeContentItem(
        name=codes.PROCEDURE_REPORTED,
        value=codes.PROCEDURE_CT,
        relationship_type=hd.sr.RelationshipTypeValues.HAS_CONCEPT_MOD,
    )
    root.ContentSequence = hd.sr.ContentSequence(
        [
            *hd.sr.LanguageOfContentItemAndDescendants(DEFAULT_LANGUAGE),
            *observation,
            procedure,
        ],
        is_root=False,
    )
    return root


def _readable(paths: Sequence[Path]) -> list[Dataset]:
    """Read what can be read of the instances that lie in the study of the first of them."""
    found: list[Dataset] = []
    for path in paths:
        try:
            dataset = read_attributes(path)
            uids = [check_uid(read_text(dataset, keyword)) for keyword in _REFERENCE]
        except (UndecodableInstance, InvalidUid):
            continue
        if not found or uids[2] == read_text(found[0], "StudyInstanceUID"):
            found.append(dataset)
    return found


def _reference(instance: Dataset) -> Dataset:
    """Say which instance it is, and no more: `stamp_identity` gives the identity."""
    reference = Dataset()
    for keyword in _REFERENCE:
        setattr(reference, keyword, read_text(instance, keyword))
    for keyword in IDENTITY:
        setattr(reference, keyword, None)
    return reference


def _check_report(path: Path, first: Dataset, code: Code) -> None:
    """Read it again, and compare whose it is and what it says."""
    report = dcmread(path)
    differing = ", ".join(identity_differences(report, first))
    if differing:
        raise ResultMismatch(f"SR differs from the source in {differing}")
    container = report.ContentSequence[-1]
    said = container.ContentSequence[0].ConceptCodeSequence[0].CodeValue
    if said != code.value:
        raise ResultMismatch(f"SR says {said}, not {code.value}")

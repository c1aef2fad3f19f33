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

from config.settings import ResultRole
from dicom_io import codes
from dicom_io.errors import InvalidUid, RejectionReason, ResultMismatch, UndecodableInstance
from dicom_io.headers import check_uid, read_attributes
from dicom_io.identity import IDENTITY, identity_differences
from dicom_io.provenance import InstanceUids, observation_context
from dicom_io.results import ResultContext, ResultFile, sync_folder, write_object
from dicom_io.sr import ReportContent, build_document, build_evaluations, list_predecessors
from dicom_io.uids import derive_uid
from dicom_io.values import read_text
from inference.manifest import ModelIdentity
from inference.wording import NOT_REVIEWED

_REFERENCE = ("SOPClassUID", "SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID")


@dataclass(frozen=True)
class Refusal:
    """Why a series cannot be evaluated."""

    reason: RejectionReason
    detail: str = ""
    """What exactly; may be empty."""


def write_refusal(
    paths: Sequence[Path],
    refusal: Refusal,
    folder: Path,
    context: ResultContext,
    model: ModelIdentity,
) -> list[ResultFile]:
    """Write ``sr.dcm``, durable and checked, on a series that cannot be evaluated.

    Parameters
    ----------
    paths
        The instances of the series.
    refusal
        Why it cannot be evaluated.
    folder
        An existing folder.
    context
        Wording, time and maker.
    model
        That was to segment it.

    Returns
    -------
    list[ResultFile]
        The report; nothing where no instance says whose it is, or where they are of several
        patients: then nobody knows in whose record it belongs.

    Raises
    ------
    ResultMismatch
        If the file does not hold what it was made from.
    OSError
        If the file cannot be written.
    """
    instances = _readable(paths)
    if len({read_text(instance, "PatientID") for instance in instances}) != 1:
        return []
    provenance = context.provenance(model)
    code = codes.refusal_code(refusal.reason)
    sentences = [f"Not evaluable: {refusal.reason.sentence}", refusal.detail, NOT_REVIEWED]
    root = _root(observation_context(provenance))
    root.ContentSequence.append(
        build_evaluations([(codes.EVALUABILITY, code)], filter(None, sentences))
    )
    profiles = tuple(context.profiles)
    study_uid = read_text(instances[0], "StudyInstanceUID")
    content = ReportContent(
        root=root,
        evidence=[_reference(one) for one in instances],
        previous_versions=list_predecessors(context.history, study_uid, profiles),
    )
    uids = _uids(instances, refusal, context, model)
    document = build_document(
        content, instances[0], uids, settings=context.settings, provenance=provenance
    )
    path = folder / "sr.dcm"
    write_object(document, path)
    written = ResultFile.of(document, ResultRole.SR, path, profiles)
    sync_folder(folder)
    _check(written.path, instances[0], code)
    return [written]


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


def _uids(
    instances: Sequence[Dataset], refusal: Refusal, context: ResultContext, model: ModelIdentity
) -> InstanceUids:
    """Derive the UIDs from all that makes the content."""
    parts = (
        *sorted(read_text(instance, "SOPInstanceUID") for instance in instances),
        refusal.reason.value,
        refusal.detail,
        model.digest,
        context.software_version,
        context.settings.model_dump_json(),
        *context.history.key,
        "refusal",
    )
    return InstanceUids(
        series_instance_uid=derive_uid("series", *parts),
        sop_instance_uid=derive_uid("instance", *parts),
    )


def _check(path: Path, first: Dataset, code: Code) -> None:
    """Read it again, and compare whose it is and what it says."""
    report = dcmread(path)
    differing = ", ".join(identity_differences(report, first))
    if differing:
        raise ResultMismatch(f"SR differs from the source in {differing}")
    container = report.ContentSequence[-1]
    said = container.ContentSequence[0].ConceptCodeSequence[0].CodeValue
    if said != code.value:
        raise ResultMismatch(f"SR says {said}, not {code.value}")

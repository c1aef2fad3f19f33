"""The one-page report as a DICOM object: Encapsulated PDF (PS3.3 A.45.1)."""

from collections.abc import Iterable, Sequence
from pathlib import Path

import highdicom as hd
from pydicom import Dataset, dcmread
from pydicom.uid import ExplicitVRLittleEndian

from config.results import ResultRole, ResultSettings
from dicom_io import codes
from dicom_io.errors import ResultMismatch
from dicom_io.identity import identity_differences, stamp_identity, timezone_offset
from dicom_io.provenance import InstanceUids, Provenance, ResultBasis, equipment, stamp_dates
from dicom_io.result_classes import RESULT_CLASSES
from dicom_io.values import read_integer, read_items, read_text, read_value

PDF_CHECKS = ("patient and study", "each byte of the document", "cited instances")
"""What `check_pdf` compares."""
_MIME_TYPE = "application/pdf"
_WORKSTATION = "WSD"
"""Conversion Type of what a computer made (PS3.3 C.8.6.1)."""


def build_pdf(basis: ResultBasis, pdf: bytes, uids: InstanceUids) -> Dataset:
    """Build the object of the report on a series that was segmented.

    Parameters
    ----------
    basis
        The source, the wording and the maker.
    pdf
        The document.
    uids
        Series and instance UID of the object.
    """
    return encapsulate(
        pdf, basis.source.datasets, uids, settings=basis.settings, provenance=basis.provenance
    )


def encapsulate(
    pdf: bytes,
    instances: Sequence[Dataset],
    uids: InstanceUids,
    *,
    settings: ResultSettings,
    provenance: Provenance,
) -> Dataset:
    """Build the object around a document.

    Parameters
    ----------
    pdf
        The document, which names the patient.
    instances
        What it is about; the first gives patient and study.
    uids
        Series and instance UID of the object.
    settings, provenance
        Wording and maker.
    """
    first, kind = instances[0], RESULT_CLASSES[ResultRole.PDF]
    document: Dataset = hd.SOPClass(
        study_instance_uid=read_text(first, "StudyInstanceUID"),
        series_instance_uid=uids.series_instance_uid,
        series_number=settings.pdf_series_number,
        series_description=settings.pdf_series_description,
        sop_instance_uid=uids.sop_instance_uid,
        sop_class_uid=kind.sop_class,
        instance_number=1,
        modality=kind.modality,
        transfer_syntax_uid=ExplicitVRLittleEndian,
        **equipment(provenance),
    )
    document.ConversionType = _WORKSTATION
    document.AcquisitionDateTime = None
    document.BurnedInAnnotation = "YES"
    document.DocumentTitle = settings.pdf_series_description
    document.ConceptNameCodeSequence = [
        hd.sr.CodedConcept.from_code(codes.IMAGING_MEASUREMENT_REPORT)
    ]
    document.VerificationFlag = "UNVERIFIED"
    document.SourceInstanceSequence = list(_references(instances))
    document.MIMETypeOfEncapsulatedDocument = _MIME_TYPE
    document.EncapsulatedDocument = pdf + bytes(len(pdf) % 2)
    document.EncapsulatedDocumentLength = len(pdf)
    stamp_identity(document, first, (settings.pdf_series_description, *provenance.texts))
    stamp_dates(document, provenance, timezone_offset(first))
    return document


def _references(instances: Iterable[Dataset]) -> Iterable[Dataset]:
    for instance in instances:
        item = Dataset()
        item.ReferencedSOPClassUID = read_text(instance, "SOPClassUID")
        item.ReferencedSOPInstanceUID = read_text(instance, "SOPInstanceUID")
        yield item


def check_pdf(path: Path, instances: Sequence[Dataset], pdf: bytes) -> None:
    """Compare a written object with the document, and with what that is about.

    Parameters
    ----------
    path
        The object.
    instances
        What the document is about; the first gives patient and study.
    pdf
        The document.

    Raises
    ------
    ResultMismatch
        With the first difference found.
    """
    written = dcmread(path)
    if differing := ", ".join(identity_differences(written, instances[0])):
        raise ResultMismatch(f"PDF differs from the source in {differing}")
    if read_text(written, "MIMETypeOfEncapsulatedDocument") != _MIME_TYPE:
        raise ResultMismatch("PDF is not called one by its MIME type")
    stored = read_value(written, "EncapsulatedDocument") or b""
    content = stored[: read_integer(written, "EncapsulatedDocumentLength")]
    if content != pdf:
        raise ResultMismatch(
            f"PDF has {len(content)} bytes other than the {len(pdf)} of the report"
        )
    cited = sorted(
        read_text(item, "ReferencedSOPInstanceUID")
        for item in read_items(written, "SourceInstanceSequence")
    )
    if cited != sorted(read_text(instance, "SOPInstanceUID") for instance in instances):
        raise ResultMismatch(f"PDF names {len(cited)} instances other than those of the source")

"""The one-page report as a DICOM object."""

import subprocess
from copy import deepcopy
from dataclasses import replace
from io import BytesIO

import pytest
from pydicom import dcmread
from pydicom.uid import EncapsulatedPDFStorage
from pypdf import PdfReader

from dicom_io.encapsulated_pdf import build_pdf, check_pdf, encapsulate
from dicom_io.errors import ResultMismatch
from dicom_io.page_source import describe_series
from dicom_io.provenance import NOTHING_KNOWN, InstanceUids, ResultBasis
from dicom_io.results import write_object
from dicom_io.source_images import build_source_images
from inference.report_page import PageOrigin, make_page
from inference.report_pdf import render_pdf

UIDS = InstanceUids(series_instance_uid="2.25.8", sop_instance_uid="2.25.9")


def basis_of(case):
    return ResultBasis(
        source=case.source,
        images=build_source_images(case.source),
        settings=case.context.settings,
        provenance=case.context.provenance(case.segmentation.model),
        history=NOTHING_KNOWN,
    )


def report_of(case):
    origin = PageOrigin(
        model=case.segmentation.model,
        software_version=case.context.software_version,
        created_at=case.context.created_at,
    )
    source = describe_series(case.source)
    return render_pdf(make_page(case.findings, case.segmentation.labels, source, origin))


def write(case, folder, pdf):
    path = folder / "pdf.dcm"
    write_object(build_pdf(basis_of(case), pdf, UIDS), path)
    return path


def name_patient(dataset):
    dataset.SpecificCharacterSet = "ISO_IR 192"
    dataset.PatientName = "Nowak-Ångström^Zoë"
    dataset.PatientID = "P-1"
    dataset.TimezoneOffsetFromUTC = "+0100"


@pytest.fixture(scope="module")
def named(results):
    return results.case(results.source(edit=name_patient))


@pytest.fixture(scope="module", params=["even", "odd"])
def pdf(named, request):
    """The report with an even and an odd number of bytes; white space may end a PDF."""
    content = report_of(named)
    return content + b"\n" * (len(content) % 2 != (request.param == "odd"))


@pytest.fixture
def path(named, pdf, tmp_path):
    return write(named, tmp_path, pdf)


def test_it_holds_the_document_and_says_whose_it_is(named, pdf, path):
    found = dcmread(path)
    source = named.source.datasets[0]
    assert found.SOPClassUID == EncapsulatedPDFStorage
    assert (found.PatientName, found.PatientID) == (source.PatientName, source.PatientID)
    assert found.StudyInstanceUID == source.StudyInstanceUID
    assert found.Modality == "DOC"
    assert (found.SeriesNumber, found.InstanceNumber) == (9104, 1)
    assert found.SeriesDescription == found.DocumentTitle == "AI liver report, not reviewed"
    assert found.ConceptNameCodeSequence[0].CodeValue == "126000"
    assert found.BurnedInAnnotation == "YES"
    assert found.VerificationFlag == "UNVERIFIED"
    assert found.MIMETypeOfEncapsulatedDocument == "application/pdf"
    assert (found.ContentDate, found.ContentTime) == ("20261120", "133015")
    assert len(found.EncapsulatedDocument) % 2 == 0
    assert found.EncapsulatedDocumentLength == len(pdf)
    assert found.EncapsulatedDocument[: len(pdf)] == pdf
    cited = [item.ReferencedSOPInstanceUID for item in found.SourceInstanceSequence]
    assert cited == list(named.source.sop_instance_uids)
    text = PdfReader(BytesIO(found.EncapsulatedDocument)).pages[0].extract_text()
    assert "Nowak-Ångström, Zoë" in text


@pytest.mark.peer
def test_the_validator_finds_no_error(path, program):
    done = subprocess.run([program("dciodvfy"), path], check=False, capture_output=True, text=True)
    assert "EncapsulatedPDF" in done.stderr
    assert "Error" not in done.stderr


@pytest.mark.peer
def test_dcmtk_gives_the_same_document_back(pdf, path, program, tmp_path):
    subprocess.run([program("dcm2pdf"), path, tmp_path / "back.pdf"], check=True)
    assert (tmp_path / "back.pdf").read_bytes() == pdf
    (tmp_path / "report.pdf").write_bytes(pdf)
    theirs = tmp_path / "theirs.dcm"
    subprocess.run([program("pdf2dcm"), tmp_path / "report.pdf", theirs], check=True)
    assert dcmread(theirs).EncapsulatedDocument[: len(pdf)] == pdf
    assert dcmread(theirs).SOPClassUID == dcmread(path).SOPClassUID


def test_the_same_report_gives_the_same_bytes(named, pdf, path, tmp_path):
    (tmp_path / "again").mkdir()
    assert write(named, tmp_path / "again", pdf).read_bytes() == path.read_bytes()


def test_the_check_reads_the_file(named, pdf, path):
    instances = named.source.datasets
    check_pdf(path, instances, pdf)
    with pytest.raises(ResultMismatch, match="PatientID"):
        check_pdf(path, [_other(instances[0]), *instances[1:]], pdf)
    with pytest.raises(ResultMismatch, match="bytes other than"):
        check_pdf(path, instances, pdf.replace(b"%PDF-1", b"%PDF-2"))
    with pytest.raises(ResultMismatch, match="instances other than"):
        check_pdf(path, instances[:-1], pdf)
    changed = dcmread(path)
    changed.MIMETypeOfEncapsulatedDocument = "text/plain"
    changed.save_as(path)
    with pytest.raises(ResultMismatch, match="MIME type"):
        check_pdf(path, instances, pdf)
    changed.MIMETypeOfEncapsulatedDocument = "application/pdf"
    del changed.EncapsulatedDocument
    changed.save_as(path)
    with pytest.raises(ResultMismatch, match="0 bytes other than"):
        check_pdf(path, instances, pdf)


def _other(dataset):
    copy = deepcopy(dataset)
    copy.PatientID = "another"
    return copy


def test_a_series_that_was_rejected_has_one_too(ct, named, tmp_path, program):
    instances = ct.slices()[:2]
    context = replace(named.context, software_version="0.2.0")
    document = encapsulate(
        b"%PDF-1.4 x",
        instances,
        UIDS,
        settings=context.settings,
        provenance=context.provenance(named.segmentation.model),
    )
    path = tmp_path / "pdf.dcm"
    write_object(document, path)
    check_pdf(path, instances, b"%PDF-1.4 x")
    done = subprocess.run([program("dciodvfy"), path], check=False, capture_output=True, text=True)
    assert "Error" not in done.stderr

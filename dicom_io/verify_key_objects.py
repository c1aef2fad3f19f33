"""Does a written Key Object Selection point at what it was made from? Asked of the file."""

from pathlib import Path

from pydicom import Dataset, dcmread
from pydicom.multival import MultiValue

from dicom_io import codes
from dicom_io.errors import ResultMismatch
from dicom_io.series import SourceSeries
from dicom_io.values import first_item, read_text
from dicom_io.verify import check_identity, is_named
from inference.findings import Findings

KEY_OBJECT_CHECKS = ("patient and study", "title", "cited images", "evidence", "description")
"""What `check_key_objects` compares."""
_INSTANCE = "ReferencedSOPInstanceUID"


def check_key_objects(path: Path, source: SourceSeries, findings: Findings) -> None:
    """Compare a written Key Object Selection with the source and the long axes of the lesions.

    Raises
    ------
    ResultMismatch
        With the first difference found.
    """
    document = dcmread(path)
    check_identity(document, source)
    if not is_named(document, codes.OF_INTEREST):
        raise ResultMismatch("KO has another title")
    cited = [place for item in document.ContentSequence for place in _cited(item)]
    expected = [source.frame_sources[lesion.long_axis.slice_index] for lesion in findings.lesions]
    if cited != list(dict.fromkeys(expected)):
        raise ResultMismatch(f"KO cites {len(cited)} images other than those of the long axes")
    listed = {
        (str(study.StudyInstanceUID), str(series.SeriesInstanceUID), read_text(image, _INSTANCE))
        for study in document.CurrentRequestedProcedureEvidenceSequence
        for series in study.ReferencedSeriesSequence
        for image in series.ReferencedSOPSequence
    }
    series = source.study_instance_uid, source.series_instance_uid
    if listed != {(*series, sop_instance_uid) for sop_instance_uid, _ in expected}:
        raise ResultMismatch(f"KO lists {len(listed)} instances other than those that it cites")
    _check_description(document, findings)


def _cited(item: Dataset) -> list[tuple[str, int | None]]:
    """Give instance and frame of all images that a content item cites."""
    reference = first_item(item, "ReferencedSOPSequence")
    if item.ValueType != "IMAGE" or reference is None:
        return []
    frames = reference.get("ReferencedFrameNumber")
    numbers = frames if isinstance(frames, MultiValue) else [frames]
    return [
        (read_text(reference, _INSTANCE), None if number is None else int(number))
        for number in numbers
    ]


def _check_description(document: Dataset, findings: Findings) -> None:
    """Look for each lesion in the description."""
    for item in document.ContentSequence:
        if is_named(item, codes.KEY_OBJECT_DESCRIPTION):
            text = str(item.TextValue)
            if all(f"lesion {lesion.number} " in text for lesion in findings.lesions):
                return
    raise ResultMismatch("KO does not describe all lesions")

"""Identity of patient and study: taken over from the source, element by element.

A source may break the standard in places that do not make it unsuitable: dates that are none,
identifiers that are too long. The results say whose they are all the same, and break no grammar.
"""

import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from copy import deepcopy

from pydicom import DataElement, Dataset, Sequence, config
from pydicom.charset import python_encoding
from pydicom.datadict import dictionary_VR
from pydicom.multival import MultiValue
from pydicom.tag import Tag
from pydicom.valuerep import DA, validate_value

from dicom_io.values import UNREADABLE_VALUE_ERRORS, read_value

IDENTITY = (
    "PatientName",
    "PatientID",
    "PatientBirthDate",
    "PatientSex",
    "StudyDate",
    "StudyTime",
    "AccessionNumber",
    "StudyID",
    "ReferringPhysicianName",
)
"""Attributes that every composite object has, empty where unknown (PS3.3 C.7.1.1, C.7.2.1)."""
FURTHER_IDENTITY = (
    "TimezoneOffsetFromUTC",
    "IssuerOfPatientID",
    "IssuerOfPatientIDQualifiersSequence",
    "TypeOfPatientID",
    "PatientBirthTime",
    "OtherPatientIDsSequence",
    "OtherPatientNames",
    "EthnicGroup",
    "PatientComments",
    "PatientIdentityRemoved",
    "DeidentificationMethod",
    "DeidentificationMethodCodeSequence",
    "QualityControlSubject",
    "PatientSpeciesDescription",
    "PatientAge",
    "PatientSize",
    "PatientWeight",
    "Occupation",
    "AdditionalPatientHistory",
    "AdmissionID",
    "IssuerOfAccessionNumberSequence",
    "StudyDescription",
    "ConsultingPhysicianName",
    "PhysiciansOfRecord",
    "NameOfPhysiciansReadingStudy",
    "ProcedureCodeSequence",
    "ClinicalTrialSponsorName",
    "ClinicalTrialProtocolID",
    "ClinicalTrialProtocolName",
    "ClinicalTrialSiteID",
    "ClinicalTrialSiteName",
    "ClinicalTrialSubjectID",
    "ClinicalTrialSubjectReadingID",
    "ClinicalTrialTimePointID",
    "ClinicalTrialTimePointDescription",
)
"""Copied where they are there: further attributes of the Patient, General Study, Patient Study and
Clinical Trial Modules."""
_FREE_TEXT_VRS = frozenset({"PN", "LO", "SH", "LT", "ST", "UT", "UC"})
_GRAMMARS = {
    "PatientSex": re.compile("[MFO]"),
    "TimezoneOffsetFromUTC": re.compile(r"[+-](0\d|1[0-4])[0-5]\d"),
}
"""What an attribute may hold beyond its VR (PS3.3 C.7.1.1, C.12.1.1)."""
_STUDY = "StudyInstanceUID"
_UTF_8 = "ISO_IR 192"
_UNREADABLE = "\N{REPLACEMENT CHARACTER}"
"""Stands for bytes that are not of the character set; only UTF-8 can write it."""


def stamp_identity(dataset: Dataset, first: Dataset, texts: tuple[str, ...]) -> None:
    """Give a finished object the patient and the study of the source.

    Text is copied as it stands, even where it is too long for its VR: an archive matches on it, and
    a shortened identifier is another one. A value that breaks a grammar (a date that is none, a sex
    that is no code) is left empty; nothing is guessed.

    Parameters
    ----------
    dataset
        The object; changed in place.
    first
        An instance of the source, where identity comes from.
    texts
        All text of ours in the object. When it is not plain ASCII, the object is encoded in UTF-8
        instead of the character set of the source.
    """
    for keyword in IDENTITY:
        dataset.add(DataElement(Tag(keyword), dictionary_VR(Tag(keyword)), None))
    elements = conformant_elements(first, (*IDENTITY, *FURTHER_IDENTITY))
    for element in elements:
        dataset.add(element)
    needs_utf_8 = not all(text.isascii() for text in texts) or any(
        _UNREADABLE in str(element.value) for element in elements
    )
    character_set = _UTF_8 if needs_utf_8 else _character_set(first)
    if character_set is not None:
        dataset.SpecificCharacterSet = character_set


def identity_differences(dataset: Dataset, first: Dataset) -> tuple[str, ...]:
    """Give the keywords of identity in which an object differs from an instance of its source."""
    ours, theirs = _identity(dataset), _identity(first)
    return tuple(key for key in (*IDENTITY, _STUDY) if ours.get(key) != theirs.get(key))


def _identity(dataset: Dataset) -> dict[str, str]:
    return {
        element.keyword: str(element.value)
        for element in conformant_elements(dataset, (*IDENTITY, _STUDY))
        if not element.is_empty
    }


def _character_set(dataset: Dataset) -> str | list[str] | None:
    """Give the source's Specific Character Set (0008,0005), or UTF-8 where it is none."""
    value = read_value(dataset, "SpecificCharacterSet")
    if not value:
        return None
    names = [str(name) for name in value] if isinstance(value, MultiValue) else [str(value)]
    if not all(name in python_encoding for name in names):
        return _UTF_8
    return names if len(names) > 1 else names[0]


def timezone_offset(first: Dataset) -> str | None:
    """Give the source's Timezone Offset From UTC where it states a valid one."""
    elements = conformant_elements(first, ("TimezoneOffsetFromUTC",))
    return str(elements[0].value) if elements and elements[0].value else None


def conformant_elements(dataset: Dataset, keywords: tuple[str, ...]) -> list[DataElement]:
    """Copy each of the elements that is there and may stand in a conformant object."""
    tags = [Tag(keyword) for keyword in keywords if keyword in dataset]
    with _reading_as_it_stands():
        copies = [_conformant_copy(dataset, tag) for tag in tags]
    return [copy for copy in copies if copy is not None]


def _conformant_copy(dataset: Dataset, tag: int) -> DataElement | None:
    try:
        element = dataset[tag]
    except UNREADABLE_VALUE_ERRORS:  # it cannot even be read as its VR
        return None
    if element.VR == "SQ":
        items = [_conformant_item(item) for item in element.value]
        return DataElement(tag, "SQ", Sequence(items)) if all(items) else None
    if not _is_conformant(element):
        return None
    return DataElement(tag, element.VR, deepcopy(element.value), validation_mode=config.IGNORE)


def _conformant_item(item: Dataset) -> Dataset:
    copy = Dataset()
    for tag in list(item.keys()):
        element = _conformant_copy(item, tag)
        if element is not None:
            copy.add(element)
    return copy


def _is_conformant(element: DataElement) -> bool:
    if element.is_empty:
        return True
    if element.keyword in _GRAMMARS:
        return _GRAMMARS[element.keyword].fullmatch(str(element.value)) is not None
    if element.VR in _FREE_TEXT_VRS:
        return True
    values = element.value if isinstance(element.value, MultiValue) else [element.value]
    try:
        for value in values:
            validate_value(element.VR, str(value), config.RAISE)
            if element.VR == "DA":
                DA(str(value))
    except ValueError:
        return False
    return True


@contextmanager
def _reading_as_it_stands() -> Iterator[None]:
    """Read values without pydicom's complaints about the source: they are judged here."""
    with warnings.catch_warnings(), config.disable_value_validation():
        warnings.simplefilter("ignore", UserWarning)
        yield

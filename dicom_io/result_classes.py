"""What the result objects are to a receiver: SOP class and modality of each role."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

from pydicom import uid
from pydicom.uid import UID

from config.results import ProfileSettings, ResultRole, SegmentationForm


@dataclass(frozen=True)
class ResultClass:
    """What a receiver files an object under."""

    sop_class: UID
    modality: str
    """Defined term (PS3.3 C.7.3.1.1.1)."""


LABEL_MAP_CLASS = ResultClass(UID("1.2.840.10008.5.1.4.1.1.66.7"), "SEG")
"""Label Map Segmentation Storage, which pydicom 3.0 does not name."""
RESULT_CLASSES: Mapping[ResultRole, ResultClass] = MappingProxyType(
    {
        ResultRole.SEG: ResultClass(uid.SegmentationStorage, "SEG"),
        ResultRole.SR: ResultClass(uid.Comprehensive3DSRStorage, "SR"),
        ResultRole.SUMMARY: ResultClass(uid.SecondaryCaptureImageStorage, "OT"),
        ResultRole.OVERLAY: ResultClass(uid.SecondaryCaptureImageStorage, "OT"),
        ResultRole.RTSTRUCT: ResultClass(uid.RTStructureSetStorage, "RTSTRUCT"),
        ResultRole.PDF: ResultClass(uid.EncapsulatedPDFStorage, "DOC"),
        ResultRole.KEY_OBJECTS: ResultClass(uid.KeyObjectSelectionDocumentStorage, "KO"),
    }
)
"""A segmentation as label map is of `LABEL_MAP_CLASS` instead."""


def class_of(role: ResultRole, form: ProfileSettings) -> ResultClass:
    """Give what the object of a role is where a profile has its form."""
    is_label_map = form.segmentation is SegmentationForm.LABELMAP
    return LABEL_MAP_CLASS if role is ResultRole.SEG and is_label_map else RESULT_CLASSES[role]


def classes_of(profiles: Iterable[ProfileSettings]) -> list[ResultClass]:
    """Give what the objects of some profiles are, each once."""
    wanted = (class_of(role, form) for form in profiles for role in form.objects)
    return list(dict.fromkeys(wanted))


def name_class(sop_class_uid: str) -> str:
    """Name a SOP class in words."""
    if sop_class_uid == LABEL_MAP_CLASS.sop_class:
        return "Label Map Segmentation Storage"
    return UID(sop_class_uid).name

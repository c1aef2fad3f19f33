"""Every question that this node asks a PACS: the identifiers of its queries and retrievals.

They are those of C-FIND, C-GET and C-MOVE (PS3.4 C.4); QIDO-RS and WADO-RS ask for the same.
"""

from collections.abc import Mapping, Sequence
from datetime import date

from pydicom.dataset import Dataset

from node.query import make_key
from storage.states import RetrievalKey

_TOLD_OF_A_STUDY = ("StudyInstanceUID", "StudyDescription")
_TOLD_OF_A_SERIES = (
    "SeriesInstanceUID",
    "SeriesDescription",
    "BodyPartExamined",
    "ProtocolName",
    "NumberOfSeriesRelatedInstances",
)
"""What rules may need before a series is here; those on other attributes decide after it came."""
_TOLD_TO_PEOPLE = (
    "StudyInstanceUID",
    "StudyDate",
    "StudyDescription",
    "AccessionNumber",
    "PatientID",
    "PatientName",
    "ModalitiesInStudy",
    "NumberOfStudyRelatedSeries",
    "NumberOfStudyRelatedInstances",
)
MATCHED: Mapping[RetrievalKey, str] = {
    RetrievalKey.ACCESSION: "AccessionNumber",
    RetrievalKey.PATIENT: "PatientID",
    RetrievalKey.STUDY: "StudyInstanceUID",
}
"""The attribute that each kind of number is of."""
_CT = "CT"


def new_studies(first_day: date) -> Dataset:
    """Ask for the studies with CT since a day."""
    told = dict.fromkeys(_TOLD_OF_A_STUDY, "")
    return make_key("STUDY", **told, StudyDate=f"{first_day:%Y%m%d}-", ModalitiesInStudy=_CT)


def studies_by(key: RetrievalKey, value: str) -> Dataset:
    """Ask for the studies of a number that a person knows, and what people want to know of them.

    The value must be checked before, see `node.wanted`: wildcards would match an archive.
    """
    return make_key("STUDY", **dict.fromkeys(_TOLD_TO_PEOPLE, "") | {MATCHED[key]: value})


def ct_series_of(study_uid: str) -> Dataset:
    """Ask for the CT series of a study, and what rules may need to know of them."""
    told = dict.fromkeys(_TOLD_OF_A_SERIES, "")
    return make_key("SERIES", **told, StudyInstanceUID=study_uid, Modality=_CT)


def series_to_pull(study_uid: str, series_uid: str = "") -> Dataset:
    """Ask for one series of a study, whatever its modality, or for all CT series."""
    modality = "" if series_uid else _CT
    return make_key(
        "SERIES", StudyInstanceUID=study_uid, SeriesInstanceUID=series_uid, Modality=modality
    )


def size_of_series(study_uid: str, series_uid: str) -> Dataset:
    """Ask how many instances a series has."""
    return make_key(
        "SERIES",
        StudyInstanceUID=study_uid,
        SeriesInstanceUID=series_uid,
        NumberOfSeriesRelatedInstances="",
    )


def instances_of(study_uid: str, series_uid: str) -> Dataset:
    """Ask which instances a series has."""
    return named_instances(study_uid, series_uid, "")


def named_instances(study_uid: str, series_uid: str, instance_uids: str | Sequence[str]) -> Dataset:
    """Name instances of a series, one or several: to be listed, or to be retrieved."""
    uids = instance_uids if isinstance(instance_uids, str) else list(instance_uids)
    return make_key(
        "IMAGE", StudyInstanceUID=study_uid, SeriesInstanceUID=series_uid, SOPInstanceUID=uids
    )

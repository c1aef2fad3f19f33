"""Who made a result, with what and when: equipment, algorithm identification, dates."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta, timezone

import highdicom as hd
from pydicom import Dataset
from pydicom.valuerep import DA, DT, TM

from config.results import DEFAULT_PROFILE, ProfileSettings, ResultSettings
from dicom_io import codes
from dicom_io.series import SourceSeries
from dicom_io.source_images import SourceImages
from dicom_io.uids import derive_uid
from inference.manifest import ModelIdentity

MANUFACTURER = "Hepar"
CONTENT_CREATOR_NAME = "Hepar^AI"
"""Content Creator's Name (0070,0084), type 2 in the SEG IOD (PS3.3 C.8.20.2)."""
_LONG_STRING_LENGTH = 64
"""Longest value of VR LO (PS3.5 6.2)."""


@dataclass(frozen=True, kw_only=True)
class InstanceUids:
    """The identity of one result object."""

    series_instance_uid: str
    sop_instance_uid: str


@dataclass(frozen=True, kw_only=True)
class Provenance:
    """The maker and the time of the results of one job."""

    model: ModelIdentity
    software_version: str
    ae_title: str
    created_at: datetime
    """Aware; the same for all objects of a job, and for a repeat of the job."""

    def __post_init__(self) -> None:
        if self.created_at.tzinfo is None:
            raise ValueError("created_at must be an aware time")

    @property
    def model_name(self) -> str:
        """Name of the model package, as long as an LO may be."""
        return self.model.name[:_LONG_STRING_LENGTH]

    @property
    def model_version(self) -> str:
        """Version of the model package, as long as an LO may be."""
        return self.model.version[:_LONG_STRING_LENGTH]

    @property
    def software_versions(self) -> tuple[str, str]:
        """Values of Software Versions (0018,1020): the node, then the model."""
        model = f"{self.model.name} {self.model.version}"
        return (f"hepar {self.software_version}"[:_LONG_STRING_LENGTH], model[:_LONG_STRING_LENGTH])

    @property
    def device_uid(self) -> str:
        """UID of this node as a device: the same for all its results."""
        return derive_uid("device", MANUFACTURER, self.ae_title)

    @property
    def texts(self) -> tuple[str, ...]:
        """All text from here that reaches an object; decides on the character set."""
        return (self.model.name, self.model.version, self.model.license, self.software_version)


@dataclass(frozen=True, kw_only=True)
class ReportReference:
    """A report of ours in the same study."""

    sop_class_uid: str
    sop_instance_uid: str
    series_instance_uid: str


@dataclass(frozen=True, kw_only=True)
class SeriesHistory:
    """How the instances of a series came here, as far as its readers should know."""

    remark: str = ""
    """A sentence on what is known to be missing."""
    predecessors: Mapping[str, ReportReference] = field(default_factory=dict)
    """By profile, the report on an earlier state of the series, which a new one replaces."""

    @property
    def key(self) -> tuple[str, ...]:
        """What of it makes the content of a report another one."""
        return self.remark, *sorted({one.sop_instance_uid for one in self.predecessors.values()})


NOTHING_KNOWN = SeriesHistory()
"""Of files that a person has chosen."""


@dataclass(frozen=True, kw_only=True)
class Audience:
    """Who gets an object, and in which form."""

    profiles: tuple[str, ...] = (DEFAULT_PROFILE,)
    """Names of the profiles that want it in this form."""
    form: ProfileSettings = field(default_factory=ProfileSettings)
    """One of them."""


EVERY_VIEWER = Audience()
"""Those that read the default form."""


@dataclass(frozen=True, kw_only=True, eq=False)
class ResultBasis:
    """What all result objects of a job have in common."""

    source: SourceSeries
    images: SourceImages
    """The source again, in the form that highdicom takes."""
    settings: ResultSettings
    provenance: Provenance
    history: SeriesHistory


def seg_algorithm_identification(provenance: Provenance) -> hd.AlgorithmIdentificationSequence:
    """Build the Segmentation Algorithm Identification Sequence (PS3.3 table 10-19)."""
    return hd.AlgorithmIdentificationSequence(
        name=provenance.model_name,
        version=provenance.model_version,
        family=codes.ARTIFICIAL_INTELLIGENCE,
        source=MANUFACTURER,
        parameters={
            "digest": provenance.model.digest,
            "license": provenance.model.license,
            **provenance.model.parameters,
        },
    )


def sr_algorithm_identification(provenance: Provenance) -> hd.sr.AlgorithmIdentification:
    """Build the Algorithm Identification of a measurement group (TID 4019)."""
    return hd.sr.AlgorithmIdentification(
        name=provenance.model.name,
        version=provenance.model.version,
        parameters=[
            f"digest={provenance.model.digest}",
            *(f"{name}={value}" for name, value in provenance.model.parameters.items()),
        ],
        family=codes.ARTIFICIAL_INTELLIGENCE,
    )


def observation_context(provenance: Provenance) -> hd.sr.ObservationContext:
    """Build the Observation Context (TID 1001)."""
    return hd.sr.ObservationContext(observer_device_context=device_observer(provenance))


def device_observer(provenance: Provenance) -> hd.sr.ObserverContext:
    """Build the Observer Context (TID 1002): the observer is a device (TID 1004), no person."""
    device = hd.sr.DeviceObserverIdentifyingAttributes(
        uid=provenance.device_uid,
        name=provenance.ae_title,
        manufacturer_name=MANUFACTURER,
        model_name=provenance.model.name,
        serial_number=provenance.ae_title,
    )
    device.append(
        hd.sr.TextContentItem(
            name=codes.STATION_AE_TITLE,
            value=provenance.ae_title,
            relationship_type=hd.sr.RelationshipTypeValues.HAS_OBS_CONTEXT,
        )
    )
    return hd.sr.ObserverContext(observer_type=codes.DEVICE, observer_identifying_attributes=device)


def equipment(provenance: Provenance) -> dict[str, object]:
    """Give the constructor arguments of highdicom for the General Equipment Module."""
    return {
        "manufacturer": MANUFACTURER,
        "manufacturer_model_name": provenance.model_name,
        "software_versions": list(provenance.software_versions),
        "device_serial_number": provenance.ae_title,
    }


def stamp_dates(dataset: Dataset, provenance: Provenance, timezone_offset: str | None) -> None:
    """Give an object the dates of its job instead of those of the clock.

    Dates in DICOM are local: in the zone of Timezone Offset From UTC (0008,0201) where the study
    has one, which then holds for all dates of the object, else in the zone of this machine.

    Parameters
    ----------
    dataset
        The object; changed in place.
    provenance
        Gives the time.
    timezone_offset
        The source's offset, as ``+0100``.
    """
    moment = provenance.created_at.astimezone(_zone(timezone_offset)).replace(microsecond=0)
    date, time = moment.strftime("%Y%m%d"), moment.strftime("%H%M%S")
    for entity in ("InstanceCreation", "Series", "Content"):
        setattr(dataset, f"{entity}Date", DA(date))
        setattr(dataset, f"{entity}Time", TM(time))
    dataset.InstanceCreatorUID = provenance.device_uid
    for item in dataset.get("ContributingEquipmentSequence", ()):
        if item.PurposeOfReferenceCodeSequence[0].CodeValue == codes.PROCESSING_EQUIPMENT.value:
            item.ContributionDateTime = DT(f"{date}{time}")


def _zone(timezone_offset: str | None) -> timezone | None:
    if not timezone_offset:
        return None
    sign = -1 if timezone_offset[0] == "-" else 1
    minutes = int(timezone_offset[1:3]) * 60 + int(timezone_offset[3:5])
    return timezone(sign * timedelta(minutes=minutes)) if minutes else UTC

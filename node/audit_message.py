"""A line of the audit trail as a DICOM audit message (PS3.15 A.5), and as a line of syslog (A.6).

Elements and attributes are those of the schema in A.5.1; which of them each message has is said in
A.5.3. What a line knows beyond that goes into ParticipantObjectDetail.
"""

import ipaddress
import json
import re
from base64 import b64encode
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass
from io import BytesIO
from types import MappingProxyType
from typing import Any
from xml.etree import ElementTree as ET

from pydicom import Dataset, config, dcmwrite
from pydicom.datadict import tag_for_keyword
from pydicom.sr.codedict import codes
from pydicom.sr.coding import Code
from pydicom.uid import ExplicitVRLittleEndian

from config import Settings
from storage.records import AuditRecord
from storage.states import AuditEvent, AuditOutcome

MOST_INSTANCES = 100
"""So many SOP Instance UIDs are in a message; their number is always there."""
_LONGEST_TEXT = 1000
_UNKNOWN = "<unknown>"
_NOT_IN_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_DCM = codes.DCM
_PATIENT_NUMBER = Code("2", "RFC-3881", "Patient Number")
_URI = Code("12", "RFC-3881", "URI")
_MEDIA_URI = Code("110037", "DCM", "URI")
_OUTCOMES: Mapping[AuditOutcome, str] = {
    AuditOutcome.SUCCESS: "0",
    AuditOutcome.MINOR_FAILURE: "4",
    AuditOutcome.SERIOUS_FAILURE: "8",
    AuditOutcome.MAJOR_FAILURE: "12",
}
_PERSON, _SYSTEM = "1", "2"
"""ParticipantObjectTypeCode."""
_OF_PATIENT, _REPORT, _SECURITY_RESOURCE = "1", "3", "13"
"""ParticipantObjectTypeCodeRole."""
_VERIFICATION, _ERASURE = "4", "15"
"""ParticipantObjectDataLifeCycle."""


@dataclass(frozen=True)
class AuditSource:
    """Who reports."""

    ae_title: str
    site: str = ""


@dataclass(frozen=True)
class MessageKind:
    """Which message of A.5.3 tells of something."""

    event: Code
    action: str
    """C create, R read, U update, D delete, E execute."""
    type: Code | None = None


_ACCESSED = MessageKind(_DCM.DICOMInstancesAccessed, "R")
_CHANGED = MessageKind(_DCM.DICOMInstancesAccessed, "U")
_QUERY = MessageKind(_DCM.Query, "E")
KINDS: Mapping[AuditEvent, MessageKind] = MappingProxyType(
    {
        AuditEvent.NODE_STARTED: MessageKind(_DCM.ApplicationActivity, "E", _DCM.ApplicationStart),
        AuditEvent.NODE_STOPPED: MessageKind(_DCM.ApplicationActivity, "E", _DCM.ApplicationStop),
        AuditEvent.ASSOCIATION_REJECTED: MessageKind(
            _DCM.SecurityAlert, "E", _DCM.NodeAuthentication
        ),
        AuditEvent.INSTANCES_RECEIVED: MessageKind(_DCM.DICOMInstancesTransferred, "C"),
        AuditEvent.QUERY_SENT: _QUERY,
        AuditEvent.MODEL_RUN: _ACCESSED,
        AuditEvent.RESULTS_SENDING: MessageKind(_DCM.BeginTransferringDICOMInstances, "E"),
        AuditEvent.RESULTS_SENT: MessageKind(_DCM.DICOMInstancesTransferred, "R"),
        AuditEvent.RESULTS_PROVEN: _ACCESSED,
        AuditEvent.FILES_REMOVED: MessageKind(_DCM.DICOMStudyDeleted, "D"),
        AuditEvent.LOGIN: MessageKind(_DCM.UserAuthentication, "E", _DCM.Login),
        AuditEvent.LOGOUT: MessageKind(_DCM.UserAuthentication, "E", _DCM.Logout),
        AuditEvent.DATA_VIEWED: _ACCESSED,
        AuditEvent.DATA_EXPORTED: MessageKind(_DCM.Export, "R"),
        AuditEvent.ACTION: MessageKind(_DCM.SecurityAlert, "E", _DCM.UseOfRestrictedFunction),
        AuditEvent.USERS_CHANGED: MessageKind(
            _DCM.SecurityAlert, "E", _DCM.UserSecurityAttributesChanged
        ),
        AuditEvent.AUDIT_READ: MessageKind(_DCM.AuditLogUsed, "R"),
    }
)
"""By what happened; see `kind_of` for what depends on more than that."""
OF_A_STUDY: Mapping[AuditEvent, MessageKind] = {AuditEvent.ACTION: _CHANGED}
OF_NO_STUDY: Mapping[AuditEvent, MessageKind] = {AuditEvent.DATA_VIEWED: _QUERY}


def kind_of(record: AuditRecord) -> MessageKind:
    """Choose the message of a line.

    An action on a study has changed that; a list of many studies is looked at by a query.
    """
    special = OF_A_STUDY if record.study_uid else OF_NO_STUDY
    return special.get(record.event, KINDS[record.event])


def audit_source(settings: Settings) -> AuditSource:
    """Give the source that this node is."""
    return AuditSource(settings.node.ae_title, settings.audit.site)


def write_jsonl(record: AuditRecord) -> str:
    """Write a line as one line of JSON."""
    return json.dumps(asdict(record) | {"at": record.at.isoformat()}, ensure_ascii=False)


def write_syslog(record: AuditRecord, source: AuditSource) -> bytes:
    """Write a line as a syslog message (RFC 5424), in ASCII and without line breaks.

    Facility, severity and MSGID are those of PS3.15 A.6; PROCID is the number of the line.
    """
    severity = 5 if record.outcome is AuditOutcome.SUCCESS else 4
    host = re.sub(r"[^\x21-\x7e]", "_", record.host)[:255] or "-"
    at = record.at.isoformat(timespec="microseconds").replace("+00:00", "Z")
    head = f"<{10 * 8 + severity}>1 {at} {host} hepar {record.id} DICOM+RFC3881 - "
    return head.encode("ascii") + write_message(record, source)


def write_message(record: AuditRecord, source: AuditSource) -> bytes:
    """Write a DICOM audit message: XML in ASCII, on one line."""
    return b'<?xml version="1.0" encoding="UTF-8"?>' + ET.tostring(build_message(record, source))


def build_message(record: AuditRecord, source: AuditSource) -> ET.Element:
    """Build a DICOM audit message (PS3.15 A.5.1)."""
    kind = kind_of(record)
    message = ET.Element("AuditMessage")
    _add_event(message, record, kind)
    build = _Builder(message, record, source)
    _CONTENTS[kind.event.value](build)
    place = {"AuditEnterpriseSiteID": source.site} if source.site else {}
    identified = _add(
        message,
        "AuditSourceIdentification",
        **place,
        AuditSourceID=f"{source.ae_title}@{record.host}",
    )
    _add(identified, "AuditSourceTypeCode", **{"csd-code": "4"})
    message.extend(build.objects)
    return message


def _add_event(message: ET.Element, record: AuditRecord, kind: MessageKind) -> None:
    event = _add(
        message,
        "EventIdentification",
        EventActionCode=kind.action,
        EventDateTime=record.at.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        EventOutcomeIndicator=_OUTCOMES[record.outcome],
    )
    _add_code(event, "EventID", kind.event)
    if kind.type is not None:
        _add_code(event, "EventTypeCode", kind.type)
    why = record.detail.get("error") or record.detail.get("reason")
    if why and record.outcome is not AuditOutcome.SUCCESS:
        _add(event, "EventOutcomeDescription").text = _tidy(why)


class _Builder:
    """Adds the participants of a message, and collects its objects, which come after its source."""

    def __init__(self, message: ET.Element, record: AuditRecord, source: AuditSource) -> None:
        self._message = message
        self._source = source
        self.record = record
        self.objects: list[ET.Element] = []

    @property
    def is_by_person(self) -> bool:
        """Whether a user did it."""
        return self.record.actor.startswith("user:")

    # Participants (A.5.2.1 to A.5.2.4)

    def add_actor(self, *, requests: bool, role: Code | None = None) -> None:
        """Add who did it: a user, an application entity, or a process of this node."""
        kind, _, name = self.record.actor.partition(":")
        if kind == "user":
            user = {"UserID": f"{name}@{self.record.host}", "UserName": name}
        elif kind == "ae":
            user = {"UserID": name or _UNKNOWN, "AlternativeUserID": f"AETITLES={name}"}
        else:
            self.add_node(requests=requests, role=role)
            return
        self._add_participant(user, self.record.address, requests=requests, role=role)

    def add_node(self, *, requests: bool, role: Code | None = None) -> None:
        """Add the process of this node, by its role and host, as the log names it."""
        actor = self.record.actor
        process = "hepar" if ":" in actor else actor or "hepar"
        user = {
            "UserID": f"{process}@{self.record.host}",
            "AlternativeUserID": f"AETITLES={self._source.ae_title}",
        }
        self._add_participant(user, self.record.host, requests=requests, role=role)

    def add_peer(self, *, role: Code | None = None) -> None:
        """Add the other application entity."""
        detail = self.record.detail
        title = str(detail.get("peer") or detail.get("destination") or _UNKNOWN)
        user = {"UserID": title, "AlternativeUserID": f"AETITLES={title}"}
        self._add_participant(user, _host(detail.get("peer_address")), requests=False, role=role)

    def add_media(self) -> None:
        """Add where an export goes."""
        to = self.record.detail.get("to") or self.record.address or self.record.host
        address = self.record.address or self.record.host
        user = {"UserID": str(to)}
        media = self._add_participant(user, address, requests=False, role=_DCM.DestinationMedia)
        _add_code(_add(media, "MediaIdentifier"), "MediaType", _MEDIA_URI)

    def _add_participant(
        self, user: Mapping[str, str], address: object, *, requests: bool, role: Code | None
    ) -> ET.Element:
        place = _access_point(address)
        flag = "true" if requests else "false"
        one = _add(self._message, "ActiveParticipant", **user, UserIsRequestor=flag, **place)
        if role is not None:
            _add_code(one, "RoleIDCode", role)
        return one

    # Objects

    def add_study(self, life_cycle: str = "") -> None:
        """Add the study, what of it is meant, and its patient."""
        cycle = {"ParticipantObjectDataLifeCycle": life_cycle} if life_cycle else {}
        study = self._add_object(
            _DCM.StudyInstanceUID, self.record.study_uid or _UNKNOWN, _SYSTEM, _REPORT, **cycle
        )
        _add(study, "ParticipantObjectName")
        self._add_detail(study)
        counts = _count_instances(self.record.detail)
        if counts:
            described = _add(study, "ParticipantObjectDescription")
            for uid, (number, instances) in counts.items():
                one = _add(described, "SOPClass", UID=uid, NumberOfInstances=str(number))
                for instance in instances[:MOST_INSTANCES]:
                    _add(one, "Instance", UID=instance)
        self._add_patient()

    def _add_patient(self) -> None:
        patient_id = self.record.patient_id or _UNKNOWN
        patient = self._add_object(_PATIENT_NUMBER, patient_id, _PERSON, _OF_PATIENT)
        _add(patient, "ParticipantObjectName")

    def add_query(self) -> None:
        """Add the question, as a data set where it was asked by DIMSE."""
        detail = self.record.detail
        sop_class = detail.get("sop_class")
        query = detail.get("query", {})
        if sop_class:
            asked = self._add_object(_DCM.SOPClassUID, str(sop_class), _SYSTEM, _REPORT)
            content = _encode(query)
        else:
            where = detail.get("peer_address") or detail.get("page") or "hepar"
            asked = self._add_object(_URI, str(where), _SYSTEM, _REPORT)
            content = json.dumps(query or dict(detail), sort_keys=True).encode()
        _add(asked, "ParticipantObjectQuery").text = _base64(content)
        if sop_class:
            self._add_pair(asked, "TransferSyntax", ExplicitVRLittleEndian)
        self._add_detail(asked)

    def add_log(self) -> None:
        """Add the audit trail itself."""
        log = self._add_object(
            _URI, f"urn:hepar:{self._source.ae_title}:audit", _SYSTEM, _SECURITY_RESOURCE
        )
        _add(log, "ParticipantObjectName").text = "Security Audit Log"
        self._add_detail(log)

    def add_alert(self) -> None:
        """Add what a security alert is about."""
        record = self.record
        if record.event is AuditEvent.ASSOCIATION_REJECTED:
            subject = self._add_object(_DCM.NodeID, record.address or _UNKNOWN, _SYSTEM)
        else:
            about = record.detail.get("action") or record.detail.get("change") or "users"
            subject = self._add_object(
                _URI, f"urn:hepar:{self._source.ae_title}:{about}", _SYSTEM, _SECURITY_RESOURCE
            )
        _add(subject, "ParticipantObjectName")
        said = ", ".join(f"{key}: {_text(value)}" for key, value in record.detail.items())
        self._add_pair(subject, "Alert Description", said or record.event.value)

    def _add_object(
        self, code: Code, identifier: str, kind: str, role: str = "", **more: str
    ) -> ET.Element:
        roles = {"ParticipantObjectTypeCodeRole": role} if role else {}
        one = ET.Element(
            "ParticipantObjectIdentification",
            {
                "ParticipantObjectID": _tidy(identifier),
                "ParticipantObjectTypeCode": kind,
                **roles,
                **more,
            },
        )
        _add_code(one, "ParticipantObjectIDTypeCode", code)
        self.objects.append(one)
        return one

    def _add_detail(self, one: ET.Element) -> None:
        """Add what the line knows and the message has no place for."""
        for key, value in self.record.detail.items():
            if key not in _TOLD_ELSEWHERE and value not in (None, ""):
                self._add_pair(one, key, _text(value))

    def _add_pair(self, one: ET.Element, key: str, value: str) -> None:
        pair = _add(one, "ParticipantObjectDetail", type=key)
        pair.set("value", _base64(_clip(value).encode()))


_TOLD_ELSEWHERE = frozenset({"objects", "peer", "peer_address", "query", "sop_class"})


def _application(build: _Builder) -> None:
    build.add_actor(requests=False, role=_DCM.Application)


def _received_or_sent(build: _Builder) -> None:
    if build.record.event is AuditEvent.INSTANCES_RECEIVED:
        # Who calls us has asked for it; what we fetched came without a call.
        called = bool(build.record.address)
        build.add_actor(requests=called, role=_DCM.SourceRoleID)
        build.add_node(requests=not called, role=_DCM.DestinationRoleID)
    else:
        build.add_node(requests=True, role=_DCM.SourceRoleID)
        build.add_peer(role=_DCM.DestinationRoleID)
    build.add_study()


def _accessed(build: _Builder) -> None:
    build.add_actor(requests=True)
    if build.record.event is AuditEvent.RESULTS_PROVEN:
        build.add_peer()
        build.add_study(_VERIFICATION)
        return
    if build.is_by_person:
        build.add_node(requests=False)
    build.add_study()


def _deleted(build: _Builder) -> None:
    build.add_actor(requests=True)
    build.add_study(_ERASURE)


def _exported(build: _Builder) -> None:
    build.add_actor(requests=True, role=_DCM.SourceRoleID)
    build.add_media()
    build.add_study()


def _queried(build: _Builder) -> None:
    by_person = build.is_by_person
    looked = build.record.event is AuditEvent.DATA_VIEWED
    if looked:
        build.add_actor(requests=True, role=_DCM.SourceRoleID)
        build.add_node(requests=False, role=_DCM.DestinationRoleID)
    else:
        build.add_node(requests=not by_person, role=_DCM.SourceRoleID)
        build.add_peer(role=_DCM.DestinationRoleID)
        if by_person:
            build.add_actor(requests=True)
    build.add_query()


def _alert(build: _Builder) -> None:
    build.add_node(requests=False)
    if ":" in build.record.actor:
        build.add_actor(requests=False)
    build.add_alert()


def _authenticated(build: _Builder) -> None:
    build.add_actor(requests=True)
    build.add_node(requests=False)


def _log_used(build: _Builder) -> None:
    build.add_actor(requests=True)
    if build.is_by_person:
        build.add_node(requests=False)
    build.add_log()


_CONTENTS: Mapping[str, Callable[[_Builder], None]] = {
    _DCM.ApplicationActivity.value: _application,
    _DCM.AuditLogUsed.value: _log_used,
    _DCM.BeginTransferringDICOMInstances.value: _received_or_sent,
    _DCM.DICOMInstancesAccessed.value: _accessed,
    _DCM.DICOMInstancesTransferred.value: _received_or_sent,
    _DCM.DICOMStudyDeleted.value: _deleted,
    _DCM.Export.value: _exported,
    _DCM.Query.value: _queried,
    _DCM.SecurityAlert.value: _alert,
    _DCM.UserAuthentication.value: _authenticated,
}
"""Who takes part in a message, and what it is about, by its EventID."""


def _count_instances(detail: Mapping[str, Any]) -> dict[str, tuple[int, list[str]]]:
    """Give, by SOP class, how many instances are meant, and which if that is known."""
    objects: Mapping[str, list[str]] = detail.get("objects", {})
    if objects:
        return {uid: (len(instances), instances) for uid, instances in objects.items()}
    counts: dict[str, int] = {}
    for sent in _values(detail.get("senders")):
        for uid, number in sent.items():
            counts[uid] = counts.get(uid, 0) + number
    return {uid: (number, []) for uid, number in counts.items()}


def _values(mapping: Mapping[str, Any] | None) -> Iterable[Mapping[str, int]]:
    return () if mapping is None else mapping.values()


def _encode(query: Mapping[str, str]) -> bytes:
    """Write the keys of a question as a data set."""
    ds = Dataset()
    with config.disable_value_validation():
        for keyword, value in query.items():
            if tag_for_keyword(keyword) is not None:
                setattr(ds, keyword, value)
        content = BytesIO()
        dcmwrite(content, ds, enforce_file_format=False, implicit_vr=False, little_endian=True)
    return content.getvalue()


def _access_point(address: object) -> dict[str, str]:
    """Give an address as a network access point: 1 is a name, 2 an IP address."""
    if not address:
        return {}
    try:
        ipaddress.ip_address(str(address))
    except ValueError:
        kind = "1"
    else:
        kind = "2"
    return {"NetworkAccessPointID": str(address), "NetworkAccessPointTypeCode": kind}


def _host(address: object) -> str:
    """Give the host of HOST:PORT, or of a URL."""
    found = re.fullmatch(r"(?:\w+://)?(\[[^\]]+\]|[^/]*?)(?::\d+)?(?:/.*)?", str(address or ""))
    return found[1].strip("[]") if found else ""


def _add(parent: ET.Element, name: str, **attributes: str) -> ET.Element:
    return ET.SubElement(parent, name, {key: _tidy(value) for key, value in attributes.items()})


def _add_code(parent: ET.Element, name: str, code: Code) -> None:
    attributes = {
        "csd-code": code.value,
        "codeSystemName": code.scheme_designator,
        "originalText": code.meaning,
    }
    _add(parent, name, **attributes)


def _text(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _tidy(value: object) -> str:
    """Give text that XML takes, on one line."""
    return " ".join(_NOT_IN_XML.sub("\ufffd", _clip(str(value))).split())


def _clip(text: str) -> str:
    return text if len(text) <= _LONGEST_TEXT else f"{text[:_LONGEST_TEXT]}..."


def _base64(content: bytes) -> str:
    return b64encode(content).decode("ascii")

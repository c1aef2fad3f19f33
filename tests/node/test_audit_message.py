"""Each line of the audit trail as a DICOM audit message, against the schema of PS3.15 A.5.1 and
the tables of A.5.3."""

import json
import re
from base64 import b64decode
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from io import BytesIO
from xml.etree import ElementTree as ET

import pytest
from pydicom import dcmread

from node.audit_message import (
    MOST_INSTANCES,
    AuditSource,
    build_message,
    write_jsonl,
    write_message,
    write_syslog,
)
from storage.records import AuditRecord
from storage.states import AuditEvent, AuditOutcome

SOURCE = AuditSource("HEPAR", "General Hospital")
CT, SEG = "1.2.840.10008.5.1.4.1.1.2", "1.2.840.10008.5.1.4.1.1.66.4"
FIND = "1.2.840.10008.5.1.4.1.2.2.1"
STUDY = "1.2.3"
SOME, ANY, OPTIONAL, ONE = "+", "*", "?", ""


def make_record(event: AuditEvent, actor: str = "worker", **more) -> AuditRecord:
    values = {
        "id": 7,
        "at": datetime(2026, 3, 1, 12, 0, 0, 250000, tzinfo=UTC),
        "host": "node1",
        "digest": "d" * 64,
        "event": event,
        "actor": actor,
    }
    return AuditRecord(**(values | more))


OF_A_STUDY = {"study_uid": STUDY, "patient_id": "P 1"}
SENT = {"job": 3, "destination": "pacs", "peer": "PACS", "peer_address": "10.0.0.9:104"}
SENT |= {"objects": {SEG: ["2.25.1", "2.25.2"]}}
RUN = {"job": 3, "series": "1.2.3.4", "model": "liver", "digest": "abc", "became": "produced"}
QUERY = {"peer": "PACS", "peer_address": "10.0.0.9:104", "purpose": "poll", "by": "find"}
KEYS = {"QueryRetrieveLevel": "STUDY", "ModalitiesInStudy": "CT", "StudyDate": "20260301-"}
RECEIVED = {"series": "1.2.3.4", "instances": 3, "senders": {"CT1": {CT: 2}, "CT2": {CT: 1}}}
USER = {"address": "10.0.0.7"}

LINES = {
    "node started": make_record(AuditEvent.NODE_STARTED, "receiver"),
    "node stopped": make_record(AuditEvent.NODE_STOPPED, "receiver"),
    "rejected": make_record(
        AuditEvent.ASSOCIATION_REJECTED,
        "ae:WHO",
        address="10.0.0.66",
        outcome=AuditOutcome.MINOR_FAILURE,
        detail={"reason": "not known", "count": 3},
    ),
    "received": make_record(
        AuditEvent.INSTANCES_RECEIVED, "ae:CT1", address="10.0.0.5", detail=RECEIVED, **OF_A_STUDY
    ),
    "fetched": make_record(AuditEvent.INSTANCES_RECEIVED, "ae:PACS", detail=RECEIVED, **OF_A_STUDY),
    "query": make_record(
        AuditEvent.QUERY_SENT, "scheduler", detail=QUERY | {"sop_class": FIND, "query": KEYS}
    ),
    "query of a user": make_record(
        AuditEvent.QUERY_SENT, "user:anna", detail=QUERY | {"sop_class": FIND, "query": KEYS}
    ),
    "web query": make_record(
        AuditEvent.QUERY_SENT,
        "scheduler",
        detail=QUERY | {"peer_address": "https://pacs/dicom-web", "sop_class": "", "query": KEYS},
    ),
    "model run": make_record(AuditEvent.MODEL_RUN, detail=RUN, **OF_A_STUDY),
    "model run of nobody known": make_record(AuditEvent.MODEL_RUN, detail=RUN, study_uid=STUDY),
    "sending": make_record(AuditEvent.RESULTS_SENDING, "scheduler", detail=SENT, **OF_A_STUDY),
    "sent": make_record(AuditEvent.RESULTS_SENT, "scheduler", detail=SENT, **OF_A_STUDY),
    "given up": make_record(
        AuditEvent.RESULTS_SENT,
        "scheduler",
        outcome=AuditOutcome.SERIOUS_FAILURE,
        detail=SENT | {"error": "refused:\n\0disk full"},
        **OF_A_STUDY,
    ),
    "proven": make_record(AuditEvent.RESULTS_PROVEN, "scheduler", detail=SENT, **OF_A_STUDY),
    "removed": make_record(
        AuditEvent.FILES_REMOVED, "retention", detail={"rule": "unused_days = 1"}, **OF_A_STUDY
    ),
    "login": make_record(AuditEvent.LOGIN, "user:anna", **USER),
    "wrong password": make_record(
        AuditEvent.LOGIN, "user:anna", outcome=AuditOutcome.MINOR_FAILURE, **USER
    ),
    "logout": make_record(AuditEvent.LOGOUT, "user:anna", **USER),
    "viewed": make_record(
        AuditEvent.DATA_VIEWED, "user:anna", detail={"page": "job"}, **USER, **OF_A_STUDY
    ),
    "list viewed": make_record(
        AuditEvent.DATA_VIEWED, "user:anna", detail={"page": "jobs", "patient": "P 1"}, **USER
    ),
    "downloaded": make_record(
        AuditEvent.DATA_EXPORTED, "user:anna", detail={"file": "seg.dcm"}, **USER, **OF_A_STUDY
    ),
    "backup": make_record(AuditEvent.DATA_EXPORTED, "user:root", detail={"to": "/b/hepar.db"}),
    "retry": make_record(
        AuditEvent.ACTION, "user:anna", detail={"action": "retry job"}, **USER, **OF_A_STUDY
    ),
    "suspend": make_record(AuditEvent.ACTION, "user:anna", detail={"action": "suspend"}, **USER),
    "user made": make_record(
        AuditEvent.USERS_CHANGED, "user:root", detail={"change": "add", "user": "ben"}, **USER
    ),
    "audit read": make_record(AuditEvent.AUDIT_READ, "user:root", detail={"command": "list"}),
}


def test_every_event_is_here():
    assert {line.event for line in LINES.values()} == set(AuditEvent)


@pytest.fixture(params=LINES, scope="module")
def line(request) -> AuditRecord:
    return LINES[request.param]


@pytest.fixture(scope="module")
def message(line) -> ET.Element:
    return ET.fromstring(write_message(line, SOURCE))


# The schema (A.5.1): required and further attributes, and child elements in order


@dataclass(frozen=True)
class Shape:
    required: frozenset[str] = frozenset()
    further: frozenset[str] = frozenset()
    children: tuple[tuple[str, str], ...] = ()
    values: Mapping[str, str] = field(default_factory=dict)
    """Patterns of attributes."""


def shape(required="", further="", children=(), **values) -> Shape:
    return Shape(frozenset(required.split()), frozenset(further.split()), children, values)


CODE = shape("csd-code codeSystemName originalText", "displayName")
UID = r"[0-2](\.(0|[1-9][0-9]*))+"
SCHEMA = {
    "AuditMessage": shape(
        children=(
            ("EventIdentification", ONE),
            ("ActiveParticipant", SOME),
            ("AuditSourceIdentification", ONE),
            ("ParticipantObjectIdentification", ANY),
        )
    ),
    "EventIdentification": shape(
        "EventDateTime EventOutcomeIndicator",
        "EventActionCode",
        (("EventID", ONE), ("EventTypeCode", ANY), ("EventOutcomeDescription", OPTIONAL)),
        EventActionCode="[CRUDE]",
        EventOutcomeIndicator="0|4|8|12",
        EventDateTime=r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)",
    ),
    "EventID": CODE,
    "EventTypeCode": CODE,
    "EventOutcomeDescription": shape(),
    "ActiveParticipant": shape(
        "UserID UserIsRequestor",
        "AlternativeUserID UserName NetworkAccessPointID NetworkAccessPointTypeCode",
        (("RoleIDCode", ANY), ("MediaIdentifier", OPTIONAL)),
        UserIsRequestor="true|false",
        NetworkAccessPointTypeCode="[1-5]",
    ),
    "RoleIDCode": CODE,
    "MediaIdentifier": shape(children=(("MediaType", ONE),)),
    "MediaType": CODE,
    "AuditSourceIdentification": shape(
        "AuditSourceID", "AuditEnterpriseSiteID", (("AuditSourceTypeCode", ANY),)
    ),
    "AuditSourceTypeCode": shape("csd-code", **{"csd-code": "[1-9]"}),
    "ParticipantObjectIdentification": shape(
        "ParticipantObjectID",
        "ParticipantObjectTypeCode ParticipantObjectTypeCodeRole ParticipantObjectDataLifeCycle "
        "ParticipantObjectSensitivity",
        (
            ("ParticipantObjectIDTypeCode", ONE),
            ("ParticipantObjectName|ParticipantObjectQuery", ONE),
            ("ParticipantObjectDetail", ANY),
            ("ParticipantObjectDescription", ANY),
        ),
        ParticipantObjectTypeCode="[1-4]",
        ParticipantObjectTypeCodeRole="[1-9]|1[0-9]|2[0-6]",
        ParticipantObjectDataLifeCycle="[1-9]|1[0-5]",
    ),
    "ParticipantObjectIDTypeCode": CODE,
    "ParticipantObjectName": shape(),
    "ParticipantObjectQuery": shape(),
    "ParticipantObjectDetail": shape("type value", value="[A-Za-z0-9+/]+=*"),
    "ParticipantObjectDescription": shape(
        children=(
            ("MPPS", ANY),
            ("Accession", ANY),
            ("SOPClass", ANY),
            ("ParticipantObjectContainsStudy", OPTIONAL),
            ("Encrypted", OPTIONAL),
            ("Anonymized", OPTIONAL),
        )
    ),
    "SOPClass": shape(
        "NumberOfInstances", "UID", (("Instance", ANY),), NumberOfInstances=r"\d+", UID=UID
    ),
    "Instance": shape("UID", UID=UID),
}


def check_schema(element: ET.Element) -> None:
    known = SCHEMA[element.tag]
    names = set(element.attrib)
    assert known.required <= names <= known.required | known.further
    for name, pattern in known.values.items():
        if name in element.attrib:
            assert re.fullmatch(pattern, element.attrib[name]), name
    order = "".join(f"({names}){number}" for names, number in known.children)
    grammar = re.sub(r"\(([^)]*)\)", lambda m: f"(?:(?:{m[1]}) )", order)
    found = "".join(f"{child.tag} " for child in element)
    assert re.fullmatch(grammar, found), f"{element.tag}: {found} is not {order}"
    for child in element:
        check_schema(child)


def test_it_follows_the_schema(message: ET.Element):
    assert message.tag == "AuditMessage"
    check_schema(message)


# The tables (A.5.3): what the event is, who takes part by role, which objects there are

TRANSFER = {"110153": 1, "110152": 1}
STUDY_AND_PATIENT = ["110180 2 3", "2 1 1"]
ALERT_NODE, ALERT_URI = ["110182 2 None"], ["12 2 13"]
TABLES = {
    "node started": ("110100", "E", "110120", {"110150": 1}, []),
    "node stopped": ("110100", "E", "110121", {"110150": 1}, []),
    "rejected": ("110113", "E", "110126", {None: 2}, ALERT_NODE),
    "received": ("110104", "C", None, TRANSFER, STUDY_AND_PATIENT),
    "fetched": ("110104", "C", None, TRANSFER, STUDY_AND_PATIENT),
    "query": ("110112", "E", None, TRANSFER, ["110181 2 3"]),
    "query of a user": ("110112", "E", None, TRANSFER | {None: 1}, ["110181 2 3"]),
    "web query": ("110112", "E", None, TRANSFER, ["12 2 3"]),
    "model run": ("110103", "R", None, {None: 1}, STUDY_AND_PATIENT),
    "model run of nobody known": ("110103", "R", None, {None: 1}, STUDY_AND_PATIENT),
    "sending": ("110102", "E", None, TRANSFER, STUDY_AND_PATIENT),
    "sent": ("110104", "R", None, TRANSFER, STUDY_AND_PATIENT),
    "given up": ("110104", "R", None, TRANSFER, STUDY_AND_PATIENT),
    "proven": ("110103", "R", None, {None: 2}, STUDY_AND_PATIENT),
    "removed": ("110105", "D", None, {None: 1}, STUDY_AND_PATIENT),
    "login": ("110114", "E", "110122", {None: 2}, []),
    "wrong password": ("110114", "E", "110122", {None: 2}, []),
    "logout": ("110114", "E", "110123", {None: 2}, []),
    "viewed": ("110103", "R", None, {None: 2}, STUDY_AND_PATIENT),
    "list viewed": ("110112", "E", None, TRANSFER, ["12 2 3"]),
    "downloaded": ("110106", "R", None, {"110153": 1, "110154": 1}, STUDY_AND_PATIENT),
    "backup": ("110106", "R", None, {"110153": 1, "110154": 1}, STUDY_AND_PATIENT),
    "retry": ("110103", "U", None, {None: 2}, STUDY_AND_PATIENT),
    "suspend": ("110113", "E", "110132", {None: 2}, ALERT_URI),
    "user made": ("110113", "E", "110137", {None: 2}, ALERT_URI),
    "audit read": ("110101", "R", None, {None: 2}, ALERT_URI),
}


@pytest.mark.parametrize("name", LINES)
def test_it_has_what_its_table_asks_for(name: str):
    message = build_message(LINES[name], SOURCE)
    event, action, kind, roles, objects = TABLES[name]
    identified = message.find("EventIdentification")
    assert identified.find("EventID").get("csd-code") == event
    assert identified.get("EventActionCode") == action
    types = [one.get("csd-code") for one in identified.findall("EventTypeCode")]
    assert types == ([] if kind is None else [kind])
    found: dict[str | None, int] = {}
    for one in message.findall("ActiveParticipant"):
        code = one.find("RoleIDCode")
        role = None if code is None else code.get("csd-code")
        found[role] = found.get(role, 0) + 1
    assert found == roles
    assert [
        f"{one.find('ParticipantObjectIDTypeCode').get('csd-code')} "
        f"{one.get('ParticipantObjectTypeCode')} {one.get('ParticipantObjectTypeCodeRole')}"
        for one in message.findall("ParticipantObjectIdentification")
    ] == objects


def test_one_at_most_requests_it(message: ET.Element):
    asking = [one.get("UserIsRequestor") for one in message.findall("ActiveParticipant")]
    assert asking.count("true") <= 1


def participants(name: str) -> list[tuple[str, str, str]]:
    return [
        (one.get("UserID"), one.get("UserIsRequestor"), one.get("NetworkAccessPointID"))
        for one in build_message(LINES[name], SOURCE).findall("ActiveParticipant")
    ]


def details(element: ET.Element) -> dict[str, str]:
    return {
        one.get("type"): b64decode(one.get("value")).decode()
        for one in element.iter("ParticipantObjectDetail")
    }


def test_who_takes_part():
    assert participants("received") == [
        ("CT1", "true", "10.0.0.5"),
        ("hepar@node1", "false", "node1"),
    ]
    assert [asks for _, asks, _ in participants("fetched")] == ["false", "true"]
    assert participants("sent") == [
        ("scheduler@node1", "true", "node1"),
        ("PACS", "false", "10.0.0.9"),
    ]
    assert participants("login")[0] == ("anna@node1", "true", "10.0.0.7")
    assert participants("rejected")[1] == ("WHO", "false", "10.0.0.66")


def test_what_went_where():
    study, patient = build_message(LINES["sent"], SOURCE).findall("ParticipantObjectIdentification")
    assert (study.get("ParticipantObjectID"), patient.get("ParticipantObjectID")) == (STUDY, "P 1")
    [sop_class] = study.iter("SOPClass")
    assert sop_class.attrib == {"UID": SEG, "NumberOfInstances": "2"}
    assert [one.get("UID") for one in sop_class] == ["2.25.1", "2.25.2"]
    assert details(study) == {"job": "3", "destination": "pacs"}


def test_which_model_ran():
    assert details(build_message(LINES["model run"], SOURCE))["digest"] == "abc"


def test_instances_of_several_senders_are_counted_together():
    [sop_class] = build_message(LINES["received"], SOURCE).iter("SOPClass")
    assert sop_class.attrib == {"UID": CT, "NumberOfInstances": "3"}


def test_the_question_is_a_data_set():
    message = build_message(LINES["query"], SOURCE)
    content = b64decode(message.find(".//ParticipantObjectQuery").text)
    assert details(message)["TransferSyntax"] == "1.2.840.10008.1.2.1"
    with BytesIO(content) as stream:
        query = dcmread(stream, force=True)
    assert {one.keyword: one.value for one in query} == KEYS


def test_why_it_failed_is_on_one_line():
    message = build_message(LINES["given up"], SOURCE)
    event = message.find("EventIdentification")
    assert event.get("EventOutcomeIndicator") == "8"
    assert event.find("EventOutcomeDescription").text == "refused: \ufffddisk full"


def test_it_is_a_line_of_syslog(line: AuditRecord):
    text = write_syslog(line, SOURCE)
    assert b"\n" not in text
    assert text.isascii()
    assert len(text) < 32768
    priority = 85 if line.outcome is AuditOutcome.SUCCESS else 84
    head = f"<{priority}>1 2026-03-01T12:00:00.250000Z node1 hepar 7 DICOM+RFC3881 - <?xml "
    assert text.startswith(head.encode())


def test_many_instances_and_long_text_are_cut():
    many = SENT | {"objects": {SEG: [f"2.25.{'9' * 38}{n}" for n in range(5000)]}}
    many |= {"error": "x" * 10**6}
    record = make_record(AuditEvent.RESULTS_SENT, detail=many, **OF_A_STUDY)
    message = build_message(record, SOURCE)
    check_schema(message)
    [sop_class] = message.iter("SOPClass")
    assert sop_class.get("NumberOfInstances") == "5000"
    assert len(sop_class) == MOST_INSTANCES
    assert len(write_syslog(record, SOURCE)) < 32768


def test_text_that_is_no_ascii():
    record = make_record(AuditEvent.DATA_VIEWED, "user:jürgen", study_uid=STUDY, patient_id="Ø<&>")
    text = write_message(record, SOURCE)
    assert text.isascii()
    message = ET.fromstring(text)
    assert message.find("ActiveParticipant").get("UserName") == "jürgen"
    assert [o.get("ParticipantObjectID") for o in message.iter("ParticipantObjectIdentification")][
        1
    ] == "Ø<&>"


def test_a_line_of_json_has_everything(line: AuditRecord):
    text = write_jsonl(line)
    assert "\n" not in text
    found = json.loads(text)
    assert found["at"] == "2026-03-01T12:00:00.250000+00:00"
    assert (found["id"], found["event"], found["digest"]) == (7, line.event.value, "d" * 64)
    assert found["detail"] == json.loads(json.dumps(line.detail))

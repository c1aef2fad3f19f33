"""The tables of the conformance statement, made of the settings and of the code's own tables."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import date
from functools import cached_property
from itertools import groupby
from pathlib import Path

from pydantic import BaseModel
from pydicom import Dataset
from pydicom.charset import python_encoding
from pydicom.datadict import dictionary_description, dictionary_VR
from pydicom.sr.coding import Code
from pydicom.tag import Tag
from pydicom.uid import UID, ExplicitVRLittleEndian, ImplicitVRLittleEndian
from pynetdicom import DEFAULT_TRANSFER_SYNTAXES
from pynetdicom.presentation import PresentationContext
from pynetdicom.sop_class import (
    StorageCommitmentPushModel,
    StudyRootQueryRetrieveInformationModelFind,
    StudyRootQueryRetrieveInformationModelGet,
    StudyRootQueryRetrieveInformationModelMove,
    Verification,
)
from pynetdicom.status import STORAGE_SERVICE_CLASS_STATUS, code_to_category

from config import (
    AnyPeer,
    PeerSettings,
    PeerTls,
    ProfileSettings,
    Retrieval,
    Settings,
    SyslogTransport,
    TlsSettings,
    WebPeerSettings,
)
from config.results import ResultRole
from dicom_io.codes import PRIVATE_SCHEME, list_codes, refusal_code
from dicom_io.errors import RejectionReason
from dicom_io.identity import FURTHER_IDENTITY, IDENTITY
from dicom_io.result_classes import LABEL_MAP_CLASS, RESULT_CLASSES, class_of, classes_of
from dicom_io.transfer_syntaxes import STORAGE_SOP_CLASSES
from node import identifiers
from node.audit_message import KINDS, OF_A_STUDY, OF_NO_STUDY, MessageKind
from node.commitment import REASONS
from node.dicomweb import RESOURCES
from node.dimse_status import DimseStatus
from node.scp import make_acceptor
from node.scu import SentInstance
from node.tls import CIPHERS, MINIMUM_VERSION
from storage.states import RetrievalKey

_UID = "1"
"""Stands for any UID in a question."""
_SOP_CLASS = ("SOP class", "UID")
_NAMES: Mapping[str, str] = {LABEL_MAP_CLASS.sop_class: "Label Map Segmentation Storage"}
"""Those that pydicom does not know."""
_OR_IMPLICIT = f", or {ImplicitVRLittleEndian.name} where a contour is long"
_RESULTS = dict.fromkeys(one.sop_class for one in (*RESULT_CLASSES.values(), LABEL_MAP_CLASS))
_SERVICES: Mapping[UID, str] = {
    Verification: "`hepar echo`, `hepar doctor`",
    StorageCommitmentPushModel: "`commitment` in `peers.*.proofs`",
    StudyRootQueryRetrieveInformationModelFind: (
        "`hepar query`, `hepar pull`; `find` in `peers.*.proofs`, `peers.*.ask_counts`, poll"
    ),
    StudyRootQueryRetrieveInformationModelGet: "`hepar pull`; `get` in `peers.*.proofs`, poll",
    StudyRootQueryRetrieveInformationModelMove: "`hepar pull --by move`; poll",
}
"""What we use besides storage, and what for."""
_LEVEL = "QueryRetrieveLevel"
_NAMED_SECTIONS = ("node", "node.tls", "receive", "delivery", "retention")
"""Those that other entities may notice."""


def make_table(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Make a table of Markdown."""
    rule = "|---" * len(columns) + "|"
    return "\n".join((_line(columns), rule, *map(_line, rows)))


def _line(cells: Sequence[object]) -> str:
    return f"| {' | '.join(map(_cell, cells))} |"


def spell(number: float) -> str:
    """Write a number without zeros behind the point."""
    return f"{number:.12g}"


def _cell(value: object) -> str:
    return " ".join(str(value).split()).replace("|", "\\|")


def _message(kind: MessageKind) -> tuple[str, str, str]:
    event = f"{kind.event.value} {kind.event.meaning}"
    return event, kind.action, "" if kind.type is None else f"{kind.type.value} {kind.type.meaning}"


def _code(value: object) -> str:
    return f"`{str(value).replace('`', '')}`"


def _yes(value: object) -> str:
    return "yes" if value else "no"


def _named(uid: str) -> tuple[str, str]:
    """Give the name of a UID where it has one, and the UID."""
    return _NAMES.get(uid, UID(uid).name), uid


class ConformanceTables:
    """The tables for some settings, as Markdown.

    Parameters
    ----------
    settings
        Those in force.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    # What is supported, on associations that others and that we open

    @property
    def services(self) -> str:
        """Every SOP class, as user and as provider."""
        provided = {context.abstract_syntax for context in self._accepted}
        provided -= {StorageCommitmentPushModel}  # others provide it, on associations they open
        used = self._used
        rows = ((*_named(one), used[one][0], _yes(one in provided), used[one][1]) for one in used)
        return make_table((*_SOP_CLASS, "user (SCU)", "provider (SCP)", "for"), rows)

    @cached_property
    def _accepted(self) -> list[PresentationContext]:
        return list(make_acceptor(self._settings).supported_contexts)

    @cached_property
    def _used(self) -> dict[UID, tuple[str, str]]:
        """Each SOP class that we may propose: whether we do with these settings, and what for."""
        sent = {one.sop_class for one in classes_of(self._settings.delivered_profiles.values())}
        commits = "yes" if self._settings.committing else "option"
        return {
            Verification: ("yes", _SERVICES[Verification]),
            **dict.fromkeys(STORAGE_SOP_CLASSES, ("yes", "input; `hepar send`, C-GET")),
            **dict.fromkeys(self._extra, ("yes", "the selection rules only; `hepar send`, C-GET")),
            **{one: ("yes" if one in sent else "option", "results") for one in _RESULTS},
            **{one: ("yes", purpose) for one, purpose in _SERVICES.items()},
            StorageCommitmentPushModel: (commits, _SERVICES[StorageCommitmentPushModel]),
        }

    @property
    def _extra(self) -> tuple[UID, ...]:
        return tuple(map(UID, self._settings.receive.extra_sop_classes))

    @property
    def accepted(self) -> str:
        """What the acceptor supports, one table of SOP classes and one of syntaxes each."""
        groups: dict[tuple[str, ...], list[PresentationContext]] = {}
        for context in self._accepted:
            groups.setdefault(tuple(context.transfer_syntax), []).append(context)
        return "\n\n".join(
            f"{_classes_of(contexts)}\n\nin these transfer syntaxes:\n\n{_syntaxes(syntaxes)}"
            for syntaxes, contexts in groups.items()
        )

    @property
    def proposed(self) -> str:
        """What is proposed on associations that we open."""
        uncompressed = ", ".join(UID(one).name for one in DEFAULT_TRANSFER_SYNTAXES)
        explicit = ExplicitVRLittleEndian.name
        inputs = (*STORAGE_SOP_CLASSES, *self._extra)
        by_role = "SCP, by role selection"
        rows = [
            *((*_named(one), uncompressed, "SCU") for one in _SERVICES),
            *((*_named(one), _written_in(one), "SCU") for one in _RESULTS),
            ("any storage SOP class", "", "that of the file (`hepar send`)", "SCU"),
            *((*_named(one), "those accepted as SCP (C-GET)", by_role) for one in inputs),
            *((*_named(one), f"{explicit} (C-GET for a proof)", by_role) for one in _RESULTS),
        ]
        return make_table((*_SOP_CLASS, "transfer syntaxes", "role"), rows)

    # Statuses

    @property
    def answers(self) -> str:
        """The statuses that we answer with."""
        rows = (
            (one.services, f"0x{one:04X}", _category(one), one.meaning, one.when)
            for one in DimseStatus
        )
        return make_table(("answer to", "status", "kind", "further meaning", "when"), rows)

    @property
    def understood(self) -> str:
        """What we make of the statuses that a peer answers a C-STORE with."""
        kinds: dict[tuple[str, str], list[int]] = {}
        for code in sorted(STORAGE_SERVICE_CLASS_STATUS):
            kinds.setdefault((_category(code), _reaction(code)), []).append(code)
        rows = ((*kind, _spans(codes)) for kind, codes in kinds.items())
        return make_table(("kind", "then", "statuses"), rows)

    @property
    def commitment_reasons(self) -> str:
        """The failure reasons of storage commitment that are told in words."""
        rows = ((f"0x{code:04X}", words) for code, words in sorted(REASONS.items()))
        return make_table(("reason", "told as"), rows)

    # Questions

    @property
    def questions(self) -> str:
        """The keys of every query, and of what is retrieved."""
        asked = {
            "poll: new studies": identifiers.new_studies(date(2000, 1, 1)),
            "poll: their series": identifiers.ct_series_of(_UID),
            "query and pull by accession number": identifiers.studies_by(
                RetrievalKey.ACCESSION, "1"
            ),
            "query and pull by patient ID": identifiers.studies_by(RetrievalKey.PATIENT, "1"),
            "query and pull by study UID": identifiers.studies_by(RetrievalKey.STUDY, _UID),
            "`hepar pull`: all CT series": identifiers.series_to_pull(_UID),
            "`hepar pull --series`, poll: one series": identifiers.series_to_pull(_UID, _UID),
            "`hepar pull`, poll, counts: its instances": identifiers.instances_of(_UID, _UID),
            "counts: size of a series": identifiers.size_of_series(_UID, _UID),
            "proof: an object; retrieval: a list of them": identifiers.named_instances(
                _UID, _UID, _UID
            ),
        }
        rows = (
            (what, key.QueryRetrieveLevel, _matching(key), _returned(key))
            for what, key in asked.items()
        )
        return make_table(("for", "level", "matching keys", "return keys"), rows)

    @property
    def resources(self) -> str:
        """The resources of DICOMweb by the level of a query."""
        rows = (
            (level, _code(path.replace("{}", "{uid}"))) for level, (path, _) in RESOURCES.items()
        )
        return make_table(("level", "resource"), rows)

    # Who and what is configured

    @property
    def peers(self) -> str:
        """The peers, and what each may do."""
        rows = (
            (
                _code(name),
                _code(peer.ae_title),
                "DIMSE" if isinstance(peer, PeerSettings) else "DICOMweb",
                _code(peer.address),
                _secured(peer),
                _listed(sorted(peer.roles)),
                _code(peer.profile) if name in self._settings.destinations else "",
                _listed(peer.proofs),
                _asks(peer),
            )
            for name, peer in sorted(self._settings.peers.items())
        )
        columns = (
            "peer",
            "AE title",
            "by",
            "address",
            "TLS",
            "roles",
            "profile",
            "proofs",
            "asked for",
        )
        return make_table(columns, rows)

    @property
    def profiles(self) -> str:
        """What each profile gives, and to whom."""
        rows = (
            (
                _code(name),
                _listed(_code(k) for k, v in self._settings.deliveries.items() if v == name),
                _listed(one.value for one in profile.objects),
                *_forms(profile),
            )
            for name, profile in self._settings.profiles.items()
        )
        columns = ("profile", "destinations", "objects", "segmentation", "lesions", "empty frames")
        return make_table((*columns, "image library", "step of the overlay"), rows)

    @property
    def results(self) -> str:
        """What each object is filed under."""
        results = self._settings.results
        rows = []
        for role, kind in (*RESULT_CLASSES.items(), (ResultRole.SEG, LABEL_MAP_CLASS)):
            series = "overlay" if role is ResultRole.SUMMARY else role.value.replace("-", "_")
            number = getattr(results, f"{series}_series_number")
            description = getattr(results, f"{series}_series_description")
            names = [
                _code(name)
                for name, profile in self._settings.delivered_profiles.items()
                if role in profile.objects and class_of(role, profile) == kind
            ]
            rows.append(
                (
                    role.value,
                    _named(kind.sop_class)[0],
                    kind.modality,
                    number,
                    description,
                    _listed(names),
                )
            )
        columns = ("object", "SOP class", "modality", "series number", "series description")
        return make_table((*columns, "profiles in use"), rows)

    @property
    def parameters(self) -> str:
        """The settings that others may notice, as they are."""
        rows = [
            (_code(f"{name}.{key}"), _value(value), words)
            for name in _NAMED_SECTIONS
            for key, value, words in _keys_of(self._settings, name)
        ]
        return make_table(("setting", "value", "meaning"), rows)

    # What our objects hold

    @property
    def identity(self) -> str:
        """The attributes that are copied from the source."""
        ours = [(*_attribute(one), "always, empty where unknown") for one in IDENTITY]
        more = [(*_attribute(one), "where the source has it") for one in FURTHER_IDENTITY]
        return make_table(("attribute", "tag", "VR", "copied"), [*ours, *more])

    @property
    def private_codes(self) -> str:
        """Our own codes; those of rejections have a table of their own."""
        refusals = set(map(refusal_code, RejectionReason))
        own = (one for one in list_codes() if one.scheme_designator == PRIVATE_SCHEME)
        rows = ((_code(one.value), one.meaning) for one in own if one not in refusals)
        return make_table(("code value", "code meaning"), rows)

    @property
    def refusals(self) -> str:
        """Why a series cannot be evaluated: the code of the report and that of the job."""
        coded = ((refusal_code(one), one) for one in RejectionReason)
        rows = (
            (_code(code.value), code.meaning, _code(one.value), one.sentence) for code, one in coded
        )
        return make_table(("code value", "code meaning", "code of the job", "sentence"), rows)

    @property
    def standard_codes(self) -> str:
        """The codes of others that we write."""
        theirs = [one for one in list_codes() if one.scheme_designator != PRIVATE_SCHEME]
        rows = ((_code(one.value), one.scheme_designator, one.meaning) for one in _sorted(theirs))
        return make_table(("code value", "coding scheme", "code meaning"), rows)

    @property
    def keeps_instances(self) -> bool:
        """Whether nothing that is received is ever removed."""
        limits = self._settings.retention.model_dump(exclude={"results_days"})
        return not any(limits.values())

    @property
    def has_web_peers(self) -> bool:
        """Whether a peer is a DICOMweb service."""
        return any(isinstance(peer, WebPeerSettings) for peer in self._settings.peers.values())

    @property
    def sends_audit_by_tls(self) -> bool:
        """Whether the audit trail goes to a syslog server by TLS."""
        syslog = self._settings.audit.syslog
        return syslog is not None and syslog.transport is SyslogTransport.TLS

    @property
    def audit_messages(self) -> str:
        """The message of each event of the audit trail."""
        rows = [(_code(event.value), *_message(kind)) for event, kind in KINDS.items()]
        for what, kinds in (("of a study", OF_A_STUDY), ("of no one study", OF_NO_STUDY)):
            rows += [(f"{_code(e.value)}, {what}", *_message(kind)) for e, kind in kinds.items()]
        return make_table(("event", "EventID", "EventActionCode", "EventTypeCode"), rows)

    @property
    def tls_port(self) -> int:
        """The port for TLS; where there is none, that which it would have by default."""
        tls = self._settings.node.tls
        return int(TlsSettings.model_fields["port"].default) if tls is None else tls.port

    @property
    def tls_version(self) -> str:
        """The least version of TLS."""
        return MINIMUM_VERSION.name.removeprefix("TLSv").replace("_", ".")

    @property
    def ciphers(self) -> str:
        """The cipher suites of TLS 1.2."""
        return CIPHERS

    @property
    def character_sets(self) -> str:
        """The defined terms that are known."""
        return _listed(_code(term) for term in sorted(filter(None, python_encoding)))


def _written_in(sop_class: UID) -> str:
    is_text = sop_class == RESULT_CLASSES[ResultRole.RTSTRUCT].sop_class
    return f"{ExplicitVRLittleEndian.name}{_OR_IMPLICIT if is_text else ''}"


def _classes_of(contexts: Iterable[PresentationContext]) -> str:
    rows = ((*_named(one.abstract_syntax), _role(one)) for one in contexts)
    return make_table((*_SOP_CLASS, "role"), rows)


def _role(context: PresentationContext) -> str:
    """Name our role; one without role selection is that of the acceptor (PS3.7 D.3.3.4)."""
    return "SCU, by role selection" if context.scu_role is False else "SCP"


def _syntaxes(syntaxes: Iterable[str]) -> str:
    return make_table(("transfer syntax", "UID"), map(_named, syntaxes))


def _category(status: int) -> str:
    return str(code_to_category(status))


def _reaction(status: int) -> str:
    answer = SentInstance(path=Path(), sop_instance_uid="", status=status, comment="")
    if answer.stored:
        return "counts as stored"
    return "repeated at the longest pauses" if answer.lasting else "repeated"


def _spans(codes: Sequence[int]) -> str:
    """Name codes in ascending order, those in a row by the first and the last."""
    rows = groupby(enumerate(codes), key=lambda one: one[1] - one[0])
    spans = [[f"0x{code:04X}" for _, code in row] for _, row in rows]
    return _listed(one[0] if len(one) == 1 else f"{one[0]} to {one[-1]}" for one in spans)


def _matching(key: Dataset) -> str:
    told = (element for element in key if element.value and element.keyword != _LEVEL)
    return ", ".join(_constraint(one.keyword, str(one.value)) for one in told)


def _constraint(keyword: str, value: str) -> str:
    name = dictionary_description(keyword)
    if dictionary_VR(keyword) == "DA":
        return f"{name} (a range)"
    return name if value == _UID else f"{name} = {value}"


def _returned(key: Dataset) -> str:
    return ", ".join(dictionary_description(one.keyword) for one in key if not one.value)


def _secured(peer: AnyPeer) -> str:
    if isinstance(peer, PeerSettings):
        return "no" if peer.tls is PeerTls.OFF else peer.tls.value
    return _yes(peer.url.startswith("https"))


def _asks(peer: AnyPeer) -> str:
    """Say what the peer is asked for besides proofs."""
    asked = []
    if isinstance(peer, PeerSettings) and peer.ask_counts:
        asked.append("counts of instances")
    if peer.poll is not None:
        asked.append(
            f"new series every {spell(peer.poll.every_s)} s, of the last {peer.poll.days} days, "
            f"by {_by(peer, peer.poll.by)}"
        )
    return ", ".join(asked)


def _by(peer: AnyPeer, retrieval: Retrieval) -> str:
    return f"C-{retrieval.name}" if isinstance(peer, PeerSettings) else "WADO-RS"


def _forms(profile: ProfileSettings) -> Iterator[str]:
    """Say in which forms the objects are; empty where the profile has none of them."""
    has_seg = ResultRole.SEG in profile.objects
    yield profile.segmentation.value if has_seg else ""
    yield profile.lesions.value if has_seg else ""
    yield _yes(profile.empty_frames) if has_seg else ""
    yield _yes(profile.image_library) if ResultRole.SR in profile.objects else ""
    yield f"{spell(profile.overlay_step_mm)} mm" if ResultRole.OVERLAY in profile.objects else ""


def _keys_of(settings: Settings, section: str) -> Iterator[tuple[str, object, str]]:
    """Give the plain keys of a section; files of this machine are nobody's business."""
    model: object = settings
    for name in section.split("."):
        model = getattr(model, name)
    if not isinstance(model, BaseModel):
        return
    for key, field in type(model).model_fields.items():
        value = getattr(model, key)
        if key != "tls" and not isinstance(value, Path):
            yield key, value, field.description or ""


def _value(value: object) -> str:
    if value in (None, ()):
        return "none"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, tuple):
        return _listed(map(_code, value))
    return _code(spell(value) if isinstance(value, float) else value)


def _attribute(keyword: str) -> tuple[str, str, str]:
    return dictionary_description(keyword), str(Tag(keyword)), dictionary_VR(keyword)


def _sorted(found: Iterable[Code]) -> list[Code]:
    return sorted(found, key=lambda one: (one.scheme_designator, one.value))


def _listed(parts: Iterable[object]) -> str:
    return ", ".join(map(str, parts))

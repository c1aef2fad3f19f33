"""What a PACS lists under a number that a person knows; nothing is fetched."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from pydicom.dataset import Dataset

from config import AnyPeer
from dicom_io.description import describe
from dicom_io.errors import InvalidUid
from dicom_io.headers import check_uid
from dicom_io.values import read_count, read_text, read_texts
from node.auditing import query_entry, told
from node.errors import NodeError, PeerRefused, TooMany
from node.exchange import find
from node.identifiers import MATCHED, studies_by
from node.services import Services
from node.wanted import NAMES, check_length, check_value
from storage.held_studies import HeldStudies, HeldStudy
from storage.states import RetrievalKey

MAX_MATCHES = 500
"""A peer that lists more under one number does not look at the number."""
_CT = "CT"


@dataclass(frozen=True, kw_only=True)
class ListedStudy:
    """A study that a peer lists; what it does not tell is empty, or None."""

    study_uid: str
    study_date: str
    """As YYYY-MM-DD."""
    description: str
    accession_number: str
    patient_id: str
    patient_name: str
    modalities: tuple[str, ...]
    series_count: int | None
    instance_count: int | None

    @property
    def may_have_ct(self) -> bool:
        """Whether it has CT series, as far as the peer tells."""
        return not self.modalities or _CT in self.modalities


@dataclass(frozen=True, kw_only=True)
class FoundStudy:
    """A study that a peer lists, and what the node has of it."""

    listed: ListedStudy
    here: HeldStudy

    @property
    def is_whole(self) -> bool:
        """Whether the node has as many instances as the peer tells of."""
        count = self.listed.instance_count
        return count is not None and self.here.instance_count >= count


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What a peer lists under one number."""

    key: RetrievalKey
    value: str
    studies: tuple[FoundStudy, ...] = ()
    error: str = ""
    """Why there is no answer, as a sentence; empty where there is one."""


def query_studies(
    services: Services,
    peer: AnyPeer,
    wanted: Sequence[tuple[RetrievalKey, str]],
    on_answer: Callable[[int], None] = lambda _count: None,
    *,
    actor: str,
    address: str = "",
) -> list[Answer]:
    """Ask what a peer lists under each number, without fetching it; the audit trail tells of it.

    What goes wrong with one number is told with it. Once `pull.query_timeout_s` is over, nothing
    more is asked for.

    Parameters
    ----------
    services
        Stores and settings.
    peer
        Who is asked.
    wanted
        What for.
    on_answer
        Told how many were asked for.
    actor, address
        Who asks, and the address of that user's machine.

    Raises
    ------
    UnusableList
        There is none, or there are more than `pull.max_rows` of them.
    """
    settings = services.settings.pull
    check_length(wanted, settings)
    asker = _Asker(services, peer, actor, address)
    deadline = time.monotonic() + settings.query_timeout_s
    answers = []
    for count, (key, value) in enumerate(dict.fromkeys(wanted), start=1):
        if time.monotonic() < deadline:
            answers.append(asker.ask(key, value))
        else:
            over = f"not asked: {settings.query_timeout_s:g} s (pull.query_timeout_s) are over"
            answers.append(Answer(key=key, value=value, error=over))
        on_answer(count)
    return answers


def find_studies(
    services: Services, peer: AnyPeer, key: RetrievalKey, value: str
) -> list[ListedStudy]:
    """Ask for the studies of a number; only those are given that have exactly this number.

    Raises
    ------
    UnusableValue
        The number would match others too.
    TooMany
        The peer lists more than `MAX_MATCHES`.
    PeerUnreachable, PeerRefused
    """
    question = studies_by(key, check_value(key, value))
    matches = find(services.settings.node, peer, question, limit=MAX_MATCHES + 1)
    if len(matches) > MAX_MATCHES:
        raise TooMany(
            f"{peer.ae_title} lists more than {MAX_MATCHES} studies under this {NAMES[key]}; it "
            "seems not to look at it"
        )
    # A peer that does not know a key lists everything (PS3.4 C.2.2.1.3).
    own = [match for match in matches if read_text(match, MATCHED[key]).strip() == value]
    return [_describe(peer, match) for match in own]


@dataclass(frozen=True)
class _Asker:
    """Asks a peer on behalf of a person."""

    services: Services
    peer: AnyPeer
    actor: str
    address: str

    def ask(self, key: RetrievalKey, value: str) -> Answer:
        """Ask what is listed under a number."""
        try:
            listed = self._find(key, check_value(key, value))
        except NodeError as error:
            return Answer(key=key, value=value, error=str(error))
        held = HeldStudies(self.services.database)
        found = [FoundStudy(listed=one, here=held.look_up(one.study_uid)) for one in listed]
        return Answer(key=key, value=value, studies=tuple(found))

    def _find(self, key: RetrievalKey, value: str) -> list[ListedStudy]:
        entry = query_entry(self.peer, studies_by(key, value), "look up", self.actor)
        patient_id = value if key is RetrievalKey.PATIENT else ""
        entry = replace(entry, address=self.address, patient_id=patient_id)
        with told(self.services.audit, entry) as detail:
            listed = find_studies(self.services, self.peer, key, value)
            detail["studies"] = [one.study_uid for one in listed]
        return listed


def _describe(peer: AnyPeer, match: Dataset) -> ListedStudy:
    told = describe(match)
    try:
        # Nothing, or a wildcard, would ask for the series of an archive.
        study_uid = check_uid(read_text(match, "StudyInstanceUID"))
    except InvalidUid as error:
        raise PeerRefused(f"{peer.ae_title} lists a study without a UID: {error}") from error
    return ListedStudy(
        study_uid=study_uid,
        study_date=told.study_date,
        description=told.study_description,
        accession_number=told.accession_number,
        patient_id=told.patient_id,
        patient_name=told.patient_name,
        modalities=tuple(sorted(filter(None, read_texts(match, "ModalitiesInStudy")))),
        series_count=read_count(match, "NumberOfStudyRelatedSeries"),
        instance_count=read_count(match, "NumberOfStudyRelatedInstances"),
    )

"""Fetch a study from a peer: what the node has already is not fetched again."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

from pydicom.dataset import Dataset

from config import AnyPeer, PeerSettings, Retrieval
from dicom_io.transfer_syntaxes import ACCEPTED_TRANSFER_SYNTAXES, STORAGE_SOP_CLASSES
from node.auditing import query_entry, told
from node.clock import utc_now
from node.errors import NotThere, WrongCall
from node.exchange import find, get
from node.identifiers import instances_of, named_instances, series_to_pull
from node.ingest import Ingest
from node.query import move
from node.services import Services
from storage.records import Sender

OnProgress = Callable[[int, int], None]

BATCH = 64
"""So many instances are named in one request; an interrupted pull repeats no more than these."""


@dataclass(frozen=True, kw_only=True)
class PulledSeries:
    """What became of one series."""

    series_uid: str
    modality: str
    offered: int
    """Instances that the peer lists."""
    fetched: int
    missing: tuple[str, ...]
    """SOP instance UIDs that the peer lists and did not send."""


def pull_study(  # noqa: PLR0913 -- who asks whom for what, and how
    services: Services,
    peer: AnyPeer,
    study_uid: str,
    *,
    series_uid: str = "",
    retrieval: Retrieval = Retrieval.GET,
    on_progress: OnProgress = lambda _here, _offered: None,
    actor: str = "scheduler",
) -> list[PulledSeries]:
    """Fetch the series of a study; the audit trail tells of it.

    Parameters
    ----------
    services
        Stores and settings.
    peer
        Who has it.
    study_uid
        Which study.
    series_uid
        Only this series, whatever its modality; all CT series by default.
    retrieval
        How instances come.
    on_progress
        Told, again and again, how many instances are here, and how many the peer lists.
    actor
        Who wants it, as `AuditEntry.actor`.

    Raises
    ------
    NotThere
        When the peer lists no such series.
    WrongCall
        When a DICOMweb service is to be asked by C-MOVE.
    PeerUnreachable
        When no association comes about; what came before is kept.
    PeerRefused
        When a query or a retrieval fails; what came before is kept.
    """
    key = series_to_pull(study_uid, series_uid)
    with told(services.audit, query_entry(peer, key, "pull", actor, retrieval)) as detail:
        pulled = _pull(services, peer, (study_uid, series_uid), retrieval, on_progress)
        detail["offered"] = sum(one.offered for one in pulled)
        detail["fetched"] = sum(one.fetched for one in pulled)
    return pulled


def _pull(
    services: Services,
    peer: AnyPeer,
    uids: tuple[str, str],
    retrieval: Retrieval,
    on_progress: OnProgress,
) -> list[PulledSeries]:
    study_uid, series_uid = uids
    listed_at = utc_now()
    offers = list(_list_offers(services, peer, study_uid, series_uid))
    if not offers:
        raise NotThere(
            f"{peer.ae_title} lists no {'such' if series_uid else 'CT'} series in the study "
            f"{study_uid}"
        )
    wanted = sum(len(offer.instance_uids) for offer in offers)
    ready = 0
    pulled = []
    for offer in offers:
        before = _missing(services, offer.instance_uids)
        ready += len(offer.instance_uids) - len(before)
        on_progress(ready, wanted)
        for start in range(0, len(before), BATCH):
            part = before[start : start + BATCH]
            _retrieve(services, peer, offer.key(study_uid, part), retrieval)
            # A pause between two parts is not the end of the series.
            services.open_series.note_count(offer.series_uid, len(offer.instance_uids), listed_at)
            ready += len(part)
            on_progress(ready, wanted)
        missing = _missing(services, before)
        pulled.append(
            PulledSeries(
                series_uid=offer.series_uid,
                modality=offer.modality,
                offered=len(offer.instance_uids),
                fetched=len(before) - len(missing),
                missing=tuple(missing),
            )
        )
    return pulled


@dataclass(frozen=True, kw_only=True)
class _Offer:
    """A series that a peer lists."""

    series_uid: str
    modality: str
    instance_uids: tuple[str, ...]

    def key(self, study_uid: str, instance_uids: Sequence[str]) -> Dataset:
        return named_instances(study_uid, self.series_uid, instance_uids)


def _list_offers(
    services: Services, peer: AnyPeer, study_uid: str, series_uid: str
) -> Iterator[_Offer]:
    node = services.settings.node
    for series in find(node, peer, series_to_pull(study_uid, series_uid)):
        uid = str(series.SeriesInstanceUID)
        listed = find(node, peer, instances_of(study_uid, uid))
        uids = sorted({str(match.SOPInstanceUID) for match in listed})
        yield _Offer(
            series_uid=uid, modality=str(series.get("Modality", "")), instance_uids=tuple(uids)
        )


def _missing(services: Services, instance_uids: Sequence[str]) -> list[str]:
    return [uid for uid in instance_uids if services.catalog.find_instance(uid) is None]


def _retrieve(services: Services, peer: AnyPeer, key: Dataset, retrieval: Retrieval) -> None:
    settings = services.settings
    if retrieval is Retrieval.MOVE:
        if not isinstance(peer, PeerSettings):
            raise WrongCall(f"{peer.address} is a DICOMweb service: it cannot be asked by C-MOVE")
        move(settings.node, peer, key)
        return
    receive = settings.receive
    ingest = Ingest(services.files, services.catalog, receive.min_free_bytes, services.metrics)
    classes = (*STORAGE_SOP_CLASSES, *receive.extra_sop_classes)
    syntaxes = dict.fromkeys(classes, ACCEPTED_TRANSFER_SYNTAXES)
    get(settings.node, peer, key, syntaxes, partial(ingest.store, sender=Sender(peer.ae_title)))

"""What people do with lists of what is to be fetched; each action goes into the audit trail."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from config import AnyPeer, PeerRole, PeerSettings, Retrieval, Settings
from node.clock import utc_now
from node.errors import WrongCall
from node.night import next_night
from node.services import Services
from node.wanted import check_length, check_value
from storage.records import AuditEntry, RetrievalBatch, RetrievalOrder, RetrievalRecord
from storage.states import AuditEvent, RetrievalKey


@dataclass(frozen=True, kw_only=True)
class PullOrder:
    """What a person wants to have from a peer of the settings."""

    peer: str
    wanted: Sequence[tuple[RetrievalKey, str]]
    retrieval: Retrieval = Retrieval.GET
    at_night: bool = False


def can_move(peer: AnyPeer) -> bool:
    """Say whether a peer can be asked by C-MOVE to send to this node."""
    return isinstance(peer, PeerSettings) and PeerRole.SOURCE in peer.roles


def usual_retrieval(peer: AnyPeer) -> Retrieval:
    """Give how a peer is asked where a person does not say: as by its polls."""
    return Retrieval.GET if peer.poll is None else peer.poll.by


def order_pull(
    services: Services, order: PullOrder, actor: str, address: str = ""
) -> RetrievalBatch:
    """Queue a list, which the running node works off.

    Parameters
    ----------
    services
        Stores and settings.
    order
        What is wanted.
    actor, address
        Who wants it, and the address of that user's machine.

    Raises
    ------
    WrongCall
        There is no such peer in the settings, or it cannot be asked so.
    UnusableList
        The list is empty or too long.
    UnusableValue
        A number would match others too, or is none.
    """
    settings = services.settings
    _check_peer(settings, order)
    wanted = [(key, check_value(key, value)) for key, value in order.wanted]
    check_length(set(wanted), settings.pull)
    now = utc_now()
    batch = services.retrievals.add(
        RetrievalOrder(
            peer=order.peer,
            wanted=wanted,
            retrieval=order.retrieval,
            actor=actor,
            at_night=order.at_night,
            not_before=next_night(settings.pull, now) if order.at_night else now,
        ),
        now,
    )
    detail = {"action": "pull", "batch": batch, "peer": order.peer, "wanted": wanted}
    _audit(services, detail, actor, address, now)
    return services.retrievals.get_batch(batch)


def cancel_pull(
    services: Services, batch: str, actor: str, row_id: int | None = None, address: str = ""
) -> list[RetrievalRecord]:
    """Cancel what has not ended of a list, or one row; see `Retrievals.cancel`.

    Raises
    ------
    storage.errors.NotFound
    """
    now = utc_now()
    rows = services.retrievals.cancel(batch, now, row_id=row_id)
    detail = {"action": "cancel pull", "batch": batch, "rows": [row.id for row in rows]}
    _audit(services, detail, actor, address, now)
    return rows


def retry_pull(
    services: Services, batch: str, actor: str, row_id: int | None = None, address: str = ""
) -> list[RetrievalRecord]:
    """Take up again what was not fetched of a list, or one row; see `Retrievals.retry`.

    Raises
    ------
    storage.errors.NotFound
    """
    now = utc_now()
    rows = services.retrievals.retry(batch, now, row_id=row_id)
    detail = {"action": "retry pull", "batch": batch, "rows": [row.id for row in rows]}
    _audit(services, detail, actor, address, now)
    return rows


def _check_peer(settings: Settings, order: PullOrder) -> None:
    name, peer = order.peer, settings.peers.get(order.peer)
    if peer is None:
        known = ", ".join(sorted(settings.peers)) or "none"
        raise WrongCall(
            f"There is no peer {name!r} in the settings (peers: {known}). The running node works "
            "the list off, so it must know the peer."
        )
    if order.retrieval is not Retrieval.MOVE:
        return
    if not isinstance(peer, PeerSettings):
        raise WrongCall(f"{name} is a DICOMweb service: it cannot be asked by C-MOVE")
    if PeerRole.SOURCE not in peer.roles:
        raise WrongCall(
            f"{name} may not send to this node; C-MOVE needs 'source' in peers.{name}.roles"
        )


def _audit(
    services: Services, detail: Mapping[str, Any], actor: str, address: str, now: datetime
) -> None:
    entry = AuditEntry(event=AuditEvent.ACTION, actor=actor, address=address, detail=detail)
    services.audit.append(entry, now)

"""What people do with lists of what is to be fetched; each action goes into the audit trail."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from config import PeerRole, PeerSettings, Retrieval, Settings
from node.clock import utc_now
from node.errors import UnusableList, WrongCall
from node.night import next_night
from node.services import Services
from node.wanted import check_value
from storage.records import AuditEntry, RetrievalBatch, RetrievalOrder, RetrievalRecord
from storage.states import AuditEvent, RetrievalKey


@dataclass(frozen=True, kw_only=True)
class PullOrder:
    """What a person wants to have from a peer of the settings."""

    peer: str
    wanted: Sequence[tuple[RetrievalKey, str]]
    retrieval: Retrieval = Retrieval.GET
    at_night: bool = False


def order_pull(services: Services, order: PullOrder, actor: str) -> RetrievalBatch:
    """Queue a list, which the running node works off.

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
    if not 0 < len(set(wanted)) <= settings.pull.max_rows:
        raise UnusableList(
            f"it has {len(set(wanted))} rows, and may have 1 to {settings.pull.max_rows} "
            "(pull.max_rows)"
        )
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
    _audit(services, actor, now, action="pull", batch=batch, peer=order.peer, wanted=wanted)
    return services.retrievals.get_batch(batch)


def cancel_pull(
    services: Services, batch: str, actor: str, row_id: int | None = None
) -> list[RetrievalRecord]:
    """Cancel what has not ended of a list, or one row; see `Retrievals.cancel`.

    Raises
    ------
    storage.errors.NotFound
    """
    now = utc_now()
    rows = services.retrievals.cancel(batch, now, row_id=row_id)
    _audit(services, actor, now, action="cancel pull", batch=batch, rows=[row.id for row in rows])
    return rows


def retry_pull(
    services: Services, batch: str, actor: str, row_id: int | None = None
) -> list[RetrievalRecord]:
    """Take up again what was not fetched of a list, or one row; see `Retrievals.retry`.

    Raises
    ------
    storage.errors.NotFound
    """
    now = utc_now()
    rows = services.retrievals.retry(batch, now, row_id=row_id)
    _audit(services, actor, now, action="retry pull", batch=batch, rows=[row.id for row in rows])
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


def _audit(services: Services, actor: str, now: datetime, **detail: object) -> None:
    entry = AuditEntry(event=AuditEvent.ACTION, actor=actor, detail=detail)
    services.audit.append(entry, now)

"""Suspend and resume kinds of work, with a line in the audit trail."""

from node.clock import utc_now
from node.services import Services
from storage.records import AuditEntry
from storage.states import AuditEvent, Work


def suspend(
    services: Services, work: Work, *, actor: str, reason: str = "", address: str = ""
) -> bool:
    """Let none of this work begin until it is resumed, on all machines of the node.

    What has begun is finished, and series are received and settled all the same. Proofs of what
    was delivered go on, because they bring nothing to a destination.

    Parameters
    ----------
    services
        Those of the node.
    work
        What is suspended.
    actor, address
        Who wants it, as "user:NAME", and from which machine, where that is another.
    reason
        For the others who see that the work stands still.

    Returns
    -------
    bool
        Whether it was not suspended before; else nothing has changed.
    """
    changed = services.pauses.suspend(work, actor, reason, utc_now())
    if changed:
        detail = {"action": "suspend", "work": work.value, "reason": reason}
        _tell(services, actor, address, detail)
    return changed


def resume(services: Services, work: Work, *, actor: str, address: str = "") -> bool:
    """Let this work begin again; say whether it was suspended."""
    changed = services.pauses.resume(work)
    if changed:
        _tell(services, actor, address, {"action": "resume", "work": work.value})
    return changed


def _tell(services: Services, actor: str, address: str, detail: dict[str, str]) -> None:
    entry = AuditEntry(event=AuditEvent.ACTION, actor=actor, address=address, detail=detail)
    services.audit.append(entry, utc_now())

"""Storage commitment as its user (PS3.4 annex J): the request, and the report that answers it."""

from collections.abc import Callable, Sequence

from pydicom.dataset import Dataset
from pydicom.sequence import Sequence as Items
from pynetdicom import build_context, evt
from pynetdicom.sop_class import (
    StorageCommitmentPushModel,
    StorageCommitmentPushModelInstance,
)

from config import NodeSettings, PeerSettings
from node.dimse_status import DimseStatus
from node.errors import PeerRefused
from node.scu import associate, describe_status
from storage.errors import NotFound
from storage.records import NewResult

Answer = Callable[[str, frozenset[str], str], None]
"""Takes a transaction UID, the SOP instance UIDs that are kept, and what is not, in words."""

REQUEST_ACTION = 1
"""Action type ID of a request (PS3.4 J.3.2)."""
REASONS = {
    0x0110: "processing failure",
    0x0112: "no such object instance",
    0x0213: "resource limitation",
    0x0122: "referenced SOP class not supported",
    0x0119: "class / instance conflict",
    0x0131: "duplicate transaction UID",
}
"""Failure reasons (PS3.3 C.14.1.1)."""


def request_commitment(
    node: NodeSettings,
    peer: PeerSettings,
    *,
    transaction_uid: str,
    results: Sequence[NewResult],
    wait: Callable[[], object],
    on_answer: Answer,
) -> None:
    """Ask a peer to commit itself to keep some objects.

    It may answer on this association, for which it gets some time, or later on one of its own.

    Parameters
    ----------
    node
        Our AE title and time limits.
    peer
        Who is asked.
    transaction_uid
        New for each request.
    results
        The objects.
    wait
        Called before the association is released; returns when an answer is there or no longer
        waited for.
    on_answer
        Called with a report on this association.

    Raises
    ------
    PeerUnreachable
        When no association comes about.
    PeerRefused
        When the peer does not accept the request.
    """
    assoc = associate(
        node,
        peer,
        [build_context(StorageCommitmentPushModel)],
        evt_handlers=[(evt.EVT_N_EVENT_REPORT, handle_report, [on_answer])],
    )
    try:
        response, _ = assoc.send_n_action(
            _make_request(transaction_uid, results),
            REQUEST_ACTION,
            StorageCommitmentPushModel,
            StorageCommitmentPushModelInstance,
        )
        status, comment = describe_status(response)
        if status != DimseStatus.SUCCESS:
            code = "no answer" if status is None else f"status 0x{status:04X} {comment}".strip()
            raise PeerRefused(f"{peer.ae_title} refuses a request for storage commitment: {code}")
        wait()
    finally:
        if assoc.is_established:
            assoc.release()


def _make_request(transaction_uid: str, results: Sequence[NewResult]) -> Dataset:
    """Make the action information (PS3.4 table J.3-1)."""
    request = Dataset()
    request.TransactionUID = transaction_uid
    request.ReferencedSOPSequence = Items([_reference(result) for result in results])
    return request


def _reference(result: NewResult) -> Dataset:
    item = Dataset()
    item.ReferencedSOPClassUID = result.sop_class_uid
    item.ReferencedSOPInstanceUID = result.sop_instance_uid
    return item


def handle_report(event: evt.Event, on_answer: Answer) -> tuple[int, None]:
    """Take the report on a request (PS3.4 J.3.3), on whichever association it comes."""
    try:
        report = event.event_information
        on_answer(str(report.TransactionUID), _list_kept(report), describe_report(report))
    except AttributeError:
        return int(DimseStatus.INVALID_ARGUMENT), None
    except NotFound:
        return int(DimseStatus.PROCESSING_FAILURE), None
    return int(DimseStatus.SUCCESS), None


def describe_report(report: Dataset) -> str:
    """Say what a peer does not keep, and why; empty where it names nothing of that kind.

    Parameters
    ----------
    report
        Event information (PS3.4 table J.3-2).
    """
    return "; ".join(
        f"does not keep {item.ReferencedSOPInstanceUID}: {_reason(item)}"
        for item in report.get("FailedSOPSequence") or ()
    )


def _list_kept(report: Dataset) -> frozenset[str]:
    return frozenset(
        str(item.ReferencedSOPInstanceUID) for item in report.get("ReferencedSOPSequence") or ()
    )


def _reason(item: Dataset) -> str:
    code = int(item.get("FailureReason", 0))
    return REASONS.get(code, f"reason 0x{code:04X}")

"""The SCP side: C-ECHO and C-STORE from sources, reports on storage commitment from archives.

The C-STORE handler stores the bytes as they came, registers them and answers; nothing is decoded
but the header, and Success is sent only after the file and its row are durable (design 3.1).
"""

import ipaddress
import logging
import socket
from collections.abc import Callable, Mapping
from functools import partial
from weakref import WeakSet

from pydicom.dataset import Dataset
from pynetdicom import AE, evt
from pynetdicom.association import Association
from pynetdicom.pdu_primitives import A_ASSOCIATE
from pynetdicom.sop_class import StorageCommitmentPushModel, Verification

from config import PeerSettings, Settings
from dicom_io.errors import InvalidUid, MismatchingInstance, UndecodableInstance
from dicom_io.transfer_syntaxes import ACCEPTED_TRANSFER_SYNTAXES, STORAGE_SOP_CLASSES
from node.acceptor import Guard, GuardedServer, HeldBytes, start_server
from node.clock import utc_now
from node.commitment import handle_report
from node.dimse_status import DimseStatus, status_response
from node.ingest import Ingest, OnInstance
from node.metrics import AssociationOutcome, Metric, Metrics
from node.tls import make_server_context
from node.version import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME
from storage.catalog import Catalog
from storage.errors import DatabaseError, DiskShort
from storage.files import FileStore
from storage.proofs import Proofs
from storage.records import AuditEntry, Sender
from storage.states import AuditEvent, AuditOutcome

logger = logging.getLogger(__name__)

_ACCEPTED = 0x00
_REJECTED_PERMANENT = 0x01
_SERVICE_USER = 0x01
_CALLING_AE_TITLE_NOT_RECOGNIZED = 0x03
_OUTCOMES = {
    (_SERVICE_USER, _CALLING_AE_TITLE_NOT_RECOGNIZED): AssociationOutcome.CALLING_UNKNOWN,
    (_SERVICE_USER, 0x07): AssociationOutcome.CALLED_UNKNOWN,
    (0x03, 0x02): AssociationOutcome.LIMIT,
}
"""By source and reason of an A-ASSOCIATE-RJ (PS3.8 table 9-21)."""
_STATUS_NAMES = {int(status): status.name for status in DimseStatus}


class Receiver:
    """The receiving application entity of the node.

    Parameters
    ----------
    settings
        The whole tree.
    files, catalog, proofs, metrics
        Stores, and where things are counted.
    on_rejected
        Told of each caller that is turned away, for the audit trail; it may be called very often.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        files: FileStore,
        catalog: Catalog,
        proofs: Proofs,
        metrics: Metrics,
        on_rejected: Callable[[AuditEntry], None] = lambda _: None,
    ) -> None:
        self._settings = settings
        self._on_rejected = on_rejected
        self._proofs = proofs
        self._metrics = metrics
        self._ingest = Ingest(files, catalog, settings.receive.min_free_bytes, metrics)
        self._servers: list[GuardedServer] = []
        self._reporters: WeakSet[Association] = WeakSet()
        """Associations of archives that are no sources."""

    def start(self) -> list[int]:
        """Listen, and give the ports that are listened on: without TLS, with TLS, or both.

        Raises
        ------
        OSError
            When an address cannot be bound.
        UnusableTls
            When the certificate cannot be used.
        """
        node = self._settings.node
        ae = make_acceptor(self._settings)
        handlers = [
            (evt.EVT_REQUESTED, self._check_caller),
            (evt.EVT_ACSE_SENT, self._count_answer),
            (evt.EVT_C_ECHO, _handle_echo),
            (evt.EVT_C_STORE, self._handle_store),
            (evt.EVT_N_EVENT_REPORT, handle_report, [self._take_report]),
        ]
        listen = partial(
            start_server,
            ae,
            handlers=handlers,
            guard=Guard(
                held=HeldBytes(limit=self._settings.receive.max_held_bytes),
                is_stranger=self._is_stranger,
                tell=self._turned_away,
            ),
        )
        if node.tls is None or not node.tls.only:
            self._servers.append(listen((node.host, node.port)))
        if node.tls is not None:
            context = make_server_context(node.tls)
            self._servers.append(listen((node.host, node.tls.port), context=context))
        ports = [int(server.server_address[1]) for server in self._servers]
        logger.info(
            "listening", extra={"action": "listen", "ae_title": node.ae_title, "ports": ports}
        )
        return ports

    def stop(self) -> None:
        """Close the listening sockets and abort open associations."""
        open_associations = self.associations()
        servers, self._servers = self._servers, []
        for server in servers:
            server.shutdown()
        for assoc in open_associations:
            # One that was rejected only waits for its peer to close; aborting it is an error there.
            if not assoc.is_rejected:
                assoc.abort()

    def associations(self) -> list[Association]:
        """Give the associations that are open, or wait to be."""
        return [assoc for server in self._servers for assoc in server.active_associations]

    def _is_stranger(self, address: str) -> bool:
        """Say whether no peer may call from an address."""
        peers = (*self._settings.sources.values(), *self._settings.committing.values())
        return not any(_may_call_from(peer, address) for peer in peers)

    def _check_caller(self, event: evt.Event) -> None:
        """Reject an association of an unknown peer (PS3.8 9.3.4)."""
        requestor = event.assoc.requestor
        calling = str(requestor.primitive.calling_ae_title).strip()
        address = str(requestor.address)
        reason = refusal_of_caller(self._settings.sources, calling, address)
        if reason is None:
            return
        if refusal_of_caller(self._settings.committing, calling, address) is None:
            self._reporters.add(event.assoc)
            return
        logger.warning(
            "association rejected: %s",
            reason,
            extra={"action": "reject", "calling_ae_title": calling, "address": requestor.address},
        )
        event.assoc.acse.send_reject(
            _REJECTED_PERMANENT, _SERVICE_USER, _CALLING_AE_TITLE_NOT_RECOGNIZED
        )
        event.assoc.kill()
        self._tell_of_rejection(calling, address, reason)

    def _count_answer(self, event: evt.Event) -> None:
        """Count the answer to a request for an association."""
        answer = event.primitive
        if not isinstance(answer, A_ASSOCIATE):
            return
        if answer.result == _ACCEPTED:
            self._count_association(AssociationOutcome.ACCEPTED)
            return
        why = (answer.result_source, answer.diagnostic)
        outcome = _OUTCOMES.get(why, AssociationOutcome.OTHER)
        self._count_association(outcome)
        if outcome is not AssociationOutcome.CALLING_UNKNOWN:
            # Of that one `_check_caller` knows more.
            caller = event.assoc.requestor
            calling = str(caller.primitive.calling_ae_title).strip()
            self._tell_of_rejection(calling, str(caller.address), outcome.value)

    def _count_association(self, outcome: AssociationOutcome) -> None:
        self._metrics.count(Metric.ASSOCIATIONS, outcome=outcome.value)

    def _turned_away(self, outcome: AssociationOutcome, address: str) -> None:
        """Count a caller who did not get as far as to ask for an association."""
        self._count_association(outcome)
        self._tell_of_rejection("", address, outcome.value)

    def _tell_of_rejection(self, calling_ae_title: str, address: str, reason: str) -> None:
        self._on_rejected(
            AuditEntry(
                event=AuditEvent.ASSOCIATION_REJECTED,
                actor=f"ae:{calling_ae_title}",
                outcome=AuditOutcome.MINOR_FAILURE,
                address=address,
                detail={"reason": reason},
            )
        )

    def _take_report(self, transaction_uid: str, kept: frozenset[str], problem: str) -> None:
        self._proofs.answered(transaction_uid, kept=kept, problem=problem, now=utc_now())
        logger.info(
            "storage commitment: %s",
            problem or f"{len(kept)} instances are kept",
            extra={"action": "commit", "transaction_uid": transaction_uid},
        )

    def _handle_store(self, event: evt.Event) -> Dataset:
        answer = self._store(event)
        if answer.Status != DimseStatus.SUCCESS:
            self._metrics.count(Metric.REFUSED_INSTANCES, status=_STATUS_NAMES[answer.Status])
        return answer

    def _store(self, event: evt.Event) -> Dataset:
        if event.assoc in self._reporters:
            return status_response(DimseStatus.NOT_AUTHORIZED, "Not a source of this node")
        caller = event.assoc.requestor
        sender = Sender(caller.ae_title.strip(), caller.address)
        return answer_store(event, partial(self._ingest.store, sender=sender))


def answer_store(event: evt.Event, on_instance: OnInstance) -> Dataset:
    """Hand on the instance of a C-STORE request, and give the answer.

    Parameters
    ----------
    event
        The request.
    on_instance
        Makes it durable; what it raises becomes the status of the answer.
    """
    try:
        on_instance(
            event.encoded_dataset(),
            sop_class_uid=str(event.context.abstract_syntax),
            sop_instance_uid=str(event.request.AffectedSOPInstanceUID),
        )
    except DiskShort as error:
        logger.error("instance refused: %s", error, extra={"action": "refuse"})
        return status_response(DimseStatus.OUT_OF_RESOURCES, "Disk short")
    except (MismatchingInstance, InvalidUid) as error:
        logger.warning("instance refused: %s", error, extra={"action": "refuse"})
        return status_response(DimseStatus.DATA_SET_MISMATCH, str(error))
    except UndecodableInstance as error:
        logger.warning("instance refused: %s", error, extra={"action": "refuse"})
        return status_response(DimseStatus.CANNOT_UNDERSTAND, str(error))
    except DatabaseError as error:
        logger.error("instance not stored: %s", error, extra={"action": "store-failed"})
        comment = "The job database does not answer; send it again later"
        return status_response(DimseStatus.CANNOT_STORE, comment)
    except Exception:
        logger.exception("instance not stored", extra={"action": "store-failed"})
        return status_response(DimseStatus.CANNOT_STORE, "Internal error; see the node's log")
    return status_response(DimseStatus.SUCCESS)


def refusal_of_caller(
    sources: Mapping[str, PeerSettings], calling_ae_title: str, address: str
) -> str | None:
    """Say why an association is refused, or none when a configured source calls.

    Parameters
    ----------
    sources
        The peers with the role ``source``.
    calling_ae_title
        Calling AE title of the request.
    address
        IP address that the request came from.
    """
    named = [peer for peer in sources.values() if peer.ae_title == calling_ae_title]
    if not named:
        return f"no peer with the role 'source' has the AE title {calling_ae_title!r}"
    if any(_may_call_from(peer, address) for peer in named):
        return None
    return f"{calling_ae_title!r} may not call from {address}"


def _may_call_from(peer: PeerSettings, address: str) -> bool:
    if not peer.check_address:
        return True
    caller = ipaddress.ip_address(address)
    if peer.networks:
        return any(caller in network for network in peer.networks)
    try:
        known = {info[4][0] for info in socket.getaddrinfo(peer.host, None)}
    except OSError:
        return False
    return str(caller) in known


def make_acceptor(settings: Settings) -> AE:
    """Make the entity that accepts associations: what it supports, and its limits."""
    node = settings.node
    ae = AE(ae_title=node.ae_title)
    ae.implementation_class_uid = IMPLEMENTATION_CLASS_UID
    ae.implementation_version_name = IMPLEMENTATION_VERSION_NAME
    ae.require_called_aet = node.check_called_ae_title
    ae.maximum_associations = node.max_associations
    ae.maximum_pdu_size = node.max_pdu_bytes
    ae.acse_timeout = node.acse_timeout_s
    ae.dimse_timeout = node.dimse_timeout_s
    ae.network_timeout = node.network_timeout_s
    ae.add_supported_context(Verification)
    # An archive that reports calls us in the role of the provider (PS3.4 J.3.3).
    ae.add_supported_context(StorageCommitmentPushModel, scu_role=False, scp_role=True)
    for sop_class in (*STORAGE_SOP_CLASSES, *settings.receive.extra_sop_classes):
        ae.add_supported_context(sop_class, list(ACCEPTED_TRANSFER_SYNTAXES))
    return ae


def _handle_echo(_: evt.Event) -> int:
    return int(DimseStatus.SUCCESS)

"""The Storage SCP: C-ECHO and C-STORE from allowed peers.

The C-STORE handler stores the bytes as they came, registers them and answers; nothing is decoded
but the header, and Success is sent only after the file and its row are durable (design 3.1).
"""

import ipaddress
import logging
import socket
from collections.abc import Mapping
from pathlib import Path

from pydicom.dataset import Dataset
from pynetdicom import AE, evt
from pynetdicom.sop_class import Verification
from pynetdicom.transport import ThreadedAssociationServer

from config import NodeSettings, PeerSettings, Settings
from dicom_io.errors import InvalidUid, MismatchingInstance, UndecodableInstance
from dicom_io.headers import InstanceHeader, read_header
from dicom_io.transfer_syntaxes import ACCEPTED_TRANSFER_SYNTAXES, STORAGE_SOP_CLASSES
from node.clock import utc_now
from node.dimse_status import DimseStatus, status_response
from storage.catalog import Catalog
from storage.errors import DiskShort
from storage.files import FileStore

logger = logging.getLogger(__name__)

_REJECTED_PERMANENT = 0x01
_SERVICE_USER = 0x01
_CALLING_AE_TITLE_NOT_RECOGNIZED = 0x03


class Receiver:
    """The receiving application entity of the node."""

    def __init__(self, settings: Settings, *, files: FileStore, catalog: Catalog) -> None:
        self._settings = settings
        self._files = files
        self._catalog = catalog
        self._server: ThreadedAssociationServer | None = None

    def start(self) -> int:
        """Listen, and give the port that is listened on.

        Raises
        ------
        OSError
            When the address cannot be bound.
        """
        node = self._settings.node
        ae = _application_entity(node, self._settings.receive.extra_sop_classes)
        handlers = [
            (evt.EVT_REQUESTED, self._check_caller),
            (evt.EVT_C_ECHO, _handle_echo),
            (evt.EVT_C_STORE, self._handle_store),
        ]
        self._server = ae.start_server((node.host, node.port), block=False, evt_handlers=handlers)
        if self._server is None:
            raise OSError(f"cannot listen on {node.host}:{node.port}")
        port = int(self._server.server_address[1])
        logger.info(
            "listening", extra={"action": "listen", "ae_title": node.ae_title, "port": port}
        )
        return port

    def stop(self) -> None:
        """Close the listening socket and abort open associations."""
        if self._server is None:
            return
        server, self._server = self._server, None
        server.shutdown()
        # One that was rejected only waits for its peer to close; aborting it is an error there.
        for assoc in server.ae.active_associations:
            if not assoc.is_rejected:
                assoc.abort()

    def _check_caller(self, event: evt.Event) -> None:
        """Reject an association of an unknown peer (PS3.8 9.3.4)."""
        requestor = event.assoc.requestor
        calling = str(requestor.primitive.calling_ae_title).strip()
        reason = refusal_of_caller(self._settings.sources, calling, str(requestor.address))
        if reason is None:
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

    def _handle_store(self, event: evt.Event) -> Dataset:
        try:
            return self._store(event)
        except DiskShort as error:
            logger.error("instance refused: %s", error, extra={"action": "refuse"})
            return status_response(DimseStatus.OUT_OF_RESOURCES, "Disk short")
        except (MismatchingInstance, InvalidUid) as error:
            logger.warning("instance refused: %s", error, extra={"action": "refuse"})
            return status_response(DimseStatus.DATA_SET_MISMATCH, str(error))
        except UndecodableInstance as error:
            logger.warning("instance refused: %s", error, extra={"action": "refuse"})
            return status_response(DimseStatus.CANNOT_UNDERSTAND, str(error))
        except Exception:
            logger.exception("instance not stored", extra={"action": "store-failed"})
            return status_response(DimseStatus.CANNOT_STORE, "Internal error; see the node's log")

    def _store(self, event: evt.Event) -> Dataset:
        """Make file and row durable, the file first: a row never points to nothing."""
        content = event.encoded_dataset()
        self._files.check_free(self._settings.receive.min_free_bytes + len(content))
        spooled = self._files.spool(content)
        try:
            header = _checked_header(spooled, event)
            stored = self._files.commit_instance(spooled, header)
        finally:
            spooled.unlink(missing_ok=True)
        self._catalog.add_instance(
            header,
            path=stored.relative_path,
            sha256=stored.sha256,
            size_bytes=stored.size_bytes,
            calling_ae_title=event.assoc.requestor.ae_title.strip(),
            now=utc_now(),
        )
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


def _application_entity(node: NodeSettings, extra_sop_classes: tuple[str, ...]) -> AE:
    ae = AE(ae_title=node.ae_title)
    ae.require_called_aet = node.check_called_ae_title
    ae.maximum_associations = node.max_associations
    ae.maximum_pdu_size = node.max_pdu_bytes
    ae.acse_timeout = node.acse_timeout_s
    ae.dimse_timeout = node.dimse_timeout_s
    ae.network_timeout = node.network_timeout_s
    ae.add_supported_context(Verification)
    for sop_class in (*STORAGE_SOP_CLASSES, *extra_sop_classes):
        ae.add_supported_context(sop_class, list(ACCEPTED_TRANSFER_SYNTAXES))
    return ae


def _handle_echo(_: evt.Event) -> int:
    return int(DimseStatus.SUCCESS)


def _checked_header(spooled: Path, event: evt.Event) -> InstanceHeader:
    """Read the header and compare it with the request (PS3.4 B.2.3: 0xA9xx)."""
    header = read_header(spooled)
    if header.sop_instance_uid != event.request.AffectedSOPInstanceUID:
        raise MismatchingInstance("SOP Instance UID differs from the request")
    if header.sop_class_uid != event.context.abstract_syntax:
        raise MismatchingInstance("SOP Class UID differs from the presentation context")
    return header

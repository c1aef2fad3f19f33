"""Listening sockets that bound what a caller can take of this machine.

pynetdicom waits for the rest of a PDU without end, and believes its length. Here a PDU has a
largest length and a longest time, what is being received is counted over all associations, and
callers from addresses of no peer get a few connections only.
"""

import logging
import socket
import ssl
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any
from weakref import WeakSet

from pynetdicom import AE
from pynetdicom.association import Association
from pynetdicom.transport import (
    AssociationServer,
    AssociationSocket,
    RequestHandler,
    ThreadedAssociationServer,
)

from node.metrics import AssociationOutcome

logger = logging.getLogger(__name__)

MAX_STRANGERS = 8
"""Connections at a time from addresses of no peer: enough to tell each why it is refused."""
LARGEST_PDU_BYTES = 1 << 24
"""Of any PDU, unless a larger one was allowed: some peers send more than they were told."""
_SHORTEST_S = 0.001
"""No time-out at all is 0 to a socket."""
_HEAD_BYTES = 6
"""Type and length of a PDU (PS3.8 9.3.1)."""


@dataclass(kw_only=True)
class HeldBytes:
    """Count of the bytes that were received and not yet answered, over all associations."""

    limit: int
    _held: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def take(self, count: int) -> None:
        """Count bytes that are about to be received.

        Raises
        ------
        OSError
            They would be more than the limit.
        """
        with self._lock:
            if self._held + count > self.limit:
                raise OSError(
                    f"{self._held + count} bytes would wait for an answer, more than "
                    f"receive.max_held_bytes, {self.limit}"
                )
            self._held += count

    def give_back(self, count: int) -> None:
        """Count bytes no more."""
        with self._lock:
            self._held -= count


@dataclass(frozen=True, kw_only=True)
class Guard:
    """What all servers of a receiver have in common."""

    held: HeldBytes
    """Counts what is received."""
    is_stranger: Callable[[str], bool]
    """Whether an address is that of no peer."""
    tell: Callable[[AssociationOutcome, str], None]
    """Told of connections on which no association was asked for, and of their addresses."""


class GuardedSocket(AssociationSocket):  # type: ignore[misc]  # pynetdicom is not typed
    """The connection of one caller.

    Parameters
    ----------
    assoc, request
        Association and accepted connection.
    held
        Counts what is received.
    """

    def __init__(self, assoc: Association, request: socket.socket, held: HeldBytes) -> None:
        super().__init__(assoc, client_socket=request)
        self._silence_s = assoc.ae.network_timeout
        self._largest = max(assoc.ae.maximum_pdu_size or held.limit, LARGEST_PDU_BYTES)
        self._held = held
        self._unanswered = 0
        request.settimeout(self._silence_s)

    def recv(self, nr_bytes: int) -> bytearray:
        """Receive so many bytes in time, or fewer where the caller hangs up.

        Raises
        ------
        OSError
            They are too many, or too slow; pynetdicom then closes the connection.
        """
        content = bytearray()
        try:
            self._check_size(nr_bytes)
            content = self._receive(nr_bytes)
        finally:
            if len(content) < nr_bytes:
                # pynetdicom does not always close what has broken.
                self._forget()
                self._expect_no_request()
        return content

    def _check_size(self, nr_bytes: int) -> None:
        if nr_bytes > self._largest:
            raise OSError(f"a PDU of {nr_bytes} bytes, more than {self._largest}")
        if nr_bytes > _HEAD_BYTES:
            self._held.take(nr_bytes)
            self._unanswered += nr_bytes

    def _receive(self, nr_bytes: int) -> bytearray:
        content = bytearray(nr_bytes)
        count, end = 0, time.monotonic() + self._silence_s
        try:
            while count < nr_bytes:
                self.socket.settimeout(max(end - time.monotonic(), _SHORTEST_S))
                got = self.socket.recv_into(memoryview(content)[count:])
                if not got:
                    break
                count += got
        finally:
            self.socket.settimeout(self._silence_s)
        return content if count == nr_bytes else content[:count]

    def send(self, bytestream: bytes) -> None:
        """Send; what was received before has its answer then."""
        self._forget()
        super().send(bytestream)

    def close(self) -> None:
        """Close the connection."""
        self._forget()
        self._expect_no_request()
        super().close()

    def _expect_no_request(self) -> None:
        """Free the place of a caller that has gone without asking for an association.

        Its thread would else wait for a request all the same: a health check that only connects
        would soon hold all places.
        """
        if self.assoc.requestor.primitive is None:
            self.assoc.dul.to_user_queue.put(None)

    def _forget(self) -> None:
        self._held.give_back(self._unanswered)
        self._unanswered = 0


class _Handler(RequestHandler):  # type: ignore[misc]  # pynetdicom is not typed
    """Makes associations with guarded sockets."""

    def _create_association(self) -> Association:
        assoc = super()._create_association()
        # The event that the first socket has put into the queue counts for this one.
        guarded = GuardedSocket(assoc, self.request, self.server.guard.held)
        assoc.dul.event_queue.get_nowait()
        assoc.dul.socket = guarded
        return assoc


class GuardedServer(ThreadedAssociationServer):  # type: ignore[misc]  # pynetdicom is not typed
    """A listening socket, with or without TLS.

    With it, hands are shaken in the thread of each caller, so that a silent one holds up nobody.
    """

    guard: Guard
    daemon_threads = True
    """Else closing the server would wait for the handshakes of silent callers."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self._strangers: WeakSet[socket.socket] = WeakSet()
        super().__init__(*args, **kwargs)

    def get_request(self) -> tuple[socket.socket, tuple[str, int]]:
        """Accept a connection, without more."""
        accepted: tuple[socket.socket, tuple[str, int]] = self.socket.accept()
        return accepted

    def verify_request(self, request: socket.socket, client_address: tuple[str, int]) -> bool:
        """Say whether a connection is taken on."""
        if not self.guard.is_stranger(client_address[0]):
            return True
        still_open = sum(1 for one in self._strangers if one.fileno() >= 0)
        if still_open >= MAX_STRANGERS:
            self.guard.tell(AssociationOutcome.TOO_MANY_STRANGERS, client_address[0])
            return False
        self._strangers.add(request)
        return True

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        """Shake hands where that is asked for, then serve the association."""
        if self.ssl_context is not None:
            request = self._shake_hands(request, client_address)
        if request is not None:
            super().process_request_thread(request, client_address)

    def _shake_hands(
        self, request: socket.socket, client_address: tuple[str, int]
    ) -> ssl.SSLSocket | None:
        request.settimeout(self.ae.acse_timeout)
        try:
            secured: ssl.SSLSocket = self.ssl_context.wrap_socket(request, server_side=True)
        except OSError as error:
            logger.warning(
                "TLS refused: %s", error, extra={"action": "reject", "address": client_address[0]}
            )
            self.guard.tell(AssociationOutcome.TLS_FAILED, client_address[0])
            self.shutdown_request(request)
            return None
        if self.guard.is_stranger(client_address[0]):
            self._strangers.add(secured)
        return secured

    def shutdown(self) -> None:
        """Stop serving and close the socket; the entity does not list this server."""
        super(AssociationServer, self).shutdown()
        self.server_close()


def start_server(
    ae: AE,
    address: tuple[str, int],
    handlers: list[Any],
    *,
    guard: Guard,
    context: ssl.SSLContext | None = None,
) -> GuardedServer:
    """Listen, in a thread.

    Parameters
    ----------
    ae
        The entity that listens.
    address
        Host and port.
    handlers
        Of its events.
    guard
        The same for all servers.
    context
        With our certificate; none means no TLS.

    Raises
    ------
    OSError
        When the address cannot be bound.
    """
    server: GuardedServer = ae.make_server(
        address,
        ssl_context=context,
        evt_handlers=handlers,
        server_class=GuardedServer,
        request_handler=_Handler,
    )
    server.guard = guard
    threading.Thread(target=server.serve_forever, name="accept", daemon=True).start()
    return server

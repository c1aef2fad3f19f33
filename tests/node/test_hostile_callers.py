"""Slow, huge, lying and too many callers: they lose their connection, others are served."""

import socket
import struct
import threading
import time
import zlib
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
from listening import CT, Listening, bare, data_set_bytes, store
from pydicom import dcmread
from pydicom.uid import CTImageStorage, DeflatedExplicitVRLittleEndian
from pynetdicom import build_context

from benchmarks.peers import wait_until
from node.acceptor import MAX_STRANGERS

STRANGER = "127.0.0.2"
PATIENCE_S = 0.5


@contextmanager
def connect(node: Listening, address: str = "127.0.0.1") -> Iterator[socket.socket]:
    with socket.create_connection(
        ("127.0.0.1", node.port), timeout=10, source_address=(address, 0)
    ) as caller:
        yield caller


def wait_for_the_end(caller: socket.socket) -> float:
    """Wait until the other side has hung up; give the seconds."""
    began = time.monotonic()
    caller.settimeout(10)
    try:
        while caller.recv(4096):
            pass
    except ConnectionResetError:
        pass
    return time.monotonic() - began


def assert_served(node: Listening, path: Path) -> None:
    assoc = node.associate(CT)
    assert assoc.is_established
    assert assoc.send_c_store(path).Status == 0
    assoc.release()


@pytest.mark.parametrize(
    "sent",
    [b"", b"\x01\x00\x00", b"\x01\x00\x00\x00\x10\x00", b"\x01\x00\x00\x00\x10\x00" + bytes(500)],
    ids=["nothing", "half a head", "head only", "half a PDU"],
)
def test_a_half_open_caller_holds_no_association(listen, small_ct, sent: bytes):
    node = listen(
        node={
            "max_associations": 2,
            "network_timeout_s": PATIENCE_S,
            "acse_timeout_s": PATIENCE_S if not sent else 30.0,
        }
    )
    with ExitStack() as stack:
        callers = [stack.enter_context(connect(node)) for _ in range(4)]
        for caller in callers:
            caller.sendall(sent)
        assert all(wait_for_the_end(caller) < 8 for caller in callers)
        wait_until(lambda: not node.receiver.associations(), "no thread is left", 8)
        assert_served(node, small_ct[0])


def test_a_health_check_that_only_connects_holds_no_association(listen, small_ct):
    node = listen(node={"max_associations": 2})
    for _ in range(10):
        with connect(node):
            pass

    def is_served() -> bool:
        """Some of the connections may not have been accepted yet, and hold a place for a moment."""
        assoc = node.associate(CT)
        stored = assoc.is_established and assoc.send_c_store(small_ct[0]).Status == 0
        if assoc.is_established:
            assoc.release()
        return stored

    wait_until(is_served, "a source is served", 8)


def test_a_caller_that_drips_is_hung_up(listen):
    node = listen(node={"network_timeout_s": PATIENCE_S})
    with connect(node) as caller:
        caller.sendall(b"\x01\x00" + struct.pack(">L", 10_000))
        assert any(_is_hung_up(caller) for _ in range(200))


def _is_hung_up(caller: socket.socket) -> bool:
    time.sleep(0.05)
    try:
        caller.sendall(b"\x00")
    except OSError:
        return True
    return False


@pytest.mark.parametrize("kind", [0x01, 0x04, 0x07])
def test_the_length_of_a_pdu_is_not_believed(listen, small_ct, kind: int):
    node = listen()
    with connect(node) as caller:
        caller.sendall(struct.pack(">BBL", kind, 0, 0xFFFFFFFF))
        assert wait_for_the_end(caller) < 8
    assert_served(node, small_ct[0])


def test_one_message_cannot_take_all_memory(listen, small_ct):
    node = listen(receive={"max_held_bytes": 1_000_000})
    assoc = node.associate(CT)
    assert assoc.is_established
    whole = data_set_bytes(bare(small_ct[0]))
    with pytest.raises((AttributeError, RuntimeError)):
        store(assoc, whole + bytes(2_000_000), "1.2.3")
    deadline = time.monotonic() + 8
    while assoc.is_established and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not assoc.is_established
    for path in small_ct:
        assert_served(node, path)


def test_what_a_lost_caller_held_is_given_back(listen, small_ct):
    """Each leaves most of a message behind, all of them together more than may be held."""
    node = listen(receive={"max_held_bytes": 1_000_000})
    for _ in range(6):
        assoc = node.associate(CT)
        assert assoc.is_established
        context = assoc.accepted_contexts[0].context_id
        part = bytes([context, 0]) + bytes(300_000)
        item = struct.pack(">L", len(part)) + part
        assoc.dul.socket.socket.sendall(struct.pack(">BBL", 4, 0, len(item)) + item)
        time.sleep(0.2)
        assoc.dul.socket.socket.shutdown(socket.SHUT_RDWR)
        wait_until(lambda: not node.receiver.associations(), "no thread is left", 8)
    assert_served(node, small_ct[0])


def test_strangers_cannot_crowd_out_a_source(listen, small_ct):
    node = listen(node={"max_associations": MAX_STRANGERS + 2})
    with ExitStack() as stack:
        crowd = [stack.enter_context(connect(node, STRANGER)) for _ in range(40)]
        refused = sum(_is_closed(caller) for caller in crowd)
        assert refused >= len(crowd) - MAX_STRANGERS
        assert_served(node, small_ct[0])


def _is_closed(caller: socket.socket) -> bool:
    caller.settimeout(0.2)
    try:
        return caller.recv(1) == b""
    except TimeoutError:
        return False
    except ConnectionResetError:
        return True


def test_the_place_of_a_stranger_becomes_free(listen):
    node = listen()
    for _ in range(3 * MAX_STRANGERS):
        with connect(node, STRANGER) as caller:
            caller.sendall(b"nonsen")
            assert caller.recv(10)[:1] == b"\x07", "an A-ABORT (PS3.8 9.3.8)"
        wait_until(lambda: not node.receiver.associations(), "no thread is left", 8)
    with connect(node, STRANGER) as caller:
        assert not _is_closed(caller)


def test_a_deflate_bomb_is_refused(listen, small_ct):
    node = listen()
    assoc = node.associate(build_context(CTImageStorage, DeflatedExplicitVRLittleEndian))
    packer = zlib.compressobj(9, wbits=-zlib.MAX_WBITS)
    packed = packer.compress(data_set_bytes(bare(small_ct[0]))[:-2000])
    zeros = bytes(1 << 20)
    packed += b"".join(packer.compress(zeros) for _ in range(300)) + packer.flush()
    assert len(packed) < 1_000_000
    sop_instance_uid = str(dcmread(small_ct[0]).SOPInstanceUID)
    answer = store(assoc, packed, sop_instance_uid)
    assert answer.Status == 0xC000
    assert "holds more than 256 MiB" in answer.ErrorComment
    assoc.release()
    assert node.catalog.find_instance(sop_instance_uid) is None


def test_a_caller_that_never_reads_holds_up_nobody(listen, small_ct):
    node = listen(node={"network_timeout_s": PATIENCE_S})
    stop = threading.Event()

    def pour() -> None:
        with connect(node) as caller:
            caller.settimeout(0.2)
            while not stop.is_set():
                try:
                    caller.sendall(bytes(4096))
                except OSError:
                    return

    pourers = [threading.Thread(target=pour) for _ in range(4)]
    for pourer in pourers:
        pourer.start()
    assert_served(node, small_ct[0])
    stop.set()
    for pourer in pourers:
        pourer.join()

"""What a hostile caller says: a good conversation (PDUs, PS3.8 9.3) with something wrong in it."""

import random
import struct
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from pydicom.uid import (
    CTImageStorage,
    EnhancedCTImageStorage,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
)

VERIFICATION = "1.2.840.10008.1.1"
ECHO_CONTEXT, STORE_CONTEXT, OTHER_CONTEXT = 1, 3, 5
ABORT = struct.pack(">BBLBBBB", 7, 0, 4, 0, 0, 0, 0)
_RELEASE = struct.pack(">BBLL", 5, 0, 4, 0)
_COMMAND, _LAST = 1, 2
"""Bits of the message control header (PS3.8 E.2)."""
_SET_NO_DATA, _SET_DATA = 0x0101, 0x0001
_COMMAND_FIELDS = (0x10, 0x20, 0x21, 0x100, 0x110, 0x120, 0x140, 0xFFF, 0x8001)
_DATA_PARTS = 4
_ITEMS_AT = 74
"""Where the variable items of an A-ASSOCIATE-RQ begin."""
_CONTAINERS = {0x20: 4, 0x50: 0}
"""Items that hold sub-items, and what lies before these."""
HOSTILE_UIDS = (
    b"",
    b"\0",
    b".",
    b"..",
    b"../../x",
    b"/etc/passwd",
    b"1.2/../../../../../tmp/x",
    b"1.2.3\0.4",
    b"1.2.3\0/../x",
    b"1.2\\1.3",
    b"1..2",
    b"1.2.\xff\xfe",
    b"1." + b"2" * 62,
    b"1." + b"2" * 63,
    b"1." + b"2" * 5000,
    b"1.2.3\n",
    b"%2e%2e%2fx",
    b"CON",
)

Element = tuple[int, bytes]
"""Element number in group 0000, and value."""
Pdus = list[bytes]


@dataclass(frozen=True, kw_only=True)
class Instance:
    """What is to be stored."""

    uid: str
    data_set: bytes


@dataclass(frozen=True, kw_only=True)
class Message:
    """What is sent on one connection."""

    kind: str
    """What is wrong in it."""
    parts: Sequence[bytes]
    waits: bool = True
    """An answer is awaited before the next part."""
    breaks_off: bool = False
    """The connection is closed after the last part, without waiting for an answer."""


def _pdu(kind: int, content: bytes) -> bytes:
    return struct.pack(">BBL", kind, 0, len(content)) + content


def _item(kind: int, content: bytes) -> bytes:
    return struct.pack(">BBH", kind, 0, len(content)) + content


def _pdv(context: int, control: int, content: bytes) -> bytes:
    return struct.pack(">LBB", len(content) + 2, context, control) + content


def _associate() -> bytes:
    contexts = [
        (ECHO_CONTEXT, VERIFICATION, ImplicitVRLittleEndian),
        (STORE_CONTEXT, CTImageStorage, ExplicitVRLittleEndian),
        (OTHER_CONTEXT, EnhancedCTImageStorage, ExplicitVRLittleEndian),
    ]
    items = [_item(0x10, b"1.2.840.10008.3.1.1.1")]
    for context, sop_class, syntax in contexts:
        names = _item(0x30, sop_class.encode()) + _item(0x40, str(syntax).encode())
        items.append(_item(0x20, bytes([context, 0, 0, 0]) + names))
    user = [
        _item(0x51, struct.pack(">L", 16384)),
        _item(0x52, b"2.25.1994.1"),
        _item(0x53, struct.pack(">HH", 1, 1)),
        _item(0x55, b"HOSTILE"),
        _item(0x54, struct.pack(">H", len(CTImageStorage)) + CTImageStorage.encode() + b"\1\0"),
        _item(0x58, b"\1\0" + struct.pack(">H", 4) + b"user" + struct.pack(">H", 0)),
    ]
    head = struct.pack(">HH16s16s32s", 1, 0, b"HEPAR".ljust(16), b"SCANNER".ljust(16), b"")
    return _pdu(1, head + b"".join(items) + _item(0x50, b"".join(user)))


def _even(value: bytes) -> bytes:
    return value + b"\0" * (len(value) % 2)


def _us(value: int) -> bytes:
    return struct.pack("<H", value)


def _command_set(elements: Sequence[Element]) -> bytes:
    body = b"".join(
        struct.pack("<HHL", 0, number, len(value)) + value for number, value in elements
    )
    return struct.pack("<HHLL", 0, 0, 4, len(body)) + body


def _echo_command() -> list[Element]:
    sop_class = _even(VERIFICATION.encode())
    return [(2, sop_class), (0x100, _us(0x30)), (0x110, _us(1)), (0x800, _us(_SET_NO_DATA))]


def _store_command(uid: bytes) -> list[Element]:
    return [
        (2, _even(CTImageStorage.encode())),
        (0x100, _us(1)),
        (0x110, _us(2)),
        (0x700, _us(0)),
        (0x800, _us(_SET_DATA)),
        (0x1000, _even(uid)),
    ]


def _echo(command: Sequence[Element]) -> bytes:
    return _pdu(4, _pdv(ECHO_CONTEXT, _COMMAND | _LAST, _command_set(command)))


def _store(command: Sequence[Element], data_set: bytes, *, context: int = STORE_CONTEXT) -> Pdus:
    """Give a C-STORE request: the first PDU holds the command and the first part of the data."""
    size = -(-len(data_set) // _DATA_PARTS)
    parts = [data_set[start : start + size] for start in range(0, len(data_set), size)]
    parts[:-1], last = [_pdv(context, 0, part) for part in parts[:-1]], parts[-1]
    parts[-1] = _pdv(context, _LAST, last)
    head = _pdv(context, _COMMAND | _LAST, _command_set(command))
    return [_pdu(4, head + parts[0]), *(_pdu(4, part) for part in parts[1:])]


def conversation(instance: Instance) -> Pdus:
    """Give the PDUs of a good one: association, C-ECHO, C-STORE, release."""
    store = _store(_store_command(instance.uid.encode()), instance.data_set)
    return [_associate(), _echo(_echo_command()), *store, _RELEASE]


def split(pdus: Sequence[bytes]) -> list[bytes]:
    """Give the request of the association, all that follows, and the end."""
    return [pdus[0], b"".join(pdus[1:-1]), *pdus[1:][-1:]]


def cut_message(instance: Instance, position: int, *, abort: bool) -> Message:
    """Give a good conversation that ends at a byte, with an A-ABORT there or without."""
    first, *rest = conversation(instance)
    whole = first + b"".join(rest)
    parts = [first, whole[len(first) : position]] if position > len(first) else [whole[:position]]
    parts[-1] += ABORT if abort else b""
    return Message(kind="abort" if abort else "cut", parts=parts, breaks_off=True)


def length_fields(pdu: bytes) -> Iterator[tuple[int, str]]:
    """Find the length fields of a PDU: where, and how they are packed."""
    yield 2, ">L"
    if pdu[0] == 1:
        yield from _item_lengths(pdu, _ITEMS_AT, len(pdu))
    start = 6
    while pdu[0] == 4 and start < len(pdu):
        yield start, ">L"
        end = start + 4 + struct.unpack_from(">L", pdu, start)[0]
        element = start + 6
        while pdu[start + 5] & _COMMAND and element < end:
            yield element + 4, "<L"
            if pdu[element : element + 4] == bytes(4):
                yield element + 8, "<L"
            element += 8 + struct.unpack_from("<L", pdu, element + 4)[0]
        start = end


def _item_lengths(pdu: bytes, start: int, end: int) -> Iterator[tuple[int, str]]:
    while start < end:
        yield start + 2, ">H"
        stop = start + 4 + struct.unpack_from(">H", pdu, start + 2)[0]
        if pdu[start] in _CONTAINERS:
            yield from _item_lengths(pdu, start + 4 + _CONTAINERS[pdu[start]], stop)
        start = stop


def flip(rng: random.Random, content: bytes) -> bytes:
    """Change some bits or bytes."""
    changed = bytearray(content)
    for _ in range(rng.choice([1, 1, 2, 8]) if changed else 0):
        position = rng.randrange(min(len(changed), rng.choice([16, 256, len(changed)])))
        changed[position] = rng.choice(
            [0, 0xFF, rng.randrange(256), changed[position] ^ (1 << rng.randrange(8))]
        )
    return bytes(changed)


def lie(rng: random.Random, content: bytes, offset: int, code: str) -> bytes:
    """Change a length."""
    [value] = struct.unpack_from(code, content, offset)
    most = (1 << 8 * struct.calcsize(code)) - 1
    told = rng.choice(
        [0, 1, value - 1, value + 1, value + 2, 2 * value, most, most - 1, most >> 1, 6, value >> 1]
    )
    changed = bytearray(content)
    struct.pack_into(code, changed, offset, min(max(told, 0), most))
    return bytes(changed)


def _at(pdus: Pdus, index: int, content: bytes) -> Pdus:
    return [*pdus[:index], content, *pdus[index + 1 :]]


def _flipped(rng: random.Random, instance: Instance) -> Pdus:
    pdus = conversation(instance)
    index = rng.randrange(len(pdus))
    return _at(pdus, index, flip(rng, pdus[index]))


def _lying(rng: random.Random, instance: Instance) -> Pdus:
    pdus = conversation(instance)
    index = rng.randrange(len(pdus))
    offset, code = rng.choice(list(length_fields(pdus[index])))
    return _at(pdus, index, lie(rng, pdus[index], offset, code))


def _disordered(rng: random.Random, instance: Instance) -> Pdus:
    """PDUs that are missing, come twice, or at another place."""
    pdus = conversation(instance)
    moved = pdus.pop(rng.randrange(len(pdus)))
    for _ in range(rng.randrange(3)):
        pdus.insert(rng.randrange(len(pdus) + 1), moved)
    return pdus


def _interleaved(rng: random.Random, instance: Instance) -> Pdus:
    """Parts of another message, or of another context, inside the data set."""
    pdus = conversation(instance)
    strange = rng.choice(
        [
            _echo(_echo_command()),
            _store(_store_command(b"1.2.3"), b"\0" * 64)[0],
            _store(_store_command(b"1.2.3"), b"\0" * 64, context=OTHER_CONTEXT)[0],
            _pdu(4, _pdv(OTHER_CONTEXT, rng.choice([0, _LAST]), rng.randbytes(50))),
            _pdu(4, _pdv(rng.randrange(256), rng.randrange(256), rng.randbytes(10))),
            _pdu(4, _pdv(STORE_CONTEXT, rng.choice([0, _COMMAND, _LAST, 3]), b"")),
            _pdu(4, b""),
            _pdu(rng.randrange(256), rng.randbytes(rng.randrange(40))),
            _pdu(rng.choice([2, 3, 6]), rng.randbytes(rng.choice([0, 4, 80]))),
        ]
    )
    for _ in range(rng.choice([1, 1, 2, 50])):
        pdus.insert(rng.randrange(1, len(pdus)), strange)
    return pdus


def _pipelined(rng: random.Random, instance: Instance) -> Pdus:
    """Many requests before the first answer; some with the number of another."""
    pdus = conversation(instance)
    many = rng.choice([[pdus[1]], pdus[2:-1], pdus[1:-1]])
    return [pdus[0], *(many * rng.choice([2, 5, 20])), *pdus[-1:]]


def _commanded(rng: random.Random, instance: Instance) -> Pdus:
    """Command sets with missing, wrong and strange elements."""
    command = _store_command(instance.uid.encode())
    for _ in range(rng.choice([1, 1, 3])):
        index = rng.randrange(len(command))
        number, value = command[index]
        strange = rng.choice(
            [
                [],
                [(number, b"")],
                [(number, rng.randbytes(rng.choice([1, 2, 3, 8, 300])))],
                [(number, value), (number, value)],
                [(number, value), (rng.randrange(0x10000), rng.randbytes(rng.choice([0, 2, 4])))],
                [(0x100, _us(rng.choice(_COMMAND_FIELDS)))],
                [(0x800, _us(rng.choice([0x0101, 0, 0xFFFF])))],
                [(0x120, _us(2)), (number, value)],
                [(0x900, _us(0)), (number, value)],
            ]
        )
        command[index : index + 1] = strange
        if not command:
            break
    store = _store(command, instance.data_set)
    return [_associate(), *store, _RELEASE]


def _named(rng: random.Random, instance: Instance) -> Pdus:
    """UIDs that are paths, too long, empty or odd; in the request, the data, or both."""
    uid, name = rng.choice(HOSTILE_UIDS), instance.uid.encode()
    data_set = instance.data_set
    if rng.random() < 0.6 and len(uid) < 0xFFFF:
        data_set = with_uid(data_set, name, uid)
    request = name if rng.random() < 0.3 else uid
    return [_associate(), *_store(_store_command(request), data_set), _RELEASE]


def with_uid(data_set: bytes, old: bytes, new: bytes) -> bytes:
    """Replace the UIDs of this value in explicit VR, with their lengths."""
    old, new = _even(old), _even(new)
    return data_set.replace(b"UI" + _us(len(old)) + old, b"UI" + _us(len(new)) + new)


def _confused(rng: random.Random, instance: Instance) -> Pdus:
    """Break the data set inside a good message."""
    data_set = rng.choice(
        [
            flip(rng, instance.data_set),
            instance.data_set[: rng.randrange(1, len(instance.data_set))],
            rng.randbytes(rng.choice([1, 100, 5000])),
            instance.data_set * 2,
            instance.data_set + rng.randbytes(9),
        ]
    )
    return [_associate(), *_store(_store_command(instance.uid.encode()), data_set), _RELEASE]


_Fault = Callable[[random.Random, Instance], Pdus]
FAULTS: tuple[_Fault, ...] = (
    _flipped,
    _lying,
    _disordered,
    _interleaved,
    _pipelined,
    _commanded,
    _named,
    _confused,
)


def hostile_message(rng: random.Random, instance: Instance) -> Message:
    """Draw a message."""
    fault = rng.choice(FAULTS)
    pdus = fault(rng, instance)
    kind = fault.__name__.strip("_")
    way = rng.random()
    if way < 0.1:
        return Message(kind=f"{kind}, at once", parts=[b"".join(pdus)], waits=False)
    if way < 0.15:
        whole = b"".join(pdus)
        drops = [whole[start : start + 3] for start in range(0, 90, 3)]
        return Message(kind=f"{kind}, dripped", parts=[*drops, whole[90:]], waits=False)
    if way < 0.25:
        first, middle, *_ = split(pdus)
        return Message(kind=f"{kind}, cut", parts=[first, middle[: rng.randrange(len(middle) + 1)]])
    return Message(kind=kind, parts=split(pdus))


def stored_uids(answers: bytes) -> list[str]:
    """Give the SOP Instance UIDs of the C-STORE responses that say Success."""
    found = []
    start = 0
    while start + 6 <= len(answers):
        kind, length = answers[start], struct.unpack_from(">L", answers, start + 2)[0]
        if kind == 4:
            command = _elements(answers[start + 12 : start + 6 + length])
            if command.get(0x100) == _us(0x8001) and command.get(0x900) == _us(0):
                found.append(command.get(0x1000, b"").rstrip(b"\0 ").decode("latin-1"))
        start += 6 + length
    return found


def _elements(command: bytes) -> dict[int, bytes]:
    found = {}
    start = 0
    while start + 8 <= len(command):
        _, number, length = struct.unpack_from("<HHL", command, start)
        found[number] = command[start + 8 : start + 8 + length]
        start += 8 + length
    return found

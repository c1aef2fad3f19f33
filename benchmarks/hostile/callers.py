"""A receiver that hostile callers talk to, and what must be true of it whatever they say."""

import random
import socket
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path

from pydicom import Dataset, dcmread, dcmwrite
from pynetdicom import AE
from pynetdicom.sop_class import CTImageStorage

from benchmarks.hostile.wire import Instance, Message, stored_uids, with_uid
from benchmarks.peers import NODE_TOML, SENDER, NodeProcess, find_free_port, wait_until
from dicom_io.ct import write_ct_series
from dicom_io.errors import InvalidUid
from dicom_io.headers import check_uid
from inference.phantom import PhantomSettings, make_phantom
from node.roles import Role

MAX_GROWTH_BYTES = 256 << 20
"""Of the resident memory of the receiver, over all that is sent to it."""
CALLERS = 8
"""Connections at the same time."""
HALF_OPEN = (b"", b"\1", b"\1\0\0\0\1\0", b"\1\0\0\0\1\0" + bytes(99))
"""What some connections have sent that are left open meanwhile."""
_PATIENCE_S = 2.0
"""Longest wait for the first answer."""
_SILENCE_S = 0.15
"""Longest wait for one more."""
_PHANTOM = PhantomSettings(seed=1, shape=(12, 8, 8), spacing_mm=(10, 48, 48), lesions=())
_UID_DIGITS = 12


@dataclass(frozen=True, kw_only=True)
class Load:
    """What the receiver takes of the machine."""

    pid: int
    threads: int
    descriptors: int
    resident_bytes: int


@dataclass(kw_only=True)
class Target:
    """The receiver, in processes of its own."""

    node: NodeProcess
    good: Path
    """A file that any receiver takes."""
    idle: Load = field(init=False)
    """What it takes without callers."""
    largest_bytes: int = 0
    """Most resident memory that was seen."""
    successes: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def __post_init__(self) -> None:
        dataset = dcmread(self.good)
        self._uid = str(dataset.SOPInstanceUID).encode()
        self._data_set = encode(dataset)
        self.serve()
        self.idle = self.load()

    def instance(self, rng: random.Random) -> Instance:
        """Give an instance that was never sent before."""
        uid = f"2.25.1994.{rng.randrange(10 ** (_UID_DIGITS - 1), 10**_UID_DIGITS)}"
        return Instance(uid=uid, data_set=with_uid(self._data_set, self._uid, uid.encode()))

    def hear(self, messages: Sequence[Message]) -> None:
        """Take messages on connections at the same time, and stay whole.

        Raises
        ------
        AssertionError
            Something is not as it must be, see `check`; or Success was said without reason.
        """
        with self._half_open(), ThreadPoolExecutor(CALLERS) as callers:
            for _ in callers.map(self._speak, messages):
                pass
        self.check()

    def _speak(self, message: Message) -> None:
        answers = b""
        with socket.create_connection(("127.0.0.1", self.node.port), timeout=10) as caller:
            *first, last = message.parts
            waits = message.waits
            with suppress(ConnectionError):
                for part in first:
                    caller.sendall(part)
                    answer = _listen(caller) if waits else b""
                    # Who gets no answer goes on without.
                    waits = bool(answer)
                    answers += answer
                caller.sendall(last)
            if not message.breaks_off:
                answers += _listen(caller)
        for uid in stored_uids(answers):
            self._check_stored(uid, message)

    def _check_stored(self, uid: str, message: Message) -> None:
        """Look for file and row of an instance that was answered with Success."""
        record = self.node.services.catalog.find_instance(uid)
        assert record is not None, f"{message.kind}: Success for {uid!r}, which has no row"
        path = self.node.services.files.absolute(record.path)
        assert path.is_file(), f"{message.kind}: Success for {uid!r}, which has no file"
        with self._lock:
            self.successes += 1

    @contextmanager
    def _half_open(self) -> Iterator[None]:
        with ExitStack() as stack:
            for sent in HALF_OPEN:
                caller = socket.create_connection(("127.0.0.1", self.node.port), timeout=10)
                stack.enter_context(caller).sendall(sent)
            yield

    def check(self) -> None:
        """Check that a sender is served, and that nothing is left of those before.

        Raises
        ------
        AssertionError
            The receiver was started anew, holds threads, descriptors, memory or files of callers
            that are gone, has written where it must not, or does not serve.
        """
        self.serve()
        wait_until(self._is_idle, f"threads and descriptors as in {self.idle}", 20)
        load = self.load()
        assert load.pid == self.idle.pid, "the receiver died and was started again"
        self.largest_bytes = max(self.largest_bytes, load.resident_bytes)
        growth = self.largest_bytes - self.idle.resident_bytes
        assert growth < MAX_GROWTH_BYTES, f"it has grown by {growth >> 20} MiB"
        data = self.node.services.files.data_dir
        assert not list((data / "spool").iterdir()), "files are left in the spool"
        for path in (data / "instances").rglob("*"):
            _check_name(path)

    def _is_idle(self) -> bool:
        load = self.load()
        return load.threads <= self.idle.threads and load.descriptors <= self.idle.descriptors

    def load(self) -> Load:
        """Measure it."""
        pid = self.node.pid(Role.RECEIVER)
        status = dict(
            line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines()
        )
        return Load(
            pid=pid,
            threads=int(status["Threads"]),
            descriptors=_count_descriptors(Path(f"/proc/{pid}/fd")),
            resident_bytes=int(status["VmRSS"].split()[0]) << 10,
        )

    def serve(self) -> None:
        """Send the good file, and look that it is there bit for bit."""
        ae = AE(ae_title=SENDER)
        ae.add_requested_context(CTImageStorage)
        assoc = ae.associate("127.0.0.1", self.node.port, ae_title="HEPAR")
        assert assoc.is_established, "a good sender gets no association"
        status = assoc.send_c_store(self.good)
        assoc.release()
        assert status.get("Status") == 0, f"a good sender is answered {status}"
        record = self.node.services.catalog.find_instance(self._uid.decode())
        assert record is not None
        stored = self.node.services.files.absolute(record.path).read_bytes()
        assert stored.endswith(self._data_set), "the file is not what was sent"


def _count_descriptors(folder: Path) -> int:
    """Count them, but for those of the database, whose connections are kept for the next caller."""
    count = 0
    for link in folder.iterdir():
        with suppress(FileNotFoundError):
            count += ".db" not in str(link.readlink())
    return count


def _check_name(path: Path) -> None:
    try:
        check_uid(path.stem.split(".conflict-")[0] if path.is_file() else path.name)
    except InvalidUid as error:
        raise AssertionError(f"a strange file was written: {path}") from error


def _listen(caller: socket.socket) -> bytes:
    """Take answers until the end comes, or nothing any more."""
    answers = b""
    caller.settimeout(_PATIENCE_S)
    with suppress(OSError):
        while got := caller.recv(1 << 16):
            answers += got
            caller.settimeout(_SILENCE_S)
    return answers


def encode(dataset: Dataset) -> bytes:
    """Give a data set alone, in explicit VR little endian."""
    plain = Dataset()
    plain.update(dataset)
    buffer = BytesIO()
    dcmwrite(buffer, plain, enforce_file_format=False, implicit_vr=False, little_endian=True)
    return buffer.getvalue()


@contextmanager
def open_target(folder: Path) -> Iterator[Target]:
    """Start a receiver with its supervisor, and stop both."""
    port = find_free_port()
    toml = NODE_TOML.format(port=port, web_port=find_free_port()).replace(
        "[node]\n", "[node]\nnetwork_timeout_s = 10.0\nacse_timeout_s = 10.0\n"
    )
    node = NodeProcess(folder=folder, port=port, toml=toml, roles=(Role.RECEIVER,))
    good = write_ct_series(make_phantom(_PHANTOM).volume, folder / "good")[0]
    node.start()
    try:
        yield Target(node=node, good=good)
    finally:
        node.close()

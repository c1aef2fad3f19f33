"""What must be true of receiving and reading a file, whatever it holds."""

import random
import resource
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path

from pydicom import dcmread

from benchmarks.hostile.files import (
    HostileFile,
    Picture,
    Sample,
    hostile_file,
    hostile_stream,
    make_pictures,
    make_samples,
)
from config import Settings
from dicom_io.decoder import LONGEST_FRAME_S, DecoderPool
from dicom_io.errors import (
    DecoderFailed,
    InvalidUid,
    MismatchingInstance,
    UndecodableInstance,
    UnsuitableSeries,
)
from dicom_io.headers import read_attributes
from dicom_io.rules import decide
from dicom_io.series import read_series
from dicom_io.transfer_syntaxes import DECODING_PLUGINS
from node.ingest import Ingest
from node.services import Services, open_services
from storage.database import upgrade_database
from storage.files import data_set_sha256
from storage.records import Sender

MAX_GROWTH_BYTES = 1 << 30
"""Of the resident memory of a process that receives and reads."""
LONGEST_S = 20.0
"""To receive and read one small series."""


@contextmanager
def bounded(what: str, longest_s: float) -> Iterator[None]:
    """Check what something takes of time and memory.

    Raises
    ------
    AssertionError
        It took too long, or too much.
    """
    before, began = _most_bytes(), time.monotonic()
    yield
    took_s, growth = time.monotonic() - began, _most_bytes() - before
    assert took_s < longest_s, f"{what} took {took_s:.0f} s"
    assert growth < MAX_GROWTH_BYTES, f"{what} took {growth >> 20} MiB"


def _most_bytes() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10


@dataclass(kw_only=True)
class Receiving:
    """The stores of a node, and a reader as a worker is one; without sockets."""

    folder: Path
    samples: Sequence[Sample] = field(init=False)
    _services: Services = field(init=False)

    def __post_init__(self) -> None:
        self.samples = make_samples(self.folder / "samples")
        settings = Settings(data_dir=self.folder / "data", receive={"min_free_bytes": 0})
        settings.data_dir.mkdir()
        upgrade_database(settings.database_url)
        self._services = open_services(settings)
        self._ingest = Ingest(
            self._services.files, self._services.catalog, 0, self._services.metrics
        )
        self._series = self.folder / "series"
        self._series.mkdir()

    def take(self, rng: random.Random) -> str:
        """Receive a file and read its series; say what became of it.

        Raises
        ------
        AssertionError
            It was neither kept nor refused as it must be, or took too much.
        """
        sample = rng.choice(self.samples)
        # Starting decoders takes a second; frames have trials of their own.
        while DECODING_PLUGINS[sample.transfer_syntax_uid] and rng.random() < 0.97:
            sample = rng.choice(self.samples)
        return self.judge(hostile_file(rng, sample), sample)

    def judge(self, file: HostileFile, sample: Sample) -> str:
        """Do it with this file in the place of the first one of a sample."""
        with bounded(file.kind, LONGEST_S):
            received = self._receive(file, sample)
            read = self._read(file, sample, kept=received == "kept")
        return f"{received}, {read}"

    def _receive(self, file: HostileFile, sample: Sample) -> str:
        announced = dcmread(BytesIO(sample.files[0]), stop_before_pixels=True)
        files, uid = self._services.files, str(announced.SOPInstanceUID)
        try:
            self._ingest.store(
                file.content,
                sop_class_uid=str(announced.SOPClassUID),
                sop_instance_uid=uid,
                sender=Sender("HOSTILE"),
            )
        except (InvalidUid, MismatchingInstance, UndecodableInstance) as error:
            return f"refused: {type(error).__name__}"
        finally:
            assert not list((files.data_dir / "spool").iterdir()), "a file is left in the spool"
        assert self._services.catalog.find_instance(uid) is not None, "kept without a row"
        sent = self._series / "sent.dcm"
        sent.write_bytes(file.content)
        digest = data_set_sha256(sent)
        names = (f"{uid}.dcm", f"{uid}.conflict-{digest[:8]}.dcm")
        kept = [path for name in names for path in files.data_dir.glob(f"instances/*/*/{name}")]
        # The file meta information is the sender's own, and may differ.
        assert digest in map(data_set_sha256, kept), "not kept"
        return "kept"

    def _read(self, file: HostileFile, sample: Sample, *, kept: bool) -> str:
        """Decide on it and read it as scheduler and worker do."""
        paths = [self._series / f"{index}.dcm" for index in range(len(sample.files))]
        for path, content in zip(paths, [file.content, *sample.files[1:]], strict=True):
            path.write_bytes(content)
        try:
            decide(self._services.settings.rules, read_attributes(paths[0]))
            read_series(paths, min_slices=2)
        except UnsuitableSeries as error:
            return f"rejected: {error.reason}"
        except (InvalidUid, UndecodableInstance):
            assert not kept, "what was kept cannot even be looked at"
            return "unread"
        return "read"


@dataclass(kw_only=True)
class Decoding:
    """Decoders, used by one thread."""

    folder: Path
    pool: DecoderPool
    pictures: Sequence[Picture] = field(init=False)

    def __post_init__(self) -> None:
        self.pictures = make_pictures(make_samples(self.folder / "samples"))

    def take(self, rng: random.Random) -> str:
        """Decode a frame; say what became of it.

        Raises
        ------
        AssertionError
            It took too much.
        """
        picture = rng.choice(self.pictures)
        return self.judge(picture, hostile_stream(rng, picture))

    def judge(self, picture: Picture, stream: bytes) -> str:
        """Do it with this stream in the place of the good one."""
        path = self.folder / "frame.dcm"
        picture.write(path, stream)
        shape = (picture.dataset.Rows, picture.dataset.Columns)
        plugin = DECODING_PLUGINS[picture.transfer_syntax_uid]
        with bounded("decoding", LONGEST_FRAME_S + LONGEST_S):
            try:
                list(self.pool.decode(path, [0], plugin=plugin, shape=shape))
            except DecoderFailed as error:
                broken = "broke down" in str(error)
                return "the decoder broke down" if broken else "refused"
        return "decoded"

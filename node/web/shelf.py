"""Series and segmentations that people look at, kept open for the next slice."""

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from contextlib import AbstractContextManager
from types import TracebackType
from typing import Generic, TypeVar, cast

import numpy as np
from numpy.typing import NDArray

from config.results import ResultRole
from dicom_io.decoder import DecoderPool
from dicom_io.errors import DicomIOError
from dicom_io.pixels import decode_frame
from dicom_io.seg_frames import SegFrames, open_seg
from dicom_io.slices import Slice, SliceList, list_slices
from node.services import Services
from node.web.errors import Conflict, NotHere
from storage.records import JobRecord, SeriesRecord

_OPEN_SERIES = 6
"""Of each, where its slices are and nothing of their pixels: a kilobyte or two a slice."""
_DECODED_AT_ONCE = 2
"""Bounds the memory, and the processes that decode what is compressed."""
_Value = TypeVar("_Value")


class Shelf(AbstractContextManager["Shelf"]):
    """Slices of series, and what was found in them; of each slice only its own pixels are read.

    Parameters
    ----------
    services
        Stores.
    """

    def __init__(self, services: Services) -> None:
        self._services = services
        self._series: _Kept[SliceList] = _Kept(_OPEN_SERIES)
        self._segs: _Kept[SegFrames | None] = _Kept(_OPEN_SERIES)
        self._decoders = DecoderPool()
        self._decoding = threading.BoundedSemaphore(_DECODED_AT_ONCE)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._decoders.__exit__(kind, error, trace)

    def slices(self, series: SeriesRecord) -> SliceList:
        """Give the slices of a series as it is now."""

        def read() -> SliceList:
            paths = self._services.catalog.instance_paths(series.series_uid)
            return list_slices([self._services.files.absolute(path) for path in paths])

        key = (series.series_uid, series.instance_count, series.last_received_at)
        return self._series.get(key, read)

    def hu(self, series: SeriesRecord, index: int) -> NDArray[np.int16]:
        """Give the pixels of a slice, in HU.

        Raises
        ------
        NotHere
            There is no such slice, or its file is gone.
        Conflict
            It cannot be decoded; the message says why.
        """
        one = self._slice(series, index)
        try:
            with self._decoding:
                return decode_frame(one.frame, one.path, one.transfer_syntax_uid, self._decoders)
        except DicomIOError as error:
            raise Conflict(f"This slice cannot be shown: {error}") from error
        except OSError as error:
            raise NotHere("The file of this slice has been removed.") from error

    def labels(self, job: JobRecord, series: SeriesRecord, index: int) -> NDArray[np.uint8]:
        """Give what a job found in a slice, by the values of `inference.labels.Label`.

        Raises
        ------
        NotHere
            There is no such slice, or no segmentation of it.
        """
        one, seg = self._slice(series, index), self.seg(job)
        if seg is None or seg.shape != one.frame.shape:
            raise NotHere(f"Job {job.id} has no segmentation of this slice.")
        try:
            return seg.labels_at(one.frame.position_mm)
        except OSError as error:
            raise NotHere(f"The segmentation of job {job.id} has been removed.") from error

    def seg(self, job: JobRecord) -> SegFrames | None:
        """Give the segmentation that a job made; None where there is none, or no longer."""

        def read() -> SegFrames | None:
            folder = self._services.files.result_folder(job.id)
            for result in self._services.jobs.results(job.id):
                if result.role == ResultRole.SEG and (folder / result.path).exists():
                    return open_seg(folder / result.path)
            return None

        # Whoever makes the results anew has another start.
        return self._segs.get((job.id, job.state, job.started_at, job.results_removed_at), read)

    def _slice(self, series: SeriesRecord, index: int) -> Slice:
        slices = self.slices(series).slices
        if not 0 <= index < len(slices):
            raise NotHere(f"The series has no slice {index}.")
        return slices[index]


class _Entry:
    """What is kept, once somebody has made it; whoever else wants it waits for that."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.value: object = _Entry


class _Kept(Generic[_Value]):
    """The values that were asked for last."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._lock = threading.Lock()
        self._entries: OrderedDict[Hashable, _Entry] = OrderedDict()

    def get(self, key: Hashable, make: Callable[[], _Value]) -> _Value:
        """Give the value of a key, made if it is not here."""
        with self._lock:
            entry = self._entries.setdefault(key, _Entry())
            self._entries.move_to_end(key)
            if len(self._entries) > self._most:
                self._entries.popitem(last=False)
        with entry.lock:
            if entry.value is _Entry:
                entry.value = make()
            return cast(_Value, entry.value)

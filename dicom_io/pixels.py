"""Pixel data of the frames of a series, decoded into one array in HU."""

import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydicom import dcmread
from pydicom.pixels.utils import iter_pixels
from pydicom.uid import DeflatedExplicitVRLittleEndian

from dicom_io.errors import RejectionReason, UnsuitableSeries
from dicom_io.frames import Frame
from dicom_io.headers import DAMAGED_FILE_ERRORS
from dicom_io.transfer_syntaxes import DECODING_PLUGINS

_DECODER_ERRORS: tuple[type[Exception], ...] = (StopIteration, *DAMAGED_FILE_ERRORS)
_MAX_THREADS = 8
_FRAMES_PER_TASK = 16
"""Frames of a multi-frame image that are decoded with the file opened once."""


@dataclass(frozen=True, kw_only=True)
class _Task:
    """Frames of one file and their places in the volume."""

    path: Path
    transfer_syntax_uid: str
    frames: tuple[tuple[int, Frame], ...]
    """Slice index and frame."""


def decode_frames(
    frames: Sequence[Frame], paths: Sequence[Path], transfer_syntax_uids: Sequence[str]
) -> NDArray[np.int16]:
    """Decode frames into one array in HU, in the order given.

    Files are decoded in parallel, and no more than one frame per thread is held beside the result.

    Parameters
    ----------
    frames
        Frames of one shape.
    paths, transfer_syntax_uids
        Of the data sets, by `Frame.dataset_index`.

    Returns
    -------
    NDArray[np.int16]
        Array (frames, rows, columns), HU.

    Raises
    ------
    UnsuitableSeries
        UNDECODABLE_PIXELS or NOT_HU, naming the file.
    OSError
        If a file cannot be read.
    """
    volume = np.empty((len(frames), *frames[0].shape), dtype=np.int16)
    tasks = _plan(frames, paths, transfer_syntax_uids)
    threads = min(_MAX_THREADS, os.cpu_count() or 1)
    with ThreadPoolExecutor(threads, thread_name_prefix="decode") as pool:
        for _ in pool.map(lambda task: _run(task, volume), tasks):
            pass
    return volume


def _plan(
    frames: Sequence[Frame], paths: Sequence[Path], transfer_syntax_uids: Sequence[str]
) -> list[_Task]:
    by_dataset: dict[int, list[tuple[int, Frame]]] = {}
    for slice_index, frame in enumerate(frames):
        by_dataset.setdefault(frame.dataset_index, []).append((slice_index, frame))
    tasks = []
    for dataset_index, places in by_dataset.items():
        syntax = transfer_syntax_uids[dataset_index]
        if syntax not in DECODING_PLUGINS:
            detail = f"{paths[dataset_index].name}: transfer syntax {syntax}"
            raise UnsuitableSeries(RejectionReason.UNDECODABLE_PIXELS, detail)
        places.sort(key=lambda place: place[1].frame_number or 1)
        for start in range(0, len(places), _FRAMES_PER_TASK):
            part = tuple(places[start : start + _FRAMES_PER_TASK])
            tasks.append(_Task(path=paths[dataset_index], transfer_syntax_uid=syntax, frames=part))
    return tasks


def _run(task: _Task, volume: NDArray[np.int16]) -> None:
    stored_frames = _read_stored(task)
    for slice_index, frame in task.frames:
        try:
            stored = next(stored_frames)
        except _DECODER_ERRORS as error:
            detail = f"{task.path.name}: {error}"
            raise UnsuitableSeries(RejectionReason.UNDECODABLE_PIXELS, detail) from error
        try:
            volume[slice_index] = frame.rescale.apply(stored)
        except ValueError as error:
            detail = f"{task.path.name}: {error}"
            raise UnsuitableSeries(RejectionReason.NOT_HU, detail) from error


def _read_stored(task: _Task) -> Iterator[NDArray[np.integer]]:
    """Yield the stored values of each frame of the task.

    pydicom decodes frame by frame from a path, but not where the whole data set is deflated.
    """
    deflated = task.transfer_syntax_uid == DeflatedExplicitVRLittleEndian
    yield from iter_pixels(
        dcmread(task.path) if deflated else task.path,
        indices=[(frame.frame_number or 1) - 1 for _, frame in task.frames],
        raw=True,
        decoding_plugin=DECODING_PLUGINS[task.transfer_syntax_uid],
    )

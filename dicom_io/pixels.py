"""Pixel data of the frames of a series, decoded into one array in HU."""

import math
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

from dicom_io.decoder import DECODER_ERRORS, DecoderPool
from dicom_io.errors import RejectionReason, UnsuitableSeries
from dicom_io.frames import Frame
from dicom_io.transfer_syntaxes import DECODING_PLUGINS

MAX_VOXELS = 1 << 30
"""4096 slices of 512 x 512 pixels, or 1024 of 1024 x 1024. Files of a few bytes may claim more, and
the volume is allocated before the first of them is decoded."""
MAX_FRAME_PIXELS = 1 << 24
"""4096 x 4096, of a frame that is decoded by itself."""
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
    What is compressed is decoded in processes of its own.

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
        TOO_LARGE; UNDECODABLE_PIXELS or NOT_HU, naming the file.
    OSError
        If a file cannot be read.
    """
    shape = (len(frames), *frames[0].shape)
    if math.prod(shape) > MAX_VOXELS:
        detail = f"{' x '.join(map(str, shape))} voxels, more than {MAX_VOXELS}"
        raise UnsuitableSeries(RejectionReason.TOO_LARGE, detail)
    volume = np.empty(shape, dtype=np.int16)
    tasks = _plan(frames, paths, transfer_syntax_uids)
    threads = min(_MAX_THREADS, os.cpu_count() or 1)
    with (
        DecoderPool() as decoders,
        ThreadPoolExecutor(threads, thread_name_prefix="decode") as pool,
    ):
        for _ in pool.map(lambda task: _run(task, volume, decoders), tasks):
            pass
    return volume


def decode_frame(
    frame: Frame, path: Path, transfer_syntax_uid: str, decoders: DecoderPool
) -> NDArray[np.int16]:
    """Decode one frame of a file, for those who look at one after the other.

    Parameters
    ----------
    frame, path, transfer_syntax_uid
        The frame, and the file that it is in.
    decoders
        For what is compressed.

    Returns
    -------
    NDArray[np.int16]
        Array (rows, columns), HU.

    Raises
    ------
    UnsuitableSeries
        TOO_LARGE; UNDECODABLE_PIXELS or NOT_HU, naming the file.
    OSError
        If the file cannot be read.
    """
    if math.prod(frame.shape) > MAX_FRAME_PIXELS:
        detail = f"{' x '.join(map(str, frame.shape))} pixels, more than {MAX_FRAME_PIXELS}"
        raise UnsuitableSeries(RejectionReason.TOO_LARGE, detail)
    _check_syntax(transfer_syntax_uid, path)
    task = _Task(path=path, transfer_syntax_uid=transfer_syntax_uid, frames=((0, frame),))
    hu = np.empty(frame.shape, dtype=np.int16)
    _run(task, hu[np.newaxis], decoders)
    return hu


def _plan(
    frames: Sequence[Frame], paths: Sequence[Path], transfer_syntax_uids: Sequence[str]
) -> list[_Task]:
    by_dataset: dict[int, list[tuple[int, Frame]]] = {}
    for slice_index, frame in enumerate(frames):
        by_dataset.setdefault(frame.dataset_index, []).append((slice_index, frame))
    tasks = []
    for dataset_index, places in by_dataset.items():
        syntax = transfer_syntax_uids[dataset_index]
        _check_syntax(syntax, paths[dataset_index])
        places.sort(key=lambda place: place[1].frame_number or 1)
        for start in range(0, len(places), _FRAMES_PER_TASK):
            part = tuple(places[start : start + _FRAMES_PER_TASK])
            tasks.append(_Task(path=paths[dataset_index], transfer_syntax_uid=syntax, frames=part))
    return tasks


def _check_syntax(transfer_syntax_uid: str, path: Path) -> None:
    if transfer_syntax_uid not in DECODING_PLUGINS:
        detail = f"{path.name}: transfer syntax {transfer_syntax_uid}"
        raise UnsuitableSeries(RejectionReason.UNDECODABLE_PIXELS, detail)


def _run(task: _Task, volume: NDArray[np.int16], decoders: DecoderPool) -> None:
    stored_frames = _read_stored(task, decoders)
    for slice_index, frame in task.frames:
        try:
            stored = next(stored_frames)
        except DECODER_ERRORS as error:
            detail = f"{task.path.name}: {error}"
            raise UnsuitableSeries(RejectionReason.UNDECODABLE_PIXELS, detail) from error
        try:
            volume[slice_index] = frame.rescale.apply(stored)
        except ValueError as error:
            detail = f"{task.path.name}: {error}"
            raise UnsuitableSeries(RejectionReason.NOT_HU, detail) from error


def _read_stored(task: _Task, decoders: DecoderPool) -> Iterator[NDArray[np.integer]]:
    """Give the stored values of each frame of the task.

    pydicom decodes frame by frame from a path, but not where the whole data set is deflated.
    """
    indices = [(frame.frame_number or 1) - 1 for _, frame in task.frames]
    plugin = DECODING_PLUGINS[task.transfer_syntax_uid]
    if plugin:
        shape = task.frames[0][1].shape
        return decoders.decode(task.path, indices, plugin=plugin, shape=shape)
    deflated = task.transfer_syntax_uid == DeflatedExplicitVRLittleEndian
    return iter_pixels(dcmread(task.path) if deflated else task.path, indices=indices, raw=True)

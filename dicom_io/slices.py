"""The slices of a series one by one, as a person scrolls through them.

What can be shown is shown, also of a series that cannot be segmented: a gap or a damaged file is no
reason to see nothing.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from dicom_io.errors import DicomIOError
from dicom_io.frames import Frame, list_frames, name_direction
from dicom_io.headers import read_attributes
from dicom_io.values import read_number, read_text

_AXES = (("x", "left"), ("y", "back"), ("z", "head"))
"""Names of the patient axes, and where they point (LPS)."""


@dataclass(frozen=True, kw_only=True)
class Slice:
    """One slice, and where its pixels are."""

    frame: Frame
    path: Path
    transfer_syntax_uid: str
    number: int | None
    """By which viewers call it: its instance or frame number; none where it has none."""

    @property
    def edges(self) -> tuple[str, str, str, str]:
        """Letters of Patient Orientation at the left, right, top and bottom edge."""
        row, column = self.frame.orientation[:3], self.frame.orientation[3:]
        opposite = (tuple(-cosine for cosine in direction) for direction in (row, column))
        left, top = map(name_direction, opposite)
        return left, name_direction(row), top, name_direction(column)

    @property
    def center_mm(self) -> tuple[float, float, float]:
        """Middle of the slice in patient coordinates, LPS."""
        frame = self.frame
        cosines = np.reshape(frame.orientation, (2, 3))
        rows, columns = frame.shape
        steps = np.multiply(frame.pixel_spacing_mm, (rows - 1, columns - 1))[::-1] / 2
        x, y, z = (np.array(frame.position_mm) + steps @ cosines).tolist()
        return x, y, z


@dataclass(frozen=True, kw_only=True)
class SliceList:
    """The slices of a series."""

    slices: tuple[Slice, ...]
    """Along the slice normal (row cosines x column cosines), as those of `SourceSeries.volume`."""
    problems: tuple[str, ...]
    """Why files are left out, as sentences; a file each."""

    @property
    def axis(self) -> int:
        """The patient axis that is nearest to the slice normal."""
        return int(np.abs(_normal(self.slices[0])).argmax())

    @property
    def axis_name(self) -> tuple[str, str]:
        """Its name, and where it points."""
        return _AXES[self.axis]

    @property
    def reading_order(self) -> Sequence[int]:
        """Indices from head to feet, from front to back or from the right to the left."""
        if not self.slices:
            return ()
        along = _normal(self.slices[0])[self.axis] > 0
        indices = range(len(self.slices))
        return indices[::-1] if along == (self.axis == 2) else indices


def list_slices(paths: Sequence[Path]) -> SliceList:
    """List the slices of the files of one series; their pixels are not read.

    Parameters
    ----------
    paths
        All instances of the series, in any order.
    """
    slices: list[Slice] = []
    problems: list[str] = []
    for path in paths:
        try:
            slices.extend(_slices_of(path))
        except DicomIOError as error:
            problems.append(str(error))
        except OSError as error:
            problems.append(f"{path.name}: {error.strerror}")
    if slices:
        normal = _normal(slices[0])
        slices.sort(key=lambda one: (float(normal @ one.frame.position_mm), one.number or 0))
    return SliceList(slices=tuple(slices), problems=tuple(problems))


def _slices_of(path: Path) -> Iterator[Slice]:
    dataset = read_attributes(path)
    number = read_number(dataset, "InstanceNumber")
    for frame in list_frames([dataset]):
        yield Slice(
            frame=frame,
            path=path,
            transfer_syntax_uid=read_text(dataset.file_meta, "TransferSyntaxUID"),
            number=frame.frame_number or (None if number is None else int(number)),
        )


def _normal(one: Slice) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    row, column = np.reshape(one.frame.orientation, (2, 3))
    return np.cross(row, column)

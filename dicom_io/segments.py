"""The plan of the segments: which finding gets which segment, under which name.

A voxel belongs to one segment at most: the liver segment is the liver without its lesions, because
viewers lose segments that overlap.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum

import numpy as np

from config.settings import ResultSettings
from dicom_io.uids import derive_uid
from inference.findings import Findings, Lesion
from inference.labels import Label
from inference.volume import Volume

LIVER_COLOR = (221, 130, 101)
LESION_COLORS = (
    (255, 225, 0),
    (0, 220, 255),
    (255, 0, 200),
    (120, 255, 60),
    (255, 140, 0),
    (150, 110, 255),
)
"""sRGB; lesions take them in turn, so that neighbors in size differ."""
POOLED_COLOR = (190, 190, 190)


class SegmentKind(StrEnum):
    """What a segment holds."""

    LIVER = "liver"
    """The liver without its lesions."""
    LESION = "lesion"
    """One lesion."""
    POOLED = "pooled"
    """All lesions that are too small to have a segment of their own."""


@dataclass(frozen=True, kw_only=True)
class SegmentPlan:
    """One segment of the SEG and its groups in the SR."""

    number: int
    """Segment Number, from 1."""
    kind: SegmentKind
    label: str
    tracking_identifier: str
    tracking_uid: str
    lesion_numbers: tuple[int, ...]
    """The lesions in it, the largest first; none for the liver."""
    color: tuple[int, int, int]
    """Recommended display color, sRGB."""


@dataclass(frozen=True, kw_only=True, eq=False)
class PlannedSegments:
    """All segments and their voxels."""

    segments: tuple[SegmentPlan, ...]
    """In the order of their numbers."""
    numbers: Volume
    """Array (slices, rows, columns) uint8 or uint16: 0, or the segment number of the voxel."""


def plan_segments(
    labels: Volume, findings: Findings, settings: ResultSettings, *, content_key: str
) -> PlannedSegments:
    """Give each finding its segment.

    Parameters
    ----------
    labels
        Array (slices, rows, columns) with the values of `Label`.
    findings
        The lesions of those labels.
    settings
        How many lesions have a segment of their own; the largest do.
    content_key
        Names the source content and the model; tracking UIDs derive from it.

    Raises
    ------
    ValueError
        If the labels and the lesion map do not tell the same tumor voxels.
    """
    if not np.array_equal(labels.array == Label.TUMOR, findings.lesion_map.array > 0):
        raise ValueError("labels and lesion map differ in their tumor voxels")
    segments = tuple(_segments(findings, settings.max_lesion_segments, content_key))
    table = np.zeros(len(findings.lesions) + 1, dtype=_number_dtype(len(segments)))
    for segment in segments:
        table[list(segment.lesion_numbers)] = segment.number
    numbers = table[findings.lesion_map.array]
    numbers[labels.array == Label.LIVER] = segments[0].number
    return PlannedSegments(segments=segments, numbers=labels.with_array(numbers))


def _number_dtype(segment_count: int) -> type[np.uint8] | type[np.uint16]:
    return np.uint8 if segment_count <= np.iinfo(np.uint8).max else np.uint16


def _segments(findings: Findings, own_segments: int, content_key: str) -> Iterator[SegmentPlan]:
    yield _plan(1, SegmentKind.LIVER, "Liver", (), LIVER_COLOR, derive_uid("tracking", content_key))
    for number, lesion in enumerate(findings.lesions[:own_segments], start=2):
        yield _plan(
            number,
            SegmentKind.LESION,
            f"Liver lesion {lesion.number}",
            (lesion.number,),
            LESION_COLORS[(number - 2) % len(LESION_COLORS)],
            _tracking_uid(content_key, lesion),
        )
    pooled = findings.lesions[own_segments:]
    if pooled:
        yield _plan(
            own_segments + 2,
            SegmentKind.POOLED,
            "Other liver lesions",
            tuple(lesion.number for lesion in pooled),
            POOLED_COLOR,
            derive_uid("tracking", content_key, "pooled", str(own_segments)),
        )


def _tracking_uid(content_key: str, lesion: Lesion) -> str:
    """Identify a lesion by its number and its place, to the millimeter."""
    place = [str(round(coordinate)) for coordinate in lesion.centroid_mm]
    return derive_uid("tracking", content_key, "lesion", str(lesion.number), *place)


def _plan(
    number: int,
    kind: SegmentKind,
    label: str,
    lesion_numbers: tuple[int, ...],
    color: tuple[int, int, int],
    tracking_uid: str,
) -> SegmentPlan:
    return SegmentPlan(
        number=number,
        kind=kind,
        label=label,
        tracking_identifier=label,
        tracking_uid=tracking_uid,
        lesion_numbers=lesion_numbers,
        color=color,
    )

"""The plan of the segments: which finding gets which segment, under which name.

A lesion is tracked under the same UID whether or not it has a segment of its own. A voxel belongs
to one segment at most: the liver segment is the liver without its lesions, because viewers lose
segments that overlap.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum

import numpy as np

from config.results import LesionForm, ResultSettings
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
    """Several lesions: those that are too small to have a segment of their own, or all."""


@dataclass(frozen=True, kw_only=True)
class SegmentPlan:
    """One segment of the SEG and its groups in the SR."""

    number: int
    """Segment Number, from 1."""
    kind: SegmentKind
    label: str
    """Segment Label, and Tracking ID."""
    tracking_uid: str
    lesion_numbers: tuple[int, ...]
    """The lesions in it, the largest first; none for the liver."""
    color: tuple[int, int, int]
    """Recommended display color, sRGB."""
    members: tuple["SegmentPlan", ...] = ()
    """Lesions in it that are reported one by one, under the number of this segment."""


@dataclass(frozen=True, kw_only=True, eq=False)
class PlannedSegments:
    """All segments and their voxels."""

    segments: tuple[SegmentPlan, ...]
    """In the order of their numbers."""
    numbers: Volume
    """Array (slices, rows, columns) uint8 or uint16: 0, or the segment number of the voxel."""

    @property
    def tracking_uids(self) -> frozenset[str]:
        """Of all findings that a report draws."""
        return frozenset(
            plan.tracking_uid for segment in self.segments for plan in (segment, *segment.members)
        )


def plan_segments(
    labels: Volume,
    findings: Findings,
    settings: ResultSettings,
    *,
    form: LesionForm = LesionForm.SEPARATE,
    content_key: str,
) -> PlannedSegments:
    """Give each finding its segment.

    Parameters
    ----------
    labels
        Array (slices, rows, columns) with the values of `Label`.
    findings
        The lesions of those labels.
    settings
        How many lesions have a segment of their own, where they have; the largest do.
    form
        Whether they have.
    content_key
        Names the source content and the model; tracking UIDs derive from it.

    Raises
    ------
    ValueError
        If the labels and the lesion map do not tell the same tumor voxels.
    """
    if not np.array_equal(labels.array == Label.TUMOR, findings.lesion_map.array > 0):
        raise ValueError("labels and lesion map differ in their tumor voxels")
    planner = _Planner(findings=findings, content_key=content_key)
    if form is LesionForm.TOGETHER:
        segments = tuple(planner.together())
    else:
        segments = tuple(planner.separate(settings.max_lesion_segments))
    table = np.zeros(len(findings.lesions) + 1, dtype=_number_dtype(len(segments)))
    for segment in segments:
        table[list(segment.lesion_numbers)] = segment.number
    numbers = np.zeros(labels.shape, dtype=table.dtype)
    for index in np.flatnonzero([plane.any() for plane in labels.array]):
        numbers[index] = table[findings.lesion_map.array[index]]
        numbers[index][labels.array[index] == Label.LIVER] = segments[0].number
    return PlannedSegments(segments=segments, numbers=labels.with_array(numbers))


def _number_dtype(segment_count: int) -> type[np.uint8] | type[np.uint16]:
    return np.uint8 if segment_count <= np.iinfo(np.uint8).max else np.uint16


@dataclass(frozen=True, kw_only=True)
class _Planner:
    """Names segments and derives their tracking UIDs."""

    findings: Findings
    content_key: str

    def separate(self, own_segments: int) -> Iterator[SegmentPlan]:
        """Give the liver, the largest lesions and, where there are more, those together."""
        yield self._liver()
        lesions = self.findings.lesions
        for number, lesion in enumerate(lesions[:own_segments], start=2):
            yield self._lesion(lesion, number)
        if lesions[own_segments:]:
            yield SegmentPlan(
                number=own_segments + 2,
                kind=SegmentKind.POOLED,
                label="Other liver lesions",
                tracking_uid=self._uid("pooled", str(own_segments)),
                lesion_numbers=tuple(lesion.number for lesion in lesions[own_segments:]),
                color=POOLED_COLOR,
            )

    def together(self) -> Iterator[SegmentPlan]:
        """Give the liver and, where there are any, all lesions in one."""
        yield self._liver()
        lesions = self.findings.lesions
        if lesions:
            yield SegmentPlan(
                number=2,
                kind=SegmentKind.POOLED,
                label="Liver lesions",
                tracking_uid=self._uid("together"),
                lesion_numbers=tuple(lesion.number for lesion in lesions),
                color=LESION_COLORS[0],
                members=tuple(self._lesion(lesion, 2) for lesion in lesions),
            )

    def _liver(self) -> SegmentPlan:
        return SegmentPlan(
            number=1,
            kind=SegmentKind.LIVER,
            label="Liver",
            tracking_uid=self._uid(),
            lesion_numbers=(),
            color=LIVER_COLOR,
        )

    def _lesion(self, lesion: Lesion, number: int) -> SegmentPlan:
        """Identify a lesion by its number and its place, to the millimeter."""
        place = [str(round(coordinate)) for coordinate in lesion.centroid_mm]
        return SegmentPlan(
            number=number,
            kind=SegmentKind.LESION,
            label=f"Liver lesion {lesion.number}",
            tracking_uid=self._uid("lesion", str(lesion.number), *place),
            lesion_numbers=(lesion.number,),
            color=LESION_COLORS[(lesion.number - 1) % len(LESION_COLORS)],
        )

    def _uid(self, *parts: str) -> str:
        return derive_uid("tracking", self.content_key, *parts)

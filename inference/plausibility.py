"""Doubts about a result: what a reader should know before believing it."""

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from config.results import PlausibilitySettings
from inference.findings import Doubt, DoubtCode, Findings
from inference.labels import Label
from inference.volume import Volume

_TOUCHING = np.ones((3, 3, 3), bool)
"""26-connectivity, as for lesions."""


def with_doubts(findings: Findings, labels: Volume, settings: PlausibilitySettings) -> Findings:
    """Compare findings with what livers are like, and add what is doubtful about them.

    Parameters
    ----------
    findings
        Measured on the labels.
    labels
        Array (slices, rows, columns) with the values of `inference.labels.Label`.
    settings
        The limits.
    """
    doubts = tuple(
        Doubt(code=code, sentence=sentence)
        for code, sentence in (
            *_of_volumes(findings, settings),
            *_of_borders(labels, settings),
            *_of_parts(labels, findings, settings),
        )
    )
    return replace(findings, doubts=doubts)


_Found = Iterator[tuple[DoubtCode, str]]


def _of_volumes(findings: Findings, settings: PlausibilitySettings) -> _Found:
    liver_ml = findings.organ_volume_ml
    if liver_ml < settings.min_liver_ml:
        limit = f"less than {settings.min_liver_ml:g} ml"
        yield DoubtCode.SMALL_LIVER, f"The liver has {liver_ml:.0f} ml, {limit}."
    if liver_ml > settings.max_liver_ml:
        limit = f"more than {settings.max_liver_ml:g} ml"
        yield DoubtCode.LARGE_LIVER, f"The liver has {liver_ml:.0f} ml, {limit}."
    if findings.tumor_burden > settings.max_tumor_burden:
        limit = f"more than {100 * settings.max_tumor_burden:.0f} %"
        share = f"{100 * findings.tumor_burden:.0f} %"
        yield DoubtCode.HIGH_TUMOR_BURDEN, f"Lesions are {share} of the liver, {limit}."


def _of_borders(labels: Volume, settings: PlausibilitySettings) -> _Found:
    """Look whether the liver is cut off by one of the six sides of the scan."""
    organ = labels.array != Label.BACKGROUND
    slices_mm, rows_mm, columns_mm = labels.spacing
    for axis, pixel_mm2 in enumerate(
        (rows_mm * columns_mm, slices_mm * columns_mm, slices_mm * rows_mm)
    ):
        for index in (0, -1):
            cut_cm2 = np.count_nonzero(organ.take(index, axis)) * pixel_mm2 / 100
            if cut_cm2 > settings.max_cut_cm2:
                sentence = f"The scan ends inside the liver: {cut_cm2:.0f} cm2 are cut."
                yield DoubtCode.PARTIAL_LIVER, sentence
                return


def _of_parts(labels: Volume, findings: Findings, settings: PlausibilitySettings) -> _Found:
    """Look for what does not hang together with the largest part of the liver."""
    [box] = ndimage.find_objects((labels.array != Label.BACKGROUND).astype(np.uint8))
    parts, count = ndimage.label(labels.array[box] != Label.BACKGROUND, structure=_TOUCHING)
    if count == 1:
        return
    is_liver = labels.array[box] == Label.LIVER
    sizes = np.bincount(parts[is_liver], minlength=count + 1)
    main = int(sizes.argmax())
    apart = 1 - sizes[main] / sizes.sum()
    if apart > settings.max_scattered:
        sentence = f"{100 * apart:.0f} % of the liver lies apart from its largest part."
        yield DoubtCode.SCATTERED_LIVER, sentence
    outside = _lesions_outside(findings.lesion_map.array[box], parts, main)
    if outside:
        numbers = ", ".join(map(str, outside))
        yield DoubtCode.OUTSIDE_LESION, f"Lesions that do not touch the liver: {numbers}."


def _lesions_outside(
    lesion_map: NDArray[np.uint16], parts: NDArray[np.int32], main: int
) -> list[int]:
    return [int(number) for number in np.unique(lesion_map[parts != main]) if number]

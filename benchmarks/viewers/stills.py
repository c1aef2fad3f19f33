"""Pictures of what programs without a window make of our objects: dcmqi, dcmtk."""

import json
import subprocess
import sysconfig
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK
from numpy.typing import NDArray
from PIL import Image

from inference.drawing import FAINT, Page, Picture, outline
from inference.preview_planes import PLANES, PlaneKind, apply_window

_WIDTH_PX = 1200
_MARGIN_PX = 16
_HEADER_PX = 64
_LEGEND_PX = 56
_FILLED = 0.4
"""How much of the color of a segment is seen inside it."""


@dataclass(frozen=True, kw_only=True, eq=False)
class _Labeled:
    """A scan and a label image on one grid, both as ITK has read them."""

    scan: SimpleITK.Image
    labels: SimpleITK.Image
    segments: dict[int, dict[str, Any]]
    """By their number."""

    def cut(self, image: SimpleITK.Image, plane: PlaneKind, center: Sequence[int]) -> NDArray[Any]:
        """Cut an image, the head up."""
        array = SimpleITK.GetArrayViewFromImage(image).take(center[plane.axis], plane.axis)
        return array if plane.axis == 0 else array[::-1]

    def size_mm(self, plane: PlaneKind) -> tuple[float, float]:
        """Width and height of a cut."""
        slices, rows, columns = np.multiply(self.scan.GetSize(), self.scan.GetSpacing())[::-1]
        return [(columns, rows), (columns, slices), (rows, slices)][plane.axis]


def draw_label_image(images: Sequence[Path], seg: Path, path: Path) -> None:
    """Draw the label image that dcmqi makes of a SEG, over the scan as ITK reads it.

    3D Slicer reads a SEG with the same program.
    """
    labeled = _read(images, seg)
    lesion = SimpleITK.GetArrayViewFromImage(labeled.labels) == 2
    center = [int(index) for index in np.median(np.argwhere(lesion), axis=0)]
    sizes_mm = [labeled.size_mm(plane) for plane in PLANES]
    room = _WIDTH_PX - (len(PLANES) + 1) * _MARGIN_PX
    scale = room / sum(width for width, _ in sizes_mm)
    sizes = [(round(width * scale), round(height * scale)) for width, height in sizes_mm]
    tallest = max(height for _, height in sizes)
    page = Page.blank(_WIDTH_PX, _HEADER_PX + tallest + _LEGEND_PX)
    page.text((_MARGIN_PX, 14), "segimage2itkimage of dcmqi: label image over the CT", size=20)
    left = _MARGIN_PX
    for plane, size in zip(PLANES, sizes, strict=True):
        page.text((left, _HEADER_PX - 6), plane.title, size=14, color=FAINT, anchor="ld")
        _draw_cut(page, labeled, plane, center, (left, _HEADER_PX, *size))
        left += size[0] + _MARGIN_PX
    _draw_legend(page, labeled.segments, _HEADER_PX + tallest + _LEGEND_PX // 2)
    page.save(path)


def _read(images: Sequence[Path], seg: Path) -> _Labeled:
    program = Path(sysconfig.get_path("scripts")) / "segimage2itkimage"
    with tempfile.TemporaryDirectory() as folder:
        command = [str(program), "--inputDICOM", str(seg), "--outputDirectory", folder]
        command += ["--outputType", "nrrd", "--mergeSegments"]
        subprocess.run(command, check=True, capture_output=True)
        [described] = Path(folder).glob("*meta.json")
        [segments] = json.loads(described.read_text(encoding="utf-8"))["segmentAttributes"]
        [labels] = Path(folder).glob("*.nrrd")
        label_image = SimpleITK.ReadImage(str(labels))
    folder_of_scan = str(images[0].parent)
    names = SimpleITK.ImageSeriesReader.GetGDCMSeriesFileNames(folder_of_scan)
    scan = SimpleITK.DICOMOrient(SimpleITK.ReadImage(names), "LPS")
    nearest = SimpleITK.sitkNearestNeighbor
    return _Labeled(
        scan=scan,
        labels=SimpleITK.Resample(label_image, scan, SimpleITK.Transform(), nearest),
        segments={one["labelID"]: one for one in segments},
    )


def _draw_cut(
    page: Page,
    labeled: _Labeled,
    plane: PlaneKind,
    center: Sequence[int],
    place: tuple[int, int, int, int],
) -> None:
    left, top, width, height = place
    gray = Image.fromarray(apply_window(labeled.cut(labeled.scan, plane, center)))
    numbers = labeled.cut(labeled.labels, plane, center)
    picture = np.asarray(gray.resize((width, height)).convert("RGB")).astype(np.float32)
    enlarged = Image.fromarray(numbers.astype(np.uint8)).resize(
        (width, height), Image.Resampling.NEAREST
    )
    for number, segment in labeled.segments.items():
        inside = np.asarray(enlarged) == number
        picture[inside] += _FILLED * (segment["recommendedDisplayRGBValue"] - picture[inside])
    page.paste(picture.astype(np.uint8), (left, top))
    rows, columns = numbers.shape
    for number, segment in labeled.segments.items():
        paths = [
            [(left + (x + 0.5) * width / columns, top + (y + 0.5) * height / rows) for y, x in line]
            for line in outline(numbers == number)
        ]
        page.lines(paths, tuple(segment["recommendedDisplayRGBValue"]), 1.5)


def _draw_legend(page: Page, segments: dict[int, dict[str, Any]], middle: int) -> None:
    step = (_WIDTH_PX - 2 * _MARGIN_PX) // len(segments)
    for place, (number, segment) in enumerate(segments.items()):
        left = _MARGIN_PX + place * step
        page.box((left, middle - 7, 14, 14), tuple(segment["recommendedDisplayRGBValue"]))
        name = f"{number} {segment['SegmentLabel']}"
        page.text((left + 22, middle), name, size=16, anchor="lm")


def draw_decoded(images: Sequence[Path], path: Path) -> None:
    """Draw images side by side, equally high, as dcmtk's dcmj2pnm decodes them."""
    decoded = [Image.fromarray(_decode(image)) for image in images]
    shapes = [image.width / image.height for image in decoded]
    height = int((_WIDTH_PX - _MARGIN_PX * (len(decoded) - 1)) / sum(shapes))
    page = Page.blank(_WIDTH_PX, height)
    left = 0
    for image, shape in zip(decoded, shapes, strict=True):
        width = int(height * shape)
        page.paste(np.asarray(image.resize((width, height))), (left, 0))
        left += width + _MARGIN_PX
    page.save(path)


def _decode(path: Path) -> Picture:
    with tempfile.TemporaryDirectory() as folder:
        picture = Path(folder) / "picture.png"
        command = ["dcmj2pnm", "--write-png", str(path), str(picture)]
        subprocess.run(command, check=True, capture_output=True)
        return np.asarray(Image.open(picture).convert("RGB"))

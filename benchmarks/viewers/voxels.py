"""Segments as sets of points in patient space, out of three decoders that know nothing of us.

The hash of a segment is the SHA-256 of the centers of its voxels: patient coordinates (LPS) in
hundredths of a millimeter, rounded, sorted by x, y and z, as little-endian 32-bit integers. It does
not depend on how a decoder cuts, turns or orders its grid.
"""

import hashlib
import json
import os
import subprocess
import sys
import sysconfig
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import highdicom as hd
import numpy as np
import SimpleITK
from numpy.typing import NDArray

Hashes: TypeAlias = dict[int, str]
"""By segment number."""


def viewers_folder() -> Path:
    """Give the folder that ``docker/install-viewers`` installs into."""
    return Path(os.environ.get("HEPAR_TEST_VIEWERS") or Path(sys.prefix) / "viewers")


@dataclass(frozen=True, kw_only=True)
class Segmented:
    """A series and its segmentation, as files."""

    images: Sequence[Path]
    seg: Path


def hash_points(points_mm: NDArray[np.float64]) -> str:
    """Hash (n, 3) patient coordinates in mm."""
    hundredths = np.rint(100 * points_mm).astype("<i4")
    return hashlib.sha256(hundredths[np.lexsort(hundredths.T[::-1])].tobytes()).hexdigest()


def decode_with_highdicom(cases: Mapping[str, Segmented], folder: Path) -> dict[str, Hashes]:
    """Read each with `highdicom.seg.segread`."""
    del folder
    found = {}
    for name, case in cases.items():
        seg = hd.seg.segread(case.seg)
        volume = seg.get_volume()
        found[name] = {
            number: hash_points(
                volume.map_indices_to_reference(np.argwhere(volume.array[..., index]))
            )
            for index, number in enumerate(seg.segment_numbers)
        }
    return found


def decode_with_dcmqi(cases: Mapping[str, Segmented], folder: Path) -> dict[str, Hashes]:
    """Convert each with ``segimage2itkimage``, which comes with the Python package dcmqi."""
    program = Path(sysconfig.get_path("scripts")) / "segimage2itkimage"
    found = {}
    for name, case in cases.items():
        own = folder / name
        own.mkdir()
        command = [str(program), "--inputDICOM", str(case.seg), "--outputDirectory", str(own)]
        subprocess.run([*command, "--outputType", "nrrd"], check=True, capture_output=True)
        [described] = own.glob("*meta.json")
        segments = json.loads(described.read_text(encoding="utf-8"))["segmentAttributes"]
        images = sorted(own.glob("*.nrrd"), key=lambda path: int(path.stem.split("-")[-1]))
        found[name] = {
            attributes["labelID"]: _hash_image(path, attributes["labelID"])
            for path, [attributes] in zip(images, segments, strict=True)
        }
    return found


def _hash_image(path: Path, label: int) -> str:
    image = SimpleITK.ReadImage(str(path))
    indices = np.argwhere(SimpleITK.GetArrayViewFromImage(image) == label)[:, ::-1]
    steps = np.reshape(image.GetDirection(), (3, 3)) * image.GetSpacing()
    return hash_points(indices @ steps.T + image.GetOrigin())


def decode_with_cornerstone(cases: Mapping[str, Segmented], folder: Path) -> dict[str, Hashes]:
    """Decode all with dcmjs and the adapters of Cornerstone3D, as OHIF does."""
    listed = {
        name: {"images": [str(path) for path in case.images], "seg": str(case.seg)}
        for name, case in cases.items()
    }
    wanted = folder / "cases.json"
    wanted.write_text(json.dumps(listed), encoding="utf-8")
    with (Path(__file__).parent / "cornerstone_seg.mjs").open("rb") as script:
        done = subprocess.run(
            ["node", "--input-type=module", "-", str(wanted)],
            stdin=script,
            cwd=viewers_folder(),
            check=False,
            capture_output=True,
            text=True,
        )
    assert done.returncode == 0, done.stderr
    hashes = json.loads(done.stdout.splitlines()[-1])
    return {
        name: {int(number): digest for number, digest in own.items()}
        for name, own in hashes.items()
    }


DECODERS: Mapping[str, Callable[[Mapping[str, Segmented], Path], dict[str, Hashes]]] = {
    "highdicom": decode_with_highdicom,
    "dcmqi": decode_with_dcmqi,
    "dcmjs with the Cornerstone adapters": decode_with_cornerstone,
}
"""Each gives the hashes by name of the case, and may write into the empty folder that it gets."""

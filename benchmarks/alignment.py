"""Do segments lie where they should, in every geometry: ``python -m benchmarks.alignment``.

Small phantoms without any symmetry go through a node: storescu sends them, receiver and scheduler
run as processes, a worker finds the labels in the Hounsfield units, Orthanc gets the results. What
it has got is decoded by three programs that know nothing of us, and the hash of each segment in
patient space (`benchmarks.viewers.voxels`) is compared with that of the phantom. The table goes
into docs/reference/alignment.md; it ends with an error if one is not as it should be.
"""

import json
import shutil
import subprocess
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from io import BytesIO
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset, dcmread

from benchmarks.page import put_table
from benchmarks.peers import NODE_TOML, SENDER, NodeProcess, Orthanc, find_free_port, wait_until
from benchmarks.viewers.voxels import DECODERS, Hashes, Segmented, hash_points
from config import InferenceSettings
from dicom_io.ct import CtIdentity, write_ct_series, write_enhanced_ct
from dicom_io.ct_attributes import decimals, position
from dicom_io.uids import derive_uid
from inference.findings import RunRecord, Segmentation
from inference.identity import identify
from inference.labels import Label
from inference.volume import Volume
from node.roles import Role
from node.services import open_services
from node.worker import Worker

PAGE = Path(__file__).parents[1] / "docs" / "reference" / "alignment.md"
COMMAND = "python -m benchmarks.alignment"

_CORNER_MM = (-61.25, 83.5, -417.75)
"""Patient coordinates of the first voxel: off zero, so that a lost sign shows."""

# Patient directions along (slices, rows, columns), LPS, in columns.
_LEFT, _POSTERIOR, _HEAD = np.eye(3)
_AXIAL = np.stack([_HEAD, _POSTERIOR, _LEFT], axis=1)
_OBLIQUE = (
    np.array([[0.6, -0.8, 0.0], [0.8, 0.6, 0.0], [0.0, 0.0, 1.0]])
    @ np.array([[1.0, 0.0, 0.0], [0.0, 0.8, -0.6], [0.0, 0.6, 0.8]])
    @ _AXIAL
)
"""Turned by angles with rational sines: all voxels lie on hundredths of a millimeter."""


@dataclass(frozen=True, kw_only=True)
class Geometry:
    """How a scan lies in the patient, and how it is sent."""

    directions: NDArray[np.float64] = field(default_factory=lambda: _AXIAL)
    spacing_mm: tuple[float, float, float] = (2.5, 0.75, 0.75)
    position: str = "HFS"
    """Patient Position (0018,5100)."""
    backwards: bool = False
    """Instances or frames are numbered, and sent, the other way round."""
    enhanced: bool = False
    shear_mm: float = 0.0
    """How far each slice is shifted in its plane, as with a tilted gantry."""
    study: str = ""
    """Geometries that name the same are series of one study."""

    @property
    def affine(self) -> NDArray[np.float64]:
        """Index (slice, row, column) to patient coordinates in mm."""
        affine = np.eye(4)
        affine[:3, :3] = self.directions * self.spacing_mm
        affine[:3, 3] = _CORNER_MM
        return affine


GEOMETRIES = {
    "axial": Geometry(),
    "axial, prone": Geometry(
        directions=np.stack([_HEAD, -_POSTERIOR, -_LEFT], axis=1), position="HFP"
    ),
    "axial, feet first": Geometry(
        directions=np.stack([-_HEAD, _POSTERIOR, -_LEFT], axis=1), position="FFS"
    ),
    "axial, feet first, prone": Geometry(
        directions=np.stack([-_HEAD, -_POSTERIOR, _LEFT], axis=1), position="FFP"
    ),
    "axial, on the left side": Geometry(
        directions=np.stack([_HEAD, _LEFT, -_POSTERIOR], axis=1), position="HFDL"
    ),
    "coronal": Geometry(directions=np.stack([_POSTERIOR, -_HEAD, _LEFT], axis=1)),
    "sagittal": Geometry(directions=np.stack([-_LEFT, -_HEAD, _POSTERIOR], axis=1)),
    "oblique": Geometry(directions=_OBLIQUE),
    "instances the other way round": Geometry(backwards=True),
    "oblique, instances the other way round": Geometry(directions=_OBLIQUE, backwards=True),
    "slices of 0.5 mm": Geometry(spacing_mm=(0.5, 0.75, 0.75)),
    "slices of 1 mm": Geometry(spacing_mm=(1.0, 0.75, 0.75)),
    "slices of 5 mm": Geometry(spacing_mm=(5.0, 0.75, 0.75)),
    "slices of 10 mm": Geometry(spacing_mm=(10.0, 0.75, 0.75)),
    "pixels that are not square": Geometry(spacing_mm=(2.5, 0.5, 1.25)),
    "oblique, pixels that are not square": Geometry(
        directions=_OBLIQUE, spacing_mm=(5.0, 1.25, 0.5)
    ),
    "Enhanced CT": Geometry(enhanced=True),
    "Enhanced CT, oblique": Geometry(directions=_OBLIQUE, enhanced=True),
    "Enhanced CT, frames the other way round": Geometry(enhanced=True, backwards=True),
    "one study, first frame of reference": Geometry(study="shared"),
    "one study, second frame of reference": Geometry(
        directions=np.stack([_POSTERIOR, -_HEAD, _LEFT], axis=1), study="shared"
    ),
}
"""That are segmented."""

REFUSED = {"tilted gantry": (Geometry(shear_mm=0.5), "gantry-tilt")}
"""With the code in the report that says so."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Sent:
    """A series as it was sent."""

    series_uid: str
    files: list[Path]
    truth: Hashes


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What came back of all geometries."""

    truth: dict[str, Hashes]
    decoded: dict[str, dict[str, Hashes]]
    """By decoder, by geometry."""
    frames_of_reference: dict[str, tuple[str, str]]
    """Of source and segmentation, by geometry."""
    refusals: dict[str, str]
    """The code that the report on it gives, by geometry."""


def make_labels() -> NDArray[np.uint8]:
    """Draw a liver with lesions of different size that no turn or reflection maps to itself."""
    # No frame of the segmentation begins at a whole byte; their 956 bytes need no padding, which
    # the adapters of Cornerstone3D 5.14 refuse.
    labels = np.zeros((13, 21, 26), np.uint8)
    labels[2:10, 4:17, 3:20] = Label.LIVER
    labels[2:5, 12:17, 13:20] = Label.BACKGROUND
    labels[8:10, 4:8, 3:11] = Label.BACKGROUND
    labels[3:6, 6:9, 5:10] = Label.TUMOR
    labels[5, 9:12, 5:7] = Label.TUMOR
    labels[7:9, 12:16, 14:17] = Label.TUMOR
    labels[6, 10, 14:18] = Label.TUMOR
    return labels


def write_series(name: str, geometry: Geometry, folder: Path) -> Sent:
    """Write the phantom in a geometry, and say where its segments are."""
    labels, affine = make_labels(), geometry.affine
    hu = np.array([-50, 100, 50], np.int16)[labels]
    hu += (np.arange(hu.size).reshape(hu.shape) % 7).astype(np.int16)
    truth = {
        number: hash_points(np.argwhere(part) @ affine[:3, :3].T + affine[:3, 3])
        for number, part in enumerate(_parts(labels), start=1)
    }
    if geometry.backwards:
        hu, affine = hu[::-1], affine @ _turned(len(hu))
    volume = Volume(hu, affine, coordinate_system="PATIENT")
    identity = _identity(name, geometry)
    folder.mkdir()
    if geometry.enhanced:
        files = [folder / "enhanced.dcm"]
        write_enhanced_ct(volume, files[0], identity)
    else:
        files = write_ct_series(volume, folder, identity=identity)
    for index, path in enumerate(files):
        dataset = dcmread(path)
        dataset.PatientPosition = geometry.position
        if geometry.shear_mm:
            shift_mm = index * geometry.shear_mm * geometry.directions[:, 1]
            dataset.ImagePositionPatient = decimals(position(volume, index) + shift_mm)
        dataset.save_as(path)
    return Sent(series_uid=identity.series_instance_uid, files=files, truth=truth)


def _parts(labels: NDArray[np.uint8]) -> Iterator[NDArray[np.bool_]]:
    """Give the liver without lesions, then the lesions, the largest first, as segments are."""
    yield labels == Label.LIVER
    for box in np.s_[3:6, 6:12, 5:10], np.s_[7:9, 12:16, 14:17], np.s_[6:7, 10:11, 14:18]:
        part = np.zeros(labels.shape, bool)
        part[box] = labels[box] == Label.TUMOR
        yield part


def _turned(count: int) -> NDArray[np.float64]:
    """Map the index of a slice to that from the other end."""
    turn = np.eye(4)
    turn[0, 0], turn[0, 3] = -1, count - 1
    return turn


def _identity(name: str, geometry: Geometry) -> CtIdentity:
    study = geometry.study or name
    return replace(
        CtIdentity(),
        patient_id=f"ALIGNMENT-{derive_uid(study)[-12:]}",
        study_instance_uid=derive_uid("alignment study", study),
        series_instance_uid=derive_uid("alignment series", name),
        frame_of_reference_uid=derive_uid("alignment frame of reference", name),
    )


class HuSegmenter:
    """Knows the labels of the phantom by its Hounsfield units."""

    identity = identify(InferenceSettings())

    def segment(self, volume: Volume, progress: Callable[[str, float], None]) -> Segmentation:
        """Label what is bright as liver, and what is less bright as tumor."""
        progress("segment", 0.5)
        labels = np.digitize(volume.array, (25, 75)).astype(np.uint8)
        labels = np.array([Label.BACKGROUND, Label.TUMOR, Label.LIVER], np.uint8)[labels]
        run = RunRecord(device="cpu", backend="thresholds", precision="exact", timings_s={})
        return Segmentation(labels=volume.with_array(labels), model=self.identity, run=run)


@contextmanager
def running_node(folder: Path, destination_toml: str) -> Iterator[NodeProcess]:
    """Run receiver and scheduler as processes, and a worker with `HuSegmenter` in this one."""
    port = find_free_port()
    toml = NODE_TOML.format(port=port, web_port=find_free_port()) + destination_toml
    roles = (Role.RECEIVER, Role.SCHEDULER)
    node = NodeProcess(folder=folder, port=port, toml=toml, roles=roles)
    node.start()
    stop = threading.Event()
    with open_services(node.settings) as services:
        worker = threading.Thread(target=Worker(services, HuSegmenter(), stop).run)
        worker.start()
        try:
            yield node
        finally:
            stop.set()
            worker.join()
            node.close()


def send(folder: Path, files: Sequence[Path], port: int, *, backwards: bool) -> None:
    """Send files with dcmtk's storescu."""
    ordered = [str(path) for path in sorted(files, reverse=backwards)]
    command = ["storescu", "-aet", SENDER, "-aec", "HEPAR", "127.0.0.1", str(port), *ordered]
    subprocess.run(command, check=True, capture_output=True, cwd=folder)


def read_archive(orthanc: Orthanc) -> Iterator[Dataset]:
    """Give all that the archive has."""
    for identifier in json.loads(orthanc.get("/instances")):
        yield dcmread(BytesIO(orthanc.get(f"/instances/{identifier}/file")))


def run(folder: Path, orthanc: Orthanc) -> Outcome:
    """Send all geometries through a node, and decode what comes to the archive."""
    everything = GEOMETRIES | {name: geometry for name, (geometry, _) in REFUSED.items()}
    (folder / "node").mkdir()
    with running_node(folder / "node", orthanc.toml) as node:
        sent = {
            name: write_series(name, geometry, folder / f"ct{number}")
            for number, (name, geometry) in enumerate(everything.items())
        }
        for name, geometry in everything.items():
            send(folder, sent[name].files, node.port, backwards=geometry.backwards)
        count = 3 * len(GEOMETRIES) + 2 * len(REFUSED)
        wait_until(
            lambda: len(json.loads(orthanc.get("/instances"))) == count,
            f"{count} results in the archive\n{node.log[-3000:]}",
            timeout_s=240,
        )
    return _compare(folder, sent, list(read_archive(orthanc)))


def _compare(folder: Path, sent: dict[str, Sent], archived: Sequence[Dataset]) -> Outcome:
    """Decode what came to the archive."""
    cases, frames_of_reference, refusals = {}, {}, {}
    names = {one.series_uid: name for name, one in sent.items()}
    for number, dataset in enumerate(one for one in archived if one.Modality in ("SEG", "SR")):
        name = names[_source_series(dataset)]
        if dataset.Modality == "SEG":
            path = folder / f"seg{number}.dcm"
            dataset.save_as(path)
            cases[name] = Segmented(images=sent[name].files, seg=path)
            source = dcmread(sent[name].files[0], stop_before_pixels=True)
            frames_of_reference[name] = (source.FrameOfReferenceUID, dataset.FrameOfReferenceUID)
        elif name in REFUSED:
            [judgement, *_] = dataset.ContentSequence[-1].ContentSequence
            refusals[name] = judgement.ConceptCodeSequence[0].CodeValue
    decoded = {}
    for decoder, decode in DECODERS.items():
        own = folder / decoder.split()[0]
        own.mkdir()
        decoded[decoder] = decode(cases, own)
    return Outcome(
        truth={name: sent[name].truth for name in GEOMETRIES},
        decoded=decoded,
        frames_of_reference=frames_of_reference,
        refusals=refusals,
    )


def _source_series(dataset: Dataset) -> str:
    """Give the CT series that a SEG or SR is about."""
    if dataset.Modality == "SEG":
        return str(dataset.ReferencedSeriesSequence[0].SeriesInstanceUID)
    [study] = dataset.CurrentRequestedProcedureEvidenceSequence
    return str(study.ReferencedSeriesSequence[0].SeriesInstanceUID)


def make_table(outcome: Outcome) -> str:
    """Say for each geometry which decoder gives all voxels of all segments."""
    lines = ["| geometry | " + " | ".join(DECODERS) + " |", "|---|" + "---|" * len(DECODERS)]
    for name, truth in outcome.truth.items():
        words = [
            "equal" if outcome.decoded[decoder].get(name) == truth else "**differs**"
            for decoder in DECODERS
        ]
        lines.append(f"| {name} | " + " | ".join(words) + " |")
    for name in REFUSED:
        said = f"refused, `{outcome.refusals.get(name)}`"
        lines.append(f"| {name} | " + " | ".join([said] * len(DECODERS)) + " |")
    return "\n".join(lines)


def main() -> None:
    """Run, print the table and put it into the page."""
    program = shutil.which("Orthanc")
    if program is None:
        raise SystemExit("Orthanc is not installed (docker/install-test-peers installs it)")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        ports = {"port": find_free_port(), "http_port": find_free_port()}
        orthanc = Orthanc(program=program, folder=folder / "orthanc", **ports)
        orthanc.start()
        try:
            outcome = run(folder, orthanc)
        finally:
            orthanc.stop()
    table = make_table(outcome)
    print(table)
    put_table(PAGE, COMMAND, table)
    if "differs" in table or any(
        outcome.refusals.get(name) != code for name, (_, code) in REFUSED.items()
    ):
        raise SystemExit(1)


if __name__ == "__main__":
    main()

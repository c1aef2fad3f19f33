"""Show our objects in OHIF: ``python -m benchmarks.viewing OUT_FOLDER``.

A synthetic CT, its known labels as the segmentation, and what we write of them go into Orthanc.
OHIF in headless Chromium shows segmentation, report and overlay, and why the series of a second
study was rejected. Pictures go into the folder, and what OHIF has measured
itself is printed. The same is checked in ``tests/acceptance/test_ohif.py``.
"""

import argparse
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from pydicom import Dataset, dcmread

from benchmarks.peers import DICOMWEB_PLUGIN, Orthanc, find_free_port
from benchmarks.viewers.ohif import Ohif, ShownFinding, ShownImage, ShownSegment, open_ohif
from config.results import ProfileSettings, ResultRole, ResultSettings
from dicom_io.ct import CtIdentity, write_ct_series
from dicom_io.errors import RejectionReason
from dicom_io.refusal import Refusal, RefusedSeries, write_refusal
from dicom_io.results import ResultContext, ResultFile, write_results
from dicom_io.series import SourceSeries, read_series
from inference.findings import Findings, RunRecord, Segmentation
from inference.manifest import ModelIdentity
from inference.measure import measure
from inference.phantom import PhantomSettings, make_phantom

PHANTOM = PhantomSettings(seed=5, shape=(50, 160, 160), spacing_mm=(5.0, 2.2, 2.2))
_MODEL = ModelIdentity(name="known labels", version="1", digest="0" * 64, license="for tests")
OVERLAY_MODALITY = "OT"
_ROLES = (ResultRole.SEG, ResultRole.SR, ResultRole.OVERLAY)
_CONTEXT = ResultContext(
    settings=ResultSettings(),
    created_at=datetime(2026, 1, 5, 9, tzinfo=UTC),
    software_version="0.1.0",
    profiles={"viewer": ProfileSettings(objects=_ROLES)},
)


@dataclass(frozen=True, kw_only=True)
class Study:
    """A synthetic study with our results."""

    source: SourceSeries
    findings: Findings
    images: list[Path]
    results: list[ResultFile]

    @property
    def files(self) -> list[Path]:
        """All instances."""
        return [*self.images, *(one.path for one in self.results)]

    def result(self, role: ResultRole) -> Dataset:
        """Read the first instance of a role."""
        return dcmread(next(one.path for one in self.results if one.role is role))


def make_study(folder: Path) -> Study:
    """Write a phantom, and the objects that come of its known labels."""
    phantom = make_phantom(PHANTOM)
    images = write_ct_series(phantom.volume, folder / "ct")
    source = read_series(images)
    labels = phantom.labels.match_geometry(source.volume)
    run = RunRecord(device="cpu", backend="none", precision="none", timings_s={})
    findings = measure(source.volume, labels)
    (folder / "results").mkdir()
    segmentation = Segmentation(labels=labels, model=_MODEL, run=run)
    written = write_results(source, segmentation, findings, folder / "results", _CONTEXT)
    return Study(
        source=source,
        findings=findings,
        images=images,
        results=written.files,
    )


def make_rejected(folder: Path) -> tuple[str, list[Path]]:
    """Write a phantom, and a report and a page that say why it was not segmented.

    Returns
    -------
    str, list[Path]
        Study Instance UID, and all instances.
    """
    phantom = make_phantom(
        PhantomSettings(shape=(12, 48, 48), spacing_mm=(20.0, 7.0, 7.0), lesions=())
    )
    identity = CtIdentity.from_seed(1)
    images = write_ct_series(phantom.volume, folder / "ct", identity=identity)
    refusal = Refusal(RejectionReason.MISSING_SLICE, "2 missing")
    (folder / "results").mkdir()
    refused = RefusedSeries.read(images, refusal, _CONTEXT, _MODEL)
    written = write_refusal(refused, folder / "results", b"")
    return identity.study_instance_uid, [*images, *(one.path for one in written)]


@contextmanager
def archive_of(folder: Path, files: Sequence[Path]) -> Iterator[Orthanc]:
    """Run an archive that has these instances.

    Raises
    ------
    FileNotFoundError
        If Orthanc is not installed.
    """
    program = shutil.which("Orthanc")
    if program is None:
        raise FileNotFoundError("Orthanc is not installed (docker/install-test-peers installs it)")
    ports = {"port": find_free_port(), "http_port": find_free_port()}
    orthanc = Orthanc(program=program, folder=folder, plugins=(DICOMWEB_PLUGIN,), **ports)
    orthanc.start()
    try:
        for path in files:
            orthanc.store(path)
        yield orthanc
    finally:
        orthanc.stop()


def show_segmentation(ohif: Ohif, study: Study, folder: Path) -> list[ShownSegment]:
    """Show the segmentation, and take a picture of the largest lesion with OHIF's numbers."""
    ohif.open_study(study.source.study_instance_uid)
    segments = ohif.show_segmentation()
    ohif.jump_to("Liver lesion 1")
    ohif.picture(folder / "ohif-seg.png")
    return segments


def show_report(ohif: Ohif, study: Study, folder: Path) -> list[ShownFinding]:
    """Show the report, and take a picture of a line with its numbers."""
    ohif.open_study(study.source.study_instance_uid)
    findings = ohif.show_report()
    ohif.read_drawn_texts()
    ohif.picture(folder / "ohif-sr.png")
    return findings


def show_overlay(ohif: Ohif, study: Study, folder: Path) -> ShownImage:
    """Show the overlay series, and take a picture."""
    ohif.open_study(study.source.study_instance_uid)
    image = ohif.show_images(OVERLAY_MODALITY)
    ohif.picture(folder / "ohif-overlay.png")
    return image


def show_rejected(ohif: Ohif, study_uid: str, folder: Path) -> ShownImage:
    """Show why a series was rejected, and take a picture.

    OHIF cannot show the report, which has nothing to draw; the page must be seen all the same.
    """
    ohif.open_study(study_uid)
    ohif.show("SR")
    ohif.wait_for_report()
    image = ohif.show_images(OVERLAY_MODALITY)
    ohif.picture(folder / "ohif-rejected.png")
    return image


def main() -> None:
    """Show all, take pictures, and print what OHIF says."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path, help="where the pictures go")
    pictures = parser.parse_args().folder
    pictures.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        study = make_study(folder / "study")
        rejected_uid, rejected = make_rejected(folder / "rejected")
        with (
            archive_of(folder / "orthanc", [*study.files, *rejected]) as archive,
            open_ohif(archive.root) as ohif,
        ):
            for segment in show_segmentation(ohif, study, pictures):
                print(f"{segment.number} {segment.label}: {segment.displayed}")
            for finding in show_report(ohif, study, pictures):
                print("; ".join(f"{title}: {value}" for title, value in finding.labels))
            show_overlay(ohif, study, pictures)
            show_rejected(ohif, rejected_uid, pictures)


if __name__ == "__main__":
    main()

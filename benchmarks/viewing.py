"""Show our objects in viewers: ``python -m benchmarks.viewing OUT_FOLDER``.

A synthetic CT, its known labels as the segmentation, and what we write of them go into Orthanc.
OHIF in headless Chromium shows segmentation, report and overlay, and why the series of a second
study was rejected; what OHIF has measured itself is printed, and the same is checked in
``tests/acceptance/test_ohif.py``. Then each ready-made profile is shown by a program that it is
for, on a finer CT. All pictures go into the folder.
"""

import argparse
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
from pydicom import Dataset, dcmread

from benchmarks.peers import DICOMWEB_PLUGIN, Orthanc, find_free_port
from benchmarks.viewers.ohif import Ohif, ShownFinding, ShownImage, ShownSegment, open_ohif
from benchmarks.viewers.stills import draw_decoded, draw_label_image
from benchmarks.viewers.web_viewer import WEB_VIEWER_PLUGIN, picture_image
from config.results import ProfileSettings, ResultRole, ResultSettings, ready_made_profiles
from dicom_io.ct import DEFAULT_IDENTITY, CtIdentity, write_ct_series
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
_LARGEST = "Liver lesion 1"
_PDF = b"%PDF-1.4\n%%EOF\n"
"""Nothing is shown of it."""
FINE = replace(PHANTOM, shape=(60, 320, 320), spacing_mm=(5.0, 1.1, 1.1))
"""For pictures."""
_ROLES = (ResultRole.SEG, ResultRole.SR, ResultRole.OVERLAY)
_VIEWER = {"viewer": ProfileSettings(objects=_ROLES)}
_CONTEXT = ResultContext(
    settings=ResultSettings(),
    created_at=datetime(2026, 1, 5, 9, tzinfo=UTC),
    software_version="0.1.0",
    profiles=_VIEWER,
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

    def files_of(self, profile: str) -> list[Path]:
        """Give what an archive with this profile has."""
        return [*self.images, *(one.path for one in self.results if profile in one.profiles)]

    def result(self, role: ResultRole) -> Dataset:
        """Read the first instance of a role."""
        return dcmread(self.path(role))

    def path(self, role: ResultRole, profile: str = "") -> Path:
        """Give the first instance of a role, in the form of a profile if one is named."""
        return next(
            one.path
            for one in self.results
            if one.role is role and (not profile or profile in one.profiles)
        )

    def overlay_of_largest(self) -> Path:
        """Give the picture of the slice in which the largest lesion is longest."""
        index = self.findings.lesions[0].long_axis.slice_index
        place = self.source.volume.map_indices_to_reference(np.array([[index, 0, 0]]))[0]
        pages = [one.path for one in self.results if one.role is ResultRole.OVERLAY][1:]
        return next(
            path
            for path in pages
            if np.allclose(dcmread(path).ImagePositionPatient, place, atol=0.01)
        )


def make_study(
    folder: Path,
    profiles: Mapping[str, ProfileSettings] = _VIEWER,
    *,
    settings: PhantomSettings = PHANTOM,
    identity: CtIdentity = DEFAULT_IDENTITY,
) -> Study:
    """Write a phantom, and the objects that come of its known labels."""
    phantom = make_phantom(settings)
    images = write_ct_series(phantom.volume, folder / "ct", identity=identity)
    source = read_series(images)
    labels = phantom.labels.match_geometry(source.volume)
    run = RunRecord(device="cpu", backend="none", precision="none", timings_s={})
    findings = measure(source.volume, labels)
    (folder / "results").mkdir()
    segmentation = Segmentation(labels=labels, model=_MODEL, run=run)
    context = replace(_CONTEXT, profiles=profiles)
    written = write_results(source, segmentation, findings, folder / "results", context, _PDF)
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
def archive_of(
    folder: Path, files: Sequence[Path], plugin: Path = DICOMWEB_PLUGIN
) -> Iterator[Orthanc]:
    """Run an archive that has these instances.

    Raises
    ------
    FileNotFoundError
        If Orthanc or its plug-in is not installed.
    """
    program = shutil.which("Orthanc")
    if program is None:
        raise FileNotFoundError("Orthanc is not installed (docker/install-test-peers installs it)")
    if not plugin.exists():
        raise FileNotFoundError(f"{plugin} is not installed (it comes with a package of Debian)")
    ports = {"port": find_free_port(), "http_port": find_free_port()}
    orthanc = Orthanc(program=program, folder=folder, plugins=(plugin,), **ports)
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
    measured = ohif.measure(ohif.show_segments("SEG"))
    segments = [replace(one, displayed=ohif.read_table(one.label)) for one in measured]
    ohif.jump_to(_LARGEST)
    ohif.read_table(_LARGEST)
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

    OHIF cannot show the report, which has nothing to draw; the page must be seen after it too.
    """
    ohif.open_study(study_uid)
    ohif.show_images(OVERLAY_MODALITY)
    ohif.picture(folder / "ohif-rejected.png")
    ohif.show("SR")
    ohif.wait_for_report()
    return ohif.show_images(OVERLAY_MODALITY)


def picture_profiles(pictures: Path, folder: Path) -> None:
    """Take a picture of each ready-made profile in a program that it is for."""
    study = make_study(folder / "fine", ready_made_profiles(), settings=FINE)
    _picture_ohif(study, folder, pictures / "profile-ohif.png")
    _picture_rt(study, folder, pictures / "profile-rt.png")
    largest = study.overlay_of_largest()
    with archive_of(folder / "plain", study.files_of("orthanc"), WEB_VIEWER_PLUGIN) as archive:
        uid = dcmread(largest).SOPInstanceUID
        picture_image(archive, uid, pictures / "profile-orthanc.png")
    seg = study.path(ResultRole.SEG, "slicer")
    draw_label_image(study.images, seg, pictures / "profile-slicer.png")
    summary = study.path(ResultRole.OVERLAY)
    draw_decoded([largest, summary], pictures / "profile-sc-only.png")


def _picture_ohif(study: Study, folder: Path, path: Path) -> None:
    """Take a picture of the segmentation above the summary."""
    with (
        archive_of(folder / "ohif", study.files_of("ohif")) as archive,
        open_ohif(archive.root) as ohif,
    ):
        ohif.open_study(study.source.study_instance_uid)
        ohif.split()
        ohif.choose(1)
        ohif.show_images(OVERLAY_MODALITY)
        ohif.choose(0)
        ohif.show_segments("SEG")
        ohif.jump_to(_LARGEST)
        ohif.picture(path)


def _picture_rt(study: Study, folder: Path, path: Path) -> None:
    """Take a picture of the structures."""
    with (
        archive_of(folder / "rt", study.files_of("rt")) as archive,
        open_ohif(archive.root) as ohif,
    ):
        ohif.open_study(study.source.study_instance_uid)
        ohif.show_segments("RTSTRUCT")
        ohif.jump_to(_LARGEST)
        ohif.picture(path)


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
        picture_profiles(pictures, folder)


if __name__ == "__main__":
    main()

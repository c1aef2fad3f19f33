"""Small CT series made with pydicom, attribute by attribute."""

import shutil
import sysconfig
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
from pydicom import config, dcmread, uid
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.valuerep import DS

from config.results import ProfileSettings, ResultSettings
from dicom_io.ct import write_ct_series, write_enhanced_ct
from dicom_io.provenance import ResultBasis
from dicom_io.results import ResultContext, WrittenResults, write_results
from dicom_io.series import SourceSeries, read_series
from dicom_io.source_images import build_source_images
from inference.findings import Findings, RunRecord, Segmentation
from inference.labels import Label
from inference.manifest import ModelIdentity
from inference.measure import measure
from inference.volume import Volume

PREFIX = "2.25.1994"


class CtMaker:
    """Makes data sets and files of CT images that nothing is wrong with."""

    study_uid = f"{PREFIX}.1"
    series_uid = f"{PREFIX}.1.1"
    frame_uid = f"{PREFIX}.1.9"

    def affine(self, spacing=(2.5, 0.7, 0.8), origin=(-100.0, -120.0, -300.0), directions=None):
        """Index (slice, row, column) to LPS; axial by default."""
        if directions is None:
            directions = np.array([[0, 0, 1], [0, 1, 0], [1, 0, 0]], float)
        matrix = np.eye(4)
        matrix[:3, :3] = directions * np.asarray(spacing)
        matrix[:3, 3] = origin
        return matrix

    def slices(
        self,
        hu=None,
        affine=None,
        *,
        slopes: Sequence[float] | None = None,
        intercept: float = -1024,
    ) -> list[Dataset]:
        """One data set a slice, in the order of the array (slices, rows, columns) in HU."""
        hu = self.pattern() if hu is None else hu
        affine = self.affine() if affine is None else affine
        slopes = slopes or [1.0] * len(hu)
        datasets = []
        for index, (plane, slope) in enumerate(zip(hu, slopes, strict=True)):
            dataset = self._image(uid.CTImageStorage, f"{self.series_uid}.{index + 1}", plane.shape)
            stored = np.rint((plane - intercept) / slope).astype(np.uint16)
            dataset.PixelData = stored.astype("<u2").tobytes()
            dataset.ImagePositionPatient = _ds((affine @ [index, 0, 0, 1])[:3])
            dataset.ImageOrientationPatient = _ds([*_unit(affine[:3, 2]), *_unit(affine[:3, 1])])
            dataset.PixelSpacing = _ds(np.linalg.norm(affine[:3, 1:3], axis=0))
            dataset.InstanceNumber = len(hu) - index
            dataset.RescaleSlope = _ds([slope])[0]
            dataset.RescaleIntercept = _ds([intercept])[0]
            dataset.RescaleType = "HU"
            datasets.append(dataset)
        return datasets

    def enhanced(self, hu=None, affine=None, *, order: Iterable[int] | None = None) -> Dataset:
        """One Enhanced CT whose frames are in `order`; the intercept differs per frame."""
        hu = self.pattern() if hu is None else hu
        affine = self.affine() if affine is None else affine
        order = list(range(len(hu)) if order is None else order)
        dataset = self._image(uid.EnhancedCTImageStorage, f"{self.series_uid}.7", hu.shape[1:])
        dataset.NumberOfFrames = len(hu)
        orientation, measures = Dataset(), Dataset()
        orientation.ImageOrientationPatient = _ds([*_unit(affine[:3, 2]), *_unit(affine[:3, 1])])
        measures.PixelSpacing = _ds(np.linalg.norm(affine[:3, 1:3], axis=0))
        shared = Dataset()
        shared.PlaneOrientationSequence = [orientation]
        shared.PixelMeasuresSequence = [measures]
        dataset.SharedFunctionalGroupsSequence = [shared]
        dataset.PerFrameFunctionalGroupsSequence = []
        planes = []
        for index in order:
            position, values, content, item = Dataset(), Dataset(), Dataset(), Dataset()
            position.ImagePositionPatient = _ds((affine @ [index, 0, 0, 1])[:3])
            values.RescaleSlope, values.RescaleIntercept = 1, -2000 + index
            values.RescaleType = "HU"
            content.StackID = "1"
            item.PlanePositionSequence = [position]
            item.PixelValueTransformationSequence = [values]
            item.FrameContentSequence = [content]
            dataset.PerFrameFunctionalGroupsSequence.append(item)
            planes.append((hu[index] + 2000 - index).astype("<u2"))
        dataset.PixelData = np.array(planes).tobytes()
        return dataset

    def pattern(self, shape=(12, 6, 8)):
        """HU that differ from voxel to voxel, from air to bone."""
        return (np.arange(np.prod(shape)).reshape(shape) * 37) % 3000 - 1000

    def write(self, datasets: Sequence[Dataset], folder: Path) -> list[Path]:
        """Write files whose names sort unlike the slices."""
        folder.mkdir(parents=True, exist_ok=True)
        paths = []
        for index, dataset in enumerate(datasets):
            path = folder / f"{(index * 7919) % 1000:03d}-{index}.dcm"
            dataset.save_as(path, enforce_file_format=True)
            paths.append(path)
        return paths

    def _image(self, sop_class: str, sop_instance: str, shape: tuple[int, int]) -> Dataset:
        dataset = Dataset()
        dataset.file_meta = FileMetaDataset()
        dataset.file_meta.TransferSyntaxUID = uid.ExplicitVRLittleEndian
        dataset.file_meta.MediaStorageSOPClassUID = dataset.SOPClassUID = uid.UID(sop_class)
        dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID = sop_instance
        dataset.StudyInstanceUID = self.study_uid
        dataset.SeriesInstanceUID = self.series_uid
        dataset.FrameOfReferenceUID = self.frame_uid
        dataset.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
        dataset.Modality = "CT"
        dataset.PatientID = "P-1"
        dataset.SeriesDescription = "Abdomen 2.5 mm"
        dataset.Rows, dataset.Columns = shape
        dataset.SamplesPerPixel = 1
        dataset.PhotometricInterpretation = "MONOCHROME2"
        dataset.BitsAllocated = dataset.BitsStored = 16
        dataset.HighBit = 15
        dataset.PixelRepresentation = 0
        return dataset


def _unit(vector):
    return vector / np.linalg.norm(vector)


def _ds(values: Iterable[float]) -> list[DS]:
    """At most 16 characters each, as the VR demands."""
    return [DS(float(value), auto_format=True) for value in values]


@pytest.fixture(scope="session")
def ct() -> CtMaker:
    """Maker of small CT series."""
    return CtMaker()


@pytest.fixture(scope="session")
def ct_files(ct, tmp_path_factory) -> Callable[[Sequence[Dataset]], list[Path]]:
    """Write data sets into a new folder."""
    return lambda datasets: ct.write(datasets, tmp_path_factory.mktemp("ct"))


@dataclass(frozen=True, kw_only=True)
class ResultCase:
    """A source series with a segmentation of it, ready for `write_results`."""

    source: SourceSeries
    segmentation: Segmentation
    findings: Findings
    context: ResultContext

    def write(self, folder: Path) -> tuple[Path, Path]:
        """Write SEG and SR."""
        seg, sr = self.write_all(folder).files
        return seg.path, sr.path

    def write_all(self, folder: Path) -> WrittenResults:
        """Write what the profiles want."""
        folder.mkdir(parents=True, exist_ok=True)
        return write_results(self.source, self.segmentation, self.findings, folder, self.context)

    def with_profiles(self, **profiles: ProfileSettings) -> "ResultCase":
        """Change what is wanted."""
        return replace(self, context=replace(self.context, profiles=profiles))

    @property
    def basis(self) -> ResultBasis:
        """What builders of result objects take."""
        return ResultBasis(
            source=self.source,
            images=build_source_images(self.source),
            settings=self.context.settings,
            provenance=self.context.provenance(self.segmentation.model),
            history=self.context.history,
        )

    def with_labels(self, labels: np.ndarray) -> "ResultCase":
        """Change the labels, and measure them."""
        volume = self.source.volume.with_array(labels)
        return replace(
            self,
            segmentation=replace(self.segmentation, labels=volume),
            findings=measure(self.source.volume, volume),
        )

    def with_settings(self, **settings: object) -> "ResultCase":
        """Change result settings."""
        changed = self.context.settings.model_copy(update=settings)
        return replace(self, context=replace(self.context, settings=changed))


class ResultCaseMaker:
    """Makes cases with box-shaped lesions of known place and size."""

    shape = (12, 30, 37)
    """No multiple of 8 in a frame: masks do not begin at whole bytes."""
    lesions = (
        np.s_[4:8, 8:14, 9:17],
        np.s_[9:11, 18:22, 20:23],
        np.s_[6:7, 20:22, 10:12],
    )
    """Voxels of the lesions, the largest first."""
    spacing_mm = (3.0, 1.5, 1.25)
    model = ModelIdentity(
        name="test-model", version="1.2.0", digest="ab" * 32, license="For tests only."
    )

    def __init__(self, tmp_path_factory: pytest.TempPathFactory) -> None:
        self._tmp_path_factory = tmp_path_factory

    def volume(self, directions: np.ndarray | None = None) -> Volume:
        """HU that differ everywhere; `directions` has the slice, row and column axes in columns."""
        affine = CtMaker().affine(self.spacing_mm, directions=directions)
        hu = np.arange(np.prod(self.shape)).reshape(self.shape) * 37 % 400 - 100
        return Volume(array=hu.astype(np.int16), affine=affine, coordinate_system="PATIENT")

    def labels(self, lesions: Sequence[tuple[slice, ...]] | None = None) -> np.ndarray:
        """Liver and lesions, neither symmetrical nor in every slice."""
        labels = np.zeros(self.shape, np.uint8)
        labels[1:11, 5:26, 4:28] = Label.LIVER
        labels[2:6, 5:9, 20:28] = Label.BACKGROUND
        for lesion in self.lesions if lesions is None else lesions:
            labels[lesion] = Label.TUMOR
        return labels

    def source(
        self,
        volume: Volume | None = None,
        *,
        edit: Callable[[Dataset], None] | None = None,
        enhanced: bool = False,
    ) -> SourceSeries:
        """Write CT files, edit each of them, read them as a series."""
        folder = self._tmp_path_factory.mktemp("source")
        volume = self.volume() if volume is None else volume
        if enhanced:
            write_enhanced_ct(volume, folder / "ct.dcm")
            paths = [folder / "ct.dcm"]
        else:
            paths = write_ct_series(volume, folder)
        for path in paths if edit else []:
            with config.disable_value_validation():
                dataset = dcmread(path)
                edit(dataset)
                dataset.save_as(path)
        return read_series(paths)

    def case(
        self,
        source: SourceSeries | None = None,
        lesions: Sequence[tuple[slice, ...]] | None = None,
    ) -> ResultCase:
        """Label and measure a source."""
        source = self.source() if source is None else source
        labels = source.volume.with_array(self.labels(lesions))
        run = RunRecord(device="cpu", backend="none", precision="fp32", timings_s={"segment": 1.5})
        return ResultCase(
            source=source,
            segmentation=Segmentation(labels=labels, model=self.model, run=run),
            findings=measure(source.volume, labels),
            context=ResultContext(
                settings=ResultSettings(),
                created_at=datetime(2026, 11, 20, 12, 30, 15, tzinfo=UTC),
                software_version="0.1.0",
                profiles={"ohif": ProfileSettings(objects=("seg", "sr"))},
            ),
        )


@pytest.fixture(scope="session")
def results(tmp_path_factory) -> ResultCaseMaker:
    """Maker of cases for the result objects."""
    return ResultCaseMaker(tmp_path_factory)


@pytest.fixture(scope="session")
def case(results) -> ResultCase:
    """Three lesions in an axial series."""
    return results.case()


@pytest.fixture(scope="session")
def written(case, tmp_path_factory) -> tuple[Path, Path]:
    """SEG and SR of `case`; to be read, not to be changed."""
    return case.write(tmp_path_factory.mktemp("written"))


@pytest.fixture(scope="session")
def venv_program() -> Callable[[str], str]:
    """Give the path of a program that lies beside Python, as those of dcmqi do."""

    def find(name: str) -> str:
        path = shutil.which(name, path=sysconfig.get_path("scripts"))
        if path is None:
            pytest.skip(f"{name} is not installed (it is in the test extra)")
        return path

    return find

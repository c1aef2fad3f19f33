"""The series that are sent: phantoms, real ones, unsuitable ones, and what is to become of each."""

import copy
import random
import tempfile
import zipfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from pydicom import Dataset, dcmread
from pydicom.uid import (
    UID,
    CTImageStorage,
    ExplicitVRLittleEndian,
    JPEGLSLossless,
    MRImageStorage,
    PositronEmissionTomographyImageStorage,
)

from benchmarks.instances import renew_uids
from config import RuleAction
from config.inference import InferenceSettings
from dicom_io.ct import write_ct_series
from dicom_io.errors import RejectionReason
from dicom_io.nifti import read_nifti
from inference.phantom import LesionKind, LesionSettings, PhantomSettings, make_phantom
from inference.volume import Volume
from storage.states import JobState

EXTRA_SOP_CLASSES = (MRImageStorage, PositronEmissionTomographyImageStorage)
"""What a node may be told to accept, and no rule wants."""
REAL_SHARE, UNSUITABLE_SHARE = 0.075, 0.15
ANNOUNCED_SHARE = 0.5
"""Share of the series that say how many instances they have."""
MOST_SLICES = 45
"""A real series has every second, third ... slice only, where it has more."""
_PADDING = 0xFFFCFFFC

Slices = Sequence[Dataset]


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What is to become of a series."""

    state: JobState | RuleAction
    """Of its newest job; that of the rule where it is skipped."""
    code: str = ""
    """Of the rejection, or the name of the rule."""

    def __str__(self) -> str:
        return " ".join(part for part in (self.state.value, self.code) if part)


CONFIRMED = Outcome(state=JobState.CONFIRMED)


@dataclass(frozen=True, kw_only=True)
class Template:
    """Slices that any number of series are made of, by their position."""

    kind: str
    """For the table: phantom, real, unsuitable."""
    name: str
    slices: Slices
    outcome: Outcome = CONFIRMED


@dataclass(frozen=True, kw_only=True)
class Case:
    """One series to be sent."""

    template: Template
    series_uid: str
    paths: Sequence[Path]
    """In the order of the slices of the template."""

    def read(self) -> list[Dataset]:
        """Give its instances as they are to be sent."""
        return [dcmread(path) for path in self.paths]


def make_cases(folder: Path, count: int, rng: random.Random, data: Path | None) -> list[Case]:
    """Write the files of so many series, in an order drawn by chance.

    Parameters
    ----------
    folder
        An existing folder, which gets a folder for each series.
    data
        A folder with real series as HEPAR_TEST_DATA has it; none means that no real one is sent.
    """
    real = [] if data is None else list(_real(data))
    phantoms = list(_phantoms())
    unsuitable = list(_unsuitable(phantoms[0].slices))
    drawn = [
        *_deal(real, round(count * REAL_SHARE) if real else 0, rng),
        *_deal(unsuitable, round(count * UNSUITABLE_SHARE), rng),
    ]
    drawn += _deal(phantoms, count - len(drawn), rng)
    rng.shuffle(drawn)
    return [
        _write(template, folder / f"{number:03d}", announced=rng.random() < ANNOUNCED_SHARE)
        for number, template in enumerate(drawn, start=1)
    ]


def _deal(templates: Sequence[Template], count: int, rng: random.Random) -> list[Template]:
    """Draw templates, each once before any comes again."""
    dealt: list[Template] = []
    while len(dealt) < count:
        dealt += rng.sample(templates, min(len(templates), count - len(dealt)))
    return dealt


def _write(template: Template, folder: Path, *, announced: bool) -> Case:
    folder.mkdir()
    slices = renew_uids(copy.deepcopy(template.slices))
    paths = []
    for number, instance in enumerate(slices):
        if not (announced and template.outcome is CONFIRMED):
            for keyword in ("NumberOfSeriesRelatedInstances", "ImagesInAcquisition"):
                if keyword in instance:
                    del instance[keyword]
        paths.append(folder / f"{number:03d}.dcm")
        instance.save_as(paths[-1], enforce_file_format=True)
    return Case(template=template, series_uid=str(slices[0].SeriesInstanceUID), paths=paths)


def _phantoms() -> Iterator[Template]:
    """Give phantoms of several patients, grids and directions."""
    for name, settings in {
        "8 mm": PhantomSettings(seed=11, shape=(24, 96, 96), spacing_mm=(8.0, 4.0, 4.0)),
        "7 mm": PhantomSettings(seed=12, shape=(30, 128, 112), spacing_mm=(7.0, 3.0, 3.2)),
        "5 mm": PhantomSettings(seed=13, shape=(40, 96, 96), spacing_mm=(5.0, 3.6, 3.6)),
        "6 mm, one lesion": PhantomSettings(
            seed=14,
            shape=(36, 160, 128),
            spacing_mm=(6.0, 2.4, 2.8),
            lesions=(LesionSettings(diameter_mm=60.0, kind=LesionKind.RIM),),
        ),
        "no lesion": PhantomSettings(
            seed=15, shape=(30, 96, 96), spacing_mm=(7.0, 4.0, 4.0), lesions=()
        ),
    }.items():
        yield _phantom(name, make_phantom(settings).volume)
    volume = make_phantom(
        PhantomSettings(seed=16, shape=(48, 64, 96), spacing_mm=(5.0, 4.5, 4.0))
    ).volume
    yield _phantom("from head to feet", volume.flip_spatial([0, 1]))
    yield _phantom("coronal", volume.permute_spatial_axes([1, 0, 2]))
    yield _phantom("JPEG-LS", volume, JPEGLSLossless)


def _phantom(name: str, volume: Volume, syntax: str = ExplicitVRLittleEndian) -> Template:
    return Template(kind="phantom", name=name, slices=_written(volume, syntax))


def _written(volume: Volume, syntax: str = ExplicitVRLittleEndian) -> Slices:
    """Give a volume as CT images."""
    with tempfile.TemporaryDirectory() as folder:
        paths = write_ct_series(volume, Path(folder), transfer_syntax_uid=syntax)
        return [dcmread(path) for path in paths]


def _real(data: Path) -> Iterator[Template]:
    """Give original CT series, and volumes of patients as CT images."""
    for path in sorted((data / "dicom").glob("*.zip")):
        yield _thinned(path.stem, list(_unpack(path)))
    for path in sorted((data / "train" / "coarse").glob("*_ct.nii.gz"))[::2]:
        levels = read_nifti(path)
        hu = np.rint(levels.array / 127 * 400 - 160).astype(np.int16)
        yield _thinned(path.name, _written(levels.with_array(hu)))


def _thinned(name: str, slices: Slices) -> Template:
    """Leave slices out of a long series, evenly."""
    few = len(slices) < InferenceSettings().min_slices
    return Template(
        kind="real",
        name=name,
        slices=slices[:: 1 + len(slices) // MOST_SLICES],
        outcome=_rejected(RejectionReason.TOO_FEW_SLICES) if few else CONFIRMED,
    )


def _unpack(path: Path) -> Iterator[Dataset]:
    """Read the images of a ZIP file, by their position."""
    with tempfile.TemporaryDirectory() as folder, zipfile.ZipFile(path) as archive:
        archive.extractall(folder)
        found = [dcmread(one) for one in Path(folder).rglob("*") if _is_dicom(one)]
    images = [_simplify(one) for one in found if one.get("Modality") == "CT"]
    yield from sorted(images, key=lambda image: float(image.ImagePositionPatient[2]))


def _is_dicom(path: Path) -> bool:
    return path.is_file() and path.read_bytes()[128:132] == b"DICM"


def _simplify(image: Dataset) -> Dataset:
    """Leave out what dcmtk's storescu encodes in its own way, so that bytes can be compared."""
    for element in list(image):
        tag = element.tag
        if element.VR == "SQ" or tag.is_private or tag.element == 0 or tag == _PADDING:
            del image[tag]
    image.SOPClassUID = CTImageStorage
    if not image.file_meta.TransferSyntaxUID.is_encapsulated:
        image.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    return image


def _unsuitable(slices: Slices) -> Iterator[Template]:
    """Give what is to be refused, or to be left aside."""
    for name, spoil, outcome in (
        ("gap", _with_gap, _rejected(RejectionReason.MISSING_SLICE)),
        ("too few slices", lambda all_: all_[:6], _rejected(RejectionReason.TOO_FEW_SLICES)),
        ("tilted gantry", _each(_tilt), _rejected(RejectionReason.GANTRY_TILT)),
        ("two phases", _twice, _rejected(RejectionReason.DUPLICATE_POSITION)),
        ("no rescale", _each(_drop_rescale), _rejected(RejectionReason.NO_RESCALE)),
        ("air", _each(_empty), _rejected(RejectionReason.LIVER_NOT_FOUND)),
        ("localizer", _localizer, _skipped("localizer")),
        ("MR", _each(_turn_into("MR", MRImageStorage)), _skipped("not a CT")),
        (
            "PET",
            _each(_turn_into("PT", PositronEmissionTomographyImageStorage)),
            _skipped("not a CT"),
        ),
    ):
        spoiled = spoil(copy.deepcopy(slices))
        yield Template(kind="unsuitable", name=name, slices=spoiled, outcome=outcome)


def _rejected(reason: RejectionReason) -> Outcome:
    return Outcome(state=JobState.REJECTED, code=reason.value)


def _skipped(rule: str) -> Outcome:
    return Outcome(state=RuleAction.SKIP, code=rule)


def _each(spoil: Callable[[Dataset], None]) -> Callable[[Slices], Slices]:
    def spoil_all(slices: Slices) -> Slices:
        for instance in slices:
            spoil(instance)
        return slices

    return spoil_all


def _with_gap(slices: Slices) -> Slices:
    return [*slices[:10], *slices[12:]]


def _twice(slices: Slices) -> Slices:
    return [*slices, *copy.deepcopy(slices)]


def _localizer(slices: Slices) -> Slices:
    slices[0].ImageType = ["ORIGINAL", "PRIMARY", "LOCALIZER"]
    return slices[:1]


def _tilt(instance: Dataset) -> None:
    x_mm, y_mm, z_mm = instance.ImagePositionPatient
    instance.ImagePositionPatient = [x_mm, float(round(y_mm + z_mm * 0.2, 3)), z_mm]


def _drop_rescale(instance: Dataset) -> None:
    del instance.RescaleSlope
    del instance.RescaleIntercept


def _empty(instance: Dataset) -> None:
    instance.PixelData = bytes(len(instance.PixelData))


def _turn_into(modality: str, sop_class_uid: UID) -> Callable[[Dataset], None]:
    def turn(instance: Dataset) -> None:
        instance.Modality = modality
        instance.SOPClassUID = sop_class_uid
        instance.file_meta.MediaStorageSOPClassUID = sop_class_uid

    return turn

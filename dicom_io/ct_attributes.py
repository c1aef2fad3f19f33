"""What the slices of a synthetic CT scan have in common, single-frame or multi-frame."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.valuerep import format_number_as_ds

from dicom_io.uids import derive_uid
from inference.volume import Volume

RESCALE_INTERCEPT = -1024


@dataclass(frozen=True, kw_only=True)
class CtIdentity:
    """Who, when and what a synthetic CT series says it is. No person is meant.

    Two series of the same study differ in `series_instance_uid` and `series_number`.
    """

    patient_id: str = "HEPAR-PHANTOM-0"
    patient_name: str = "Phantom^Hepar"
    patient_birth_date: str = "19600101"
    patient_sex: str = "O"
    is_for_quality_control: bool = False
    """The patient is a phantom in the sense of Quality Control Subject (0010,0200)."""
    accession_number: str = "HP0000"
    study_id: str = "1"
    study_date: str = "20260105"
    study_time: str = "083000"
    study_description: str = "CT abdomen"
    study_instance_uid: str = derive_uid("phantom study", "0")
    series_number: int = 2
    series_description: str = "Abdomen portal venous"
    protocol_name: str = "Abdomen"
    series_instance_uid: str = derive_uid("phantom series", "0")
    frame_of_reference_uid: str = derive_uid("phantom frame of reference", "0")
    body_part_examined: str = "ABDOMEN"
    convolution_kernel: str = "STANDARD"
    kvp: int = 120

    @classmethod
    def from_seed(cls, seed: int) -> "CtIdentity":
        """Give the identity of another synthetic patient; seed 0 gives the default."""
        return cls(
            patient_id=f"HEPAR-PHANTOM-{seed}",
            accession_number=f"HP{seed:04d}",
            study_instance_uid=derive_uid("phantom study", str(seed)),
            series_instance_uid=derive_uid("phantom series", str(seed)),
            frame_of_reference_uid=derive_uid("phantom frame of reference", str(seed)),
        )


DEFAULT_IDENTITY = CtIdentity()


@dataclass(frozen=True, kw_only=True, eq=False)
class StoredPixels:
    """Stored values, and how many of their bits count."""

    array: NDArray[np.int16]
    bits_stored: int
    signed: bool

    @classmethod
    def of(cls, volume: Volume) -> "StoredPixels":
        """Use 12 bits without sign where they suffice, as scanners do, else 16 with sign."""
        wide = np.rint(volume.array).astype(np.int32) - RESCALE_INTERCEPT
        if wide.min() < -(2**15) or wide.max() >= 2**15:
            message = "the Hounsfield units do not fit into 16 bits"
            raise ValueError(message)
        fits = bool(wide.min() >= 0 and wide.max() < 2**12)
        return cls(array=wide.astype("<i2"), bits_stored=12 if fits else 16, signed=not fits)

    def add_to(self, dataset: Dataset, array: NDArray[np.int16]) -> None:
        """Add the Image Pixel module (PS3.3 C.7.6.3)."""
        dataset.SamplesPerPixel = 1
        dataset.PhotometricInterpretation = "MONOCHROME2"
        dataset.Rows, dataset.Columns = array.shape[-2:]
        dataset.BitsAllocated = 16
        dataset.BitsStored = self.bits_stored
        dataset.HighBit = self.bits_stored - 1
        dataset.PixelRepresentation = int(self.signed)
        dataset.PixelData = array.tobytes()
        dataset["PixelData"].VR = "OW"


def common_modules(identity: CtIdentity) -> Dataset:
    """Give the modules of patient, study, series, frame of reference and equipment."""
    dataset = Dataset()
    dataset.SpecificCharacterSet = "ISO_IR 192"
    dataset.PatientName = identity.patient_name
    dataset.PatientID = identity.patient_id
    dataset.PatientBirthDate = identity.patient_birth_date
    dataset.PatientSex = identity.patient_sex
    if identity.is_for_quality_control:
        dataset.QualityControlSubject = "YES"
    dataset.StudyInstanceUID = identity.study_instance_uid
    dataset.StudyDate = dataset.SeriesDate = dataset.ContentDate = identity.study_date
    dataset.StudyTime = dataset.SeriesTime = dataset.ContentTime = identity.study_time
    dataset.AccessionNumber = identity.accession_number
    dataset.StudyID = identity.study_id
    dataset.StudyDescription = identity.study_description
    dataset.ReferringPhysicianName = ""
    dataset.Modality = "CT"
    dataset.SeriesInstanceUID = identity.series_instance_uid
    dataset.SeriesNumber = identity.series_number
    dataset.SeriesDescription = identity.series_description
    dataset.ProtocolName = identity.protocol_name
    dataset.BodyPartExamined = identity.body_part_examined
    dataset.PatientPosition = "HFS"
    dataset.FrameOfReferenceUID = identity.frame_of_reference_uid
    dataset.PositionReferenceIndicator = ""
    dataset.Manufacturer = "Hepar"
    dataset.ManufacturerModelName = "Synthetic CT"
    dataset.DeviceSerialNumber = "0"
    dataset.SoftwareVersions = "1"
    dataset.BurnedInAnnotation = "NO"
    dataset.LossyImageCompression = "00"
    return dataset


def orientation(volume: Volume) -> list[str]:
    """Give the direction along a row, then down a column (PS3.3 C.7.6.2.1.1)."""
    _, down_column, along_row = volume.unit_vectors()
    return decimals([*along_row, *down_column])


def decimals(values: Iterable[float]) -> list[str]:
    """Write numbers as decimal strings."""
    return [decimal(value) for value in values]


def decimal(value: float) -> str:
    """Write a number as a decimal string of at most 16 characters (PS3.5 6.2)."""
    return format_number_as_ds(float(round(value, 10)) + 0.0)


def position(volume: Volume, index: int) -> NDArray[np.float64]:
    """Give the patient coordinates in mm of the center of the first pixel of a slice."""
    return np.asarray(volume.affine[:3, :3] @ (index, 0, 0) + volume.affine[:3, 3])

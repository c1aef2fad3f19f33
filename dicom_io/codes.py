"""Every coded concept that we write, in one table.

SNOMED CT (SCT), the DICOM ontology (DCM) and UCUM, as pydicom's dictionary of the standard has
them. Where the standard has no term for one of our numbers, the code is ours, of the private coding
scheme `PRIVATE_SCHEME`, which every object that uses it declares (PS3.3 C.12.1.1.17).
"""

from collections.abc import Iterable, Iterator
from typing import Final

from pydicom.sr.codedict import codes
from pydicom.sr.coding import Code

from dicom_io.errors import RejectionReason
from inference.findings import DoubtCode

PRIVATE_SCHEME: Final = "99HEPAR"
"""Coding Scheme Designator of our own terms; local schemes begin with 99 (PS3.16 8.2)."""
PRIVATE_SCHEME_NAME: Final = "Hepar private codes"

# What was segmented: CID 7150 "Segmentation Property Category", CID 7151 "... Type"
ANATOMICAL_STRUCTURE: Final[Code] = codes.SCT.AnatomicalStructure
MORPHOLOGICALLY_ABNORMAL_STRUCTURE: Final[Code] = codes.SCT.MorphologicallyAbnormalStructure
LIVER: Final[Code] = codes.SCT.Liver
NEOPLASM: Final[Code] = codes.SCT.Neoplasm
LESION: Final[Code] = codes.SCT.Lesion

# Who segmented: CID 7162 "Algorithm Family"
ARTIFICIAL_INTELLIGENCE: Final[Code] = codes.DCM.ArtificialIntelligence

PROCESSING_EQUIPMENT: Final[Code] = codes.DCM.ProcessingEquipment
"""CID 7005 "Contributing Equipment Purpose of Reference"."""

SOURCE_IMAGE: Final[Code] = codes.DCM.SourceImageForImageProcessingOperation
"""CID 7202 "Source Image Purpose of Reference"."""

# The report: CID 7021 "Measurement Report Document Title", CID 100 "Imaging Procedure"
IMAGING_MEASUREMENT_REPORT: Final[Code] = codes.DCM.ImagingMeasurementReport
PROCEDURE_REPORTED: Final[Code] = codes.DCM.ProcedureReported
PROCEDURE_CT: Final[Code] = codes.cid100.CTUnspecifiedBodyRegion
DEVICE: Final[Code] = codes.DCM.Device
STATION_AE_TITLE: Final[Code] = codes.DCM.StationAETitle
QUALITATIVE_EVALUATIONS: Final = Code("C0034375", "UMLS", "Qualitative Evaluations")
"""Container of TID 1500, row 12."""
COMMENT: Final[Code] = codes.DCM.Comment
MEASUREMENT_GROUP: Final[Code] = codes.DCM.MeasurementGroup
TRACKING_UNIQUE_IDENTIFIER: Final[Code] = codes.DCM.TrackingUniqueIdentifier
REFERENCED_SEGMENT: Final[Code] = codes.DCM.ReferencedSegment

# The source images in the report: TID 1600 to 1604
IMAGE_LIBRARY: Final[Code] = codes.DCM.ImageLibrary
IMAGE_LIBRARY_GROUP: Final[Code] = codes.DCM.ImageLibraryGroup
SOURCE: Final = Code("260753009", "SCT", "Source")
MODALITY: Final[Code] = codes.DCM.Modality
COMPUTED_TOMOGRAPHY: Final[Code] = codes.cid29.ComputedTomography
FRAME_OF_REFERENCE_UID: Final[Code] = codes.DCM.FrameOfReferenceUID
PIXEL_DATA_SIZE: Final[tuple[Code, ...]] = (codes.DCM.PixelDataRows, codes.DCM.PixelDataColumns)
PIXEL_SPACING: Final[tuple[Code, ...]] = (
    codes.DCM.HorizontalPixelSpacing,
    codes.DCM.VerticalPixelSpacing,
)
SLICE_SPACING: Final[tuple[Code, ...]] = (codes.DCM.SpacingBetweenSlices, codes.DCM.SliceThickness)
IMAGE_POSITION: Final[tuple[Code, ...]] = (
    codes.DCM.ImagePositionPatientX,
    codes.DCM.ImagePositionPatientY,
    codes.DCM.ImagePositionPatientZ,
)
IMAGE_ORIENTATION: Final[tuple[Code, ...]] = (
    codes.DCM.ImageOrientationPatientRowX,
    codes.DCM.ImageOrientationPatientRowY,
    codes.DCM.ImageOrientationPatientRowZ,
    codes.DCM.ImageOrientationPatientColumnX,
    codes.DCM.ImageOrientationPatientColumnY,
    codes.DCM.ImageOrientationPatientColumnZ,
)

# The selection of slices: CID 7010 "Key Object Selection Document Title"
OF_INTEREST: Final[Code] = codes.DCM.OfInterest
KEY_OBJECT_DESCRIPTION: Final[Code] = codes.DCM.KeyObjectDescription

# What was measured: CID 7469 "Generic Intensity and Size Measurement", CID 7464 "ROI Statistic"
VOLUME: Final[Code] = codes.SCT.Volume
LONG_AXIS: Final[Code] = codes.SCT.LongAxis
SHORT_AXIS: Final[Code] = codes.SCT.ShortAxis
ATTENUATION_COEFFICIENT: Final[Code] = codes.DCM.AttenuationCoefficient
SD_OF_ATTENUATION_COEFFICIENT: Final[Code] = codes.DCM.StandardDeviationOfAttenuationCoefficient
"""CID 6141; its own name, because viewers show the name and not the derivation."""
MIN_OF_ATTENUATION_COEFFICIENT: Final = Code(
    "minimum-hu", PRIVATE_SCHEME, "Minimum of Attenuation Coefficient"
)
MAX_OF_ATTENUATION_COEFFICIENT: Final = Code(
    "maximum-hu", PRIVATE_SCHEME, "Maximum of Attenuation Coefficient"
)
MEAN: Final[Code] = codes.SCT.Mean
MINIMUM: Final[Code] = codes.SCT.Minimum
MAXIMUM: Final[Code] = codes.SCT.Maximum
STANDARD_DEVIATION: Final[Code] = codes.SCT.StandardDeviation
NUMBER_OF_LESIONS: Final = Code("246206008", "SCT", "Number of lesions")
LIVER_VOLUME_WITH_LESIONS: Final = Code(
    "liver-volume", PRIVATE_SCHEME, "Volume of liver with lesions"
)
TOTAL_TUMOR_VOLUME: Final = Code("tumor-volume", PRIVATE_SCHEME, "Total tumor volume")
SURFACE_DISTANCE: Final = Code("surface-distance", PRIVATE_SCHEME, "Distance to liver surface")
TUMOR_BURDEN: Final = Code("tumor-burden", PRIVATE_SCHEME, "Tumor burden of liver")

# May the result be believed
PLAUSIBILITY: Final = Code("plausibility", PRIVATE_SCHEME, "Plausibility of result")
DOUBTS: Final[dict[DoubtCode, Code]] = {
    DoubtCode.PARTIAL_LIVER: Code("partial-liver", PRIVATE_SCHEME, "Liver not whole in the scan"),
    DoubtCode.SMALL_LIVER: Code("small-liver", PRIVATE_SCHEME, "Implausibly small liver"),
    DoubtCode.LARGE_LIVER: Code("large-liver", PRIVATE_SCHEME, "Implausibly large liver"),
    DoubtCode.SCATTERED_LIVER: Code("scattered-liver", PRIVATE_SCHEME, "Liver in several parts"),
    DoubtCode.OUTSIDE_LESION: Code("outside-lesion", PRIVATE_SCHEME, "Lesion outside the liver"),
    DoubtCode.HIGH_TUMOR_BURDEN: Code(
        "high-burden", PRIVATE_SCHEME, "Implausibly high tumor burden"
    ),
}

# Could the series be evaluated at all
EVALUABILITY: Final = Code("evaluability", PRIVATE_SCHEME, "Evaluability of series")

# May it be a target lesion: CID 230 "Yes-No"
RECIST_MEASURABLE: Final = Code("recist-1.1", PRIVATE_SCHEME, "Measurable by RECIST 1.1")
YES: Final[Code] = codes.SCT.Yes
NO: Final[Code] = codes.SCT.No

# Was a lesion seen at all: CID 240 "Present-Absent"
PRESENT: Final[Code] = codes.SCT.Present
ABSENT: Final[Code] = codes.SCT.Absent

# Units
MILLILITER: Final[Code] = Code("ml", "UCUM", "milliliter")
MILLIMETER: Final[Code] = Code("mm", "UCUM", "millimeter")
HOUNSFIELD_UNIT: Final[Code] = codes.UCUM.HounsfieldUnit
PERCENT: Final[Code] = codes.UCUM.Percent
LESION_COUNT: Final[Code] = Code("{lesions}", "UCUM", "lesions")
PIXELS: Final[Code] = Code("{pixels}", "UCUM", "pixels")
DIRECTION_COSINE: Final[Code] = Code("{-1:1}", "UCUM", "{-1:1}")


def refusal_code(reason: RejectionReason) -> Code:
    """Give the code of a reason for which a series cannot be evaluated.

    A Code Value has 16 characters at most (PS3.3 8.1), so it is cut there.
    """
    words = reason.value.lower().replace("_", " ")
    return Code(words.replace(" ", "-")[:16], PRIVATE_SCHEME, f"Not evaluable: {words}")


def list_codes() -> list[Code]:
    """List every code of this table, in its order, each once."""
    return list(dict.fromkeys(_flatten([*globals().values(), *map(refusal_code, RejectionReason)])))


def _flatten(values: Iterable[object]) -> Iterator[Code]:
    for value in values:
        if isinstance(value, Code):
            yield value
        elif isinstance(value, tuple):
            yield from _flatten(value)
        elif isinstance(value, dict):
            yield from _flatten(value.values())

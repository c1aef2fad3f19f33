"""Errors of the dicom_io package.

    DicomIOError
    |-- UndecodableInstance
    |-- MismatchingInstance
    |-- InvalidUid
    |-- UnsuitableSeries   (carries a RejectionReason)
    |-- DecoderFailed
    |-- UnsuitableNifti
    `-- ResultMismatch

Each carries a message for people, without patient data.
"""

from enum import StrEnum


class RejectionReason(StrEnum):
    """Why a series cannot be segmented: a code for machines, a sentence for a technologist."""

    sentence: str
    """What is wrong and what to do."""

    def __new__(cls, code: str, sentence: str) -> "RejectionReason":
        """Attach the sentence to the code, which alone is the value."""
        member = str.__new__(cls, code)
        member._value_ = code
        member.sentence = sentence
        return member

    TOO_FEW_SLICES = (
        "TOO_FEW_SLICES",
        "The series has too few slices; send the complete series.",
    )
    NOT_CT = (
        "NOT_CT",
        "The series is not a CT image series; send the CT images themselves.",
    )
    LOCALIZER = (
        "LOCALIZER",
        "The series holds a localizer (scout) image; send the scan without it.",
    )
    NOT_GRAYSCALE = (
        "NOT_GRAYSCALE",
        "The images are not MONOCHROME2, as screen captures and fused images are not; "
        "send the original CT images.",
    )
    MIXED_SERIES = (
        "MIXED_SERIES",
        "The instances do not belong together; send each series under its own UID.",
    )
    MIXED_FRAME_OF_REFERENCE = (
        "MIXED_FRAME_OF_REFERENCE",
        "The slices have different frames of reference; send each scan as a series of its own.",
    )
    MIXED_ORIENTATION = (
        "MIXED_ORIENTATION",
        "The slices are not parallel; send each orientation as a series of its own.",
    )
    MIXED_GRID = (
        "MIXED_GRID",
        "The slices differ in matrix size or pixel spacing; "
        "send each reconstruction as a series of its own.",
    )
    SEVERAL_STACKS = (
        "SEVERAL_STACKS",
        "The multi-frame images hold more than one stack of slices, or only a part of one; "
        "send one stack in one instance.",
    )
    NO_POSITION = (
        "NO_POSITION",
        "Position, orientation or pixel spacing is missing or malformed; "
        "send the images as the scanner made them.",
    )
    DUPLICATE_POSITION = (
        "DUPLICATE_POSITION",
        "Several slices lie at the same position, as in 4D and multi-phase series; "
        "send each phase as a series of its own.",
    )
    MISSING_SLICE = (
        "MISSING_SLICE",
        "Slices are missing inside the stack; send the complete series again.",
    )
    IRREGULAR_SPACING = (
        "IRREGULAR_SPACING",
        "The slices are not evenly spaced on a straight line; "
        "send a reconstruction with one slice distance.",
    )
    GANTRY_TILT = (
        "GANTRY_TILT",
        "The stack is sheared by a tilted gantry; send a tilt-corrected reconstruction.",
    )
    NO_RESCALE = (
        "NO_RESCALE",
        "Rescale slope or intercept is missing, so that Hounsfield units are not known; "
        "send the original CT images.",
    )
    NOT_HU = (
        "NOT_HU",
        "The pixel values are not Hounsfield units; send a series in Hounsfield units.",
    )
    UNDECODABLE_PIXELS = (
        "UNDECODABLE_PIXELS",
        "The pixel data are missing or cannot be decoded; send the series again.",
    )
    TOO_LARGE = (
        "TOO_LARGE",
        "The series has more voxels than can be worked on; send the part with the liver.",
    )
    LIVER_NOT_FOUND = (
        "LIVER_NOT_FOUND",
        "No liver was found in the scan; check that the scan covers the upper abdomen.",
    )


class DicomIOError(Exception):
    """A DICOM object cannot be read or written."""


class UndecodableInstance(DicomIOError):
    """A file is not DICOM, or is damaged or cut short."""


class MismatchingInstance(DicomIOError):
    """The data set contradicts its file meta information, or lacks its own identity."""


class InvalidUid(DicomIOError):
    """A UID is empty or not formed as PS3.5 9.1 demands."""


class UnsuitableSeries(DicomIOError):
    """A series cannot be segmented.

    Parameters
    ----------
    reason
        The coded reason.
    detail
        The facts, as counts and positions in mm; no patient data.
    """

    def __init__(self, reason: RejectionReason, detail: str) -> None:
        super().__init__(f"{reason.sentence} ({detail})" if detail else reason.sentence)
        self.reason = reason
        self.detail = detail


class DecoderFailed(DicomIOError):
    """A frame cannot be decoded, or not within the limits."""


class UnsuitableNifti(DicomIOError):
    """A NIfTI file cannot be used, or its geometry is not that of a regular stack."""


class ResultMismatch(DicomIOError):
    """An object that we wrote does not hold what it was made from."""

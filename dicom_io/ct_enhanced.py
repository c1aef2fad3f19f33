"""Volumes into one multi-frame Enhanced CT Image (PS3.3 A.38.1)."""

from pathlib import Path

from pydicom import uid
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence
from pydicom.tag import Tag

from dicom_io.ct_attributes import (
    DEFAULT_IDENTITY,
    RESCALE_INTERCEPT,
    CtIdentity,
    StoredPixels,
    common_modules,
    decimal,
    decimals,
    orientation,
    position,
)
from dicom_io.ct_encoding import save_instance
from dicom_io.uids import derive_uid
from inference.volume import Volume

_IMAGE_TYPE = ["ORIGINAL", "PRIMARY", "VOLUME", "NONE"]
_STACK_ID = "1"


def write_enhanced_ct(
    volume: Volume,
    path: Path,
    identity: CtIdentity = DEFAULT_IDENTITY,
    *,
    transfer_syntax_uid: str = uid.ExplicitVRLittleEndian,
) -> None:
    """Write a volume as one Enhanced CT Image Storage instance.

    Frames run from head to feet (from the last slice of the volume to the first).

    Parameters
    ----------
    volume
        (slices, rows, columns) HU, in any orientation.
    path
        The file; its folder exists.
    transfer_syntax_uid
        One of `dicom_io.ct_encoding.WRITABLE_TRANSFER_SYNTAXES`.

    Raises
    ------
    ValueError
        When HU do not fit into 16 bits, or nothing writes the transfer syntax.
    """
    dataset = common_modules(identity)
    pixels = StoredPixels.of(volume)
    _add_image(dataset, identity, len(volume.array))
    _add_dimensions(dataset, identity)
    dataset.SharedFunctionalGroupsSequence = [_shared_groups(volume, identity)]
    dataset.PerFrameFunctionalGroupsSequence = [
        _frame_groups(volume, identity, index) for index in reversed(range(len(volume.array)))
    ]
    pixels.add_to(dataset, pixels.array[::-1])
    save_instance(dataset, path, transfer_syntax_uid)


def _item(**attributes: object) -> Dataset:
    dataset = Dataset()
    for keyword, value in attributes.items():
        setattr(dataset, keyword, value)
    return dataset


def _add_image(dataset: Dataset, identity: CtIdentity, frames: int) -> None:
    """Add the modules of the image as a whole (PS3.3 C.7.6.16, C.8.15.2)."""
    dataset.SOPClassUID = uid.EnhancedCTImageStorage
    dataset.SOPInstanceUID = derive_uid("phantom enhanced", identity.series_instance_uid)
    del dataset.BodyPartExamined
    dataset.InstanceNumber = 1
    dataset.NumberOfFrames = frames
    dataset.ImageType = _IMAGE_TYPE
    dataset.PixelPresentation = "MONOCHROME"
    dataset.VolumetricProperties = "VOLUME"
    dataset.VolumeBasedCalculationTechnique = "NONE"
    dataset.AcquisitionNumber = 1
    dataset.AcquisitionDateTime = identity.study_date + identity.study_time
    dataset.AcquisitionDuration = 4000.0
    dataset.ContentQualification = "RESEARCH"
    dataset.PresentationLUTShape = "IDENTITY"
    dataset.AcquisitionContextSequence = Sequence()


def _add_dimensions(dataset: Dataset, identity: CtIdentity) -> None:
    """Say that frames are ordered by stack and by position in it (PS3.3 C.7.6.17)."""
    organization = derive_uid("phantom dimensions", identity.series_instance_uid)
    dataset.DimensionOrganizationSequence = [_item(DimensionOrganizationUID=organization)]
    dataset.DimensionIndexSequence = [
        _item(
            DimensionOrganizationUID=organization,
            DimensionIndexPointer=Tag(keyword),
            FunctionalGroupPointer=Tag("FrameContentSequence"),
        )
        for keyword in ("StackID", "InStackPositionNumber")
    ]


def _frame_groups(volume: Volume, identity: CtIdentity, index: int) -> Dataset:
    """Give what differs between frames."""
    number = len(volume.array) - index
    moment = identity.study_date + identity.study_time
    content = _item(
        FrameAcquisitionNumber=1,
        FrameReferenceDateTime=moment,
        FrameAcquisitionDateTime=moment,
        FrameAcquisitionDuration=500.0,
        DimensionIndexValues=[1, number],
        StackID=_STACK_ID,
        InStackPositionNumber=number,
    )
    corner = position(volume, index)
    place = _item(ImagePositionPatient=decimals(corner))
    table = _item(
        TablePosition=float(corner[2]),
        DataCollectionCenterPatient=[0.0, 0.0, float(corner[2])],
        ReconstructionTargetCenterPatient=[0.0, 0.0, float(corner[2])],
    )
    return _item(
        FrameContentSequence=[content], PlanePositionSequence=[place], CTPositionSequence=[table]
    )


def _shared_groups(volume: Volume, identity: CtIdentity) -> Dataset:
    """Give what all frames share: geometry, meaning of the values, acquisition."""
    measures = _item(
        PixelSpacing=decimals(volume.spacing[1:]),
        SliceThickness=decimal(volume.spacing[0]),
        SpacingBetweenSlices=decimal(volume.spacing[0]),
    )
    values = _item(RescaleIntercept=str(RESCALE_INTERCEPT), RescaleSlope="1", RescaleType="HU")
    groups = _item(
        PixelMeasuresSequence=[measures],
        PlaneOrientationSequence=[_item(ImageOrientationPatient=orientation(volume))],
        PixelValueTransformationSequence=[values],
        FrameVOILUTSequence=[_item(WindowCenter="40", WindowWidth="400")],
        CTImageFrameTypeSequence=[_frame_type()],
        FrameAnatomySequence=[_anatomy()],
        IrradiationEventIdentificationSequence=[
            _item(IrradiationEventUID=derive_uid("phantom event", identity.series_instance_uid))
        ],
    )
    _add_acquisition(groups, volume, identity)
    return groups


def _frame_type() -> Dataset:
    return _item(
        FrameType=_IMAGE_TYPE,
        PixelPresentation="MONOCHROME",
        VolumetricProperties="VOLUME",
        VolumeBasedCalculationTechnique="NONE",
    )


def _anatomy() -> Dataset:
    abdomen = _item(CodeValue="818983003", CodingSchemeDesignator="SCT", CodeMeaning="Abdomen")
    return _item(FrameLaterality="U", AnatomicRegionSequence=[abdomen])


def _add_acquisition(groups: Dataset, volume: Volume, identity: CtIdentity) -> None:
    """Add the macros that an original image must have (PS3.3 C.8.15.3); the values are made up."""
    groups.CTAcquisitionTypeSequence = [
        _item(AcquisitionType="SPIRAL", ConstantVolumeFlag="NO", FluoroscopyFlag="NO")
    ]
    groups.CTAcquisitionDetailsSequence = [
        _item(
            RotationDirection="CW",
            RevolutionTime=0.5,
            SingleCollimationWidth=0.625,
            TotalCollimationWidth=40.0,
            TableHeight=150.0,
            GantryDetectorTilt=0.0,
            DataCollectionDiameter=500.0,
        )
    ]
    groups.CTTableDynamicsSequence = [
        _item(TableSpeed=80.0, TableFeedPerRotation=40.0, SpiralPitchFactor=1.0)
    ]
    groups.CTGeometrySequence = [
        _item(DistanceSourceToDetector=950.0, DistanceSourceToDataCollectionCenter=540.0)
    ]
    groups.CTReconstructionSequence = [
        _item(
            ReconstructionAlgorithm="FILTER_BACK_PROJ",
            ConvolutionKernel=identity.convolution_kernel,
            ConvolutionKernelGroup="SOFT_TISSUE",
            ReconstructionFieldOfView=[
                count * spacing
                for count, spacing in zip(volume.shape[:0:-1], volume.spacing[:0:-1], strict=True)
            ],
            ReconstructionPixelSpacing=[float(spacing) for spacing in volume.spacing[1:]],
            ReconstructionAngle=360.0,
            ImageFilter="NONE",
        )
    ]
    groups.CTExposureSequence = [
        _item(
            ExposureTimeInms=500.0,
            XRayTubeCurrentInmA=200.0,
            ExposureInmAs=100.0,
            ExposureModulationType="NONE",
        )
    ]
    groups.CTXRayDetailsSequence = [
        _item(KVP=str(identity.kvp), FocalSpots=1.0, FilterType="FLAT", FilterMaterial="ALUMINUM")
    ]

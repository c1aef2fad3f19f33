"""Volumes into CT images as a scanner would send them.

For phantoms: the demo and the tests feed the node through its front door.
"""

from pathlib import Path

import numpy as np
from pydicom import uid
from pydicom.dataset import Dataset

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
from dicom_io.ct_enhanced import write_enhanced_ct
from dicom_io.uids import derive_uid
from inference.volume import Volume

__all__ = ["CtIdentity", "write_ct_series", "write_enhanced_ct"]


def write_ct_series(
    volume: Volume,
    folder: Path,
    *,
    identity: CtIdentity = DEFAULT_IDENTITY,
    transfer_syntax_uid: str = uid.ExplicitVRLittleEndian,
) -> list[Path]:
    """Write a volume as CT Image Storage instances (PS3.3 A.3), one for each slice.

    Instance numbers run from head to feet (from the last slice of the volume to the first), as
    scanners have it; file names follow another order. UIDs are derived, so that the same call
    gives the same files.

    Parameters
    ----------
    volume
        (slices, rows, columns) HU, in any orientation.
    folder
        Made when it is not there.
    transfer_syntax_uid
        One of `dicom_io.ct_encoding.WRITABLE_TRANSFER_SYNTAXES`.

    Returns
    -------
    list of Path
        The files, in the order of the volume's slices.

    Raises
    ------
    ValueError
        When HU do not fit into 16 bits, or nothing writes the transfer syntax.
    """
    folder.mkdir(parents=True, exist_ok=True)
    count = len(volume.array)
    pixels = StoredPixels.of(volume)
    names = np.random.default_rng(count).permutation(count)
    paths = [folder / f"IM{name + 1:05d}.dcm" for name in names]
    for index, path in enumerate(paths):
        dataset = common_modules(identity)
        _add_slice(dataset, volume, identity, index)
        pixels.add_to(dataset, pixels.array[index])
        save_instance(dataset, path, transfer_syntax_uid)
    return paths


def _add_slice(dataset: Dataset, volume: Volume, identity: CtIdentity, index: int) -> None:
    """Add the modules of one CT image (PS3.3 C.7.6.1, C.7.6.2, C.8.2.1)."""
    corner = position(volume, index)
    dataset.SOPClassUID = uid.CTImageStorage
    dataset.SOPInstanceUID = derive_uid(
        "phantom instance", identity.series_instance_uid, str(index)
    )
    dataset.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
    dataset.InstanceNumber = len(volume.array) - index
    dataset.ImagesInAcquisition = len(volume.array)
    dataset.AcquisitionNumber = 1
    dataset.AcquisitionDate = identity.study_date
    dataset.AcquisitionTime = identity.study_time
    dataset.ImagePositionPatient = decimals(corner)
    dataset.ImageOrientationPatient = orientation(volume)
    dataset.PixelSpacing = decimals(volume.spacing[1:])
    dataset.SliceThickness = decimal(volume.spacing[0])
    dataset.SliceLocation = decimal(corner @ volume.unit_vectors()[0])
    dataset.RescaleIntercept = str(RESCALE_INTERCEPT)
    dataset.RescaleSlope = "1"
    dataset.RescaleType = "HU"
    dataset.WindowCenter = "40"
    dataset.WindowWidth = "400"
    dataset.KVP = str(identity.kvp)
    dataset.ConvolutionKernel = identity.convolution_kernel
    dataset.GantryDetectorTilt = "0"

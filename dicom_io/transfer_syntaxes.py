"""What we accept: transfer syntaxes that can be decoded here, and storage SOP classes."""

from collections.abc import Mapping
from types import MappingProxyType

from pydicom import uid
from pydicom.uid import UID

DECODING_PLUGINS: Mapping[str, str] = MappingProxyType(
    {
        uid.ExplicitVRLittleEndian: "",
        uid.ImplicitVRLittleEndian: "",
        uid.DeflatedExplicitVRLittleEndian: "",
        uid.ExplicitVRBigEndian: "",
        uid.JPEGLosslessSV1: "gdcm",
        uid.JPEGLossless: "gdcm",
        uid.JPEGLSLossless: "pyjpegls",
        uid.JPEGLSNearLossless: "pyjpegls",
        uid.JPEG2000Lossless: "pylibjpeg",
        uid.JPEG2000: "pylibjpeg",
        uid.HTJ2KLossless: "pylibjpeg",
        uid.HTJ2KLosslessRPCL: "pylibjpeg",
        uid.HTJ2K: "pylibjpeg",
        uid.RLELossless: "pylibjpeg",
    }
)
"""Transfer syntax to the pydicom plugin that decodes it (empty: not encapsulated).

One decoder each, so that what is tested is what runs. Lossy JPEG (processes 1, 2 and 4) is left
out: no decoder here does 12 bits, and 8 bits cannot hold Hounsfield units.
"""

ACCEPTED_TRANSFER_SYNTAXES: tuple[UID, ...] = tuple(map(UID, DECODING_PLUGINS))
"""Every transfer syntax that can be decoded here, the preferred first."""

CT_IMAGE_STORAGE: UID = uid.CTImageStorage
MULTI_FRAME_SOP_CLASSES: tuple[UID, ...] = (
    uid.EnhancedCTImageStorage,
    uid.LegacyConvertedEnhancedCTImageStorage,
)
STORAGE_SOP_CLASSES: tuple[UID, ...] = (CT_IMAGE_STORAGE, *MULTI_FRAME_SOP_CLASSES)
"""The storage SOP classes that can be read as a CT series."""

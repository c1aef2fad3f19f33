"""The version of this software, as it stands in results, reports and associations."""

from importlib.metadata import version

from dicom_io.uids import derive_uid

SOFTWARE_VERSION = version("hepar")

IMPLEMENTATION_CLASS_UID = derive_uid("implementation class", "Hepar")
"""The same for all versions of this software (PS3.7 D.3.3.2)."""
IMPLEMENTATION_VERSION_NAME = f"HEPAR_{SOFTWARE_VERSION}"[:16]
"""As long as it may be (PS3.7 D.3.3.2.3)."""

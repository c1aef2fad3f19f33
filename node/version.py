"""The version of this software, as it stands in results and reports."""

from importlib.metadata import version

SOFTWARE_VERSION = version("hepar")

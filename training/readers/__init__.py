"""Liver CT data sets as they are published, each in its own layout.

``open_data_set`` finds the layout of a folder and lists its scans; ``entry.read()`` reads one.
"""

from training.readers.entries import DataSet, Kind, ScanEntry
from training.readers.layouts import open_data_set

__all__ = ["DataSet", "Kind", "ScanEntry", "open_data_set"]

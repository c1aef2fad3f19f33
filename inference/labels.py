"""The label table: the only owner of these numbers."""

from enum import IntEnum


class Label(IntEnum):
    """Values of a label volume."""

    BACKGROUND = 0
    LIVER = 1
    """Liver without its tumors."""
    TUMOR = 2
    """Tumor in the liver."""

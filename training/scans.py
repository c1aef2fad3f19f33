"""Scans with the labels of their annotators, as the readers of data sets give them."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from inference.volume import Volume


@dataclass(frozen=True, kw_only=True, eq=False)
class LabeledScan:
    """One scan and its truth."""

    case_id: str
    patient_id: str
    """Scans of one patient never lie in two folds."""
    volume: Volume
    """(slices, rows, columns) int16 HU, in any orientation."""
    labels: NDArray[np.uint8]
    """Same shape; values of `inference.labels.Label`."""
    tumors_known: bool
    """Whether tumors were annotated; where not, they are labeled liver."""
    fold: int | None = None

"""Stored values to Hounsfield units (HU)."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

PADDING_HU = -1024
"""Least value of a volume, and the value of its padding: the low end of a 12-bit CT."""
_HIGHEST_TISSUE_HU = 3071
"""High end of a 12-bit CT."""


@dataclass(frozen=True, kw_only=True)
class Rescale:
    """How the stored values of one frame become Hounsfield units."""

    slope: float
    intercept: float
    padding: tuple[int, int] | None
    """Least and greatest stored value that mark padding."""

    def apply(self, stored: NDArray[np.integer]) -> NDArray[np.int16]:
        """Return the frame in HU.

        Padding whose HU no tissue has (below -1024 or above 3071) becomes -1024. Padding inside
        that range is left as it is: writers declare values there that their images do use, and to
        blacken these would make holes in tissue.

        Parameters
        ----------
        stored
            Array (rows, columns).

        Returns
        -------
        NDArray[np.int16]
            Array (rows, columns), rounded, nothing below -1024.

        Raises
        ------
        ValueError
            If a value is beyond the 16-bit range.
        """
        values = stored.astype(self._precise_type(stored))
        values *= self.slope
        values += self.intercept
        if self.padding is not None and self._padding_is_foreign(self.padding):
            low, high = self.padding
            values[(stored >= low) & (stored <= high)] = PADDING_HU
        return round_to_hu(values)

    def _precise_type(self, stored: NDArray[np.integer]) -> type[np.floating]:
        """Take the fast single precision where it is exact: it holds whole numbers below 2**24."""
        whole = self.slope.is_integer() and self.intercept.is_integer()
        return np.float32 if whole and stored.itemsize <= 2 else np.float64

    def _padding_is_foreign(self, padding: tuple[int, int]) -> bool:
        ends = [end * self.slope + self.intercept for end in padding]
        return min(ends) > _HIGHEST_TISSUE_HU or max(ends) < PADDING_HU


def round_to_hu(values: NDArray[np.floating]) -> NDArray[np.int16]:
    """Round to whole HU, and lift all below -1024 (air is -1000) to -1024.

    Raises
    ------
    ValueError
        If a value is not a finite number within the 16-bit range.
    """
    low, high = float(values.min()), float(values.max())
    limits = np.iinfo(np.int16)
    if not (limits.min <= low and high <= limits.max):
        raise ValueError(f"values from {low:g} to {high:g} are no Hounsfield units")
    hu: NDArray[np.int16] = np.maximum(np.rint(values), PADDING_HU).astype(np.int16)
    return hu

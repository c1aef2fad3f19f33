"""Letters in the air beside a phantom, by which a person sees how it lies, in any viewer."""

import numpy as np
from numpy.typing import NDArray

from inference.volume import Volume

MARKS = (
    "L stands at the patient's left, in the front; beside the right, H in the slices of the head "
    "end and F in those of the foot end"
)
"""What `add_marks` draws, in words."""

_GLYPHS = {
    "L": ("X....", "X....", "X....", "X....", "X....", "X....", "XXXXX"),
    "H": ("X...X", "X...X", "X...X", "XXXXX", "X...X", "X...X", "X...X"),
    "F": ("XXXXX", "X....", "X....", "XXXX.", "X....", "X....", "X...."),
}
_MARK_HU = 400
_SHARE = 1 / 12
"""Height of a letter, as a share of the height of the slices."""


def add_marks(volume: Volume) -> Volume:
    """Give a phantom with letters in two corners of its slices, where there is air.

    Parameters
    ----------
    volume
        (slices, rows, columns) HU; slices from feet to head, rows to the back, columns to the left.
    """
    array = volume.array.copy()
    count, rows, columns = array.shape
    left, head, foot = (_draw(letter, rows) for letter in "LHF")
    height, width = left.shape
    upright = slice(height // 2, height // 2 + height)
    at_left = np.s_[:, upright, columns - width - width // 2 : columns - width // 2]
    at_right = np.s_[upright, width // 2 : width // 2 + width]
    array[at_left][:, left] = _MARK_HU
    array[: count // 3, *at_right][:, foot] = _MARK_HU
    array[count - count // 3 :, *at_right][:, head] = _MARK_HU
    return volume.with_array(array)


def _draw(letter: str, rows: int) -> NDArray[np.bool_]:
    glyph = np.array([[sign == "X" for sign in line] for line in _GLYPHS[letter]])
    size = max(1, round(rows * _SHARE / len(glyph)))
    return np.kron(glyph, np.ones((size, size), np.bool_)).astype(np.bool_)

"""Marks by which a person sees how a phantom lies."""

import numpy as np

from inference.phantom import PhantomSettings, make_phantom
from inference.phantom_marks import add_marks

AIR_HU = -800


def test_the_letters_stand_in_air_and_say_where_left_front_head_and_foot_are():
    phantom = make_phantom(
        PhantomSettings(shape=(30, 128, 128), spacing_mm=(10.0, 2.75, 2.75), lesions=())
    )
    marked = add_marks(phantom.volume).array
    changed = marked != phantom.volume.array
    assert (phantom.volume.array[changed] < AIR_HU).all()
    slices, rows, columns = (np.unique(where) for where in np.nonzero(changed))
    assert len(slices) == 30
    assert rows.max() < 64, "in front"
    left = changed[:, :, 64:]
    assert (left == left[0]).all()
    assert left[0].any(), "the same at the left of all slices"
    right = changed[:, :, :64].any(axis=(1, 2))
    assert right.tolist() == [True] * 10 + [False] * 10 + [True] * 10
    assert not np.array_equal(changed[0, :, :64], changed[-1, :, :64]), "F is not H"
    assert columns.max() < 127
